"""A code at the beginning of a network: what does not change in time becomes a sequence."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from .. import stream


class Encode(nn.Module):
    """Show what does not change in time for T steps: `[B, ...]` to `[T, B, ...]`, by a code.

        net = nn.Sequential(
            sl.Encode(sl.encoding.Direct(T=4)),  # or Poisson, Latency, ...
            sl.PerStep(nn.Conv2d(1, 16, 3), nn.Flatten()),
            sl.LIF(),
        )

    Arguments:
        code: what makes `[T, B, ...]` of `[B, ...]`: one of `sl.encoding`, or any function that does.

    Raises:
        TypeError: a code that cannot be called.
        RuntimeError: within a `Stream`, which takes sequences in chunks: encode them before.
    """

    def __init__(self, code: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        if not callable(code):
            raise TypeError(f"Encode takes a code, as sl.encoding.Direct(T=4), not {type(code).__name__}")
        self.code = code

    def forward(self, x: Tensor) -> Tensor:
        """Return the sequence."""
        stream.refuse(self, "makes a whole sequence of what has no time")
        return self.code(x)

    def extra_repr(self) -> str:
        """Show the code."""
        return repr(self.code)
