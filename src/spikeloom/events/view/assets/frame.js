// One window of events as a picture: what `picture` in raster.py draws, to the last grey level.

const FULL = 2, BINS = 1 << 12, FADED = 3;

class Frame {
  constructor(events, canvas) {
    this.events = events;
    this.canvas = canvas;
    this.whole = sheet(document.createElement("canvas"), meta.width, meta.height);
    this.pixels = this.whole.pixels;
    this.fit(1);
    const size = meta.width * meta.height;
    this.on = new Uint32Array(size);
    this.off = new Uint32Array(size);
    this.histogram = new Uint32Array(BINS);
    this.counted = [0, 0]; // which events are in `on` and `off`
  }

  // A pixel of the screen shows a pixel of the sensor or, where it has room for several, the strongest of them.
  fit(ratio) {
    const small = ratio < 1, size = (n) => Math.max(1, Math.floor(small ? n * ratio : n));
    const [width, height] = [size(meta.width), size(meta.height)];
    if (this.seen && this.seen.canvas.width === width && this.seen.canvas.height === height) return;
    this.seen = sheet(this.canvas, width, height);
  }

  show(ground) {
    const { whole, seen } = this, { width } = whole.canvas, across = seen.canvas.width;
    if (across === width && seen.canvas.height === whole.canvas.height) seen.pixels.set(whole.pixels);
    else {
      const empty = blend(ground, ground, 1), right = across / width, down = seen.canvas.height / whole.canvas.height;
      const far = (pixel) =>
        Math.abs((pixel & 255) - ground[0]) + Math.abs(((pixel >> 8) & 255) - ground[1]) + Math.abs(((pixel >> 16) & 255) - ground[2]);
      seen.pixels.fill(empty);
      for (let i = 0; i < whole.pixels.length; i++) {
        const pixel = whole.pixels[i];
        if (pixel === empty) continue;
        const row = (i / width) | 0, k = ((row * down) | 0) * across + (((i - row * width) * right) | 0);
        if (seen.pixels[k] === empty || far(pixel) > far(seen.pixels[k])) seen.pixels[k] = pixel;
      }
    }
    for (const { pen, image } of [whole, seen]) pen.putImageData(image, 0, 0);
  }

  draw(at, length, mode, colours) {
    const { t } = this.events;
    const first = mode === "total" ? 0 : after(t, at - length), last = after(t, at);
    if (mode === "polarity" || mode === "decay") this.latest(first, last, at, length, mode === "decay", colours);
    else this.counts(first, last, colours);
    this.show(colours.background);
    return [first, last];
  }

  latest(first, last, at, length, fades, colours) {
    const { t, x, y, p } = this.events, { pixels } = this, { width } = meta;
    const both = [colours.off, colours.on], ground = colours.background;
    const solid = both.map((colour) => blend(ground, colour, 1)), empty = blend(ground, ground, 1);
    pixels.fill(empty);
    for (let i = last - 1; i >= first; i--) { // from the latest: a pixel is painted once
      const k = y[i] * width + x[i];
      if (pixels[k] !== empty) continue;
      pixels[k] = fades ? blend(ground, both[p[i]], Math.exp((-FADED * (at - t[i])) / length)) : solid[p[i]];
    }
  }

  counts(first, last, colours) {
    const { on, off, pixels, histogram } = this, ground = colours.background;
    this.count(first, last);
    histogram.fill(0);
    for (let i = 0; i < on.length; i++) histogram[Math.min(on[i] + off[i], BINS - 1)]++;
    const active = on.length - histogram[0];
    let full = 0;
    for (let above = active, n = 1; n < BINS && above > active / 100; n++) {
      full = n;
      above -= histogram[n];
    }
    const scale = Math.log1p(Math.max(FULL, full));
    const known = new Map(); // few pairs of counts are many pixels
    const empty = blend(ground, ground, 1);
    for (let i = 0; i < on.length; i++) {
      const n = on[i] + off[i];
      if (n === 0) {
        pixels[i] = empty;
        continue;
      }
      const key = n < 1024 ? n * 1024 + on[i] : -1;
      let made = key < 0 ? undefined : known.get(key);
      if (made === undefined) {
        const share = on[i] / n;
        const colour = colours.off.map((dark, c) => dark + share * (colours.on[c] - dark));
        made = blend(ground, colour, Math.min(1, Math.log1p(n) / scale));
        if (key >= 0) known.set(key, made);
      }
      pixels[i] = made;
    }
  }

  // Count the events from `first` to `last`; where only the end has moved on, the new ones alone.
  count(first, last) {
    const { x, y, p } = this.events, { on, off } = this, { width } = meta;
    let [begun, from] = this.counted;
    if (begun !== first || from > last) {
      on.fill(0);
      off.fill(0);
      from = first;
    }
    for (let i = from; i < last; i++) (p[i] ? on : off)[y[i] * width + x[i]]++;
    this.counted = [first, last];
  }

  // How many ON and OFF events a pixel has among those from `first` to `last`.
  pixel(column, row, first, last) {
    const { x, y, p } = this.events, found = [0, 0];
    for (let i = first; i < last; i++) if (x[i] === column && y[i] === row) found[p[i]]++;
    return found;
  }
}

// A canvas with its pixels at hand.
function sheet(canvas, width, height) {
  canvas.width = width;
  canvas.height = height;
  const pen = canvas.getContext("2d", { alpha: false }), image = pen.createImageData(width, height);
  return { canvas, pen, image, pixels: new Uint32Array(image.data.buffer) };
}

// A pixel of an ImageData: red is its lowest byte.
function blend(ground, colour, opacity) {
  const mix = (c) => Math.floor(ground[c] + opacity * (colour[c] - ground[c]) + 0.5);
  return ((255 << 24) | (mix(2) << 16) | (mix(1) << 8) | mix(0)) >>> 0;
}
