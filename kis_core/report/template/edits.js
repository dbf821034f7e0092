// Edits and runs of edits: forecast and measured side by side.

const PLAY = 700; // milliseconds a step is shown
const MOST_NAMED = 8; // edits or facts in one line
const SERIES = {
  hold: { recall: ["unrelated facts still answered (Δo)", "stroke-blue"], retention: ["edits still in force (Δe)", "stroke-orange"] },
  odds: { dlogodds_measured: ["measured", "stroke-muted"], dlogodds_all_tokens: ["forecast, first order over all tokens", "stroke-blue"] },
  perplexity: { perplexity: ["perplexity", "stroke-blue"] },
};

function drawEdit(edit, showPair) {
  const fact = FACTS[edit.fact];
  const said = (role, words) => el("div", {},
    el("div", { class: "quiet" }, role),
    el("div", { class: "sentence" }, fact.before, el("b", {}, fact.subject), fact.after, " ", el("i", {}, words || MISSING)));
  const facts = (pairs) => el("dl", {}, pairs.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]));
  const rows = edit.bars.map((bar) => {
    const [before, coming, after] = bar.answers;
    const cells = [FACTS[bar.fact].label, writtenP(layerOf(edit).p[edit.fact * COUNT + bar.fact]), ...bar.texts, before, coming, after];
    return { cells, pick: () => showPair(edit, bar.fact), picked: bar.flips };
  });
  const columns = [["fact"], ["P[e, j]", true], ["forecast", true], ["measured", true], ["answer before"], ["forecast answer"], ["measured answer"]];
  fill("edit-body",
    el("p", { class: "headline" }, edit.headline),
    edit.warnings.map((warning) => el("p", {}, warning)),
    el("div", { class: "sides" }, said("before the edit, the model goes on", edit.said[0]), said("after it", edit.said[1])),
    el("div", { class: "legend", id: "edit-legend" }), el("div", { id: "edit-plot" }),
    el("p", { class: "quiet" }, "Change of the log-odds of every other fact’s right answer, the most damaged by forecast first; the forecast is of first order, over all tokens. Click a bar or a row to open the pair. Rows in bold: the measured answer is another one."),
    el("div", { class: "scroll", tabindex: 0 }, table(columns, rows)),
    el("div", { class: "split" },
      el("div", {}, el("h3", {}, "Did it take?"), facts(edit.success)),
      el("div", {}, el("h3", {}, "Which forecast ranks the measured loss best?"), facts(edit.quality), el("p", { class: "quiet" }, "Spearman correlation with the measured loss of log-odds, forecasts first, then rivals."))));
  drawBars(edit, (j) => showPair(edit, j));
}

const layerOf = (edit) => DATA.layers.find(({ layer }) => layer === edit.layer);

function drawBars({ bars }, pick) {
  legend("edit-legend", [["forecast: loses", "fill-orange", "bar"], ["forecast: gains", "fill-blue", "bar"], ["measured", "fill-ink", "diamond"]]);
  const y = padded(bars.flatMap(({ forecast, measured }) => [forecast, measured]));
  const options = { x: [-1, bars.length], y, xTicks: [], xTitle: "facts, by rising forecast", yTitle: "change of log-odds", height: 360, label: "Forecast and measured" };
  const plot = new Plot("edit-plot", options);
  bars.forEach(({ forecast, measured, fact, texts }, at) => {
    if (forecast !== null) plot.bar(at - 0.4, at + 0.4, 0, forecast, forecast < 0 ? "fill-orange" : "fill-blue");
    if (measured !== null) plot.diamond(at, measured, "fill-ink", 4);
    plot.catches(at - 0.5, at + 0.5, `${FACTS[fact].label}: forecast ${texts[0]}, measured ${texts[1]}`, () => pick(fact));
  });
}

