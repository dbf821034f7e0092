// Plots with axes, as SVG: their colours are those of the style sheet, so a change of theme needs no drawing.

const SVG = "http://www.w3.org/2000/svg";
const AROUND = { left: 78, right: 14, top: 14, bottom: 52 };

function svg(name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

// Round numbers between two ends, about as many as asked for.
function ticks([low, high], count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((factor) => factor >= raw);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + 1e-9 * step; at++) found.push(at * step);
  return found;
}

function powers([low, high]) {
  const found = [];
  for (let power = Math.ceil(Math.log10(low)); power <= Math.log10(high); power++) found.push(10 ** power);
  return found.length > 6 ? found.filter((_, at) => at % 2 === 0) : found;
}

// A tick as text: 0.001 and 20000 whole, smaller and larger ones by their power of ten.
const short = (value) => {
  const size = Math.abs(value);
  return size && (size < 1e-4 || size >= 1e6) ? value.toExponential(0) : String(Number(value.toPrecision(4)));
};

// A plot in a place of the page. Options: x, y (ends of the axes), log (of y), xTitle, yTitle, height, xTicks, xText,
// yText (how a tick is written).
class Plot {
  constructor(place, options) {
    this.o = { height: 300, log: false, xText: short, yText: short, ...options };
    this.place = typeof place === "string" ? byId(place) : place;
    this.width = Math.max(280, this.place.clientWidth || 600);
    this.root = svg("svg", { class: "plot", width: this.width, height: this.o.height, role: "img", "aria-label": this.o.label });
    fill(this.place, this.root);
    this.right = this.width - AROUND.right;
    this.bottom = this.o.height - AROUND.bottom;
    this.axes();
  }

  x(value) {
    const [low, high] = this.o.x;
    return AROUND.left + ((value - low) / (high - low)) * (this.right - AROUND.left);
  }

  y(value) {
    const bend = this.o.log ? Math.log : (same) => same;
    const [low, high] = this.o.y.map(bend);
    const at = Math.max(low, this.o.log && value <= 0 ? low : bend(value));
    return this.bottom - ((at - low) / (high - low)) * (this.bottom - AROUND.top);
  }

  add(name, attributes, text) {
    const made = svg(name, attributes, text);
    this.root.append(made);
    return made;
  }

  axes() {
    const { x, y, log, xTitle, yTitle, xTicks, xText, yText } = this.o;
    for (const tick of log ? powers(y) : ticks(y, 5)) {
      this.add("path", { class: "grid", d: `M${AROUND.left} ${this.y(tick)}H${this.right}` });
      this.add("text", { x: AROUND.left - 8, y: this.y(tick) + 5, "text-anchor": "end" }, yText(tick));
    }
    for (const tick of xTicks || ticks(x, 8)) {
      this.add("path", { class: "axis", d: `M${this.x(tick)} ${this.bottom}v5` });
      this.add("text", { x: this.x(tick), y: this.bottom + 21, "text-anchor": "middle" }, xText(tick));
    }
    this.add("path", { class: "axis", d: `M${AROUND.left} ${this.bottom}H${this.right}` });
    this.add("text", { x: (AROUND.left + this.right) / 2, y: this.o.height - 8, "text-anchor": "middle" }, xTitle);
    const middle = (AROUND.top + this.bottom) / 2;
    this.add("text", { x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` }, yTitle);
  }

  // A line through points; a missing number parts it.
  line(xs, ys, style) {
    let d = "", pen = "M";
    xs.forEach((x, at) => {
      if (ys[at] === null) pen = "M";
      else {
        d += `${pen}${this.x(x).toFixed(1)} ${this.y(ys[at]).toFixed(1)}`;
        pen = "L";
      }
    });
    if (d) this.add("path", { class: `line ${style}`, d });
  }

  bar(left, right, from, to, style) {
    const [top, low] = [this.y(Math.max(from, to)), this.y(Math.min(from, to))];
    const width = Math.max(1, this.x(right) - this.x(left));
    return this.add("rect", { class: style, x: this.x(left), y: top, width, height: Math.max(low - top, 0.5) });
  }

  dot(x, y, style, radius = 5) {
    return this.add("circle", { class: style, cx: this.x(x), cy: this.y(y), r: radius });
  }

  diamond(x, y, style, size = 5) {
    const [a, b] = [this.x(x), this.y(y)];
    return this.add("path", { class: style, d: `M${a - size} ${b}L${a} ${b - size}L${a + size} ${b}L${a} ${b + size}Z` });
  }

  // A vertical line with its name beside it, on the side where there is room.
  rule(x, style, name = "", row = 0) {
    if (!Number.isFinite(x) || x < this.o.x[0] || x > this.o.x[1]) return;
    const at = this.x(x), left = at > (AROUND.left + this.right) / 2;
    this.add("path", { class: style, d: `M${at} ${AROUND.top}V${this.bottom}` });
    if (name) this.add("text", { class: "mark", x: at + (left ? -8 : 8), y: AROUND.top + 14 + 20 * row, "text-anchor": left ? "end" : "start" }, name);
  }

  // A stripe over the whole height that answers to the mouse.
  catches(left, right, said, clicked) {
    const [a, b] = [this.x(left), this.x(right)];
    const area = this.add("rect", { class: "catch", x: a, y: AROUND.top, width: b - a, height: this.bottom - AROUND.top });
    area.append(svg("title", {}, said));
    if (clicked) area.addEventListener("click", clicked);
    return area;
  }
}

// What the lines and marks of a plot stand for: [name, style, "line" | "bar" | "diamond"].
function legend(place, entries) {
  fill(place, entries.map(([name, style, kind]) => {
    const sign = svg("svg", { viewBox: "0 0 34 14" });
    if (kind === "bar") sign.append(svg("rect", { class: style, x: 6, y: 1, width: 22, height: 12 }));
    else if (kind === "diamond") sign.append(svg("path", { class: style, d: "M11 7L17 1L23 7L17 13Z" }));
    else sign.append(svg("path", { class: `line ${style}`, d: "M0 7H34" }));
    return el("span", {}, sign, name);
  }));
}

const padded = (values, share = 0.06) => {
  const known = values.filter((value) => value !== null);
  const [low, high] = [Math.min(0, ...known), Math.max(0, ...known)];
  const room = share * (high - low || 1);
  return [low - (low < 0 ? room : 0), high + room];
};
