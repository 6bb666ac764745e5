"""What `fit` found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .target import Target


@dataclass(frozen=True)
class Change:
    """The smallest change that mends one limit: `attribute` of the layer at `path` to `value`."""

    path: str
    attribute: str
    value: Any
    text: str


@dataclass(frozen=True)
class Need:
    """What a layer (or, of path "", the network) needs of one thing, and what the target gives.

    Attributes:
        path: the layer's.
        what: of what, as "kernel" or "weight memory".
        needs, gives: how much.
        fits: whether that is enough.
        change: what would mend it, if it is not.
    """

    path: str
    what: str
    needs: Any
    gives: Any
    fits: bool
    change: Change | None = None


@dataclass(frozen=True)
class Fit:
    """Whether a network fits a target, need by need.

    Attributes:
        target: the device.
        needs: all that was looked at, layer by layer, and then of the network.
        cores: by layer, which cores it takes, or how many.
    """

    target: Target
    needs: tuple[Need, ...]
    cores: dict[str, Any]

    @property
    def fits(self) -> bool:
        """Whether nothing is missing."""
        return all(need.fits for need in self.needs)

    @property
    def changes(self) -> list[Change]:
        """The changes that mend what is missing."""
        return [need.change for need in self.needs if need.change is not None]

    def __bool__(self) -> bool:
        return self.fits

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {"fits": self.fits, **asdict(self)}

    def __rich__(self) -> Any:
        from rich.table import Table

        verdict = "fits" if self.fits else "does not fit"
        table = Table(
            title=f"{verdict}: {self.target.title}",
            caption=f"source: {self.target.source}. {self.target.note}",
        )
        for column in ("layer", "what", "needs", "gives", "", "smallest change"):
            table.add_column(column, overflow="fold")
        for need in self.needs:
            change = need.change.text if need.change is not None else ""
            cells = [need.path or "(network)", need.what, shown(need.needs), shown(need.gives)]
            table.add_row(*cells, "yes" if need.fits else "NO", change, style="" if need.fits else "red")
        return table

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=160, no_color=True, force_terminal=False)
        with console.capture() as capture:
            console.print(self)
        return capture.get().rstrip()


def shown(value: Any) -> str:
    """Return a value as a table has it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(shown, value)) if isinstance(value, (list, tuple)) else str(value)
