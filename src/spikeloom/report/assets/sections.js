// The sections: each a function from the runs that are shown to elements; null where there is nothing.

const METRICS = [
  ["loss", "Loss", number], ["accuracy", "Accuracy", (v) => `${Number((100 * v).toPrecision(4))} %`], ["firing_rate", "Firing rate, spikes per neuron and step", number],
  ["lr", "Learning rate", number], ["grad_norm", "Gradient norm", number], ["seconds", "Seconds an epoch", number],
];
const OF_DATA = new Set(["loss", "accuracy"]); // not to be compared between data sets

const summary = (runs) => {
  const sets = new Set(runs.map((run) => run.data)), one = sets.size === 1;
  const best = (value, least) => {
    const found = runs.map(value).filter(known);
    return one && least !== null && new Set(found).size > 1 ? (least ? Math.min(...found) : Math.max(...found)) : null;
  };
  const columns = [
    ["Accuracy", (r) => r.behaviour?.accuracy ?? r.result?.test_accuracy, percent, false],
    ["Loss", (r) => r.behaviour?.loss, number, true],
    ["Firing rate", (r) => rate(r), number, null],
    ["Parameters", (r) => r.parameters, count, null],
    ["Energy a sample", (r) => r.operations?.energy, joules, true],
    ["Seconds an epoch", (r) => mean((r.curves.seconds?.train || []).map((p) => p[1])), number, true],
  ];
  const tops = columns.map(([, value, , least]) => best(value, least));
  return [
    table("Runs", [["Run"], ["Data", "text"], ["State", "text"], ...columns.map(([title]) => [title])], runs.map((run) => ({
      cells: [runName(run), said(run.data), run.state, ...columns.map(([, value, write], i) => {
        const v = value(run);
        return element("span", { class: tops[i] !== null && v === tops[i] ? "best" : "" }, write(v));
      })],
    }))),
    notes(runs),
  ];
};

const mean = (values) => (values.length ? values.reduce((a, b) => a + b, 0) / values.length : null);
const rate = (run) => {
  const layers = run.behaviour?.layers || [];
  const neurons = layers.reduce((a, l) => a + l.neurons, 0);
  return neurons ? layers.reduce((a, l) => a + l.neurons * l.rate, 0) / neurons : null;
};

const notes = (runs) => {
  const rows = report.notes.map((text) => element("li", {}, text));
  for (const run of runs) {
    for (const text of run.missing) rows.push(element("li", {}, element("b", {}, `${run.name}: `), text));
    const told = run.warnings.slice(0, 10);
    for (const { epoch, text } of told) rows.push(element("li", {}, element("b", {}, `${run.name}, epoch ${epoch}: `), text));
    if (told.length < run.warnings.length) rows.push(element("li", {}, element("b", {}, `${run.name}: `), `${run.warnings.length - told.length} more warnings are in metrics.jsonl.`));
    const b = run.behaviour;
    if (b && b.samples < b.of) rows.push(element("li", {}, element("b", {}, `${run.name}: `), `measured on ${whole(b.samples)} of ${whole(b.of)} test samples, drawn by lot.`));
  }
  return rows.length ? element("ul", { class: "notes" }, rows) : null;
};

const curves = (runs) => {
  const panels = [];
  for (const [metric, title, write] of METRICS) {
    const groups = OF_DATA.has(metric) ? [...new Set(runs.map((run) => run.data))] : [undefined];
    for (const data of groups) {
      const series = [];
      for (const run of runs.filter((r) => data === undefined || r.data === data)) {
        for (const [part, points] of Object.entries(run.curves[metric] || {})) {
          series.push({ name: `${run.name}, ${part}`, look: run.look, dash: DASHES[part], part, points });
        }
      }
      if (!series.length) continue;
      const full = groups.length > 1 ? `${title}, ${data ?? "data not named"}` : title;
      const parts = [...new Set(series.map((s) => s.part))];
      const low = metric === "firing_rate" || metric === "seconds" ? 0 : undefined;
      panels.push(element("div", { class: "panel" }, element("h3", {}, full), chart({ title: full, series, write, low }), parts.length > 1 ? lineKey(parts) : null));
    }
  }
  for (const run of runs) {
    const layers = Object.entries(run.layer_curves);
    if (layers.length < 2) continue;
    const shown = layers.length > 8 ? layers.filter((_, i) => i % Math.ceil(layers.length / 8) === 0) : layers;
    const title = `Firing rate by layer, ${run.name}`;
    const series = shown.map(([name, points], i) => ({ name, look: `r${i}`, points }));
    panels.push(element("div", { class: "panel" }, element("h3", {}, title), chart({ title, series, low: 0 }),
      element("p", { class: "legend" }, series.map((s) => element("span", { class: s.look }, element("i", { class: "key" }), element("span", { class: "small" }, s.name)))),
      shown.length < layers.length ? element("p", { class: "small" }, `${shown.length} of ${layers.length} layers`) : null));
  }
  return panels.length ? element("div", { class: "grid" }, panels) : null;
};

