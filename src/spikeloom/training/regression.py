"""Numbers to be given at each step, in the place of classes: the loss, and how good they are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .losses import wide

_SUMS = 6  # kept of each output


def mse(outputs: Tensor, target: Tensor) -> Tensor:
    r"""Return the squared error of each step's outputs, $L = \frac{1}{TBK} \sum (O_{tbk} - y_{btk})^2$.

    Arguments:
        outputs: `[T, B, K]`, as of a network with readout "none".
        target: `[B, T, K]`, floating point: what each step is to give.

    Raises:
        ValueError: shapes that do not fit, or targets that are no floating-point numbers.
    """
    T, B, K = outputs.shape if outputs.ndim == 3 else (0, 0, 0)
    if not B or target.shape != (B, T, K) or not target.is_floating_point():
        raise ValueError(
            f"the outputs have the shape {tuple(outputs.shape)} and the target is {target.dtype} of the "
            f"shape {tuple(target.shape)}; outputs of each step [T, B, K], as with readout=none, and "
            "floating-point targets [B, T, K] are needed"
        )
    outputs = wide(outputs)
    return (outputs - target.transpose(0, 1).to(outputs.dtype)).square().mean()


class Scores:
    r"""How good numbers are, over all steps of all samples; sums, to which others' may be added.

    * `r2` $= \frac{1}{K} \sum_k \big(1 - \sum (y_k - o_k)^2 / \sum (y_k - \bar y_k)^2\big)$, the mean over
      the outputs; nan if one of them never changes.
    * `smape` $= 100 \cdot 2 \,|y - o| / (|y| + |o|)$, in per cent, the mean over all; left out where a target
      is not positive, since a share of what passes 0 says nothing.

    Arguments:
        sums: what `sums` of another was.
    """

    def __init__(self, sums: Sequence[float] = ()) -> None:
        self._sums = torch.tensor(sums, dtype=torch.float64).reshape(-1, _SUMS) if sums else None

    @property
    def sums(self) -> list[float]:
        """What is kept, as plain numbers."""
        return [] if self._sums is None else self._sums.flatten().tolist()

    def add(self, outputs: Tensor, target: Tensor, counted: bool = True) -> None:
        """Take some samples: `[T, B, K]` and `[B, T, K]`, as `mse` does; uncounted, as many sums of 0."""
        o, y = outputs.double().flatten(0, 1).cpu(), target.double().transpose(0, 1).flatten(0, 1).cpu()
        off, both = (y - o).abs(), y.abs() + o.abs()
        share = torch.where(both == 0, 0.0, off / both)  # 0 of 0 is right
        few = (torch.ones_like(y), y, y.square(), off.square(), share, (y <= 0).double())
        sums = torch.stack([values.sum(0) for values in few], 1) * counted
        self._sums = sums if self._sums is None else self._sums + sums

    def found(self) -> dict[str, float]:
        """Return the scores by name; none before there are samples."""
        if self._sums is None:
            return {}
        n, y, squares, error, share, low = self._sums.unbind(1)
        spread = squares - y.square() / n
        r2 = float((1 - error / spread).mean()) if bool((spread > 0).all()) else math.nan
        smape = {} if bool(low.any()) else {"smape": 200 * float(share.sum() / n.sum())}
        return {"r2": r2, **smape}
