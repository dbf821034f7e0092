// The parts of the page that show a layer: the picked pair, the strongest pairs, distributions, angles, and depth.

const LISTED = 200; // rows of the table of pairs
const CURVES = { measured: "stroke-blue", "normal, same std": "stroke-orange dash", "isotropic keys": "stroke-green dots" };
const TAIL = /%/; // of the names of numbers that are quantiles

function drawPair(layer, [i, j]) {
  const place = i * COUNT + j, back = j * COUNT + i;
  const card = (at, role, style) => {
    const fact = FACTS[at];
    const relation = fact.relation ? `${fact.relation} · ` : "";
    return el("div", { class: `card ${style}` },
      el("div", { class: "quiet" }, role), sentence(fact),
      el("div", { class: "quiet" }, `${relation}key taken at “${fact.token}” · leverage ${layer.leverage[at]}`));
  };
  const figure = (text, name) => el("div", {}, el("b", {}, text), el("span", {}, name));
  const answers = (at, role, style) => el("div", {},
    el("div", { class: `head ${style}` }, el("span", {}, `the model’s next word after ${role}`)),
    FACTS[at].answers.map(([text, share]) => el("div", {}, el("span", {}, text || "·"), el("span", { class: "quiet" }, share))));
  fill("pair",
    card(i, `edit fact i = ${i}`, ""),
    card(j, i === j ? "and itself" : `and fact j = ${j} suffers`, "second"),
    el("div", { class: "figures" },
      figure(writtenP(layer.p[place]), "P[i, j]"), figure(writtenP(layer.p[back]), "P[j, i]"),
      figure(writtenAngle(layer.whitened[place]), "whitened angle"), figure(writtenAngle(layer.plain[place]), "plain angle")),
    Number.isFinite(layer.p[place]) ? [] : el("p", { class: "quiet" }, "One of the keys is zero: P has no value here."),
    i === j ? el("p", { class: "quiet" }, "The diagonal: a fact and itself, always 1.") : [],
    el("div", {}, tagsAt(layer, place).map((tag) => el("span", { class: "tag" }, tag))),
    el("div", { class: "answers" }, answers(i, "i", ""), answers(j, "j", "second")),
    el("div", { class: "legend", id: "pair-legend" }), el("div", { id: "pair-layers" }));
  if (DATA.layers.length > 1 && i !== j) drawPairByLayer(layer, place, back);
}

function drawPairByLayer(layer, place, back) {
  const numbers = DATA.layers.map((one) => one.layer);
  const [there, opposite] = [place, back].map((at) => DATA.layers.map(({ p }) => (Number.isFinite(p[at]) ? ofP(p[at]) : null)));
  legend("pair-legend", [["P[i, j]", "stroke-blue", "line"], ["P[j, i]", "stroke-orange", "line"]]);
  const plot = overLayers("pair-layers", padded([...there, ...opposite]), "P of this pair", 190);
  plot.rule(layer.layer, "middle");
  plot.line(numbers, opposite, "stroke-orange");
  plot.line(numbers, there, "stroke-blue");
  dots(plot, numbers, opposite, "fill-orange");
  dots(plot, numbers, there, "fill-blue");
}

function overLayers(place, y, yTitle, height) {
  const numbers = DATA.layers.map((one) => one.layer);
  const ends = [Math.min(...numbers) - 0.4, Math.max(...numbers) + 0.4];
  const xTicks = numbers.length > 16 ? numbers.filter((_, at) => at % 4 === 0) : numbers;
  return new Plot(place, { x: ends, y, xTicks, xTitle: "layer", yTitle, height, label: `${yTitle} by layer` });
}

function dots(plot, xs, ys, style) {
  xs.forEach((x, at) => ys[at] !== null && plot.dot(x, ys[at], style));
}

function drawPairs(layer, pair, { text, untagged }, pick) {
  const wanted = text.trim().toLowerCase();
  const matches = FACTS.map((fact) =>
    `${fact.subject}\n${fact.before}${fact.subject}${fact.after} ${fact.target}\n${fact.relation}`.toLowerCase().includes(wanted));
  const rows = [];
  let found = 0;
  layer.ranking.forEach((place, at) => {
    const [i, j] = [Math.floor(place / COUNT), place % COUNT];
    if (!(matches[i] || matches[j]) || (untagged && isArtefact(layer, place))) return;
    found++;
    if (rows.length >= LISTED) return;
    const cells = [at + 1, writtenP(layer.p[place]), writtenP(layer.p[j * COUNT + i]), writtenAngle(layer.whitened[place])];
    cells.push(FACTS[i].label, FACTS[j].label, tagsAt(layer, place).join(", "));
    rows.push({ cells, pick: () => pick([i, j]), picked: i === pair[0] && j === pair[1] });
  });
  const searched = layer.ranking.length;
  const among = searched < layer.ranked ? ` of the strongest ${searched.toLocaleString("en")}` : "";
  const shown = found > rows.length ? `; the strongest ${rows.length} are shown` : "";
  fill("found", `${found.toLocaleString("en")} ${found === 1 ? "pair" : "pairs"}${among}${shown}, by falling |P[i, j]|.`);
  const columns = [["rank", true], ["P[i, j]", true], ["P[j, i]", true], ["whitened angle", true], ["edit fact i"], ["and fact j suffers"], ["tags"]];
  fill("pair-table", table(columns, rows));
}

