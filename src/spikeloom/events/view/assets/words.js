// Numbers as people read them.

const whole = (n) => Math.round(n).toLocaleString("en");
const many = (n) => `${whole(n)} ${n === 1 ? "event" : "events"}`;

function time(us) {
  const size = Math.abs(us);
  if (size < 1000) return `${+us.toFixed(0)} µs`;
  if (size < 1e6) return `${+(us / 1e3).toPrecision(4)} ms`;
  if (size < 6e7) return `${+(us / 1e6).toPrecision(4)} s`;
  return `${Math.floor(us / 6e7)} min ${((us % 6e7) / 1e6).toFixed(1)} s`;
}

// A clock keeps its digits where they are.
function clock(us) {
  if (duration < 1e6) return `${(us / 1e3).toFixed(duration < 1e4 ? 3 : 2)} ms`;
  const seconds = (us / 1e6).toFixed(duration < 1e8 ? 3 : 2);
  return `${seconds} s`;
}

function rate(perSecond) {
  for (const [size, unit] of [[1e9, "Gev/s"], [1e6, "Mev/s"], [1e3, "kev/s"]])
    if (perSecond >= size) return `${+(perSecond / size).toPrecision(3)} ${unit}`;
  return `${+perSecond.toPrecision(3)} ev/s`;
}

// The 1, 2 or 5 times a power of ten that is nearest below.
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  const lead = value / power;
  return power * (lead >= 5 ? 5 : lead >= 2 ? 2 : 1);
}
