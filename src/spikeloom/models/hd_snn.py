"""Motion detected by heterogeneous delays: one convolution over space and past, of Grimaldi and Perrinet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..nn.delays import with_past
from .parts import Readout, read
from .registry import Published, model


@model(
    "hd_snn",
    Published("moving textures", 91.0, 200, "the paper; of its own 36 motions, chance is 2.8"),
    paper="Grimaldi, Perrinet, Biological Cybernetics 2023",
)
class HDSNN(nn.Module):
    r"""One layer: what each event says of the motion, from all events nearby and before.

    For an event of polarity q, and the class k, it is the sigmoid of the evidence

    $$a_k(t, x, y) = b_k + \sum_{p \delta u w} K_{k p \delta u w}\, e_{p \oplus q}(t - \delta, x + u, y + w)$$

    A weight is a synapse with a delay, and the layer so many neurons with heterogeneous delays. Nothing is
    heard of the future. The scores are the evidence averaged over all events: the decision is the largest.

    Ours is the reading that it is asked where events are, and that polarities (p = 0: the same) are counted
    from the event's own. Averaged over all places, what is linear in the events tells their number alone; and
    the events around a place without one are, on the average, the same for all motions of a texture.

    A synapse with a delay of $\delta$ lies within $\frac{S}{2} \frac{\delta + 1}{D}$ pixels, S the kernel's
    size and D the number of delays: what is fast enough to come from farther is not looked for (that the
    radius grows is the paper's; the law is our reading). Weights outside are 0, and are counted. All start
    at 0: the problem is convex.

    A Stream carries the last D - 1 steps.

    Arguments:
        num_classes: of motions: 12 directions at 3 speeds.
        in_channels: polarities, 1 or 2.
        image_size: height and width of `input_shape`; any size is taken.
        delays: D: 0 ... D - 1 steps.
        kernel: S, odd.
        cone: whether the radius grows with the delay, instead of a square.
        T: how many steps a static image is shown, and an example has.
        readout: "mean" over all events, or "none": of each step's.

    Input `[B, in_channels, H, W]`, shown for T steps, or `[T, B, in_channels, H, W]`, T of at least `delays`:
    numbers of events. Output `[B, num_classes]`, or `[T, B, num_classes]` with readout "none"; 0 where there
    are no events.

    Raises:
        ValueError: an even kernel, numbers out of range; when called, fewer steps than delays.
        UnknownName: no such readout.
    """

    small: Mapping[str, Any] = {"image_size": 8, "delays": 1, "kernel": 3, "T": 4}
    mask: Tensor

    def __init__(
        self,
        num_classes: int = 36,
        in_channels: int = 2,
        image_size: int = 128,
        delays: int = 21,
        kernel: int = 17,
        cone: bool = True,
        T: int = 200,
        readout: Readout = "mean",
    ) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"hd_snn: kernel = {kernel}; an odd number of pixels is needed, as {kernel + 1}")
        if delays < 1 or delays > T:
            raise ValueError(
                f"hd_snn: delays = {delays} for T = {T} steps; 1 ... T are needed: longer samples, or fewer"
            )
        if in_channels not in (1, 2):
            raise ValueError(f"hd_snn: in_channels = {in_channels}; events of 1 or 2 polarities are taken")
        self.input_shape = (in_channels, image_size, image_size)
        self.T, self.delays, self.readout = T, delays, read(readout)
        self.weight = nn.Parameter(torch.zeros(num_classes, in_channels, delays, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(num_classes))
        at = torch.arange(kernel, dtype=torch.float32) - kernel // 2
        # the last tap is the present
        lag = torch.arange(delays - 1, -1, -1, dtype=torch.float32)[:, None, None]
        inside = torch.hypot(at[:, None], at) <= kernel / 2 * (lag + 1) / delays
        inside = inside if cone else torch.ones(delays, kernel, kernel, dtype=torch.bool)
        self.register_buffer("mask", inside.expand(self.weight.shape).clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return the class scores."""
        if x.ndim == 4:
            x = x.expand(self.T, *x.shape)
        evidence, here = self.evidence(x)
        axes = (0, 2, 4, 5) if self.readout == "mean" else (2, 4, 5)
        return (evidence * here).sum(axes) / here.sum(axes).clamp(min=1)

    def evidence(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the evidence for each polarity at each place, and 1 where there is such an event, or 0.

        Arguments:
            x: `[T, B, in_channels, H, W]`.

        Returns:
            `[T, B, in_channels, num_classes, H, W]` and `[T, B, in_channels, 1, H, W]`.
        """
        classes, polarities = self.weight.shape[:2]
        if x.ndim != 5 or x.shape[2] != polarities:
            raise ValueError(f"hd_snn takes [T, B, {polarities}, H, W], but was given {tuple(x.shape)}")
        kernel = self.weight * self.mask
        kernel = torch.cat([kernel, kernel.flip(1)][:polarities]).to(x.dtype)
        heard = with_past(self, x, self.delays).movedim(0, 2)
        side = self.weight.shape[-1] // 2
        bias = self.bias.to(x.dtype).repeat(polarities)
        y = functional.conv3d(heard, kernel, bias, padding=(0, side, side))
        here = (x > 0).to(x.dtype).unsqueeze(3)
        return y.movedim(2, 0).unflatten(2, (polarities, classes)), here

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the binary cross-entropy of each class at each event.

        Arguments:
            x: `[T, B, in_channels, H, W]`.
            y: `[B]`, the classes.
        """
        evidence, here = self.evidence(x)
        wanted = functional.one_hot(y, len(self.bias)).to(evidence.dtype)[:, None, :, None, None]
        each = functional.binary_cross_entropy_with_logits(
            evidence, wanted.expand(evidence.shape), reduction="none"
        )
        return (each * here).sum() / (here.sum() * len(self.bias)).clamp(min=1)

    @torch.no_grad()
    def spikes(self, x: Tensor, threshold: float) -> Tensor:
        """Return spikes of the likeliest class at each event, where it reaches a threshold.

        Arguments:
            x: `[T, B, in_channels, H, W]`.
            threshold: a probability, as `threshold` finds.

        Returns:
            `[T, B, num_classes, H, W]`, 0 or 1.
        """
        p = self._probability(x)
        first = torch.zeros_like(p).scatter_(2, p.argmax(2, keepdim=True), 1.0)
        return first * ((p >= threshold) & (p > 0))

    @torch.no_grad()
    def threshold(self, x: Tensor, share: float) -> float:
        """Return the probability that a share of all outputs for x reaches: 0.001 is 1 spike/s at 1 ms."""
        if not 0 < share <= 1:
            raise ValueError(f"hd_snn: share = {share}; it lies in (0, 1]")
        p = self._probability(x).flatten()
        return float(p.topk(max(1, round(share * len(p)))).values[-1])

    def _probability(self, x: Tensor) -> Tensor:
        """Return `[T, B, num_classes, H, W]`: at each place, of the more certain of its events; 0 without."""
        evidence, here = self.evidence(x)
        return (evidence.sigmoid() * here).amax(2)

    @torch.no_grad()
    def keep(self, count: int) -> None:
        """Prune: leave the `count` greatest weights, over all classes; the rest is 0 for good."""
        if not 0 <= count <= self.weight.numel():
            raise ValueError(f"hd_snn: keep {count} of {self.weight.numel()} synapses; 0 ... all of them")
        size = (self.weight.abs() + 1e-30) * self.mask
        kept = torch.zeros_like(self.mask).flatten()
        kept[size.flatten().topk(count).indices] = True
        self.mask &= kept.reshape(self.mask.shape)
