// Elements and numbers in words.

const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value;
    else if (value === true) made.setAttribute(key, "");
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
};

const drawn = (name, attributes = {}, ...children) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};

const known = (value) => value !== null && value !== undefined && Number.isFinite(value);
const whole = (value) => (known(value) ? Math.round(value).toLocaleString("en-GB") : "–");
const percent = (value, digits = 2) => (known(value) ? `${(100 * value).toFixed(digits)} %` : "–");
const PREFIXES = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

// a number in four digits, as it is read: 0.0312, 12.35, 4.2e-5, 12,345
const number = (value, digits = 4) => {
  if (!known(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) return value.toExponential(2).replace("e+", "e");
  if (size >= 1000) return Math.round(value).toLocaleString("en-GB");
  return String(Number(value.toPrecision(digits)));
};

const count = (value) => {
  if (!known(value)) return "–";
  for (const [size, letter] of PREFIXES) {
    if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(3))} ${letter}`;
  }
  return String(Number(value.toPrecision(3)));
};

const joules = (value) => {
  if (!known(value)) return "–";
  if (value === 0) return "0 J";
  for (const [size, unit] of [[1, "J"], [1e-3, "mJ"], [1e-6, "µJ"], [1e-9, "nJ"], [1e-12, "pJ"]]) {
    if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(3))} ${unit}`;
  }
  return `${value.toExponential(2)} J`;
};

const said = (value) =>
  value === null || value === undefined ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value);

// a table: columns are [title, class], rows are lists of cells (text or elements); the first cell heads its row
const table = (caption, columns, rows, kind = "") =>
  element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    element("table", { class: kind },
      element("thead", {}, element("tr", {}, columns.map(([title, look]) => element("th", { scope: "col", class: look || "" }, title)))),
      element("tbody", {}, rows.map(({ cells, look }) =>
        element("tr", { class: look || "" }, cells.map((cell, i) =>
          i === 0 ? element("th", { scope: "row" }, cell) : element("td", { class: columns[i][1] || "" }, cell)))))));

const meter = (share, look, text) => {
  const bar = element("span");
  bar.style.width = `${Math.max(0, Math.min(1, share || 0)) * 100}%`;
  return element("span", { class: look }, element("span", { class: "meter", "aria-hidden": "true" }, bar), element("span", { class: "value" }, text));
};

const runName = (run) => element("span", { class: `name ${run.look}` }, element("i", { class: "key", "aria-hidden": "true" }), element("span", {}, run.name));
