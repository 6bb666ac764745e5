"""Numbers as people read them."""

from __future__ import annotations

_UNITS = ((1e9, "Gev/s"), (1e6, "Mev/s"), (1e3, "kev/s"), (0.0, "ev/s"))


def time(us: float) -> str:
    """Return a length of time: "12.5 ms"."""
    if abs(us) < 1e3:
        return f"{us:g} us"
    if abs(us) < 1e6:
        return f"{us / 1e3:.4g} ms"
    if abs(us) < 6e7:
        return f"{us / 1e6:.4g} s"
    return f"{us // 6e7:.0f} min {us % 6e7 / 1e6:.1f} s"


def rate(per_second: float) -> str:
    """Return a rate of events: "12.5 Mev/s"."""
    size, unit = next(pair for pair in _UNITS if per_second >= pair[0])
    return f"{per_second / (size or 1):.3g} {unit}"


def share(part: int, whole: int) -> str:
    """Return a number, and how much of the whole it is."""
    if not whole:
        return f"{part:,}"
    percent = 100 * part / whole
    return f"{part:,} ({'below 0.1' if 0 < percent < 0.05 else f'{percent:.1f}'} %)"
