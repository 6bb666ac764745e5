"""How many million events a second the transforms take, beside plain NumPy, on one core.

    python benchmarks/transforms.py [--events N] [--file RECORDING] [--rounds N] [--json FILE] [--markdown]

The events are a moving edge with noise on a sensor of 1280x720, or evenly spread ones (the worst for caches),
or a recording. Where events depend on those before them, plain NumPy is a loop over events with an array of
the pixels' last times, timed on the first events only. Each result is checked against it before it is timed.
Batches of frames, [16, 32, 2, 128, 128], are beside a loop over samples that does the same with torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import Run, Table, Timing, arguments, interleave, report

from spikeloom import events as ev
from spikeloom.events import Events

LOOPED = 20_000  # events that a loop in Python is timed on


@dataclass(frozen=True)
class Case:
    """A transform, and what plain NumPy does instead; `looped` where that is a loop over events."""

    transform: ev.Transform
    plain: Callable[[Events], Events] | None = None
    looped: bool = False


def main(argv: Sequence[str] | None = None) -> None:
    """Check, measure, print."""
    parser = arguments("Transforms of events, and of batches of frames.", rounds=5)
    parser.add_argument("--events", type=int, default=5_000_000, help="how many (5,000,000)")
    parser.add_argument("--file", type=Path, help="take a recording's")
    parser.add_argument("--batch", type=int, default=32, help="samples of frames (32)")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    if options.file:
        recordings = {options.file.name: ev.read(options.file)}
    else:
        recordings = {"moving edge": edge(options.events), "evenly spread": even(options.events)}
    tables, figures = [], {}
    for name, events in recordings.items():
        table, figures[name] = of_events(f"{name}, {events!r}", events, options.rounds)
        tables.append(table)
    table, figures["frames"] = of_frames(options.batch, options.rounds)
    report([*tables, table], options, figures)


def edge(count: int) -> Events:
    """Return an edge that crosses a sensor of 1280x720 in 2.56 s, as often as need be, and 5 % noise."""
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 2 * count // 5, count))
    x = (t // 2000 + np.rint(rng.standard_normal(count) * 4).astype(np.int64)) % 1280
    x = np.where(rng.random(count) < 0.05, rng.integers(0, 1280, count), x)
    return Events.of(t, x, rng.integers(0, 720, count), rng.integers(0, 2, count), width=1280, height=720)


def even(count: int) -> Events:
    """Return events that are anywhere on a sensor of 1280x720 alike."""
    rng = np.random.default_rng(1)
    t = np.sort(rng.integers(0, 2 * count // 5, count))
    pixels = rng.integers(0, 1280, count), rng.integers(0, 720, count)
    return Events.of(t, *pixels, rng.integers(0, 2, count), width=1280, height=720)


# -- plain NumPy ----------------------------------------------------------------------------------


def denoise(events: Events) -> Events:
    """Filter with one event after the other."""
    last = np.full((events.height + 2, events.width + 2), -(10**15))
    keep = np.zeros(len(events), bool)
    for i in range(len(events)):
        t, x, y = events.t[i], events.x[i], events.y[i]
        near = last[y : y + 3, x : x + 3]
        near[1, 1] = -(10**15)
        keep[i] = (near >= t - 2000).any()
        near[1, 1] = t
    return events[keep]


def refractory(events: Events) -> Events:
    """Filter with one event after the other."""
    last = np.full((events.height, events.width), -(10**15))
    keep = np.zeros(len(events), bool)
    for i in range(len(events)):
        t, x, y = events.t[i], events.x[i], events.y[i]
        if t - last[y, x] >= 1000:
            keep[i], last[y, x] = True, t
    return events[keep]


def thin(events: Events) -> Events:
    """Halve the sides, with one event after the other."""
    x, y, keep = events.x // 2, events.y // 2, np.zeros(len(events), bool)
    counts = np.zeros((2, events.height // 2, events.width // 2), np.int64)
    for i in range(len(events)):
        counts[events.p[i], y[i], x[i]] += 1
        keep[i] = counts[events.p[i], y[i], x[i]] % 4 == 0
    return Events(events.t[keep], x[keep], y[keep], events.p[keep], events.width // 2, events.height // 2)


def hot(events: Events) -> Events:
    """Count by `bincount`."""
    pixel = events.y.astype(np.int64) * events.width + events.x
    counts = np.bincount(pixel, minlength=events.width * events.height)
    fired = counts[counts > 0]
    return events[counts[pixel] <= fired.mean() + 5 * fired.std()]


def crop(events: Events) -> Events:
    """Choose by a mask."""
    keep = (events.x >= 200) & (events.x < 840) & (events.y >= 100) & (events.y < 580)
    cut = events[keep]
    return Events(cut.t, cut.x - np.uint16(200), cut.y - np.uint16(100), cut.p, 640, 480)


def rotate(events: Events) -> Events:
    """Turn all at once."""
    c, s, cx, cy = np.cos(np.pi / 9), np.sin(np.pi / 9), (events.width - 1) / 2, (events.height - 1) / 2
    x, y = events.x - cx, events.y - cy
    u = np.floor(cx + c * x + s * y + 0.5 + 1e-6).astype(np.int64)
    v = np.floor(cy - s * x + c * y + 0.5 + 1e-6).astype(np.int64)
    keep = (u >= 0) & (u < events.width) & (v >= 0) & (v < events.height)
    return events[keep].replace(x=u[keep].astype(np.uint16), y=v[keep].astype(np.uint16))


def jitter(events: Events) -> Events:
    """Move and sort."""
    noise = np.random.Generator(np.random.PCG64(1)).standard_normal(len(events)) * 100
    t = np.maximum(events.t + np.rint(noise).astype(np.int64), 0)
    order = np.argsort(t, kind="stable")
    return events[order].replace(t=t[order])


def drop_box(events: Events) -> Events:
    """Choose by a mask."""
    within = (events.x >= 300) & (events.x < 600) & (events.y >= 200) & (events.y < 400)
    return events[~within]


CASES = (
    Case(ev.Denoise(2000), denoise, looped=True),
    Case(ev.Denoise(2000, support=2)),
    Case(ev.Denoise(2000, radius=2, support=2)),
    Case(ev.Refractory(1000), refractory, looped=True),
    Case(ev.HotPixels(z=5), hot),
    Case(ev.Crop(200, 100, 640, 480), crop),
    Case(ev.Flip("x")),
    Case(ev.Rotate(20), rotate),
    Case(ev.Resize(640, 360)),
    Case(ev.Resize(640, 360, thin=True), thin, looped=True),
    Case(ev.TimeReversal()),
    Case(ev.TimeJitter(100), jitter),
    Case(ev.UniformNoise(0.5)),
    Case(ev.SpatialJitter(1)),
    Case(ev.DropEvents(0.5)),
    Case(ev.DropBox(300, 200, 300, 200), drop_box),
    Case(ev.NDA(count=4)),
)


def of_events(title: str, events: Events, rounds: int) -> tuple[Table, dict[str, Any]]:
    """Return the table and the figures of one recording."""
    table = Table(f"Transforms of events: {title}")
    table.columns = ("transform", "Mev/s, median (best)", "plain NumPy, Mev/s", "ratio")
    figures = {}
    for case in CASES:
        if (events.width, events.height) != (1280, 720) and isinstance(case.transform, (ev.Crop, ev.Resize)):
            continue
        few = events[:LOOPED] if case.looped else events
        runs = {"ours": Run(lambda case=case: case.transform(events, rng=1))}
        if case.plain is not None:
            if case.transform(few, rng=1)[:] != case.plain(few)[:]:
                raise RuntimeError(f"{case.transform} and plain NumPy differ; they are not timed")
            runs["plain"] = Run(lambda case=case, few=few: case.plain(few))
        taken = interleave(runs, rounds, warmup=1)
        figures[repr(case.transform)] = taken
        plain = ["-", "-"]
        if case.plain is not None:
            each = taken["ours"].median / len(events), taken["plain"].median / len(few)
            plain = [f"{1e-6 / each[1]:.2f}", f"{each[1] / each[0]:.1f}x"]
        table.add(f"`{case.transform!r}`", rate(len(events), taken["ours"]), *plain)
    other = even(len(events)) if (events.width, events.height) == (1280, 720) else events
    for mix in (ev.CutMix(), ev.EventMix()):
        taken = interleave({"ours": Run(lambda mix=mix: mix(events, other, rng=1))}, rounds, warmup=1)
        figures[repr(mix)] = taken
        table.add(f"`{mix!r}`, both counted", rate(len(events) + len(other), taken["ours"]), "-", "-")
    return table, figures


def rate(count: int, timing: Timing) -> str:
    """Return how many millions a second: of the median round, and of the best."""
    return f"{count / timing.median / 1e6:.0f} ({count / min(timing.rounds) / 1e6:.0f})"


# -- frames ---------------------------------------------------------------------------------------


def sampled(x: torch.Tensor, angles: Sequence[float]) -> torch.Tensor:
    """Return each sample turned, one after the other, by torch's own sampling."""
    turned = []
    for sample, angle in zip(x.unbind(1), angles, strict=True):
        c, s = np.cos(angle), np.sin(angle)
        matrix = torch.tensor([[[c, -s, 0], [s, c, 0]]], dtype=x.dtype)
        grid = torch.nn.functional.affine_grid(matrix.expand(len(sample), 2, 3), sample.shape, False)
        turned.append(torch.nn.functional.grid_sample(sample, grid, "nearest", align_corners=False))
    return torch.stack(turned, 1)


