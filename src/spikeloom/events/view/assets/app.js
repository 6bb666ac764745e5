// The page's state, and what the controls do with it.

const SPEEDS = [10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001];
const $ = (id) => document.getElementById(id);
const style = (name) => styles[name] ?? (styles[name] = getComputedStyle(document.documentElement).getPropertyValue(name).trim());
let styles = {};

const state = {
  now: 0,
  playing: false,
  length: 1,
  speed: 1,
  mode: "polarity",
  palette: meta.palette,
  theme: "dark",
  span: "10",
  view: "both",
  loop: true,
};

function facts(list, pairs) {
  for (const [name, value] of pairs) {
    const term = document.createElement("dt"), text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    list.append(term, text);
  }
}

function describe() {
  $("title").title = meta.title;
  $("subtitle").textContent = $("subtitle").title = meta.subtitle;
  facts($("facts"), meta.facts);
  facts($("metadata"), meta.metadata);
  $("header").hidden = meta.metadata.length === 0;
  for (const note of meta.notes) {
    const line = document.createElement("p");
    line.textContent = note;
    $("notes").append(line);
  }
}

// A slider from 0 to 1000 is a length from 10 us (or a 10,000th) to the whole, in equal ratios.
const shortest = Math.max(1, Math.min(10, DAY / 1e4));
const toLength = (slider) => shortest * (DAY / shortest) ** (slider / 1000);
const toSlider = (length) => (DAY > shortest ? (1000 * Math.log(length / shortest)) / Math.log(DAY / shortest) : 1000);
const tidy = (length) => Math.max(1, Math.min(DAY, length >= DAY * 0.999 ? DAY : Math.round(+length.toPrecision(2))));