function drawDistributions(layer, [i, j], { clean, log }) {
  const side = clean ? "clean" : "all", density = layer.density;
  verdicts("heavy", [...layer.heavy[side], ...(clean ? [] : layer.overlap)]);
  const rows = layer.numbers[side].map(([name, text]) => ({ cells: [TAIL.test(name) ? `quantile ${name.replace("%", " %")}` : name, text] }));
  fill("numbers", table([["off the diagonal"], ["", true]], rows));
  if (!density || !density[side].length) {
    fill("density-legend");
    fill("density", "No pair is left, or all have the same P: there is no density to draw.");
    return;
  }
  legend("density-legend", density[side].map(({ curve }) => [curve, CURVES[curve], "line"]));
  const y = [log ? density.floor : 0, density.top];
  const options = { x: density.span, y, log, xTitle: "P[i, j] off the diagonal", yTitle: "density", height: 380, label: "Density of P" };
  const plot = new Plot("density", options);
  for (const { curve, at, density: height } of [...density[side]].reverse()) {
    const seen = (value) => !log || value >= density.floor;
    const near = (k) => seen(height[k]) || seen(height[Math.max(0, k - 1)]) || seen(height[Math.min(height.length - 1, k + 1)]);
    plot.line(at, height.map((value, k) => (near(k) ? value : null)), CURVES[curve]); // down to the axis, not along it
  }
  const picked = layer.p[i * COUNT + j];
  if (i !== j && Number.isFinite(picked)) plot.rule(ofP(picked), "rule", `P[${i}, ${j}] = ${writtenP(picked)}`);
}

function drawAngles(layer, [i, j]) {
  const styles = { whitened: "fill-blue half", plain: "fill-orange half" };
  const { shares, spreads } = layer.angles, names = Object.keys(styles);
  verdicts("right", layer.right);
  legend("angle-legend", names.map((name) => [name, styles[name], "bar"]));
  const top = 1.06 * Math.max(...names.flatMap((name) => shares[name]), 1e-9);
  const xTicks = Array.from({ length: 13 }, (_, at) => 15 * at);
  const yText = (share) => `${short(100 * share)} %`;
  const options = { x: [0, 180], y: [0, top], xTicks, xText: (at) => `${at}°`, yText, xTitle: "angle between two keys", yTitle: "share of the pairs", height: 360, label: "Angles" };
  const plot = new Plot("angle", options);
  plot.rule(90, "middle");
  for (const name of names) {
    const width = 180 / shares[name].length;
    shares[name].forEach((share, at) => share && plot.bar(at * width, (at + 1) * width, 0, share, styles[name]));
  }
  const place = i * COUNT + j;
  if (i !== j) names.forEach((name, row) => {
    const whole = layer[name][place];
    plot.rule(whole / 10 ** DATA.decimals.angle, "rule", `picked, ${name}: ${writtenAngle(whole)}`, row);
  });
  fill("angle-caption", `Mean and spread: whitened ${spreads.whitened}; plain ${spreads.plain}. 90° means unrelated. The lines mark the picked pair.`);
}

function drawDepth(layer, clean, goTo) {
  const side = clean ? "clean" : "all", of = DATA.layers.map((one) => one.kurtosis[side]);
  const numbers = DATA.layers.map((one) => one.layer), here = layer.kurtosis[side];
  verdicts("depth", DATA.depth[side]);
  const kurtosis = of.map(({ value }) => value), ends = of.flatMap(({ low, high }) => [low, high]);
  const plot = overLayers("kurtosis", padded([...kurtosis, ...ends]), "excess kurtosis of P", 320);
  plot.rule(layer.layer, "middle");
  of.forEach(({ low, high }, at) => low !== null && plot.add("path", { class: "line stroke-blue", d: `M${plot.x(numbers[at])} ${plot.y(low)}V${plot.y(high)}` }));
  plot.line(numbers, kurtosis, "stroke-blue");
  dots(plot, numbers, kurtosis, "fill-blue");
  const means = overLayers("means", padded(of.map(({ mean }) => mean)), "mean of P", 320);
  means.rule(layer.layer, "middle");
  means.line(numbers, of.map(({ mean }) => mean), "stroke-blue");
  dots(means, numbers, of.map(({ mean }) => mean), "fill-blue");
  numbers.forEach((number, at) => {
    plot.catches(number - 0.4, number + 0.4, `layer ${number}: ${of[at].text}`, () => goTo(at));
    means.catches(number - 0.4, number + 0.4, `layer ${number}: ${of[at].mean_text}`, () => goTo(at));
  });
  fill("kurtosis-here", `Layer ${layer.layer}: ${here.text}${clean ? ", without artefact pairs" : ""}.`);
  fill("mean-here", `Layer ${layer.layer}: ${here.mean_text}${clean ? ", without artefact pairs" : ""}.`);
}
