"""Binary frames as the bits of a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..compiled import kernel
from ..events import Events
from .base import Columns, Representation, function_of
from .checks import one_of, whole
from .counts import Frames
from .places import BLOCK, places


@dataclass(frozen=True)
class BinaRep(Representation):
    r"""Frames of N-bit numbers, each of N binary frames (Bina-Rep): `[T, 2, H, W]`, channels OFF and ON.

    Of T N binary frames $b$, as `Frames(T * bits, by, binary=True)` makes them,

    $$F_k = \frac{1}{2^N - 1} \sum_{n=0}^{N-1} 2^{N-1-n}\, b_{k N + n}$$

    so that the earliest is the highest bit (Barchid et al. 2022, "Bina-Rep Event Frames: a Simple and
    Effective Representation for Event-based Cameras", ICIP).

    Attributes:
        T: frames.
        bits: N, 1 to 24.
        by: what the binary frames have in common: "time" or "count" (of events).
        scaled: float32 from 0 to 1, as above; else the whole number, int32.

    Raises:
        EventsError: an option out of range; time that runs backwards, in a cut by time.
    """

    T: int = 1
    bits: int = 8
    by: Literal["time", "count"] = "time"
    scaled: bool = True

    def __post_init__(self) -> None:
        whole(self, "T", at_least=1, at_most=1 << 16)
        whole(self, "bits", at_least=1, at_most=24)
        one_of(self, "by", ("time", "count"))

    def _frames(self) -> Frames:
        return Frames(self.T * self.bits, self.by, binary=True, dtype=torch.bool)

    def _on_cpu(self, events: Events) -> Tensor:
        cut = self._frames()._cut(events.t)
        small = np.uint8 if self.bits <= 8 else np.int32
        made = np.zeros((self.T, 2, events.height, events.width), small)
        _set_bits(events.x, events.y, events.p, cut, self.bits, events.width, made.reshape(self.T, -1))
        return self._scaled(torch.from_numpy(made))

    def _on_device(self, events: Columns) -> Tensor:
        planes = self._frames()._on_device(events).view(self.T, self.bits, 2, events.height, events.width)
        weight = 2 ** torch.arange(self.bits - 1, -1, -1, dtype=torch.int32, device=events.device)
        return self._scaled((planes * weight.view(-1, 1, 1, 1)).sum(1, dtype=torch.int32))

    def _scaled(self, number: Tensor) -> Tensor:
        return number / (2**self.bits - 1) if self.scaled else number.int()


bina_rep = function_of(BinaRep)


@kernel
def _set_bits(x: Any, y: Any, p: Any, cut: Any, bits: int, width: int, out: Any) -> None:
    area = out.shape[1] // 2
    at = np.empty(BLOCK, np.uint32)
    for frame in range(len(cut) - 1):
        number, bit = out[frame // bits], 1 << (bits - 1 - frame % bits)
        for first in range(cut[frame], cut[frame + 1], BLOCK):
            last = min(first + BLOCK, cut[frame + 1])
            places(x[first:last], y[first:last], p[first:last], area, width, at)
            for i in range(last - first):
                number[at[i]] |= bit