async function main() {
  describe();
  const events = await unpack();
  const frame = new Frame(events, $("frame")), cloud = new Cloud(events, $("cloud"));
  const timeline = new Timeline((now) => seek(now));
  let due = false, last = 0, settle = 0, shown = [0, 0];

  const colours = () => meta.palettes[state.palette][state.theme];

  function ask() {
    if (!due) requestAnimationFrame(tick);
    due = true;
  }

  function tick(when) {
    due = false;
    if (state.playing) {
      const passed = last ? Math.min(0.25, (when - last) / 1000) : 0;
      advance(passed * 1e6 * state.speed);
      last = when;
    }
    draw(state.playing);
    if (state.playing) ask();
  }

  function advance(by) {
    state.now += by;
    if (state.now <= duration) return;
    if (state.loop && duration > 0) state.now %= duration;
    else {
      state.now = duration;
      play(false);
    }
  }

  function draw(moving) {
    const now = Math.floor(state.now), { length } = state;
    if (state.view !== "cloud") {
      shown = frame.draw(now, length, state.mode, colours());
      const seen = meta.shown === meta.events ? "" : " of those kept";
      $("frame-said").textContent = `${many(shown[1] - shown[0])}${seen}${state.mode === "total" ? " so far" : ` in ${time(length)}`}`;
    }
    if (state.view !== "frame") {
      const all = state.span === "all";
      const reach = length * Number(state.span);
      const from = all ? 0 : Math.max(0, now - reach), to = all ? duration : Math.min(Math.max(now, reach), DAY);
      const { drawn, of } = cloud.draw({ from, to, now, length, all, colours: colours(), moving });
      $("cloud-said").textContent = drawn < of ? `${whole(drawn)} of ${many(of)} drawn` : many(of);
      clearTimeout(settle);
      if (moving && drawn < of && !state.playing) settle = setTimeout(() => draw(false), 160);
    }
    timeline.show(now, state.mode === "total" ? now : length);
    $("clock").textContent = `${clock(now)} / ${clock(duration)}`;
  }

  function seek(now) {
    state.now = Math.max(0, Math.min(duration, now));
    ask();
  }

  function play(on) {
    state.playing = on;
    last = 0;
    if (on && state.now >= duration) state.now = 0;
    document.documentElement.dataset.playing = String(on);
    $("play").setAttribute("aria-label", on ? "Pause" : "Play");
    ask();
  }

  function setLength(length) {
    state.length = tidy(length);
    $("window").value = String(Math.round(toSlider(state.length)));
    $("window-said").textContent = time(state.length);
    $("window").setAttribute("aria-valuetext", time(state.length));
    ask();
  }

  function setSpeed(index) {
    const k = Math.max(0, Math.min(SPEEDS.length - 1, index));
    state.speed = SPEEDS[k];
    $("speed").selectedIndex = k;
  }

  function choose(name, value) {
    state[name] = value;
    const radio = document.querySelector(`input[name="${name}"][value="${value}"]`);
    if (radio) radio.checked = true;
    if (name === "view") {
      document.documentElement.dataset.view = value;
      $("frame-figure").hidden = value === "cloud";
      $("cloud-figure").hidden = value === "frame";
    }
    ask();
  }

  function next(name) {
    const values = [...document.querySelectorAll(`input[name="${name}"]`)].map((radio) => radio.value);
    choose(name, values[(values.indexOf(state[name]) + 1) % values.length]);
  }

  function paint() {
    styles = {};
    document.documentElement.dataset.theme = state.theme;
    for (const name of ["on", "off"]) document.documentElement.style.setProperty(`--${name}`, `rgb(${colours()[name]})`);
    document.documentElement.style.setProperty("--ground", `rgb(${colours().background})`);
    $("theme").textContent = state.theme === "dark" ? "Light" : "Dark";
    timeline.draw(colours());
    ask();
  }

  function setTheme(theme) {
    state.theme = theme;
    paint();
  }

  function setPalette(name) {
    state.palette = $("colours").value = name;
    paint();
  }

  function repeat(on) {
    state.loop = on;
    $("loop").setAttribute("aria-pressed", String(on));
  }

  function save() {
    frame.draw(Math.floor(state.now), state.length, state.mode, colours());
    frame.whole.canvas.toBlob((blob) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = `${meta.title.replace(/[^\w.-]+/g, "_")}-${Math.floor(state.now)}us.png`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    });
  }

  const keys = {
    " ": () => play(!state.playing),
    ArrowLeft: (event) => seek(state.now - state.length * (event.shiftKey ? 10 : 1)),
    ArrowRight: (event) => seek(state.now + state.length * (event.shiftKey ? 10 : 1)),
    Home: () => seek(0),
    End: () => seek(duration),
    ArrowUp: () => setSpeed($("speed").selectedIndex - 1),
    ArrowDown: () => setSpeed($("speed").selectedIndex + 1),
    "[": () => setLength(state.length / 1.3),
    "]": () => setLength(Math.max(state.length + 1, state.length * 1.3)),
    m: () => next("mode"),
    v: () => next("view"),
    c: () => setPalette(Object.keys(meta.palettes)[(Object.keys(meta.palettes).indexOf(state.palette) + 1) % Object.keys(meta.palettes).length]),
    l: () => repeat(!state.loop),
    t: () => setTheme(state.theme === "dark" ? "light" : "dark"),
    s: save,
    "?": () => $("keys").showModal(),
  };

  const cloudKeys = {
    ArrowLeft: () => cloud.turn(-0.1, 0),
    ArrowRight: () => cloud.turn(0.1, 0),
    ArrowUp: () => cloud.turn(0, -0.1),
    ArrowDown: () => cloud.turn(0, 0.1),
    "+": () => cloud.scale(1.2),
    "=": () => cloud.scale(1.2),
    "-": () => cloud.scale(1 / 1.2),
    0: () => cloud.reset(),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
    const at = event.target, key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const own = at === $("cloud") ? cloudKeys[key] : undefined;
    // what a control does with a key of its own stays so
    if (!own && /^Arrow/.test(key) && at.matches("select, input:not(#seek)")) return;
    if (!own && /^(Home|End)$/.test(key) && at.matches("select, #window")) return;
    if (!own && key === " " && at.matches("button, select, summary, input[type=radio]")) return;
    if (at.matches("select") && key.length === 1 && /[a-z0-9]/.test(key)) return;
    const action = own ?? keys[key];
    if (!action) return;
    event.preventDefault();
    action(event);
    if (own) draw(true);
  });

  const click = (id, action) => $(id).addEventListener("click", action);
  click("play", () => play(!state.playing));
  click("start", () => seek(0));
  click("back", () => seek(state.now - state.length));
  click("forward", () => seek(state.now + state.length));
  click("loop", () => repeat(!state.loop));
  click("theme", () => setTheme(state.theme === "dark" ? "light" : "dark"));
  click("help", () => $("keys").showModal());
  click("save", save);
  $("window").addEventListener("input", () => setLength(toLength(Number($("window").value))));
  $("speed").addEventListener("change", () => setSpeed($("speed").selectedIndex));
  $("colours").addEventListener("change", () => setPalette($("colours").value));
  for (const name of ["view", "mode", "span"])
    for (const radio of document.querySelectorAll(`input[name="${name}"]`))
      radio.addEventListener("change", () => choose(name, radio.value));

  turning($("cloud"), cloud, () => draw(true));
  $("frame").addEventListener("pointermove", (event) => {
    const column = Math.min(meta.width - 1, Math.floor((event.offsetX / $("frame").clientWidth) * meta.width));
    const row = Math.min(meta.height - 1, Math.floor((event.offsetY / $("frame").clientHeight) * meta.height));
    const [off, on] = frame.pixel(column, row, ...shown);
    $("frame-said").textContent = `x ${column}, y ${row}: ${on} ON, ${off} OFF`;
  });
  $("frame").addEventListener("pointerleave", ask);

  function fit() {
    const canvas = $("frame"), box = canvas.parentElement;
    const ratio = Math.min(box.clientWidth / meta.width, box.clientHeight / meta.height);
    canvas.style.width = `${Math.max(1, Math.floor(meta.width * ratio))}px`;
    canvas.style.height = `${Math.max(1, Math.floor(meta.height * ratio))}px`;
    frame.fit(ratio * (window.devicePixelRatio || 1));
    timeline.draw(colours());
    ask();
  }
  new ResizeObserver(fit).observe($("frame").parentElement);
  new ResizeObserver(ask).observe($("cloud"));
  new ResizeObserver(fit).observe($("timeline"));

  for (const name of Object.keys(meta.palettes)) $("colours").add(new Option(name, name));
  for (const speed of SPEEDS)
    $("speed").add(new Option(speed >= 1 ? `${speed}×` : `1/${Math.round(1 / speed)}×`, String(speed)));
  const wanted = duration / 10e6; // about ten seconds for the whole, never faster than it was
  setSpeed(Math.max(SPEEDS.indexOf(1), SPEEDS.findIndex((speed) => speed <= wanted * 1.5) >>> 0));
  setLength(meta.window);
  repeat(true);
  if (window.matchMedia("(max-width: 720px)").matches) choose("view", "frame");
  else choose("view", "both");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  setPalette(meta.palette);
  setTheme(dark.matches ? "dark" : "light");
  dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
  seek(10 * state.length); // so that the cloud has something to show
  fit();
  draw(false);
  document.documentElement.dataset.state = "ready";
}

