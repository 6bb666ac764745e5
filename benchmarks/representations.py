"""Events into tensors: how many million events a second, against eventcv and plain NumPy, on the CPU.

    python benchmarks/representations.py [--events N] [--rounds N] [--json FILE] [--markdown]

Made events (edges that sweep over 1280x720 pixels, noise, hot pixels) and, where $SPIKELOOM_DATA has them,
real recordings, repeated until they are as many. Each rival's result is compared with Spikeloom's before it
is timed.
"""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import Run, Table, arguments, interleave, report
from torch import Tensor

from spikeloom import events as sl
from spikeloom.events import Events

REAL = {
    "EVT3 sample": "events_prophesee/evt3_gen41_sample.raw",
    "EVT2 sparklers": "events_prophesee/evt2_gen3_sparklers.raw",
}
TAU = 50_000.0  # us


def main(argv: Sequence[str] | None = None) -> None:
    """Compare, time, print."""
    parser = arguments("Events into tensors.", rounds=7)
    parser.add_argument("--events", type=int, default=4_000_000, help="events of a recording (4,000,000)")
    options = parser.parse_args(argv)
    eventcv = _eventcv()
    tables, figures = [], {}
    for name, events in _recordings(options.events):
        size = f"{len(events):,} events, {events.width}x{events.height}"
        size = f"{len(events):,} events, {events.width}x{events.height}"
        table = Table(f"{name}: {size}; million events a second")
        table.columns = ("representation", "Spikeloom", "eventcv", "NumPy", "over eventcv", "over NumPy")
        for case in _cases(events, eventcv):
            figures[f"{name}: {case.name}"] = _measure(case, table, options)
        table.notes.append(
            "Median of the rounds. A rival's result is the same: counts exactly, the rest to float32's "
            "rounding. '-': it has no such thing, or defines it otherwise."
        )
        if eventcv is None:
            table.notes.append("eventcv: not installed.")
        tables.append(table)
    report(tables, options, figures)


@dataclass
class Case:
    """A representation and what others call to get the same; the first `number` events where that is slow."""

    name: str
    number: int
    ours: Callable[[], Tensor]
    rivals: dict[str, Callable[[], Any]] = field(default_factory=dict)
    exact: bool = False

    def compare(self) -> None:
        """Raise where a rival's result is another."""
        expected = self.ours().to_dense()
        for rival, call in self.rivals.items():
            found = torch.from_numpy(np.asarray(call())).reshape(expected.shape)
            if self.exact:
                same = torch.equal(found.double(), expected.double())
            else:
                same = torch.allclose(found.float(), expected.float(), rtol=1e-4, atol=1e-4)
            if not same:
                raise RuntimeError(f"{self.name}: {rival} computes something else; it is not timed")


def _measure(case: Case, table: Table, options: argparse.Namespace) -> dict[str, float]:
    case.compare()
    runs = {"Spikeloom": Run(case.ours)} | {name: Run(call) for name, call in case.rivals.items()}
    timings = interleave(runs, options.rounds, warmup=1)
    rates = {name: case.number / timing.median / 1e6 for name, timing in timings.items()}
    shown = [f"{rates[name]:.3g}" if name in rates else "-" for name in ("Spikeloom", "eventcv", "NumPy")]
    over = [
        f"{rates['Spikeloom'] / rates[name]:.1f}x" if name in rates else "-" for name in ("eventcv", "NumPy")
    ]
    table.add(case.name, *shown, *over)
    return rates


