"""What all representations share: events in, one tensor out, on whatever device."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..compiled import kernel
from ..error import EventsError
from ..events import Bits, Events, Pixels, Times

Device = torch.device | str | None
Options = ParamSpec("Options")


# Results are made in NumPy's arrays, for which Linux gives huge pages, as it does not for PyTorch's: many
# megabytes then come into being in a fifth of the time.


@dataclass(frozen=True)
class Columns:
    """Events as tensors, for a device that is no CPU.

    Attributes:
        t: `[N]`, int64, us.
        x: `[N]`, int64, column.
        y: `[N]`, int64, row.
        p: `[N]`, int64: 1 for ON, 0 for OFF.
        width: columns of the sensor.
        height: rows of the sensor.
    """

    t: Tensor
    x: Tensor
    y: Tensor
    p: Tensor
    width: int
    height: int

    @classmethod
    def of(cls, events: Events, device: Device = None) -> Columns:
        """Return events moved to a device, in their 13 bytes each.

        Raises:
            EventsError: an event is outside the sensor, or has another polarity than 0 and 1.
        """
        check(events)
        x, y = (_moved(c.view(np.int16), device).long() & 0xFFFF for c in (events.x, events.y))
        return cls(
            _moved(events.t, device), x, y, _moved(events.p, device).long(), events.width, events.height
        )

    def __len__(self) -> int:
        return len(self.t)

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.t.device

    @property
    def area(self) -> int:
        """The pixels of the sensor."""
        return self.width * self.height

    @property
    def pixel(self) -> Tensor:
        """`[N]`: the number of a pixel, row by row."""
        return self.y * self.width + self.x

    def cut(self, start: int, stop: int) -> Columns:
        """Return the events of these indices."""
        t, x, y, p = (c[start:stop] for c in (self.t, self.x, self.y, self.p))
        return Columns(t, x, y, p, self.width, self.height)


def _moved(column: NDArray[Any], device: Device) -> Tensor:
    ready = np.require(
        column, requirements=("C", "W")
    )  # torch takes no other strides, and warns of read-only
    return torch.from_numpy(ready).to(device)


class Representation(ABC):
    """Events made into one tensor; its options are its fields."""

    def __call__(self, events: Events | Columns, device: Device = None) -> Tensor:
        """Return the tensor.

        Arguments:
            events: a recording; or its columns on a device.
            device: where to compute, and where the tensor will be; the CPU, or where the columns are.

        Raises:
            EventsError: events outside the sensor, or whose order in time the representation needs and
                does not find.
        """
        if isinstance(events, Columns):
            if device is not None and torch.device(device) != events.device:
                raise EventsError(
                    f"{type(self).__name__}: the columns are on {events.device}, not on {device}; "
                    "Columns.of(events, device) moves them"
                )
            return self._on_device(events)
        if not isinstance(events, Events):
            raise EventsError(
                f"{type(self).__name__} takes Events, not {type(events).__name__}; Events.from_array(array, "
                "width=..., height=...) and Events.of(t, x, y, p, width=..., height=...) make them"
            )
        if device is not None and torch.device(device).type != "cpu":
            return self._on_device(Columns.of(events, device))
        check(events)
        whole = {name: np.ascontiguousarray(getattr(events, name)) for name in ("t", "x", "y", "p")}
        return self._on_cpu(events.replace(**whole))

    @abstractmethod
    def _on_cpu(self, events: Events) -> Tensor:
        """Compute with a compiled kernel; the columns are contiguous, and inside the sensor."""

    @abstractmethod
    def _on_device(self, events: Columns) -> Tensor:
        """Compute with PyTorch, on any device."""


def function_of(
    kind: Callable[Options, Representation],
) -> Callable[Concatenate[Events | Columns, Options], Tensor]:
    """Return a representation as a function: events first, then its options."""

    def represent(events: Events | Columns, /, *args: Options.args, **kwargs: Options.kwargs) -> Tensor:
        return kind(*args, **kwargs)(events)

    name = getattr(kind, "__name__", "")
    represent.__name__ = represent.__qualname__ = re.sub("(?<!^)(?=[A-Z])", "_", name).lower()
    represent.__doc__ = f"Return `{name}(...)(events)`: the options are those of `{name}`."
    return represent


def stack(
    recordings: Sequence[Events], representation: Callable[[Events, Device], Tensor], device: Device = None
) -> Tensor:
    """Return a batch: `[T, B, ...]` from B recordings that are each made into `[T, ...]`.

    Arguments:
        recordings: events of B samples, of one sensor.
        representation: what makes each into a tensor, such as `Frames(T=10)`.
        device: where to compute.

    Raises:
        EventsError: there are none, or their tensors differ in shape.
    """
    if not recordings:
        raise EventsError("stack: no recordings; a batch has at least one")
    made = [representation(events, device) for events in recordings]
    for i, tensor in enumerate(made):
        if tensor.shape != made[0].shape:
            raise EventsError(
                f"stack: recording {i} gives {list(tensor.shape)}, recording 0 {list(made[0].shape)}; give "
                "the representation a fixed T=, and recordings of one sensor"
            )
    return torch.stack(made, dim=1)


def check(events: Events) -> None:
    """Raise EventsError for events that no array of the sensor's size has a place for."""
    if events.width < 1 or events.height < 1 or events.width * events.height >= 1 << 31:
        raise EventsError(
            f"a sensor of {events.width}x{events.height}; it has at least one pixel, and less than 2^31"
        )
    if not _all_inside(events.x, events.y, events.p, events.width, events.height):
        outside = (events.x >= events.width) | (events.y >= events.height) | (events.p > 1)
        i = int(np.argmax(outside))
        raise EventsError(
            f"event {i} is at x = {events.x[i]}, y = {events.y[i]} with polarity {events.p[i]}; the sensor "
            f"has {events.width}x{events.height} pixels, polarity is 0 or 1: Events.of(...) converts"
        )


def ordered(who: object, t: Times | Tensor) -> None:
    """Raise EventsError unless time never runs backwards."""
    if isinstance(t, Tensor):
        fine = len(t) < 2 or bool((t[1:] >= t[:-1]).all())
    else:
        fine = bool(_never_falls(t))
    if not fine:
        raise EventsError(f"{type(who).__name__}: time runs backwards; take events.ordered()")


@kernel
def _all_inside(x: Pixels, y: Pixels, p: Bits, width: int, height: int) -> bool:
    right, bottom, most = np.uint16(0), np.uint16(0), np.uint8(0)
    for i in range(len(x)):  # three maxima: vectorised
        right, bottom, most = max(right, x[i]), max(bottom, y[i]), max(most, p[i])
    return len(x) == 0 or bool(right < width and bottom < height and most <= 1)


@kernel
def _never_falls(t: Times) -> bool:
    falls = False
    for i in range(1, len(t)):  # without a way out: vectorised
        falls |= t[i] < t[i - 1]
    return not falls
