"""Spike-driven self-attention: masks and sums of spikes, or products of them that only add."""

from __future__ import annotations

import functools
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..names import unknown
from ..neurons import LIF
from .attention import attend, head_width
from .tokens import to_map, to_tokens
from .unit import Unit, takes, unit

SpikeDriven = Literal["SDSA-1", "SDSA-2", "SDSA-3", "SDSA-4"]


class SpikeDrivenAttention(nn.Module):
    r"""What becomes of spikes Q, K and V in a spike-driven transformer: spikes, by additions and masks.

    "SDSA-1" (Yao et al., NeurIPS 2023, arXiv:2307.01694): one bit a channel c masks Q; no product of
    matrices, linear in tokens and channels,

    $$Y_{nc} = Q_{nc}\,m_c, \qquad m_c = \mathrm{SN}_{0.5}\Big(\sum_n K_{nc} V_{nc}\Big);$$

    "SDSA-2": the same with a bit that one operand makes alone, so that there is no K,

    $$Y_{nc} = V_{nc}\,m_c, \qquad m_c = \mathrm{SN}_{0.5}\Big(\sum_n Q_{nc}\Big);$$

    "SDSA-3" (Yao et al., ICLR 2024, arXiv:2404.03663): each head by itself,

    $$Y = \mathrm{SN}_{0.5}(s\,Q K^\top V);$$

    "SDSA-4": a threshold of each channel, which is learned, in place of the scale; it starts at 0.5 / s, with
    which a neuron whose membrane is linear in its input fires as in "SDSA-3" (its surrogate is as wide as
    before, though, on a scale that is 1 / s times as large),

    $$Y = \mathrm{SN}_\theta(Q K^\top V).$$

    The second and fourth are as remembered, not as read in a paper's text: the mask variant with two operands
    is the first paper's second version, and the start of the threshold is this class's choice.

    Arguments:
        dim: channels C of each operand.
        kind: one of the four.
        heads: into how many groups channels are cut, of 3 and 4; the masks are a channel's, with any heads.
        scale: s.
        erode: of "SDSA-1" alone: take the 3x3 maximum around each position, by `erode`, of K, of V, of their
            product and of Y, as the published network for CIFAR10-DVS does.
        neuron: what makes the neuron; one without a threshold is given s Q K^T V in "SDSA-4", too.

    `operands` is how many are taken, 2 or 3. Input Q, K, V (of "SDSA-2" Q, V), each `[T, B, N, C]`, and the
    map's size where it is eroded; output `[T, B, N, C]`.

    Raises:
        UnknownName: no such kind.
        ValueError: heads that do not divide dim; `erode` with another kind, or without a size.
    """

    def __init__(
        self,
        dim: int,
        kind: SpikeDriven = "SDSA-1",
        heads: int = 8,
        scale: float = 0.125,
        *,
        erode: bool = False,
        neuron: Unit = LIF,
    ) -> None:
        super().__init__()
        if kind not in get_args(SpikeDriven):
            raise unknown("spike-driven attention", kind, get_args(SpikeDriven))
        if erode and kind != "SDSA-1":
            raise ValueError(f"SpikeDrivenAttention: erode=True goes with 'SDSA-1', not with {kind!r}")
        head_width(dim, heads, type(self).__name__)
        self.kind, self.heads, self.scale, self.erode = kind, heads, scale, erode
        self.operands = 2 if kind == "SDSA-2" else 3
        wanted: dict[str, Any] = {"v_threshold": 0.5}
        if kind == "SDSA-4" and takes(neuron, "v_threshold") and takes(neuron, "learnable"):
            own = neuron.keywords.get("learnable", ()) if isinstance(neuron, functools.partial) else ()
            wanted["v_threshold"] = torch.full((dim,), 0.5 / scale)
            wanted["learnable"] = (*own, "v_threshold")
            self.scale = 1.0
        self.neuron = unit(neuron, channel_axis=-1, **wanted)

    def forward(self, *operands: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Return Y, `[T, B, N, C]`.

        Arguments:
            operands: Q, K, V, or Q, V, each `[T, B, N, C]`.
            size: height and width of the map that the tokens are, where it is eroded.
        """
        if len(operands) != self.operands or any(x.shape != operands[0].shape for x in operands):
            shapes = ", ".join(str(tuple(x.shape)) for x in operands)
            names = "Q, K and V" if self.operands == 3 else "Q and V"
            raise ValueError(f"{self.kind} takes {names} of one shape [T, B, N, C], but was given {shapes}")
        if self.kind == "SDSA-2":
            q, v = operands
            return v * self.neuron(q.sum(-2, keepdim=True))
        q, k, v = operands
        if self.kind == "SDSA-1":
            return self._mask(q, k, v, size)
        out: Tensor = self.neuron(attend(q, k, v, self.heads, self.scale))
        return out

    def _mask(self, q: Tensor, k: Tensor, v: Tensor, size: tuple[int, int] | None) -> Tensor:
        if not self.erode:
            return q * self.neuron((k * v).sum(-2, keepdim=True))
        if size is None:
            raise ValueError("SpikeDrivenAttention with erode=True needs the map's size=(height, width)")
        kv = erode(erode(k, size) * erode(v, size), size)
        return erode(q * self.neuron(kv.sum(-2, keepdim=True)), size)

    def extra_repr(self) -> str:
        """Show what is no module's."""
        return f"{self.kind}, heads={self.heads}, scale={self.scale:g}, erode={self.erode}"


def erode(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the maximum of each token's 3x3 neighbours on the map, itself included: where a spike is near.

    It is called so in the published code; in morphology it is a dilation.

    Arguments:
        x: tokens `[T, B, H*W, C]`.
        size: the map's H and W.
    """
    maps = to_map(x, *size)
    return to_tokens(functional.max_pool2d(maps.flatten(0, 1), 3, 1, 1).unflatten(0, maps.shape[:2]))