def _cases(events: Events, eventcv: Any) -> Iterator[Case]:
    n = len(events)
    stream = None if eventcv is None else _stream(eventcv, events)
    span = int(events.t[-1] - events.t[0])

    def against(**calls: Callable[[], Any]) -> dict[str, Callable[[], Any]]:
        return {
            "eventcv" if k == "eventcv" else "NumPy": v for k, v in calls.items() if k != "eventcv" or stream
        }

    counts = sl.Frames(polarity="sum")
    yield Case(
        "counts, polarities together",
        n,
        lambda: counts(events),
        against(eventcv=lambda: stream.count().numpy(), plain=lambda: np_counts(events, 1, 1)),
        exact=True,
    )
    for T in (1, 10):
        frames = sl.Frames(T)
        yield Case(
            f"counts, T = {T}",
            n,
            lambda frames=frames: frames(events),
            against(plain=lambda T=T: np_counts(events, T, 2)),
            exact=True,
        )
    surface = sl.TimeSurface(tau=TAU)
    yield Case(
        "time surface",
        n,
        lambda: surface(events),
        against(
            eventcv=lambda: stream.tsurf(tau_us=TAU).numpy()[::-1].copy(), plain=lambda: np_surface(events)
        ),
    )
    surfaces = sl.TimeSurface(10, tau=TAU)
    yield Case("time surfaces, T = 10", n, lambda: surfaces(events))
    voxels = sl.VoxelGrid(9)
    yield Case(
        "voxel grid, T = 9",
        n,
        lambda: voxels(events),
        against(
            eventcv=lambda: stream.voxel(bins=9, window_us=span).numpy(), plain=lambda: np_voxels(events, 9)
        ),
    )
    spikes = sl.EventSpikeTensor(9)
    yield Case("event spike tensor, T = 9", n, lambda: spikes(events))
    digits = sl.BinaRep(1, 8)
    yield Case("Bina-Rep, 8 bits", n, lambda: digits(events), against(plain=lambda: np_digits(events, 8)))
    recent = sl.Tore(K=3)
    yield Case("TORE, K = 3", n, lambda: recent(events))
    sparse = sl.SparseFrames(10)
    yield Case("sparse counts, T = 10", n, lambda: sparse(events))
    few = events[: n // 8]
    around = sl.LocalTimeSurface(3, TAU)
    yield Case("local time surfaces, 7x7 pixels", len(few), lambda: around(few))
    averaged = sl.AveragedTimeSurface()
    yield Case("averaged time surfaces, 7x7 pixels", len(few), lambda: averaged(few))


# -- plain NumPy ----------------------------------------------------------------------------------


def np_counts(events: Events, T: int, channels: int) -> np.ndarray:
    area = events.width * events.height
    place = events.y.astype(np.int64) * events.width + events.x
    if channels == 2:
        place += events.p * np.int64(area)
    if T > 1:
        t = events.t - events.t[0]
        place += np.minimum(t * T // max(t[-1], 1), T - 1) * (channels * area)
    return np.bincount(place, minlength=T * channels * area)


def np_surface(events: Events) -> np.ndarray:
    latest = np.full((2, events.height, events.width), -np.inf)
    latest[events.p, events.y, events.x] = events.t  # the last one written stays
    return np.exp((latest - events.t[-1]) / TAU).astype(np.float32)


def np_voxels(events: Events, T: int) -> np.ndarray:
    area = events.width * events.height
    pixel = events.y.astype(np.int64) * events.width + events.x
    t = (events.t - events.t[0]) * (T - 1) / max(events.duration, 1)
    left = np.minimum(t.astype(np.int64), T - 2)
    sign = events.p * 2.0 - 1
    made = np.bincount(left * area + pixel, sign * (1 - t + left), T * area)
    made += np.bincount((left + 1) * area + pixel, sign * (t - left), T * area)
    return made.astype(np.float32)


def np_digits(events: Events, bits: int) -> np.ndarray:
    planes = np_counts(events, bits, 2).reshape(bits, -1) > 0
    return (planes * 2 ** np.arange(bits - 1, -1, -1)[:, None]).sum(0) / (2**bits - 1)


# -- what is measured on --------------------------------------------------------------------------


def _recordings(number: int) -> Iterator[tuple[str, Events]]:
    yield "Moving edges", moving_edges(number)
    for name, path in REAL.items():
        found = Path(os.environ.get("SPIKELOOM_DATA", "")) / path
        if found.is_file():
            yield f"{name}, repeated", repeated(sl.read(found), number)


def moving_edges(number: int, width: int = 1280, height: int = 720, seed: int = 0) -> Events:
    """Return events of twelve edges that sweep over the sensor in a second, 15 % noise, 3 % hot pixels."""
    g = np.random.default_rng(seed)
    t = np.sort(g.integers(0, 1_000_000, number))
    edge, along, across = g.integers(0, 12, number), g.random(number), g.normal(0, 1.5, number)
    begun = (t / 1e6 * (1 + edge % 3) + edge / 12) % 1
    x = (0.1 + 0.8 * begun) * width + across + 0.03 * width * np.sin(6 * along + edge)
    y = (0.1 + 0.8 * along) * height
    kind = g.random(number)
    noise, hot = kind < 0.15, kind > 0.97
    x[noise], y[noise] = g.random(noise.sum()) * width, g.random(noise.sum()) * height
    pixel = g.integers(0, 20, hot.sum())
    x[hot], y[hot] = 37 * pixel % width, 31 * pixel % height
    return Events(
        t,
        x.clip(0, width - 1).astype(np.uint16),
        y.clip(0, height - 1).astype(np.uint16),
        ((across > 0) ^ (g.random(number) < 0.1)).astype(np.uint8),
        width,
        height,
    )


def repeated(events: Events, number: int) -> Events:
    """Return a recording over and over, until there are so many events."""
    events = events.ordered()
    times = -(-number // len(events))
    step = events.duration + 1
    later = np.repeat(np.arange(times) * step, len(events))
    columns = {name: np.tile(getattr(events, name), times) for name in ("x", "y", "p")}
    return Events(np.tile(events.t, times) + later, **columns, width=events.width, height=events.height)[
        :number
    ]


def _eventcv() -> Any:
    try:
        return importlib.import_module("eventcv")
    except ImportError:
        return None


def _stream(eventcv: Any, events: Events) -> Any:
    columns = np.stack([events.x, events.y, events.t, events.p], 1).astype(np.int64)
    return eventcv.from_numpy(columns, sensor_size=(events.width, events.height), time_unit="us")


if __name__ == "__main__":
    main()
