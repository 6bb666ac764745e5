// Events as points in x, y and time, drawn on the CPU with a depth buffer: the same on every machine.

const LENGTH = 1.7; // of the time axis; the sensor is 1 wide
const AWAY = 3.6; // from the eye to the middle
const STILL = 1500000, MOVING = 250000; // points drawn at most
const SHADES = 32;
const START = { yaw: -0.62, pitch: 0.34 };

class Cloud {
  constructor(events, canvas) {
    this.events = events;
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    this.layer = document.createElement("canvas");
    this.reset();
  }

  reset() {
    Object.assign(this, START, { zoom: 1 });
  }

  turn(yaw, pitch) {
    this.yaw += yaw;
    this.pitch = Math.max(-1.57, Math.min(1.57, this.pitch + pitch));
  }

  scale(by) {
    this.zoom = Math.max(0.3, Math.min(12, this.zoom * by));
  }

  resize() {
    const fine = Math.min(2, window.devicePixelRatio || 1), { canvas } = this;
    const width = Math.max(1, Math.round(canvas.clientWidth * fine));
    const height = Math.max(1, Math.round(canvas.clientHeight * fine));
    this.fine = fine;
    if (this.depth && canvas.width === width && canvas.height === height) return;
    canvas.width = this.layer.width = width;
    canvas.height = this.layer.height = height;
    this.image = new ImageData(width, height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.depth = new Float32Array(width * height);
  }

  // How large it is drawn, so that the box and its labels have room at first.
  focal(from, to) {
    const { canvas, fine } = this, lens = this.lens(from, to, 1, START);
    let [right, down] = [0, 0];
    for (let k = 0; k < 8; k++) {
      const [u, v, w] = corner(k, from, to, lens);
      right = Math.max(right, Math.abs(u / w));
      down = Math.max(down, Math.abs(v / w));
    }
    const room = (size, label) => Math.max(size / 4, size / 2 - label * fine);
    return Math.min(room(canvas.width, 64) / right, room(canvas.height, 30) / down) * this.zoom;
  }

  // The 3x4 matrix from (us since `from`, column, row) to (right, down, depth), times the focal length.
  lens(from, to, focal, { yaw, pitch }) {
    const { width, height } = meta, most = Math.max(width, height);
    const wide = width / most, tall = height / most; // the longer side of the sensor is 1
    const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    // to the right is time, down is y, away is x
    const a = LENGTH / Math.max(1, to - from), b = wide / width, c = tall / height;
    const rows = [
      [cy * focal, 0, sy * focal],
      [sy * sp * focal, cp * focal, -cy * sp * focal],
      [-sy * cp, sp, cy * cp],
    ];
    return rows.map(([right, down, away], i) => [
      right * a,
      away * b,
      down * c,
      (-right * LENGTH) / 2 - (away * wide) / 2 - (down * tall) / 2 + (i === 2 ? AWAY : 0),
    ]);
  }

  // The time from `from` to `to`; events until `now` or, where `all`, all, those of the window in full colour.
  draw({ from, to, now, length, all, colours, moving }) {
    this.resize();
    const { canvas, pen, layer } = this, lens = this.lens(from, to, this.focal(from, to), this);
    const { t } = this.events, bright = all ? [now - length, now] : null;
    const first = from <= 0 ? 0 : after(t, from), last = after(t, all ? to : now);
    const step = Math.max(1, Math.ceil((last - first) / (moving ? MOVING : STILL)));
    this.points(lens, from, first, last, step, bright, colours);
    layer.getContext("2d").putImageData(this.image, 0, 0);
    pen.fillStyle = `rgb(${colours.background})`;
    pen.fillRect(0, 0, canvas.width, canvas.height);
    const edges = this.box(lens, from, to);
    this.lines(edges.filter((edge) => edge.far));
    pen.drawImage(layer, 0, 0);
    this.lines(edges.filter((edge) => !edge.far));
    if (now < to) this.plane(lens, now - from);
    this.words(lens, from, to);
    return { drawn: Math.ceil((last - first) / step), of: last - first };
  }

  points(lens, from, first, last, step, bright, colours) {
    const { t, x, y, p } = this.events, { pixels, depth, canvas } = this;
    const { width, height } = canvas, [u, v, w] = lens;
    const [u0, u1, u2] = u, [v0, v1, v2] = v, [w0, w1, w2] = w;
    const u3 = u[3], v3 = v[3], w3 = w[3];
    const across = width / 2, down = height / 2;
    pixels.fill(0);
    depth.fill(1e9);
    const few = (last - first) / step;
    const size = Math.max(1, Math.round((few < 3000 ? 3 : few < 40000 ? 2 : 1.2) * this.fine));
    const reach = size - 1;
    const shades = shaded(colours);
    const low = bright ? bright[0] : -Infinity, high = bright ? bright[1] : Infinity;
    for (let i = first; i < last; i += step) {
      const time = t[i] - from, column = x[i] + 0.5, row = y[i] + 0.5;
      const away = w0 * time + w1 * column + w2 * row + w3;
      if (away < 0.2) continue;
      const left = Math.floor(across + (u0 * time + u1 * column + u2 * row + u3) / away);
      const top = Math.floor(down + (v0 * time + v1 * column + v2 * row + v3) / away);
      if (left < 0 || top < 0 || left + reach >= width || top + reach >= height) continue;
      // nearer is brighter
      let shade = Math.floor(((AWAY + 1.1 - away) / 2.2) * SHADES);
      shade = shade < 0 ? 0 : shade >= SHADES ? SHADES - 1 : shade;
      const dim = t[i] > low && t[i] <= high ? 0 : 2 * SHADES;
      const colour = shades[dim + p[i] * SHADES + shade];
      for (let row = top; row <= top + reach; row++) {
        for (let k = row * width + left; k <= row * width + left + reach; k++) {
          if (away < depth[k]) {
            depth[k] = away;
            pixels[k] = colour;
          }
        }
      }
    }
  }

  at(lens, time, column, row) {
    return this.place(through(lens, time, column, row));
  }

  place([u, v, w]) {
    return [this.canvas.width / 2 + u / w, this.canvas.height / 2 + v / w, w];
  }

  // The edges of the box; `far` are those at its farthest corner.
  box(lens, from, to) {
    const corners = [0, 1, 2, 3, 4, 5, 6, 7].map((k) => this.place(corner(k, from, to, lens)));
    const farthest = corners.reduce((best, corner, k) => (corner[2] > corners[best][2] ? k : best), 0);
    const edges = [];
    for (let k = 0; k < 8; k++)
      for (const bit of [1, 2, 4])
        if (!(k & bit)) edges.push({ from: corners[k], to: corners[k | bit], far: k === farthest || (k | bit) === farthest });
    return edges;
  }

  lines(edges) {
    const { pen } = this;
    pen.lineWidth = this.fine;
    for (const { from, to, far } of edges) {
      pen.strokeStyle = style(far ? "--line" : "--edge");
      pen.beginPath();
      pen.moveTo(from[0], from[1]);
      pen.lineTo(to[0], to[1]);
      pen.stroke();
    }
  }

  plane(lens, time) {
    const { pen } = this;
    pen.beginPath();
    for (const [column, row] of [[0, 0], [meta.width, 0], [meta.width, meta.height], [0, meta.height]])
      pen.lineTo(...this.at(lens, time, column, row).slice(0, 2));
    pen.closePath();
    pen.strokeStyle = style("--text");
    pen.lineWidth = 1.5 * this.fine;
    pen.stroke();
  }

  words(lens, from, to) {
    const { pen, fine } = this, { width, height } = meta, long = Math.max(1, to - from);
    const middle = this.at(lens, long / 2, width / 2, height / 2);
    pen.font = `${12 * fine}px system-ui, sans-serif`;
    pen.fillStyle = style("--muted");
    pen.textBaseline = "middle";
    const write = (text, spot) => {
      const [left, top] = this.at(lens, ...spot);
      const away = Math.hypot(left - middle[0], top - middle[1]) || 1;
      const reach = 14 * fine;
      const side = (left - middle[0]) / away;
      pen.textAlign = side > 0.35 ? "left" : side < -0.35 ? "right" : "center";
      pen.fillText(text, left + side * reach, top + ((top - middle[1]) / away) * reach);
    };
    // along the lower edge that is nearer to the eye
    const near = this.at(lens, long / 2, 0, height)[2] < this.at(lens, long / 2, width, height)[2] ? 0 : width;
    write(clock(Math.max(0, from)), [0, near, height]);
    write("time", [long / 2, near, height]);
    write(clock(to), [long, near, height]);
    const end = this.at(lens, 0, width / 2, height)[2] < this.at(lens, long, width / 2, height)[2] ? 0 : long;
    write(`x ${width}`, [end, width / 2, height]);
    write(`y ${height}`, [end, near ? 0 : width, height / 2]);
  }
}

const through = (lens, time, column, row) => lens.map((m) => m[0] * time + m[1] * column + m[2] * row + m[3]);

function corner(k, from, to, lens) {
  return through(lens, k & 1 ? Math.max(1, to - from) : 0, k & 2 ? meta.width : 0, k & 4 ? meta.height : 0);
}

// [bright OFF, bright ON, dim OFF, dim ON], each from far to near.
function shaded(colours) {
  const made = [];
  for (const [far, near] of [[0.35, 1], [0.28, 0.6]])
    for (const colour of [colours.off, colours.on])
      for (let k = 0; k < SHADES; k++)
        made.push(blend(colours.background, colour, far + ((near - far) * k) / (SHADES - 1)));
  return made;
}