// Drag with one pointer turns, with two zooms; so does the wheel.
function turning(canvas, cloud, draw) {
  const held = new Map();
  const spread = () => {
    const [a, b] = [...held.values()];
    return Math.hypot(a.x - b.x, a.y - b.y);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  canvas.addEventListener("pointermove", (event) => {
    const old = held.get(event.pointerId);
    if (!old) return;
    const before = held.size === 2 ? spread() : 0;
    held.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (held.size === 1) cloud.turn((event.clientX - old.x) * 0.008, (event.clientY - old.y) * 0.008);
    else if (held.size === 2 && before) cloud.scale(spread() / before);
    draw();
  });
  const drop = (event) => held.delete(event.pointerId);
  canvas.addEventListener("pointerup", drop);
  canvas.addEventListener("pointercancel", drop);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    cloud.scale(Math.exp(-event.deltaY * 0.0015));
    draw();
  }, { passive: false });
  canvas.addEventListener("dblclick", () => {
    cloud.reset();
    draw();
  });
}

main().catch((error) => {
  document.documentElement.dataset.state = "failed";
  const line = document.createElement("p");
  line.textContent = typeof DecompressionStream === "undefined"
    ? "This browser is too old for this page: it needs DecompressionStream (Chrome 80, Firefox 113, Safari 16.4)."
    : `This page could not be shown: ${error.message}`;
  $("notes").append(line);
  console.error(error);
});
