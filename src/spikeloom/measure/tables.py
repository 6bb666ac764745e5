"""What a profile prints: a row a layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .hardware import Hardware
from .row import Row
from .text import brief, joules, share
from .traffic import MEMORIES, price, spiking_traffic

if TYPE_CHECKING:
    from rich.table import Table

    from .report import Profile

_COLUMNS = ("layer", "kind", "output", "params", "input", "dense", "flowed", "rate", "silent", "satur.")


def layers(profile: Profile) -> Table:
    """Return a profile's rows as a table, of 110 columns at most."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_footer=True)
    names = dict.fromkeys(_COLUMNS[:3], "left")
    total = ("total", "", "", brief(profile.parameters), "", brief(profile.dense), "")
    footer = (*total, share(None if math.isnan(profile.firing_rate) else profile.firing_rate), "", "")
    widths = {"layer": 24, "kind": 20, "output": 12, "input": 16}
    for name, foot in zip(_COLUMNS, footer, strict=True):
        side: Any = names.get(name, "left" if name == "input" else "right")
        table.add_column(
            name,
            foot,
            justify=side,
            no_wrap=name not in widths,
            overflow="fold",
            max_width=widths.get(name),
        )
    for row in profile.rows:
        flowed = f"{brief(row.acs)} AC" if row.acs or not row.macs else f"{brief(row.macs)} MAC"
        table.add_row(
            row.path,
            row.kind,
            "x".join(map(str, row.output)) or "1",
            brief(row.parameters) if row.parameters else "",
            f"{row.input} {' x '.join(map(share, row.densities))}" if row.kinds else "",
            brief(row.dense) if row.kinds else "",
            flowed if row.kinds else "",
            share(row.firing_rate),
            share(row.silent),
            share(row.saturated),
        )
    return table


def memory(profile: Profile, hardware: Hardware) -> Table:
    """Return what each layer keeps and moves on hardware, as a table, of 110 columns at most."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_footer=True)
    kept = [_kept(row, hardware) for row in profile.rows]
    moved = [_moved(profile, row, hardware) for row in profile.rows]
    sums = [_bytes(sum(column)) for column in zip(*kept, strict=True)]
    for i in range(2):
        sums += [_bytes(sum(m[i][0] for m in moved)), joules(sum(m[i][1] for m in moved))]
    heads = ("weights", "state", "moved: reused", "cost", "moved: fetched", "cost")
    table.add_column("layer", "total", max_width=24, overflow="fold")
    table.add_column("values in", "", max_width=20, overflow="fold")
    for head, foot in zip(heads, sums, strict=True):
        table.add_column(head, foot, justify="right", no_wrap=True)
    for row, both, how in zip(profile.rows, kept, moved, strict=True):
        if not any(both) and not any(size for size, _ in how):
            continue  # a norm, or the like
        cells = [cell for size, cost in how for cell in ((_bytes(size), joules(cost)) if size else ("", ""))]
        table.add_row(row.path, row.range, *(_bytes(size) if size else "" for size in both), *cells)
    return table


def _kept(row: Row, hardware: Hardware) -> tuple[float, float]:
    """Return the bytes of a layer's weights and of its state."""
    state = row.state.values if row.state else 0
    return row.weights * hardware.weight_bits / 8, state * hardware.state_bits / 8


def _moved(profile: Profile, row: Row, hardware: Hardware) -> list[tuple[float, float]]:
    """Return the bytes that move, and the pJ of moving them, with full reuse and without."""
    found = []
    for how in MEMORIES[1:]:
        traffic = spiking_traffic(row, profile.convention, profile.steps, row is profile.first, how)
        found.append((traffic.bytes(hardware), price(row, traffic, hardware, profile.steps).picojoules))
    return found


def _bytes(size: float) -> str:
    for unit, name in ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size:.3g} B"
