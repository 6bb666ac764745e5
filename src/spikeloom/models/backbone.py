"""What published image networks share: a picture shown for T steps, stages, features and scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from .. import stream
from ..nn import SharedDropout
from ..nn.temporal_norms import StepNorm
from ..nn.unit import begin as begin
from .parts import Readout, read

Size = int | tuple[int, int]


class Backbone(nn.Module):
    r"""A network of a stem, stages and a head, over `[T, B, C, H, W]`. Abstract: networks are its subclasses.

    A subclass calls `super().__init__`, and sets `stem`, `stages` and `head`:

    * `stem`: what sees no time, `sl.PerStep(conv, norm)`: of a static image it is computed once;
    * `stages`: an `nn.ModuleList` of modules that map `[T, B, C, H, W]` to the same; each is a stage of
      features;
    * `head`: from the last features to the scores of each step, `[T, B, K]`.

    Arguments:
        in_channels: channels of an image.
        image_size: its height and width in pixels, or one number for both.
        T: how many steps a static image is shown.
        neuron: the neuron's name, or what makes it; of "ReLU", an image is shown once, whatever T is.
        readout: "mean" over time, or "none": the scores of each step.
        multiple_of: what height and width must be multiples of.
        fixed_size: whether weights depend on height and width.
        fixed_T: whether weights depend on T, so that an input in time has T steps; so it is, too, with norms
            that have weights of each step ("TEBN", "BNTT").

    Input `[B, C, H, W]`, shown for T steps, or `[T, B, C, H, W]`; output `[B, num_classes]`, or
    `[T, B, num_classes]` with readout "none".

    Raises:
        ValueError: T < 1; a size that the strides do not admit; readout "none" of a network whose head sees
            all steps at once (`one_score`), and gives `[1, B, K]`.
    """

    small: ClassVar[Mapping[str, Any]] = {}  # arguments of a network that is small enough to try
    # from a reference checkpoint's names to its own; see `load_reference`
    reference_keys: ClassVar[tuple[tuple[str, str], ...]] = ()
    one_score: ClassVar[bool] = False  # whether the head gives one score, of all steps

    def __init__(
        self,
        in_channels: int,
        image_size: Size,
        T: int,
        neuron: object,
        readout: Readout = "mean",
        *,
        multiple_of: int = 1,
        fixed_size: bool = False,
        fixed_T: bool = False,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if T < 1:
            raise ValueError(f"{name}: T = {T}; a static image is shown for at least 1 step")
        if in_channels < 1:
            raise ValueError(f"{name}: in_channels = {in_channels}; at least 1 is needed")
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.readout = read(readout)
        if self.one_score and readout == "none":
            raise ValueError(
                f"{name}: readout = 'none', but its head sees all steps at once: there are no scores of each "
                "step; take readout='mean', which gives the score of the whole"
            )
        self.T = 1 if neuron == "ReLU" and not fixed_T else T
        self.input_shape = (in_channels, int(height), int(width))
        self.multiple_of, self.fixed_size = multiple_of, fixed_size
        self._fixed_T, self._once = fixed_T, self.T < T
        self._check_size(height, width)
        self.stem: nn.Module
        self.stages: nn.ModuleList
        self.head: nn.Module

    @property
    def fixed_T(self) -> bool:  # noqa: N802 - T is the field's name
        """Whether weights belong to steps, so that an input in time has T steps."""
        return self._fixed_T or any(isinstance(module, StepNorm) for module in self.modules())

    def flat(self, channels: int, stride: int) -> int:
        """Return the numbers of a map of so many channels, its sides the image's divided by the stride."""
        _, height, width = self.input_shape
        return channels * (height // stride) * (width // stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the class scores."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last stage's output, `[T, B, C', H', W']`."""
        x = self.shown(x)
        for stage in self.stages:
            x = stage(x)
        return x

    def forward_intermediates(self, x: Tensor) -> list[Tensor]:
        """Return every stage's output, `[T, B, C', H', W']`, for heads that detect or segment."""
        x, found = self.shown(x), []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def forward_head(self, features: Tensor) -> Tensor:
        """Return the class scores of the last stage's output."""
        y: Tensor = self.head(features)
        return y.mean(0) if self.readout == "mean" else y

    def shown(self, x: Tensor) -> Tensor:
        """Return the stem's output in time: of a static image, computed once and shown T times."""
        self._check(x)
        y: Tensor = self.stem(x.unsqueeze(0) if x.ndim == 4 else x)
        return y.expand(self.T, *y.shape[1:]) if x.ndim == 4 else y

    def _check(self, x: Tensor) -> None:
        name, (channels, height, width) = type(self).__name__, self.input_shape
        if x.ndim not in (4, 5) or x.shape[-3] != channels or 0 in x.shape:
            raise ValueError(
                f"{name} takes images [B, {channels}, H, W] or [T, B, {channels}, H, W], with at least one "
                f"step and sample, but was given shape {tuple(x.shape)}"
            )
        if x.ndim == 5 and self.fixed_T and len(x) != self.T:  # elsewhere T may be any, exported too
            self._check_steps(len(x))
        if self.fixed_size and tuple(x.shape[-2:]) != (height, width):
            raise ValueError(
                f"{name} has weights of each of {height}x{width} pixels, but was given images of "
                f"{x.shape[-2]}x{x.shape[-1]}; build it with image_size={tuple(x.shape[-2:])}"
            )
        self._check_size(*x.shape[-2:])

    def _check_steps(self, steps: int) -> None:
        # in a stream, norms know how far it has come
        if self._fixed_T or (stream.current() is None and self.fixed_T):
            what = (
                f"{type(self).__name__} has weights of each of its T = {self.T} steps, but was given {steps}"
            )
            if self._once:
                raise ValueError(f"{what}: ReLUs see a single step; give it norm='BN', or neurons that spike")
            raise ValueError(f"{what} steps; build it with T={steps}")

    def _check_size(self, height: int, width: int) -> None:
        n = self.multiple_of
        if min(height, width) < 1 or height % n or width % n:
            near = [max(n, round(side / n) * n) for side in (height, width)]
            raise ValueError(
                f"{type(self).__name__}: images of {height}x{width} pixels; its strides take multiples of "
                f"{n}, as {near[0]}x{near[1]}: resize, crop or pad them"
            )


class Head(nn.Module):
    r"""The mean over positions, and a linear readout: $y_t = W\,\frac{1}{HW}\sum_{ij} s_{t,ij} + b$.

    Arguments:
        channels: of the features `[T, B, C, H, W]`.
        num_classes: the number of scores.
        dropout: the share of the mean's channels that training hides, the same at all steps.
    """

    def __init__(self, channels: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = SharedDropout(dropout) if dropout else nn.Identity()
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores, `[T, B, K]`, of features `[T, B, C, H, W]`."""
        y: Tensor = self.linear(self.dropout(x.mean((-2, -1))))
        return y
