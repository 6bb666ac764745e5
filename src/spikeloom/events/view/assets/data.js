// What the page carries: its description, and the events as packed columns.

const meta = JSON.parse(document.getElementById("meta").textContent);
const duration = meta.duration;
const DAY = duration > 0 ? duration : 1; // what the time axis is as long as, us

async function unpack() {
  const holder = document.getElementById("data");
  const text = holder.textContent;
  holder.remove();
  const packed = new Uint8Array(Math.floor(text.length / 4) * 3);
  let at = 0;
  for (let i = 0; i < text.length; i += 1 << 20) { // 4 characters are 3 bytes
    const part = atob(text.slice(i, i + (1 << 20)));
    for (let k = 0; k < part.length; k++) packed[at++] = part.charCodeAt(k);
  }
  const stream = new Blob([packed.subarray(0, at)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return columns(new Uint8Array(await new Response(stream).arrayBuffer()));
}

// t: steps as varints, 7 bits a byte, low ones first; then planes of bytes of x and y; then a bit for p.
function columns(bytes) {
  const n = meta.shown;
  const t = new Float64Array(n), x = new Uint16Array(n), y = new Uint16Array(n), p = new Uint8Array(n);
  let at = 0, now = 0;
  for (let i = 0; i < n; i++) {
    let step = 0, place = 1, byte;
    do {
      byte = bytes[at++];
      step += (byte & 127) * place;
      place *= 128;
    } while (byte > 127);
    t[i] = now += step;
  }
  for (const [column, size] of [[x, meta.width], [y, meta.height]]) {
    for (let i = 0; i < n; i++) column[i] = bytes[at++];
    if (size > 256) for (let i = 0; i < n; i++) column[i] |= bytes[at++] << 8;
  }
  for (let i = 0; i < n; i++) p[i] = (bytes[at + (i >> 3)] >> (i & 7)) & 1;
  return { n, t, x, y, p };
}

// The index of the first event later than `time`.
function after(t, time) {
  let low = 0, high = t.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (t[middle] <= time) low = middle + 1;
    else high = middle;
  }
  return low;
}
