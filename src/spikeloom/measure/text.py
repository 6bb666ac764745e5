"""Numbers as tables show them."""

from __future__ import annotations


def brief(number: float) -> str:
    """Return a count in three figures or so: 950, 1.23k, 45.6M, 7.89G."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{unit}" if number < 999.5 * size else f"{number / size:.0f}{unit}"
    return f"{number:.3g}" if number < 999.5 else f"{number:.0f}"


def joules(picojoules: float) -> str:
    """Return an energy in the unit that suits it."""
    for size, unit in ((1e12, "J"), (1e9, "mJ"), (1e6, "uJ"), (1e3, "nJ")):
        if picojoules >= size:
            return f"{picojoules / size:.4g} {unit}"
    return f"{picojoules:.4g} pJ"


def share(value: float | None) -> str:
    """Return a share in percent; what is not quite none or all does not look so."""
    if value is None:
        return ""
    if 0 < value < 0.001 or 0.999 < value < 1:
        return "<0.1%" if value < 0.5 else ">99.9%"
    return f"{100 * value:.3g}%"


def shown(renderable: object, width: int) -> str:
    """Return what rich would print, as plain text."""
    from rich.console import Console

    console = Console(width=width, no_color=True, force_terminal=False, highlight=False)
    with console.capture() as capture:
        console.print(renderable)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
