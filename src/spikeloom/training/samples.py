"""A recipe's samples, in memory: images as they are, recordings cut into frames, sounds made spikes.

What a table `data_options` may hold is a class here, one a kind of data.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from ..data import Dataset, Images, Samples, info, load, load_data
from ..data.base import Unread
from ..data.in_memory import InMemory, labels_of
from ..data.pictures import Altered, Middle, PictureOptions
from ..data.registry import find_set
from ..data.samples import Transformed
from ..encoding import Cochlea, Delta
from ..events import Events, Frames, Resize
from ..names import unknown
from .recipes import Recipe
from .texts import TextOptions, load_text

Options = TypeVar("Options")


@dataclass(frozen=True)
class ImageOptions(PictureOptions):
    """What pictures become, or pictures of one size in memory taken as sequences of their pixels.

    Attributes:
        sequence: "raster", each pixel a step, a row after the other, `[N, H * W, C]`; "permuted", in an order
            drawn once for all samples; "" leaves images.
        permutation: the seed of that order.
    """

    sequence: Literal["", "raster", "permuted"] = ""
    permutation: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sequence not in ("", "raster", "permuted"):
            raise ValueError(
                f"data_options: sequence = {self.sequence!r}; 'raster' or 'permuted', or '' for images"
            )
        if self.sequence and (self.size or self.alters):
            raise ValueError(
                f"data_options: sequence = {self.sequence!r} takes pictures as they are; leave size, crop, "
                "rand_augment and erase out"
            )
        if self.permutation and self.sequence != "permuted":
            raise ValueError(
                f"data_options: permutation = {self.permutation} is of sequence='permuted'; give that, too"
            )


@dataclass(frozen=True)
class SoundOptions:
    """How a sound becomes a sequence of `Recipe.T` steps.

    Attributes:
        bands: frequency bands of the `Cochlea`.
        step: seconds from one step to the next; T steps are kept, and a shorter sound ends in silence.
        window: seconds that a step looks at.
        code: "delta", spikes OFF and ON where a level changes, `[N, T, 2 * bands]`; or "level", the levels
            themselves, `[N, T, bands]`.
        threshold: of the delta code: the change that a spike stands for; levels lie in [0, 1].
        most: of the delta code: spikes a step, up to 255.
    """

    bands: int = 32
    step: float = 0.01
    window: float = 0.025
    code: Literal["delta", "level"] = "delta"
    threshold: float = 0.1
    most: int = 1

    def __post_init__(self) -> None:
        if self.code not in ("delta", "level"):
            raise unknown("code of sounds", self.code, ("delta", "level"))
        if self.most > 255:
            raise ValueError(f"data_options: most = {self.most}; up to 255 spikes a step are kept")


@dataclass(frozen=True)
class EventOptions:
    """How recordings of events become frames; and a data set without a split, windows of its recordings.

    Attributes:
        size: columns and rows that events are moved to, as 32; 0 leaves them where they are.
        window: seconds of a window.
        stride: seconds from one window to the next.
        share: the part of a recording, from its beginning, whose windows are trained on.
        gap: seconds after that part which nobody sees.
        until: seconds from its first event on that are taken of a recording of a data set with a split, as
            0.06; 0 takes all.
    """

    size: int = 0
    window: float = 0.3
    stride: float = 0.05
    share: float = 0.6
    gap: float = 0.1
    until: float = 0.0

    def __post_init__(self) -> None:
        fine = self.window > 0 and self.stride > 0 and 0 < self.share < 1
        if not (fine and min(self.gap, self.size, self.until) >= 0):
            raise ValueError(
                f"data_options: {self}; size, gap and until are 0 or more, window and stride above 0 (s), "
                "share between 0 and 1"
            )


def load_samples(recipe: Recipe) -> Dataset:
    """Return the recipe's data.

    * Images are taken as they are, or as `ImageOptions` says.
    * Tokens are sequences as they are, `[N, T, 1]`, and so are series; `data_options` are the data set's own.
    * Events become frames of counts, `[N, T, 2, H, W]`, T a recording, whose numbers are taken as they are
      (up to 255). A data set that has no split is split in time: see `EventOptions`. (Training and test
      windows are then of the same recordings: their accuracy says that training works, and no more.)
    * Sounds become what `SoundOptions` says, texts what `TextOptions` says.

    Raises:
        DataError: the data are damaged or out of reach.
        ValueError: data of another kind; an option that there is not, or that is out of range.
    """
    about = info(recipe.data)
    if about.kind == "events":
        options = _options(EventOptions, recipe)
        if "train" in about.splits:
            return _recordings(recipe, options)
        return _windows(recipe, options)
    if about.kind == "audio":
        return _sounds(recipe, _options(SoundOptions, recipe))
    if about.kind == "images":
        image_options = _options(ImageOptions, recipe)
        data = _pictures(recipe, image_options)
        return _sequences(data, image_options) if image_options.sequence else data
    if about.kind == "series" and recipe.validation:
        raise ValueError(
            f"recipe: validation = {recipe.validation:g}, but windows of {recipe.data} overlap: hold out the "
            "end of what is learned from instead, as with --set data_options.held_out=0.3"
        )
    if about.kind in ("tokens", "series"):
        return _tokens(recipe)
    if about.kind == "text":
        return load_text(recipe.data, _options(TextOptions, recipe))
    return load_data(recipe.data)


def _pictures(recipe: Recipe, options: PictureOptions) -> Dataset:
    """Return images, of one size; in memory, but where they are read or altered one by one."""
    whole = issubclass(find_set(recipe.data)[1], InMemory)
    if not (whole or options.size):
        raise ValueError(f"{recipe.data} has pictures of many sizes; give data_options a size, as size=224")
    train = load(recipe.data, "train")
    drawn = Transformed(train, Altered(options)) if options.alters else None
    if whole and not options.size:
        return replace(load_data(recipe.data), drawn=drawn)
    middle = Middle(options.size, options.middle)
    seen = {
        split: Images(Unread(Transformed(samples, middle)), labels_of(samples))
        for split, samples in (("train", train), ("test", load(recipe.data, "test")))
    }
    return Dataset(recipe.data, seen["train"], seen["test"], train.classes, drawn=drawn)


def _sequences(data: Dataset, options: ImageOptions) -> Dataset:
    """Return images as sequences of their pixels: no number is copied, unless they are permuted."""

    def part(images: Images) -> Images:
        pixels = images.pixels
        if not isinstance(pixels, Tensor):
            raise ValueError(
                f"{data.name} is read as it is needed; sequence = {options.sequence!r} needs memory"
            )
        steps = pixels.flatten(2).mT
        if options.sequence == "permuted":
            generator = torch.Generator().manual_seed(options.permutation)
            steps = steps[:, torch.randperm(steps.shape[1], generator=generator)]
        return Images(steps, images.labels)

    return replace(data, train=part(data.train), test=part(data.test), in_time=True)


def _tokens(recipe: Recipe) -> Dataset:
    def part(split: str) -> Images:
        samples = load(recipe.data, split, **recipe.data_options)
        assert isinstance(samples, InMemory)
        return samples.images

    return Dataset(recipe.data, part("train"), part("test"), info(recipe.data).classes, 1.0, in_time=True)


def _options(cls: type[Options], recipe: Recipe) -> Options:
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    for name in recipe.data_options:
        if name not in known:
            raise unknown(f"data option of {recipe.data}", name, known)
    try:
        return cls(**recipe.data_options)
    except TypeError as error:
        raise ValueError(f"data_options = {recipe.data_options}: {error}") from error


def _recordings(recipe: Recipe, options: EventOptions) -> Dataset:
    def part(split: str) -> Images:
        samples: Samples = load(recipe.data, split)
        pairs = (samples[i] for i in range(len(samples)))
        return _stacked([(begun(events), label) for events, label in pairs])

    def begun(events: Events) -> Tensor:
        if not options.until:
            return _frames(events, recipe, options)
        start = int(events.t[0]) if len(events) else 0
        span = start, start + round(options.until * 1e6)
        return _frames(events.between(*span), recipe, options, span)

    return Dataset(recipe.data, part("train"), part("test"), info(recipe.data).classes, 1.0, in_time=True)


def _windows(recipe: Recipe, options: EventOptions) -> Dataset:
    about = info(recipe.data)
    train: list[tuple[Tensor, int]] = []
    test: list[tuple[Tensor, int]] = []
    recordings = load(recipe.data, next(iter(about.splits)))
    for i in range(len(recordings)):
        events, label = recordings[i]
        for part, start, stop in _spans(events, options):
            window = _frames(events.between(start, stop), recipe, options, (start, stop))
            (train if part == "train" else test).append((window, label))
    for name, windows in (("training", train), ("test", test)):
        if not windows:
            raise ValueError(f"{recipe.data}: {options} leave no {name} window; give a shorter window or gap")
    return Dataset(recipe.data, _stacked(train), _stacked(test), about.classes, 1.0, in_time=True)


def _spans(events: Events, options: EventOptions) -> list[tuple[str, int, int]]:
    """Return the part, begin and end (us) of each window: all of it on one side of the gap."""
    first, last = int(events.t[0]), int(events.t[-1])
    split = first + options.share * (last - first)
    sides = (("train", first, split), ("test", split + options.gap * 1e6, last))
    found = []
    for part, begin, end in sides:
        count = int((end - begin - options.window * 1e6) // (options.stride * 1e6)) + 1
        starts = (int(begin + k * options.stride * 1e6) for k in range(count))
        found += [(part, start, start + int(options.window * 1e6)) for start in starts]
    return found


def _frames(
    events: Events, recipe: Recipe, options: EventOptions, span: tuple[int, int] | None = None
) -> Tensor:
    """Return `[T, 2, H, W]`, uint8: all of a recording's events, or those of a span of time (us)."""
    if options.size:
        events = Resize(options.size, options.size)(events)
    if span is None or recipe.frames == "count":
        cut = Frames(T=recipe.T, by=recipe.frames)
    else:  # its frames begin and end with the span, not with the first event and the last
        us = -(-(span[1] - span[0]) // recipe.T)
        cut = Frames(T=recipe.T, us=us, start=span[0])
    return cut(events).clamp(max=255).to(torch.uint8)


def _sounds(recipe: Recipe, options: SoundOptions) -> Dataset:
    delta = Delta(options.threshold, options.most)

    def level(wave: Tensor, rate: int) -> Tensor:
        found = Cochlea(rate, options.bands, options.step, options.window)(wave)[: recipe.T]
        return torch.nn.functional.pad(found, (0, 0, 0, recipe.T - len(found)))

    def part(split: str) -> Images:
        samples = load(recipe.data, split)
        pairs = (samples[i] for i in range(len(samples)))
        waves, labels = zip(*((level(sound.wave, sound.rate), label) for sound, label in pairs), strict=True)
        levels, classes = torch.stack(waves), torch.tensor(labels)
        if options.code == "level":
            return Images((levels * 255).round().to(torch.uint8), classes)
        spikes = delta(levels.transpose(0, 1)).flatten(2)
        return Images(spikes.to(torch.uint8).transpose(0, 1).contiguous(), classes)

    white = 255.0 if options.code == "level" else 1.0
    return Dataset(recipe.data, part("train"), part("test"), info(recipe.data).classes, white, in_time=True)


def _stacked(pairs: list[tuple[Any, int]]) -> Images:
    samples, labels = zip(*pairs, strict=True)
    return Images(torch.stack(samples), torch.tensor(labels))