def of_frames(batch: int, rounds: int) -> tuple[Table, dict[str, Any]]:
    """Return the table and the figures of batches of frames."""
    x = torch.randint(0, 3, (16, batch, 2, 128, 128)).float()
    labels = torch.nn.functional.one_hot(torch.arange(batch) % 10, 10).float()
    generator = torch.Generator().manual_seed(0)
    batched, angles = ev.batched, np.linspace(-0.5, 0.5, batch)
    calls: dict[str, Callable[[], object]] = {
        "flip": lambda: batched.flip(x, generator=generator),
        "roll": lambda: batched.roll(x, 5, generator=generator),
        "roll, a loop over samples": lambda: torch.stack([s.roll((3, 2), (2, 3)) for s in x.unbind(1)], 1),
        "rotate": lambda: batched.rotate(x, 30, generator=generator),
        "rotate, a loop of affine_grid and grid_sample": lambda: sampled(x, angles),
        "cutout": lambda: batched.cutout(x, 16, generator=generator),
        "nda": lambda: batched.nda(x, generator=generator),
        "cut_mix": lambda: batched.cut_mix(x, labels, generator=generator),
        "event_mix, count": lambda: batched.event_mix(x, labels, generator=generator),
        "event_mix, distance": lambda: batched.event_mix(x, labels, label="distance", generator=generator),
    }
    taken = interleave({name: Run(call) for name, call in calls.items()}, rounds, warmup=1)
    table = Table(f"Batches of frames, {list(x.shape)}, fp32, one core", ("augmentation", "samples/s"))
    for name, timing in taken.items():
        table.add(name, f"{batch / timing.median:.0f}")
    figures: dict[str, Timing] = dict(taken)
    return table, figures


if __name__ == "__main__":
    main()