const DASHES = { train: "", validation: "dashed", test: "dotted" };

const lineKey = (parts) => element("p", { class: "legend" }, parts.map((part) =>
  element("span", {}, drawn("svg", { viewBox: "0 0 22 8", "aria-hidden": "true" },
    drawn("line", { class: `line ${DASHES[part]}`, x1: 1, x2: 21, y1: 4, y2: 4 })), part)));

const layers = (runs) => grid(runs.filter((run) => run.behaviour?.layers.length), (run) => {
  const top = Math.max(...run.behaviour.layers.map((l) => l.rate), 1e-9);
  return table(`Firing of ${run.name}`, [["Layer"], ["Neurons"], ["Spikes per neuron and step"], ["Silent"], ["Saturated"]],
    run.behaviour.layers.map((l) => ({ cells: [l.name, whole(l.neurons), meter(l.rate / top, run.look, number(l.rate)), percent(l.silent, 1), percent(l.saturated, 1)] })));
}, "wide");

const grid = (runs, inside, kind = "") => runs.length
  ? element("div", { class: `grid ${runs.length === 1 && kind === "wide" ? "one" : kind}` }, runs.map((run) => element("div", { class: "panel" }, element("h3", {}, runName(run)), inside(run))))
  : null;

const operations = (runs) => grid(runs.filter((run) => run.operations?.rows?.length), (run) => {
  const { columns, rows, total, note } = run.operations;
  const energy = Math.max(...rows.map((row) => row.energy || 0), 1e-30);
  const cells = (row, sum) => columns.map(([key, , kind], i) => {
    const value = row[key];
    if (i === 0) return sum ? "All" : said(value);
    if (sum && value === undefined) return "";
    if (kind === "energy") return sum ? element("span", {}, joules(value)) : meter((value || 0) / energy, run.look, joules(value));
    return { count, share: (v) => percent(v, 1), rate: number, text: said }[kind](value);
  });
  return [
    table(`Operations of ${run.name}`, columns.map(([, title, kind]) => [title, kind === "text" ? "text" : ""]),
      [...rows.map((row) => ({ cells: cells(row, false) })), ...(total ? [{ cells: cells(total, true), look: "total" }] : [])]),
    note ? element("p", { class: "small" }, note) : null,
  ];
}, "one");

