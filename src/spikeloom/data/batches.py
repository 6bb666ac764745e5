"""Samples side by side: what a batch of events, of sequences, of images is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..events import Events
from .error import DataError
from .kinds import Audio


class _Movable:
    """Holds tensors that move between devices together."""

    def _each(self, function: Callable[[Tensor], Tensor]) -> Any:
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return type(self)(**{name: _map(value, function) for name, value in values.items()})

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Any:
        """Return the same on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Any:
        """Return the same in page-locked memory, from which a GPU copies faster."""
        return self._each(Tensor.pin_memory)


def _map(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, _Movable):
        return value._each(function)
    if isinstance(value, (tuple, list)):
        return type(value)(_map(part, function) for part in value)
    if isinstance(value, dict):
        return {key: _map(part, function) for key, part in value.items()}
    return value


@dataclass(frozen=True, eq=False)
class EventBatch(_Movable):
    """The events of several recordings, one recording after the other: nothing is padded, nothing is lost.

    Attributes:
        t: `[N]`, int64, us.
        x: `[N]`, int32, column.
        y: `[N]`, int32, row.
        p: `[N]`, uint8, 1 for ON and 0 for OFF.
        sample: `[N]`, int64, which recording of the batch an event is of.
        offsets: `[B + 1]`, int64: recording `b` has the events `offsets[b]` to `offsets[b + 1] - 1`.
        width: columns of the sensor.
        height: rows of the sensor.
    """

    t: Tensor
    x: Tensor
    y: Tensor
    p: Tensor
    sample: Tensor
    offsets: Tensor
    width: int
    height: int

    @classmethod
    def of(cls, recordings: Sequence[Events]) -> EventBatch:
        """Return several recordings of one sensor as a batch.

        Raises:
            DataError: their sensors differ in size.
        """
        sizes = {(events.width, events.height) for events in recordings}
        if len(sizes) != 1:
            shown = ", ".join(f"{w}x{h}" for w, h in sorted(sizes))
            raise DataError(
                f"a batch of events is of one sensor, not of {shown}; crop or scale them to one size"
            )
        counts = torch.tensor([len(events) for events in recordings])
        offsets = torch.zeros(len(recordings) + 1, dtype=torch.int64)
        torch.cumsum(counts, 0, out=offsets[1:])
        t, x, y, p = (np.concatenate([getattr(e, name) for e in recordings]) for name in ("t", "x", "y", "p"))
        return cls(
            torch.from_numpy(t),
            torch.from_numpy(x.astype(np.int32)),
            torch.from_numpy(y.astype(np.int32)),
            torch.from_numpy(p),
            torch.repeat_interleave(torch.arange(len(recordings)), counts),
            offsets,
            *sizes.pop(),
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Events:
        """Return the events of one recording."""
        if not 0 <= index < len(self):
            raise IndexError(f"recording {index} of {len(self)}")
        some = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        t, x, y, p = (column[some].cpu().numpy() for column in (self.t, self.x, self.y, self.p))
        return Events(t, x.astype(np.uint16), y.astype(np.uint16), p, self.width, self.height)


@dataclass(frozen=True, eq=False)
class Batch(_Movable):
    """Samples and labels side by side; `x, y = batch` takes them apart.

    Attributes:
        x: images `[B, C, H, W]`; sequences `[T, B, ...]`, time first, shorter ones followed by zeros; an
            `EventBatch`; else a list. Samples that are tuples or dicts give a tuple or dict of these.
        y: labels: numbers as a tensor `[B]`, tensors of one shape stacked, else a list; None if all are.
        lengths: `[B]`, int64, the steps of each sequence; None where samples are no sequences.
    """

    x: Any
    y: Any
    lengths: Tensor | None = None

    def __iter__(self) -> Iterator[Any]:
        return iter((self.x, self.y))


def collate(pairs: Sequence[tuple[Any, Any]], time: bool | None = None) -> Batch:
    """Return samples and their labels as a batch.

    Arguments:
        pairs: of a sample and its label.
        time: whether axis 0 of a sample that is a tensor is time. By default, it is in `[T, C, H, W]`, and is
            not in `[C, H, W]`; of other shapes it must be said.

    Raises:
        DataError: the samples do not fit together, or it must be said whether axis 0 is time.
    """
    samples, labels = zip(*pairs, strict=True)
    x, lengths = _samples(samples, time)
    return Batch(x, _labels(labels), lengths)


def _samples(samples: Sequence[Any], time: bool | None) -> tuple[Any, Tensor | None]:
    first = samples[0]
    if not all(type(sample) is type(first) for sample in samples):
        raise DataError(f"a batch has samples of one type, not {sorted({type(s).__name__ for s in samples})}")
    if isinstance(first, Events):
        return EventBatch.of(samples), None
    if isinstance(first, Audio):
        rates = {audio.rate for audio in samples}
        if len(rates) > 1:
            raise DataError(f"a batch of sounds has one rate, not {sorted(rates)} Hz; resample them")
        return _sequences([audio.wave for audio in samples])
    if isinstance(first, np.ndarray) and not first.dtype.names:
        samples = [torch.from_numpy(sample) for sample in samples]
        first = samples[0]
    if isinstance(first, Tensor):
        return _tensors(samples, _is_time(first, time))
    if type(first) is tuple:
        parts = [_samples(part, time) for part in zip(*samples, strict=True)]
        return tuple(x for x, _ in parts), _one_length([lengths for _, lengths in parts])
    if type(first) is dict:
        named = {key: _samples([sample[key] for sample in samples], time) for key in first}
        return {key: x for key, (x, _) in named.items()}, _one_length(
            [lengths for _, lengths in named.values()]
        )
    if isinstance(first, (bool, int, float, np.generic)):
        return torch.as_tensor(np.asarray(samples)), None
    return list(samples), None


def _is_time(sample: Tensor, time: bool | None) -> bool:
    if time is not None:
        return time and sample.dim() > 0
    if sample.dim() in (3, 4):
        return sample.dim() == 4
    raise DataError(
        f"samples of shape {list(sample.shape)}: is axis 0 time? say loader(..., time=True), or give the "
        "data set an attribute in_time = True, then a batch is [T, B, ...]; with False, it is [B, ...]"
    )


def _tensors(samples: Sequence[Tensor], time: bool) -> tuple[Tensor, Tensor | None]:
    if time:
        return _sequences(samples)
    shapes = {tuple(sample.shape) for sample in samples}
    if len(shapes) > 1:
        raise DataError(
            f"samples of shapes {', '.join(map(str, sorted(shapes)))} cannot be stacked; bring them to one "
            "size, or say time=True if axis 0 is time, and shorter ones are padded"
        )
    return torch.stack(list(samples)), None


def _sequences(samples: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return sequences side by side, `[T, B, ...]`, with zeros after the shorter ones, and their lengths."""
    rest = {tuple(sample.shape[1:]) for sample in samples}
    if len(rest) > 1:
        raise DataError(
            f"sequences whose steps have shapes {', '.join(map(str, sorted(rest)))} make no batch"
        )
    lengths = torch.tensor([len(sample) for sample in samples])
    if samples[0].layout is not torch.strided:  # sparse frames; there is no padding them
        if len(set(lengths.tolist())) > 1:
            raise DataError(
                "sparse sequences of different lengths make no batch; give them one number of steps"
            )
        return torch.stack(list(samples), 1), lengths
    batch = samples[0].new_zeros(int(lengths.max()), len(samples), *rest.pop())
    for b, sample in enumerate(samples):
        batch[: len(sample), b] = sample
    return batch, lengths


def _one_length(found: list[Tensor | None]) -> Tensor | None:
    lengths = [some for some in found if some is not None]
    if any(not torch.equal(lengths[0], other) for other in lengths[1:]):
        raise DataError("the sequences in one sample differ in length; give them as separate samples")
    return lengths[0] if lengths else None


def _labels(labels: Sequence[Any]) -> Any:
    first = labels[0]
    if all(label is None for label in labels):
        return None
    if all(isinstance(label, (bool, int, np.integer)) for label in labels):
        return torch.tensor([int(label) for label in labels])
    if all(isinstance(label, (int, float, np.number)) for label in labels):
        return torch.tensor([float(label) for label in labels])
    if all(isinstance(label, np.ndarray) and not label.dtype.names for label in labels):
        labels = [torch.from_numpy(label) for label in labels]
        first = labels[0]
    if isinstance(first, Tensor) and len({(label.shape, label.dtype) for label in labels}) == 1:
        return torch.stack(list(labels))
    return list(labels)
