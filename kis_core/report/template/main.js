// What is looked at: a layer and a pair of facts, which stand in the address behind #, so that a link opens them again.

const REST = 60; // milliseconds without a key press
const state = { at: 0, pair: DATA.pair, order: "index", player: null, rest: null };
const theme = () => document.documentElement.dataset.theme;
const layerNow = () => DATA.layers[state.at];

function fromAddress() {
  const chosen = new URLSearchParams(location.hash.slice(1));
  const at = DATA.layers.findIndex(({ layer }) => String(layer) === chosen.get("layer"));
  const pair = (chosen.get("pair") || "").split("-").map(Number);
  if (at >= 0) state.at = at;
  if (pair.length === 2 && pair.every((fact) => Number.isInteger(fact) && fact >= 0 && fact < COUNT)) state.pair = pair;
}

const address = () => `#layer=${layerNow().layer}&pair=${state.pair.join("-")}`;
const toAddress = () => location.replace(address());

function orderNow() {
  return DATA.orders[state.order].order || layerNow().similarity;
}

const heatmap = new Heatmap(byId("heatmap"), pick, readOut);

// Beside the mouse, what lies under it.
function readOut(cell, event) {
  const place = byId("readout");
  place.hidden = !cell;
  if (!cell) return;
  const [i, j] = cell, text = writtenP(layerNow().p[i * COUNT + j]);
  fill(place, "Edit ", el("b", { class: "i" }, FACTS[i].subject), ": ", el("b", {}, text), " of it lands on ", el("b", { class: "j" }, FACTS[j].subject), ".");
  const room = place.parentElement.clientWidth - place.offsetWidth;
  place.style.left = `${Math.max(0, Math.min(room, event.offsetX + 16))}px`;
  place.style.top = `${event.offsetY + 18}px`;
}

function drawMatrix() {
  const layer = layerNow();
  heatmap.draw({
    layer, order: orderNow(), labels: DATA.orders[state.order].labels, pair: state.pair,
    hideDiagonal: byId("diagonal").checked, theme: theme(),
  });
  fill("colours", scaleOfColours(theme(), layer.limit));
  const pairs = COUNT * (COUNT - 1);
  fill("beyond", `Of ${pairs.toLocaleString("en")} pairs, ${layer.beyond.toLocaleString("en")} lie beyond the colours and take the end colour.`);
}

function drawList() {
  const choices = { text: byId("search").value, untagged: byId("untagged").checked };
  drawPairs(layerNow(), state.pair, choices, (pair) => {
    pick(pair);
    byId("matrix").scrollIntoView();
  });
}

function drawSpread() {
  drawDistributions(layerNow(), state.pair, { clean: byId("clean").checked, log: byId("log").checked });
}

function drawLayers() {
  if (DATA.layers.length > 1) drawDepth(layerNow(), byId("clean-layers").checked, goTo);
}

// All that depends on the layer or the pair: at once what answers a key press, the rest when the keys come to rest.
// The address follows what somebody chose; a file that is opened keeps the address it has.
function draw(chosen = false) {
  const layer = layerNow();
  byId("layer").value = state.at;
  fill("layer-name", DATA.layers.length > 1 ? `${layer.layer} of ${DATA.layers[DATA.layers.length - 1].layer}` : layer.layer);
  drawMatrix();
  drawPair(layer, state.pair);
  clearTimeout(state.rest);
  state.rest = setTimeout(() => {
    drawList();
    drawSpread();
    drawAngles(layer, state.pair);
    drawLayers();
    if (chosen) toAddress();
  }, REST);
}

function pick(pair) {
  state.pair = pair;
  draw(true);
}

function goTo(at) {
  state.at = at;
  draw(true);
}

function showPair(edit, j) {
  state.at = DATA.layers.indexOf(layerOf(edit));
  pick([edit.fact, j]);
  byId("matrix").scrollIntoView();
}

function chooseEdit() {
  drawEdit(DATA.edits[byId("edit").value], showPair);
}

function chooseRun() {
  if (state.player) state.player.end();
  state.player = new Player(DATA.runs[byId("run").value]);
}

function chooseTheme(name) {
  document.documentElement.dataset.theme = name;
  fill("theme", name === "dark" ? "Light" : "Dark");
  drawMatrix();
}

function options(place, names) {
  fill(place, names.map((name, at) => el("option", { value: at }, name)));
}

function drawOnce() {
  document.title = `${DATA.title} – Knowledge in superposition`;
  fill("title", DATA.title);
  fill("subtitle", DATA.subtitle);
  fill("version", DATA.version);
  fill("command", DATA.command);
  fill("order", Object.keys(DATA.orders).map((name) => el("option", {}, name)));
  byId("layer").max = DATA.layers.length - 1;
  byId("layer-label").hidden = DATA.layers.length < 2;
  fill("origin-body",
    DATA.caveats.map((caveat) => el("p", {}, caveat)),
    el("dl", {}, DATA.origin.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)])),
    el("details", {}, el("summary", {}, "All that determines the numbers"), el("pre", {}, DATA.provenance)));
  const parts = [["matrix", true], ["pairs", true], ["distributions", true], ["angles", true], ["layers", DATA.layers.length > 1], ["edits", DATA.edits.length], ["lifelong", DATA.runs.length], ["origin", true]];
  for (const [id, there] of parts) byId(id).hidden = !there;
  fill("nav", parts.filter(([, there]) => there).map(([id]) =>
    el("button", { type: "button", onclick: () => byId(id).scrollIntoView() }, byId(id).querySelector("h2").textContent)));
  options("edit", DATA.edits.map(({ name }) => name));
  const changed = DATA.edits.map(({ bars }) => bars.filter(({ flips }) => flips).length);
  if (changed.length) byId("edit").value = changed.indexOf(Math.max(...changed)); // the one that tells most
  options("run", DATA.runs.map(({ name }) => name));
}

function listen() {
  const on = (id, event, answer) => byId(id).addEventListener(event, answer);
  on("layer", "input", () => goTo(Number(byId("layer").value)));
  on("order", "change", () => {
    state.order = byId("order").value;
    drawMatrix();
  });
  on("diagonal", "change", drawMatrix);
  on("search", "input", drawList);
  on("untagged", "change", drawList);
  on("clean", "change", drawSpread);
  on("clean-layers", "change", drawLayers);
  on("log", "change", drawSpread);
  on("edit", "change", chooseEdit);
  on("run", "change", chooseRun);
  on("theme", "click", () => chooseTheme(theme() === "dark" ? "light" : "dark"));
  window.addEventListener("hashchange", () => {
    if (location.hash === address()) return; // we wrote it ourselves
    fromAddress();
    draw();
  });
  let waiting;
  window.addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      draw();
      if (DATA.edits.length) chooseEdit();
      if (state.player) state.player.draw();
    }, 150);
  });
}

fromAddress();
drawOnce();
listen();
chooseTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
draw();
if (DATA.edits.length) chooseEdit();
if (DATA.runs.length) chooseRun();