// The player of a run; it stops when another one takes its place.
class Player {
  constructor(run) {
    this.run = run;
    this.slider = el("input", { type: "range", min: 0, max: run.made.length - 1, step: 1, value: run.made.length - 1, "aria-label": "Edits made" });
    this.said = el("output", {});
    this.button = el("button", { type: "button", onclick: () => this.#play(!this.timer) }, "Play");
    this.slider.addEventListener("input", () => this.#stop() || this.draw());
    fill("run-body",
      el("p", { class: "headline" }, `${run.half[0].toUpperCase()}${run.half.slice(1)}.`),
      el("div", { class: "player" }, this.button, this.slider, this.said),
      el("div", { class: "figures", id: "run-figures" }),
      el("div", { class: "split" },
        el("div", {}, el("div", { class: "legend", id: "run-hold-legend" }), el("div", { id: "run-hold" })),
        el("div", { id: "run-since" })),
      el("div", { class: "split" },
        el("div", {}, el("div", { class: "legend", id: "run-odds-legend" }), el("div", { id: "run-odds" })),
        el("div", {}, el("div", { class: "quiet" }, `Perplexity on ${run.text}`), el("div", { id: "run-perplexity" }))));
    this.draw();
  }

  #play(on) {
    this.#stop();
    if (!on) return;
    if (Number(this.slider.value) === this.run.made.length - 1) this.slider.value = 0;
    fill(this.button, "Pause");
    this.draw();
    this.timer = setInterval(() => {
      this.slider.value = Number(this.slider.value) + 1;
      if (Number(this.slider.value) === this.run.made.length - 1) this.#stop();
      this.draw();
    }, PLAY);
  }

  #stop() {
    clearInterval(this.timer);
    this.timer = null;
    fill(this.button, "Play");
  }

  end() {
    this.#stop();
  }

  draw() {
    const { run } = this, at = Number(this.slider.value), made = run.made[at], { texts } = run;
    fill(this.said, `${made} ${made === 1 ? "edit" : "edits"} made`);
    const figure = (text, name) => el("div", {}, el("b", {}, text), el("span", {}, name));
    fill("run-figures",
      figure(texts.recall[at], "of the unrelated facts still answered"),
      figure(texts.retention[at], "of the edits still in force"),
      figure(texts.dlogodds_measured[at], "mean change of log-odds, measured"),
      figure(texts.dlogodds_all_tokens[at], "forecast"),
      figure(texts.perplexity[at], "perplexity"));
    this.#lines("run-hold", SERIES.hold, at, { y: [0, 1.02], yText: (share) => `${short(100 * share)} %`, yTitle: "share", height: 320 });
    this.#lines("run-odds", SERIES.odds, at, { yTitle: "mean change of log-odds", height: 280 });
    const known = run.values.perplexity.filter((value) => value !== null && value > 0);
    const ends = [0.9 * Math.min(...known), 1.1 * Math.max(...known)];
    if (known.length) this.#lines("run-perplexity", SERIES.perplexity, at, { y: ends, log: ends[1] > 10 * ends[0], yTitle: "perplexity", height: 280 });
    this.#since(run.steps[at], at);
  }

  #lines(place, series, at, options) {
    const { made, values } = this.run, names = Object.keys(series);
    if (byId(`${place}-legend`)) legend(`${place}-legend`, names.map((name) => [...series[name], "line"]));
    const y = padded(names.flatMap((name) => values[name]));
    const plot = new Plot(place, { x: [0, made[made.length - 1] || 1], y, xTitle: "edits made", label: options.yTitle, ...options });
    plot.rule(made[at], "middle");
    for (const name of names) {
      const style = series[name][1];
      plot.line(made, values[name], `${style} thin`);
      plot.line(made.slice(0, at + 1), values[name].slice(0, at + 1), style);
      if (values[name][at] !== null) plot.dot(made[at], values[name][at], style.replace("stroke", "fill"));
    }
  }

  #since(step, at) {
    const named = (names) => names.slice(0, MOST_NAMED).join(", ") + (names.length > MOST_NAMED ? ` and ${names.length - MOST_NAMED} more` : "") || "none";
    const subjects = (facts) => named(facts.map((fact) => FACTS[fact].subject));
    const line = (head, text) => el("p", {}, el("b", {}, head), " ", text);
    fill("run-since",
      at ? [line(`Edits made since ${this.run.made[at - 1]}:`, named(step.edits)), line("Answers lost:", subjects(step.lost)), line("Answers regained:", subjects(step.regained))]
        : el("p", {}, "No edit was made yet."),
      step.words.length ? el("h3", {}, "What the model goes on to say") : [],
      step.words.map(([prompt, said]) => el("p", {}, prompt, " ", el("i", {}, said))));
  }
}
