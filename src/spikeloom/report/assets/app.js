// The page: which runs are shown, in which theme.

const root = document.documentElement;
const report = JSON.parse(document.getElementById("report").textContent);
report.runs.forEach((run, i) => { run.number = i; run.look = `r${i % 8}`; run.shown = true; });

const render = () => {
  repaint = [];
  const runs = report.runs.filter((run) => run.shown), links = [], made = [];
  for (const [id, title, draw, lead] of SECTIONS) {
    const content = runs.length ? draw(runs) : null;
    if (!content) continue;
    links.push(element("a", { href: `#${id}` }, title));
    made.push(element("section", { id, "aria-labelledby": `${id}-title` }, element("h2", { id: `${id}-title` }, title), lead ? element("p", { class: "lead" }, lead) : null, content));
  }
  if (!runs.length) made.push(element("section", {}, element("p", {}, "All runs are hidden; choose one above.")));
  document.getElementById("contents").replaceChildren(...links);
  document.getElementById("main").replaceChildren(...made);
};

const theme = (name) => {
  root.dataset.theme = name;
  document.getElementById("theme").textContent = name === "dark" ? "Light" : "Dark";
  for (const paint of repaint) paint();
};

document.getElementById("theme").addEventListener("click", () => theme(root.dataset.theme === "dark" ? "light" : "dark"));
const preferred = window.matchMedia("(prefers-color-scheme: dark)");
preferred.addEventListener("change", () => theme(preferred.matches ? "dark" : "light"));

const runs = report.runs;
document.getElementById("subtitle").textContent = `${runs.length} run${runs.length === 1 ? "" : "s"} of ${[...new Set(runs.map((run) => run.data).filter(Boolean))].join(", ") || "unknown data"}`;
document.getElementById("footer").textContent = `Made by spikeloom ${report.version}, ${report.made.replace("T", " ").replace("+00:00", " UTC")}.`;
document.getElementById("runs").replaceChildren(...runs.map((run) => {
  const button = element("button", { type: "button", "aria-pressed": "true", title: run.path }, element("i", { class: `key ${run.look}`, "aria-hidden": "true" }), element("span", {}, run.name));
  button.addEventListener("click", () => {
    run.shown = !run.shown;
    button.setAttribute("aria-pressed", String(run.shown));
    render();
  });
  return button;
}));
theme(preferred.matches ? "dark" : "light");
render();
root.dataset.state = "ready";
