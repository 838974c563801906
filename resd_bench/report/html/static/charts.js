/* Line charts with bands: drawn to the width there is, told by pointer, touch and keyboard. */
function ticks(low, high, wanted) {
  const raw = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 2.5, 5, 10].find((m) => m * power >= raw);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) found.push(+value.toPrecision(12));
  return found;
}

const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

function mark(index, x, y, size = 3.2) {
  const s = size, at = { fill: colour(index), stroke: "var(--card)", "stroke-width": 1 };
  const shape = [
    () => svg("circle", { cx: x, cy: y, r: s, ...at }),
    () => svg("rect", { x: x - s, y: y - s, width: 2 * s, height: 2 * s, ...at }),
    () => svg("path", { d: `M${x} ${y - s * 1.3}L${x + s * 1.2} ${y + s}H${x - s * 1.2}Z`, ...at }),
    () => svg("path", { d: `M${x} ${y - s * 1.4}L${x + s * 1.4} ${y}L${x} ${y + s * 1.4}L${x - s * 1.4} ${y}Z`, ...at }),
    () => svg("path", { d: `M${x} ${y + s * 1.3}L${x + s * 1.2} ${y - s}H${x - s * 1.2}Z`, ...at }),
  ];
  return shape[index % shape.length]();
}

/* series: [{index, label, x, mean, low, high, thin: [{x, mean}]}]; x and mean may hold nulls. */
function lineChart(host, spec) {
  const draw = () => {
    const width = clamp(Math.round(host.clientWidth) || 640, 280, 1150);
    const height = spec.height || clamp(Math.round(width * 0.52), 230, 380);
    const box = { left: 52, right: width - 14, top: 12, bottom: height - 44 };
    const xs = spec.series.flatMap((s) => s.x), tops = spec.series.flatMap((s) => [...s.mean, ...s.high]);
    const xMax = Math.max(...xs, 0) || 1, yMax = spec.yMax || Math.max(...tops.filter((v) => !missing(v)), 0) * 1.06 || 1;
    const X = (v) => box.left + ((box.right - box.left) * v) / xMax;
    const Y = (v) => box.bottom - ((box.bottom - box.top) * v) / yMax;
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: "0", "aria-label": spec.label });
    for (const t of ticks(0, yMax, 5)) {
      root.append(svg("line", { class: "grid", x1: box.left, x2: box.right, y1: Y(t), y2: Y(t) }),
        svg("text", { x: box.left - 8, y: Y(t) + 4, "text-anchor": "end" }, spec.yText(t)));
    }
    for (const t of ticks(0, xMax, width < 480 ? 4 : 7)) {
      root.append(svg("text", { x: X(t), y: box.bottom + 18, "text-anchor": "middle" }, amount(t)));
    }
    root.append(svg("text", { x: (box.left + box.right) / 2, y: height - 6, "text-anchor": "middle" }, spec.xName));
    for (const s of spec.series) drawSeries(root, s, X, Y);
    const cross = svg("line", { class: "cross", y1: box.top, y2: box.bottom, visibility: "hidden" });
    root.append(cross);
    host.replaceChildren(root);
    pointing(root, cross, spec, X, width);
  };
  draw();
  let last = host.clientWidth;
  new ResizeObserver(() => { if (host.clientWidth !== last) { last = host.clientWidth; requestAnimationFrame(draw); } }).observe(host);
}

function drawSeries(root, s, X, Y) {
  const keep = s.x.map((_, i) => i).filter((i) => !missing(s.mean[i]));
  const band = keep.filter((i) => !missing(s.low[i]));
  if (band.length > 1) {
    const edge = [...band.map((i) => [X(s.x[i]), Y(s.high[i])]), ...band.map((i) => [X(s.x[i]), Y(s.low[i])]).reverse()];
    root.append(svg("path", { d: path(edge) + "Z", fill: colour(s.index), opacity: 0.15 }));
  }
  for (const thin of s.thin || []) {
    root.append(svg("path", { d: path(thin.x.map((x, i) => [X(x), Y(thin.mean[i])])), fill: "none", stroke: colour(s.index), "stroke-width": 0.8, opacity: 0.35 }));
  }
  root.append(svg("path", { d: path(keep.map((i) => [X(s.x[i]), Y(s.mean[i])])), fill: "none", stroke: colour(s.index), "stroke-width": 2.2, "stroke-dasharray": dash(s.index), "stroke-linejoin": "round" }));
  if (keep.length <= 60) for (const i of keep) root.append(mark(s.index, X(s.x[i]), Y(s.mean[i])));
}

function pointing(root, cross, spec, X, width) {
  const stops = [...new Set(spec.series.flatMap((s) => s.x))].sort((a, b) => a - b);
  let at = -1;
  const tell = (index, x, y) => {
    at = clamp(index, 0, stops.length - 1);
    const where = stops[at];
    cross.setAttribute("x1", X(where));
    cross.setAttribute("x2", X(where));
    cross.setAttribute("visibility", "visible");
    const rows = spec.series.filter((s) => s.x.length).map((s) => {
      const i = s.x.reduce((best, v, j) => (Math.abs(v - where) < Math.abs(s.x[best] - where) ? j : best), 0);
      const there = Math.abs(s.x[i] - where) < 1e-9 ? "" : ` (at ${amount(s.x[i])})`;
      return { s, i, value: s.mean[i], text: `${s.label}: ${spec.told(s.mean[i], s.low[i], s.high[i])}${there}` };
    }).sort((a, b) => b.value - a.value);
    const head = `${amount(where)} ${spec.xName}`;
    tip.show(x, y, el("b", {}, head), rows.map((r) => el("div", {}, swatch(r.s.index), r.text)));
    say(head + ". " + rows.map((r) => r.text).join(". "));
  };
  const nearest = (clientX) => {
    const rect = root.getBoundingClientRect();
    const px = ((clientX - rect.left) * width) / rect.width;
    return stops.reduce((best, v, j) => (Math.abs(X(v) - px) < Math.abs(X(stops[best]) - px) ? j : best), 0);
  };
  const leave = () => { cross.setAttribute("visibility", "hidden"); tip.hide(); };
  root.addEventListener("pointermove", (event) => stops.length && tell(nearest(event.clientX), event.clientX, event.clientY));
  root.addEventListener("pointerleave", leave);
  root.addEventListener("blur", leave);
  root.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (!step || !stops.length) return;
    event.preventDefault();
    const rect = root.getBoundingClientRect();
    const next = Number.isFinite(step) ? at + step : step < 0 ? 0 : stops.length - 1;
    tell(next, rect.left + (X(stops[clamp(next, 0, stops.length - 1)]) * rect.width) / width, rect.top + 20);
  });
}

/* One interval on a scale of 0 to `top`, for a table cell. */
function whisker(index, interval, top) {
  const W = 180, X = (v) => 4 + ((W - 8) * clamp(v, 0, top)) / top;
  const root = svg("svg", { viewBox: `0 0 ${W} 18`, width: W, height: 18, "aria-hidden": "true" });
  root.append(svg("line", { class: "grid", x1: 4, x2: W - 4, y1: 9, y2: 9 }));
  if (missing(interval.mean)) return root;
  if (!missing(interval.low)) root.append(svg("line", { x1: X(interval.low), x2: X(interval.high), y1: 9, y2: 9, stroke: colour(index), "stroke-width": 5, opacity: 0.45, "stroke-linecap": "round" }));
  root.append(mark(index, X(interval.mean), 9, 4.4));
  return root;
}