const confusion = (runs) => grid(runs.filter((run) => run.behaviour), (run) => {
  const b = run.behaviour, made = [], beside = [];
  if (b.confusion) {
    const dense = b.classes.length > 24, tall = !dense && Math.max(...b.classes.map((c) => c.length)) > 3;
    beside.push(element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Confusion matrix of ${run.name}` },
      element("table", { class: `matrix${dense ? " dense" : ""}${tall ? " tall" : ""}` },
        element("thead", {}, element("tr", {}, element("th"), b.classes.map((c) => element("th", { scope: "col", title: c }, element("span", {}, c))))),
        element("tbody", {}, b.confusion.map((row, i) => {
          const all = row.reduce((a, c) => a + c, 0) || 1;
          return element("tr", {}, element("th", { scope: "row", title: b.classes[i] }, b.classes[i]), row.map((n, j) => {
            const cell = element("td", { class: n === 0 ? "none" : n / all > 0.55 ? "strong" : "", title: `${b.classes[i]} taken for ${b.classes[j]}: ${n} of ${all}` }, String(n));
            cell.style.setProperty("--share", n === 0 ? 0 : 0.12 + 0.88 * (n / all));
            return cell;
          }));
        })))));
    if (b.classes.length <= 24) beside.push(table(`Right answers of ${run.name}`, [["Class"], ["Answered right"], ["Of"]],
      b.recall.map(([name, right, all]) => ({ cells: [name, meter(right / (all || 1), run.look, all ? percent(right / all, 1) : "–"), whole(all)] }))));
    made.push(element("div", { class: `beside${tall || b.classes.length > 12 ? " below" : ""}` }, beside));
    made.push(element("p", { class: "small" }, "Rows are classes, columns are answers; a row's shade is the share of its samples."));
  } else {
    made.push(element("p", { class: "small" }, `A matrix of ${b.classes.length} classes is too large for a page.`));
  }
  const rows = b.confused.slice(0, 6).map(([from, to, n]) => `${from} → ${to}: ${n}`);
  made.push(element("p", {}, rows.length ? `Most confused: ${rows.join(", ")}` : "No sample was answered wrong."));
  return made;
}, "wide");

const hardest = (runs) => grid(runs.filter((run) => run.hardest.length), (run) => element("div", { class: "pictures" }, run.hardest.map((a) => {
  const picture = report.pictures[a.picture];
  return element("figure", {},
    picture ? element("img", { class: picture.kind, src: picture.src, alt: `Test sample ${a.index}, ${a.label}` }) : element("div", { class: "blank" }, `sample ${a.index}`),
    element("figcaption", {}, a.label, " → ", element("span", { class: a.right ? "right" : "wrong" }, a.answer),
      element("small", {}, `${percent(a.share, 1)} · loss ${number(a.loss, 3)}`), element("small", {}, `sample ${a.index}`)));
})), "wide");

let chosenSample = 0;
const inside = (runs) => {
  const able = runs.filter((run) => run.inside.length);
  if (!able.length) return null;
  const most = Math.max(...able.map((run) => run.inside.length));
  chosenSample = Math.min(chosenSample, most - 1);
  const place = element("div");
  const show = () => place.replaceChildren(grid(able.filter((run) => run.inside[chosenSample]), (run) => sampleView(run.inside[chosenSample]), "wide"));
  const choice = element("div", { class: "choice", role: "radiogroup", "aria-label": "Sample" }, Array.from({ length: most }, (_, i) => {
    const radio = element("input", { type: "radio", name: "sample", value: i, checked: i === chosenSample });
    radio.addEventListener("change", () => { chosenSample = i; show(); });
    return element("label", {}, radio, element("span", {}, report.chosen[i] ?? `Sample ${i + 1}`));
  }));
  show();
  return [choice, place];
};

// settings by dotted names: {a: {b: 1}} as {"a.b": 1}
const flat = (values, before = "") => Object.entries(values).reduce((made, [key, value]) =>
  Object.assign(made, value && typeof value === "object" && !Array.isArray(value) && Object.keys(value).length ? flat(value, `${before}${key}.`) : { [before + key]: value }), {});

const settings = (runs) => {
  const made = [], rows = report.differences;
  if (report.runs.length > 1) {
    made.push(rows.length
      ? table("Settings that differ", [["Setting"], ...runs.map((run) => [run.name, "config"])], rows.map((row) => ({ cells: [row.field, ...runs.map((run) => said(row.values[run.number]))] })))
      : element("p", {}, "All settings are equal."));
  }
  for (const run of report.runs.length === 1 ? runs : []) {
    const changed = Object.entries(run.changed).map(([key, value]) => ({ cells: [key, said(value)] }));
    if (changed.length) made.push(table("Settings that are not the defaults", [["Setting"], ["Value", "config"]], changed));
  }
  for (const run of runs) {
    const about = Object.entries(flat(run.about)).map(([key, value]) => ({ cells: [key, said(value)] }));
    const config = Object.entries(flat(run.config)).map(([key, value]) => ({ cells: [key, said(value)] }));
    if (!about.length && !config.length) continue;
    made.push(element("details", {}, element("summary", {}, `All of ${run.name} (${run.path})`),
      table(`Settings of ${run.name}`, [["Setting"], ["Value", "config"]], [{ cells: ["recipe", run.recipe] }, ...config, ...about])));
  }
  return made.length ? element("div", { class: "panel" }, made) : null;
};

const SECTIONS = [
  ["summary", "Runs", summary, ""],
  ["curves", "Curves", curves, "Point at a curve to read it; runs are shown and hidden above."],
  ["layers", "Firing", layers, "On the test set. A silent neuron never fired, a saturated one fired at every step of every sample."],
  ["operations", "Operations", operations, "Operations and energy of one sample, by layer."],
  ["confusion", "Confusion", confusion, ""],
  ["hardest", "Hardest", hardest, "The test samples with the highest loss: class → answer, and the share that the class was given."],
  ["inside", "Spikes", inside, "What the network does with a sample: who fires when, and the membranes of the neuron that fires most, one of the middle, and the nearest to firing."],
  ["settings", "Settings", settings, ""],
];
