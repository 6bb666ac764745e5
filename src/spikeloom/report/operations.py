"""Operations and energy, a layer a row, as the page has them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..measure import profile

# what a row is asked for, its title, and how it is written
_COLUMNS = (
    ("path", "Layer", "text"),
    ("kind", "Kind", "text"),
    ("input", "Input", "text"),
    ("density", "Input not 0", "share"),
    ("dense", "Dense", "count"),
    ("macs", "MAC", "count"),
    ("acs", "AC", "count"),
    ("energy", "Energy", "energy"),
)


def operations(net: nn.Module, x: Tensor) -> dict[str, Any]:
    """Return what `sl.measure.profile` counts for a batch, a sample's, with energies in J, as JSON."""
    found = profile(net, x).to_dict()
    rows = [
        {**{key: row[key] for key, _, _ in _COLUMNS}, "energy": row["energy"]["picojoules"] * 1e-12}
        for row in found["rows"]
        if row["kinds"]
    ]
    energy = found["energy"]["picojoules"] * 1e-12
    total = {name: found[name] for name in ("dense", "macs", "acs")}
    return {
        "columns": _COLUMNS,
        "rows": rows,
        "total": {**total, "energy": energy},
        "energy": energy,
        "samples": found["samples"],
        "steps": found["steps"],
    }
