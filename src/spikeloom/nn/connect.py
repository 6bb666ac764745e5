"""How the two ways through a residual block meet: by spikes (SEW) or by membranes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from torch import Tensor, nn

from ..names import unknown

Connect = Literal["ADD", "AND", "IAND"]

_FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ADD": lambda a, s: a + s,
    "AND": lambda a, s: a * s,
    "IAND": lambda a, s: s * (1 - a),
}


class Residual(nn.Module):
    r"""Two ways through a block, and what becomes of them: $y = g(F(x), S(x))$.

    With spikes in both, these are the connections of SEW-ResNet (Fang et al., NeurIPS 2021,
    arXiv:2102.04159):

    $$g_\mathrm{ADD} = a + s, \qquad g_\mathrm{AND} = a\,s, \qquad g_\mathrm{IAND} = (1 - a)\,s$$

    ADD gives whole numbers, AND and IAND spikes. With membranes in both, ADD is the membrane shortcut of
    MS-ResNet (Hu et al., TNNLS 2024, arXiv:2112.08954), whose neurons stand first in F.

    Arguments:
        branch: F, `[T, B, ...]` to `[T, B, ...]`.
        shortcut: S, to the same shape; the identity if None.
        connect: g, "ADD", "AND" or "IAND".

    Raises:
        UnknownName: no such connection.
        ValueError: the two ways give other shapes.
    """

    def __init__(
        self, branch: nn.Module, shortcut: nn.Module | None = None, connect: Connect = "ADD"
    ) -> None:
        super().__init__()
        if connect not in _FUNCTIONS:
            raise unknown("connection", connect, get_args(Connect))
        self.branch = branch
        self.shortcut = nn.Identity() if shortcut is None else shortcut
        self.connect = connect

    def forward(self, x: Tensor) -> Tensor:
        """Return g(F(x), S(x)) for x, `[T, B, ...]`."""
        a, s = self.branch(x), self.shortcut(x)
        if a.shape != s.shape:
            raise ValueError(
                f"Residual: of an input of shape {tuple(x.shape)} the branch makes {tuple(a.shape)}, and the "
                f"shortcut {tuple(s.shape)}; they must agree: give a shortcut that changes the shape, too"
            )
        return _FUNCTIONS[self.connect](a, s)
