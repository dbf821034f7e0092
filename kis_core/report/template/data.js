// The contents of the file, numbers as text, and elements of the page. What a user wrote becomes text, never markup.

const DATA = JSON.parse(document.getElementById("data").textContent);
const FACTS = DATA.facts;
const MISSING = "–"; // as the dashboard writes a missing number
const COUNT = FACTS.length;

const byId = (id) => document.getElementById(id);

function bytes(base64) {
  const text = atob(base64);
  const found = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) found[at] = text.charCodeAt(at);
  return found;
}

// Whole multiples of a decimal step; NaN where a number is missing.
function unpacked(matrix) {
  const raw = bytes(matrix.data).buffer;
  if (matrix.bits === 64) return new Float64Array(raw);
  return Float64Array.from(new Int16Array(raw), (whole) => (whole === -32768 ? NaN : whole));
}

for (const layer of DATA.layers) {
  layer.p = unpacked(layer.p);
  layer.whitened = unpacked(layer.whitened);
  layer.plain = unpacked(layer.plain);
  layer.tags = bytes(layer.tags);
  layer.ranking = new Uint32Array(bytes(layer.ranking).buffer);
}

// A whole multiple of 10^-decimals as text, as the library's formatter writes the number: never -0.
function written(whole, decimals, plus = false) {
  if (!Number.isFinite(whole)) return MISSING;
  const digits = String(Math.abs(whole)).padStart(decimals + 1, "0");
  const cut = digits.length - decimals;
  const sign = whole < 0 ? "-" : plus ? "+" : "";
  return sign + digits.slice(0, cut) + "." + digits.slice(cut);
}

const writtenP = (whole) => written(whole, DATA.decimals.p, true);
const writtenAngle = (whole) => (Number.isFinite(whole) ? written(whole, DATA.decimals.angle) + "°" : MISSING);
const ofP = (whole) => whole / 10 ** DATA.decimals.p;

// The tags of the pair at a place in a layer's matrices.
const tagsAt = (layer, place) => DATA.tags.filter((_, bit) => (layer.tags[place] >> bit) & 1);
const isArtefact = (layer, place) => tagsAt(layer, place).some((tag) => DATA.artefacts.includes(tag));

// An element with attributes and children; children that are no elements become text.
function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

function fill(place, ...children) {
  (typeof place === "string" ? byId(place) : place).replaceChildren(...children.flat());
}

// A fact as a sentence: its subject in bold, its answer at the end.
function sentence(fact) {
  return el("div", { class: "sentence" }, fact.before, el("b", {}, fact.subject), fact.after, " ", el("i", {}, fact.target));
}

// A table. Columns are [head, is a number]; rows are {cells, pick, picked}: what a click does, and whether to mark it.
function table(columns, rows) {
  const head = el("tr", {}, columns.map(([name, number]) => el("th", { class: number ? "number" : null }, name)));
  const body = rows.map(({ cells, pick, picked }) => {
    const row = el("tr", {}, cells.map((cell, at) => el("td", { class: columns[at][1] ? "number" : null }, cell)));
    if (pick) {
      row.tabIndex = 0;
      row.classList.add("pick");
      row.addEventListener("click", pick);
      row.addEventListener("keydown", (event) => event.key === "Enter" && pick());
    }
    row.classList.toggle("picked", Boolean(picked));
    return row;
  });
  return el("table", {}, el("thead", {}, head), el("tbody", {}, body));
}

// What the data say to claims of the paper: yes, no, or left open.
function verdicts(place, judged) {
  fill(place, judged.map(({ claim, finding, holds }) =>
    el("p", { "data-sign": holds === null ? "?" : holds ? "✓" : "✗" }, finding, el("span", { class: "quiet" }, "The paper: " + claim))));
}
