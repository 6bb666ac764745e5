// Spikes and membranes of one sample in one network.

const bits = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

const tall = (layer) => Math.max(110, Math.min(190, layer.which.length * 2));

const raster = (layer) => {
  const rows = layer.which.length, held = bits(layer.spikes);
  const high = tall(layer);
  const canvas = element("canvas", {
    class: "raster", role: "img",
    "aria-label": `Spikes of ${rows} of ${layer.neurons} neurons of ${layer.name} in ${layer.steps} steps; ${number(layer.rate)} spikes per neuron and step`,
  });
  canvas.style.height = `${high}px`;
  const paint = () => {
    const wide = canvas.clientWidth, scale = window.devicePixelRatio || 1;
    if (!wide) return;
    canvas.width = Math.round(wide * scale);
    canvas.height = Math.round(high * scale);
    const pen = canvas.getContext("2d");
    pen.fillStyle = getComputedStyle(canvas).getPropertyValue("color");
    const step = canvas.width / layer.steps, row = canvas.height / rows;
    const stroke = Math.max(scale, Math.min(8 * scale, 0.7 * step)), size = Math.max(scale, 0.8 * row);
    for (let n = 0; n < rows; n++) {
      for (let t = 0; t < layer.steps; t++) {
        const i = n * layer.steps + t;
        if (held[i >> 3] & (1 << (i & 7))) pen.fillRect((t + 0.5) * step - stroke / 2, (n + 0.5) * row - size / 2, stroke, size);
      }
    }
  };
  new ResizeObserver(paint).observe(canvas);
  repaint.push(paint);
  return canvas;
};

let repaint = []; // what must be painted anew in another theme

const membranes = (layer) => chart({
  title: `Membranes of ${layer.name}`, x: "step", height: tall(layer) + 24,
  limit: layer.threshold,
  series: layer.traces.map((trace, i) => ({ name: `neuron ${trace.neuron}`, look: `t${i}`, points: trace.v.map((v, t) => [t, v]) })),
  marks: layer.traces.map((trace, i) => ({ look: `t${i}`, at: trace.spikes.filter((t) => t < layer.steps) })),
});

const layerView = (layer) => element("div", { class: "layer" },
  element("h4", {}, layer.name, element("span", {}, ` · ${layer.kind} · ${whole(layer.neurons)} neurons · ${number(layer.rate)} spikes per neuron and step`)),
  element("div", { class: "grow" }, raster(layer), element("div", { class: "axis" }, element("span", {}, "step 0"), element("span", {}, String(layer.steps - 1))),
    layer.notes.length ? element("p", { class: "small" }, layer.notes.join("; ")) : null),
  layer.traces.length ? element("div", { class: "grow" }, membranes(layer), element("p", { class: "legend" },
    layer.traces.map((trace, i) => element("span", { class: `t${i}` }, element("i", { class: "key" }), element("span", { class: "small" }, `neuron ${trace.neuron}`))))) : null);

const sampleView = (answer) => {
  const picture = report.pictures[answer.picture];
  return element("div", {},
    element("div", { class: "sample" },
      picture ? element("img", { class: `shown ${picture.kind}`, src: picture.src, alt: `Test sample ${answer.index}, ${answer.label}` }) : null,
      element("div", {},
        element("p", {}, `Test sample ${answer.index}: `, element("b", {}, answer.label)),
        element("p", { class: answer.right ? "right" : "wrong" }, answer.right ? "answered right" : `answered ${answer.answer}`),
        element("p", { class: "small" }, `${percent(answer.share)} on its class, loss ${number(answer.loss)}`),
        picture && picture.strip ? element("img", { class: "strip", src: picture.strip, alt: `${picture.frames} of its ${picture.of} frames` }) : null)),
    answer.layers.map(layerView));
};
