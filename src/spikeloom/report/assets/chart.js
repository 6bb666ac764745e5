// Curves: series of [x, y] drawn as SVG; the pointer, or the arrow keys, read the values.

const steps = (low, high, most) => {
  const span = high - low || Math.abs(high) || 1;
  const power = 10 ** Math.floor(Math.log10(span / most));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => span / s <= most);
  const made = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * span; i++) made.push(Number((i * step).toPrecision(12)));
  return made;
};

// the last point at x or before it
const before = (points, x) => {
  const found = nearest(points, x);
  return found[0] <= x ? found : points[points.indexOf(found) - 1];
};

const nearest = (points, x) => {
  let low = 0, high = points.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] <= x) low = middle; else high = middle;
  }
  return Math.abs(points[low][0] - x) <= Math.abs(points[high][0] - x) ? points[low] : points[high];
};

// spec: {title, series: [{name, look, dash, points}], x, write, limit, marks: [{look, at: [x]}], height, low, high}
const chart = (spec) => {
  const host = element("div", { class: "chart" });
  const tip = element("div", { class: "tip", role: "status", hidden: true });
  const series = spec.series.filter((s) => s.points.length);
  const write = spec.write || number;
  const xs = [...new Set(series.flatMap((s) => s.points.map((p) => p[0])))].sort((a, b) => a - b);
  const ys = series.flatMap((s) => s.points.map((p) => p[1])).filter(known);
  if (known(spec.limit)) ys.push(spec.limit);
  let low = spec.low ?? Math.min(...bounds(ys, 0)), high = spec.high ?? Math.max(...bounds(ys, 1));
  if (spec.low === undefined && low > 0 && low < 0.35 * high) low = 0;
  if (high === low) { high += Math.abs(high) * 0.1 || 1; low = low === 0 ? 0 : low - Math.abs(low) * 0.1; }
  if (spec.low === undefined && low !== 0) low -= 0.04 * (high - low);
  if (spec.high === undefined) high += 0.04 * (high - low);
  const first = xs[0] ?? 0, last = xs[xs.length - 1] ?? 1;
  let width = 0, at = null;

  const draw = () => {
    const height = spec.height || 230, top = spec.marks ? 10 + 7 * spec.marks.length : 10, bottom = 24, right = 10;
    const shown = steps(low, high, height > 160 ? 5 : 3);
    const left = 12 + 7.2 * Math.max(4, ...shown.map((y) => write(y).length));
    const px = (x) => left + (last === first ? 0.5 : (x - first) / (last - first)) * (width - left - right);
    const py = (y) => top + (1 - (y - low) / (high - low)) * (height - top - bottom);
    const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", tabindex: 0, "aria-label": summary() });
    for (const y of shown) {
      svg.append(drawn("line", { class: "rule", x1: left, x2: width - right, y1: py(y), y2: py(y) }));
      svg.append(drawn("text", { x: left - 7, y: py(y) + 4, "text-anchor": "end" }, write(y)));
    }
    svg.append(drawn("line", { class: "base", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }));
    const wholes = steps(first, last, Math.max(2, Math.floor(width / 70))).filter(Number.isInteger);
    for (const x of last === first ? [first] : wholes) svg.append(drawn("text", { x: px(x), y: height - 7, "text-anchor": "middle" }, String(x)));
    svg.append(drawn("text", { x: left - 7, y: height - 7, "text-anchor": "end" }, spec.x || "epoch"));
    if (known(spec.limit)) svg.append(drawn("line", { class: "limit", x1: left, x2: width - right, y1: py(spec.limit), y2: py(spec.limit) }));
    for (const s of series) {
      let path = "", pen = false;
      for (const [x, y] of s.points) {
        if (known(y)) path += `${pen ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`;
        pen = known(y);
      }
      svg.append(drawn("path", { class: `line ${s.look}${s.dash ? ` ${s.dash}` : ""}`, d: path }));
      if (s.points.length <= 40) for (const [x, y] of s.points) if (known(y)) svg.append(drawn("circle", { class: `dot ${s.look}`, cx: px(x), cy: py(y), r: 2.4 }));
    }
    (spec.marks || []).forEach((mark, i) => {
      for (const x of mark.at) svg.append(drawn("line", { class: `line ${mark.look}`, x1: px(x), x2: px(x), y1: 3 + 7 * i, y2: 8 + 7 * i }));
    });
    const cursor = drawn("line", { class: "cursor", y1: top, y2: height - bottom, visibility: "hidden" });
    svg.append(cursor);

    const point = (x) => {
      at = x;
      cursor.setAttribute("visibility", x === null ? "hidden" : "visible");
      tip.hidden = x === null;
      if (x === null) return;
      cursor.setAttribute("x1", px(x));
      cursor.setAttribute("x2", px(x));
      // what is not measured at each x is told as it was last, while its curve lasts
      const rows = series.filter((s) => s.points[0][0] <= x && x <= s.points[s.points.length - 1][0])
        .map((s) => [s, before(s.points, x)]).filter(([, p]) => known(p[1]));
      tip.replaceChildren(element("p", { class: "small" }, `${spec.x || "epoch"} ${x}`),
        ...rows.map(([s, p]) => element("p", { class: s.look }, element("i", { class: "key" }), element("span", {}, p[0] === x ? s.name : `${s.name} (${p[0]})`), element("b", {}, write(p[1])))));
      const wide = tip.offsetWidth, right = px(x) + 10, left = px(x) - 10 - wide;
      tip.style.left = `${Math.max(0, Math.min(width - wide, right + wide <= width || left < 0 ? right : left))}px`;
    };
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      if (!xs.length) return;
      const x = first + ((event.clientX - box.left - left) / Math.max(1, width - left - right)) * (last - first);
      point(nearest(xs.map((v) => [v]), x)[0]);
    });
    svg.addEventListener("pointerleave", () => point(null));
    svg.addEventListener("blur", () => point(null));
    svg.addEventListener("keydown", (event) => {
      const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === "Escape") point(null);
      if (!move || !xs.length) return;
      event.preventDefault();
      const now = at === null ? (move > 0 ? -1 : xs.length) : xs.indexOf(at);
      point(xs[Math.max(0, Math.min(xs.length - 1, now + move))]);
    });
    host.replaceChildren(svg, tip);
  };

  const summary = () => `${spec.title}. ${series.map((s) => {
    const found = s.points.filter((p) => known(p[1]));
    return found.length ? `${s.name}: from ${write(found[0][1])} to ${write(found[found.length - 1][1])}` : s.name;
  }).join("; ")}. Arrow keys read the values.`;

  new ResizeObserver(() => {
    const now = Math.round(host.clientWidth);
    if (now && now !== width) { width = now; draw(); }
  }).observe(host);
  return host;
};

// the least and the greatest of many numbers, in a list for Math.min and Math.max
const bounds = (values, otherwise) => {
  let low = Infinity, high = -Infinity;
  for (const v of values) { if (v < low) low = v; if (v > high) high = v; }
  return low > high ? [0, otherwise] : [low, high];
};
