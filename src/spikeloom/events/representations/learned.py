"""The event spike tensor whose kernel is learned."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..error import EventsError
from ..events import Events
from .base import Columns, Device
from .checks import one_of, whole
from .voxels import measured, scale

SLOPE = 0.1  # of the leaky ReLU below 0


class LearnedSpikeTensor(nn.Module):
    r"""Event spike tensor (EST) with a learned kernel: `[T, 2, H, W]`, or `[T, B, 2, H, W]` for B recordings.

    $$E_k[p, y, x] = \sum_i f_i\, \kappa_\theta(\tau^{(k)} - \tau_i) \quad
      \text{over}\ p_i = p,\ y_i = y,\ x_i = x$$

    with $\tau_i$, f and the bins as in `EventSpikeTensor`, and $\kappa_\theta$ a perceptron, one number to
    one, with leaky ReLUs (slope 0.1) between its layers (Gehrig et al. 2019, "End-to-End Learning of
    Representations for Asynchronous Event-Based Data", ICCV). It is differentiable by the perceptron's
    parameters.

    Where the paper fits the perceptron to the trilinear kernel before training, `init="trilinear"` sets it:
    three units make the triangle $\max(0, 1 - |a| (T - 1))$, and what the others make has weight 0 at first.

    Arguments:
        T: bins.
        measure: f: "time", "count" or "polarity".
        hidden: the perceptron's hidden units, a number a layer.
        init: "trilinear", or "random" as `torch.nn.Linear` does it.

    Raises:
        EventsError: an option out of range; fewer than three hidden units for `init="trilinear"`.
    """

    def __init__(
        self,
        T: int,
        measure: Literal["time", "count", "polarity"] = "time",
        *,
        hidden: Sequence[int] = (30, 30),
        init: Literal["trilinear", "random"] = "trilinear",
    ) -> None:
        super().__init__()
        self.T, self.measure, self.init, self.hidden = T, measure, init, tuple(hidden)
        whole(self, "T", at_least=1, at_most=1 << 24)
        one_of(self, "measure", ("time", "count", "polarity"))
        one_of(self, "init", ("trilinear", "random"))
        least = 3 if init == "trilinear" else 1
        if not self.hidden or min(self.hidden) < 1 or self.hidden[0] < least:
            raise EventsError(
                f"LearnedSpikeTensor: hidden = {self.hidden}; it is one number of units a layer, for "
                f'init="{init}" at least {least} in the first'
            )
        sizes = (1, *self.hidden, 1)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        if init == "trilinear":
            self._set_trilinear()

    def kernel(self, a: Tensor) -> Tensor:
        """Return the kernel at some distances in time: `[...]` -> `[...]`."""
        value = a[..., None]
        for layer in self.layers[:-1]:
            value = nn.functional.leaky_relu(layer(value), SLOPE)
        return self.layers[-1](value)[..., 0]

    def forward(self, recordings: Events | Columns | Sequence[Events | Columns]) -> Tensor:
        """Return the tensor of a recording, `[T, 2, H, W]`, or of several, `[T, B, 2, H, W]`.

        Arguments:
            recordings: events, of one sensor, which are moved to where the parameters are.

        Raises:
            EventsError: no recordings, recordings of different sensors, events outside the sensor.
        """
        if isinstance(recordings, (Events, Columns)):
            return self([recordings])[:, 0]
        if not isinstance(recordings, Sequence):
            raise _wrong(recordings)
        weight: Any = self.layers[0].weight
        samples = [_columns(recording, weight.device) for recording in recordings]
        sensors = {(sample.height, sample.width) for sample in samples}
        if len(sensors) != 1:
            raise EventsError(
                f"LearnedSpikeTensor: {len(samples)} recordings of sensors {sorted(sensors)}, rows and "
                "columns; a batch has at least one, all of one sensor"
            )
        (height, width) = sensors.pop()
        times = [scale(sample) for sample in samples]
        f = torch.cat([measured(sample, t, self.measure) for sample, t in zip(samples, times, strict=True)])
        f, scaled = f.to(weight.dtype), torch.cat(times)
        place = torch.cat([(2 * b + s.p) * s.area + s.pixel for b, s in enumerate(samples)])
        made = []
        for k in range(self.T):
            value = f * self.kernel((k / max(self.T - 1, 1) - scaled).to(weight.dtype))
            bin_ = torch.zeros(len(samples) * 2 * height * width, dtype=weight.dtype, device=weight.device)
            made.append(bin_.index_add(0, place, value))
        return torch.stack(made).view(self.T, len(samples), 2, height, width)

    def extra_repr(self) -> str:
        """Show the options."""
        return f"T={self.T}, measure={self.measure!r}, hidden={self.hidden}"

    @torch.no_grad()
    def _set_trilinear(self) -> None:
        """With s = T - 1, the triangle is r(s a + 1) - 2 r(s a) + r(s a - 1); r, a leaky ReLU / 0.9."""
        steep = float(self.T - 1)
        layers: list[Any] = list(self.layers)
        first, *rest = layers
        first.weight[:3] = steep
        first.bias[:3] = torch.tensor([1.0, 0.0, -1.0])
        for i, layer in enumerate(rest):
            layer.weight[0], layer.bias[0] = 0.0, 0.0
            if i == 0:
                layer.weight[0, :3] = torch.tensor([1.0, -2.0, 1.0]) / (1 - SLOPE)
            else:
                layer.weight[0, 0] = 1.0  # the triangle is nowhere negative: the units pass it on


def _columns(recording: Events | Columns, device: Device) -> Columns:
    if not isinstance(recording, (Events, Columns)):
        raise _wrong(recording)
    return Columns.of(recording, device) if isinstance(recording, Events) else recording


def _wrong(given: object) -> EventsError:
    return EventsError(
        f"LearnedSpikeTensor takes Events, not {type(given).__name__}; "
        "Events.from_array(array, width=..., height=...) makes them"
    )
