// The rate of events over time, ON upon OFF; a click, a drag or a key seeks.

class Timeline {
  constructor(seek) {
    this.element = document.getElementById("timeline");
    this.canvas = document.getElementById("rate");
    this.input = document.getElementById("seek");
    this.tip = document.getElementById("tip");
    this.input.max = String(duration);
    const go = (event) => seek(this.at(event));
    this.element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.element.setPointerCapture(event.pointerId);
      this.input.focus({ preventScroll: true });
      event.preventDefault();
      go(event);
    });
    this.element.addEventListener("pointermove", (event) => {
      this.point(event);
      if (this.element.hasPointerCapture(event.pointerId)) go(event);
    });
    this.element.addEventListener("pointerleave", () => (this.tip.hidden = true));
    this.input.addEventListener("input", () => seek(Number(this.input.value)));
  }

  at(event) {
    const { left, width } = this.element.getBoundingClientRect();
    return (Math.max(0, Math.min(1, (event.clientX - left) / width))) * duration;
  }

  point(event) {
    const at = this.at(event), { on, off, bin } = meta.rates;
    const k = Math.min(on.length - 1, Math.floor(at / bin));
    if (k < 0) return;
    const many = (on[k] + off[k]) / (bin / 1e6);
    this.tip.textContent = `${clock(at)}: ${rate(many)}`;
    this.tip.hidden = false;
    const { width } = this.element.getBoundingClientRect();
    const half = this.tip.offsetWidth / 2;
    this.tip.style.left = `${Math.max(half, Math.min(width - half, (at / DAY) * width))}px`;
  }

  show(now, length) {
    const end = (now / DAY) * 100, begin = Math.max(0, ((now - length) / DAY) * 100);
    document.getElementById("head").style.left = `${end}%`;
    const band = document.getElementById("band");
    band.style.left = `${begin}%`;
    band.style.width = `${Math.max(0, end - begin)}%`;
    this.input.value = String(now);
    this.input.setAttribute("aria-valuetext", `${clock(now)} of ${clock(duration)}`);
  }

  draw(colours) {
    const { canvas } = this, fine = window.devicePixelRatio || 1;
    const width = (canvas.width = Math.max(1, Math.round(canvas.clientWidth * fine)));
    const height = (canvas.height = Math.max(1, Math.round(canvas.clientHeight * fine)));
    const pen = canvas.getContext("2d"), { on, off, bin } = meta.rates;
    const floor = height - 18 * fine, room = floor - 20 * fine;
    const sums = on.map((n, k) => n + off[k]), busy = sums.filter((n) => n).sort((a, b) => a - b);
    const peak = busy.length ? busy[busy.length - 1] : 0, usual = busy[Math.floor(busy.length * 0.98)] ?? 0;
    const most = peak > 4 * usual ? 1.5 * usual : peak; // a few bins do not flatten all others
    pen.font = `${11 * fine}px system-ui, sans-serif`;
    if (most) {
      const area = (below, counts, colour) => {
        pen.fillStyle = `rgb(${colour})`;
        for (let k = 0; k < counts.length; k++) {
          const left = Math.floor(((k * bin) / DAY) * width), right = Math.ceil((((k + 1) * bin) / DAY) * width);
          const base = below ? below[k] : 0;
          const top = floor - Math.min(1, (base + counts[k]) / most) * room, bottom = floor - Math.min(1, base / most) * room;
          if (counts[k]) pen.fillRect(left, top, right - left, Math.max(bottom - top, below ? 0 : fine));
        }
      };
      area(null, off, colours.off);
      area(off, on, colours.on);
      pen.fillStyle = style("--panel");
      sums.forEach((n, k) => { // a gap in what is cut off
        if (n > most) pen.fillRect(Math.floor(((k * bin) / DAY) * width), floor - room * 0.85, Math.ceil((bin / DAY) * width) + fine, 3 * fine);
      });
    }
    pen.fillStyle = pen.strokeStyle = style("--muted");
    pen.textBaseline = "alphabetic";
    const cut = most < peak ? `, cut off at ${rate(most / (bin / 1e6))}` : "";
    pen.fillText(peak ? `peak ${rate(peak / (bin / 1e6))} in ${time(bin)}${cut}` : "no events", 6 * fine, 13 * fine);
    pen.fillStyle = style("--line");
    pen.fillRect(0, floor, width, fine);
    this.ticks(pen, width, height, floor, fine);
    this.triggers(pen, width, fine);
  }

  ticks(pen, width, height, floor, fine) {
    if (!duration) return;
    const room = Math.max(2, Math.floor(width / (110 * fine)));
    let step = nice(duration / room);
    if (duration / step > room * 1.6) step *= 2;
    pen.fillStyle = style("--muted");
    for (let k = 0; k * step <= duration * 1.0001; k++) {
      const left = ((k * step) / DAY) * width, text = k ? time(k * step) : "0";
      const room = pen.measureText(text).width;
      pen.fillRect(Math.min(width - fine, left), floor, fine, 4 * fine);
      if (left + room / 2 <= width) pen.fillText(text, Math.max(0, left - room / 2), height - 4 * fine);
    }
  }

  triggers(pen, width, fine) {
    pen.fillStyle = style("--text");
    for (const at of meta.triggers) pen.fillRect((at / DAY) * width, 16 * fine, fine, 6 * fine);
  }
}
