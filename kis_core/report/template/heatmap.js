// The matrix: square cells on a canvas, row i edited, column j suffering, in the colours of the dashboard.

const LABELS = [110, 150]; // pixels for the names of rows, on narrow and on wide screens
const WIDE = 620; // pixels from which on a place for the matrix is wide
const HEAD = 36; // pixels for the name of the columns
const LABEL_STEP = 17; // pixels that a line of labels takes
const SHADES = 512;
const LEAST_FILLED = 0.92; // of the room, with cells of whole pixels; else they are a pixel wider here and there

// Colours from negative over zero to positive, blended from one to the next as the dashboard's charts do.
function ramp(colours) {
  const parts = colours.map((colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)));
  return Array.from({ length: SHADES }, (_, at) => {
    const place = (at / (SHADES - 1)) * (parts.length - 1);
    const before = Math.min(Math.floor(place), parts.length - 2);
    return parts[before].map((channel, c) => Math.round(channel + (place - before) * (parts[before + 1][c] - channel)));
  });
}

const RAMPS = { light: ramp(DATA.diverging.light), dark: ramp(DATA.diverging.dark) };

class Heatmap {
  // `picked` is called with the facts of a clicked cell, `hovered` with those under the mouse, or null, and the event.
  constructor(canvas, picked, hovered) {
    this.canvas = canvas;
    this.view = null;
    canvas.addEventListener("click", (event) => {
      const cell = this.#cell(event);
      if (cell) picked(cell);
    });
    canvas.addEventListener("mousemove", (event) => hovered(this.#cell(event), event));
    canvas.addEventListener("mouseleave", () => hovered(null));
    canvas.addEventListener("keydown", (event) => {
      const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
      if (!(event.key in moves)) return;
      event.preventDefault();
      const { order, pair } = this.view;
      const moved = pair.map((fact, axis) => {
        const place = order.indexOf(fact) + moves[event.key][axis];
        return order[Math.min(order.length - 1, Math.max(0, place))];
      });
      picked(moved);
    });
  }

  // The facts of the cell under the mouse, or null.
  #cell(event) {
    const { order } = this.view, m = order.length;
    const column = Math.floor(((event.offsetX - this.left) / this.side) * m);
    const row = Math.floor(((event.offsetY - HEAD) / this.side) * m);
    return row >= 0 && row < m && column >= 0 && column < m ? [order[row], order[column]] : null;
  }

  // view: layer, order (the fact at each place), labels (of facts), pair, hideDiagonal, theme.
  draw(view) {
    this.view = view;
    const { layer, order, theme, hideDiagonal } = view, m = order.length;
    const width = this.canvas.parentElement.clientWidth;
    this.left = LABELS[width < WIDE ? 0 : 1];
    const room = Math.max(200, Math.min(width - this.left - 12, window.innerHeight - 190));
    const scale = window.devicePixelRatio || 1;
    const even = Math.floor((room * scale) / m) * m;
    this.side = (even >= LEAST_FILLED * room * scale ? even : room * scale) / scale;
    const [wide, high] = [this.left + this.side + 12, HEAD + this.side + 12];
    Object.assign(this.canvas, { width: wide * scale, height: high * scale });
    Object.assign(this.canvas.style, { width: `${wide}px`, height: `${high}px` });
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    context.imageSmoothingEnabled = false;
    const cells = el("canvas", { width: m, height: m }), inner = cells.getContext("2d"), image = inner.createImageData(m, m);
    const shades = RAMPS[theme];
    for (let row = 0, at = 0; row < m; row++) {
      for (let column = 0; column < m; column++, at += 4) {
        const value = ofP(layer.p[order[row] * m + order[column]]);
        if (!Number.isFinite(value) || (hideDiagonal && row === column)) continue;
        const share = Math.min(1, Math.max(0, (value / layer.limit + 1) / 2));
        const shade = shades[Math.round(share * (SHADES - 1))];
        image.data.set([shade[0], shade[1], shade[2], 255], at);
      }
    }
    inner.putImageData(image, 0, 0);
    context.drawImage(cells, this.left, HEAD, this.side, this.side);
    this.#words(context);
    this.#mark(context);
  }

  #words(context) {
    const colours = getComputedStyle(document.documentElement), { order, labels } = this.view, m = order.length;
    context.fillStyle = colours.getPropertyValue("--muted");
    context.font = "15px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.fillText("fact j suffers →", this.left, 12);
    context.textAlign = "right";
    context.fillText("edit fact i ↓", this.left - 8, 12);
    context.font = "14px system-ui, sans-serif";
    let last = -LABEL_STEP;
    for (let start = 0, end; start < m; start = end) {
      for (end = start + 1; end < m && labels[order[end]] === labels[order[start]]; ) end++; // a run shares one label
      const y = ((start + end) / 2 / m) * this.side;
      if (y - last < LABEL_STEP) continue;
      context.fillText(fitted(context, labels[order[start]], this.left - 12), this.left - 8, HEAD + y);
      last = y;
    }
  }

  // Lines to the picked cell from the edges and a ring around it, which hide no cell beside it.
  #mark(context) {
    const { order, pair } = this.view, cell = this.side / order.length;
    const [row, column] = pair.map((fact) => order.indexOf(fact));
    const [x, y] = [this.left + (column + 0.5) * cell, HEAD + (row + 0.5) * cell];
    const half = Math.max(8, cell / 2 + 4);
    const colours = getComputedStyle(document.documentElement);
    context.lineWidth = 1;
    context.strokeStyle = colours.getPropertyValue("--muted");
    context.beginPath();
    context.moveTo(this.left, y);
    context.lineTo(x - half, y);
    context.moveTo(x, HEAD);
    context.lineTo(x, y - half);
    context.stroke();
    for (const [colour, thick] of [["--ground", 5], ["--ink", 2]]) {
      context.lineWidth = thick;
      context.strokeStyle = colours.getPropertyValue(colour);
      context.strokeRect(x - half, y - half, 2 * half, 2 * half);
    }
  }
}

// A text cut to a width, with an ellipsis where something is missing.
function fitted(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let cut = text;
  while (cut && context.measureText(cut + "…").width > width) cut = cut.slice(0, -1);
  return cut + "…";
}

// The colours as a strip with its ends.
function scaleOfColours(theme, limit) {
  const strip = el("canvas", { class: "scale", width: SHADES, height: 1 });
  const context = strip.getContext("2d");
  RAMPS[theme].forEach(([red, green, blue], at) => {
    context.fillStyle = `rgb(${red},${green},${blue})`;
    context.fillRect(at, 0, 1, 1);
  });
  return [el("span", {}, `-${limit}`), strip, el("span", {}, `+${limit}`)];
}
