"""Motion by heterogeneous delays: accuracy on moving textures, against how many synapses are left.

    python benchmarks/motion.py [--size N] [--frames N] [--movies N] [--epochs N] [--kernel N] [--delays N]
                                [--seeds N] [--published] [--json FILE] [--markdown]

A texture moves in one of some directions at one of some speeds; its movie, a frame a ms, becomes events, and
`hd_snn` says of each event which motion it belongs to. Training and test movies are of different noise. Then
all but the strongest synapses are taken out, as many as the paper's shares, and the rest is measured again.
`--published` takes the paper's sizes: 1,024 movies of 200 frames of 128x128, 36 motions, 436,968 synapses,
100 epochs at a rate of 1e-5; hours on a GPU.
"""

from __future__ import annotations

import math
import time
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

import torch
from reporting import Table, arguments, report
from torch import Tensor

from spikeloom.events.representations import Frames
from spikeloom.events.synthesis import Pixels, moving_texture, video_to_events
from spikeloom.models.hd_snn import HDSNN

# what is kept of all synapses; 1 / 670 is the paper's "half of the gain", 1 / 31 its "nearly all"
SHARES = (1.0, 1 / 3, 1 / 10, 1 / 31, 1 / 100, 1 / 300, 1 / 670)
PUBLISHED = {
    "size": 128, "frames": 200, "movies": 1024, "tests": 200, "directions": 12, "speeds": 3,
    "kernel": 17, "delays": 21, "epochs": 100, "lr": 1e-5,
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Make movies, train, prune, print."""
    parser = arguments("Motion by heterogeneous delays.", rounds=1)
    parser.add_argument("--size", type=int, default=24, help="rows and columns")
    parser.add_argument("--frames", type=int, default=50, help="of a movie, 1 ms each")
    parser.add_argument("--movies", type=int, default=240, help="to train on")
    parser.add_argument("--tests", type=int, default=120, help="movies to measure on")
    parser.add_argument("--directions", type=int, default=12)
    parser.add_argument("--speeds", type=int, default=3)
    parser.add_argument("--kernel", type=int, default=9, help="pixels, odd")
    parser.add_argument("--delays", type=int, default=11, help="steps of 1 ms")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--published", action="store_true", help="the sizes of the paper")
    options = parser.parse_args(argv)
    if options.published:
        vars(options).update(PUBLISHED)
    figures: dict[str, Any] = {}
    tables = [pruned(options, figures)]
    report(tables, options, figures)


def motions(options: Namespace) -> list[tuple[float, float]]:
    """Return direction and speed (pixels a frame) of each class; the fastest crosses half a kernel in D."""
    fastest = options.kernel / 2 / options.delays
    speeds = [fastest * (n + 1) / options.speeds for n in range(options.speeds)]
    turns = [2 * math.pi * n / options.directions for n in range(options.directions)]
    return [(turn, speed) for turn in turns for speed in speeds]


def movie(options: Namespace, motion: tuple[float, float], seed: int) -> Tensor:
    """Return the events of a moving texture, a frame a ms: `[T, 2, H, W]`, 0 or 1."""
    direction, speed = motion
    light = moving_texture(
        options.size, options.size, options.frames + 1, direction=direction, speed=speed, frequency=0.12,
        bandwidth=0.06, seed=seed,
    )  # fmt: skip
    events = video_to_events(light, range(0, 1000 * (options.frames + 1), 1000), Pixels(on=0.15, off=0.15))
    cut = Frames(T=options.frames, us=1000, start=0, binary=True, dtype=torch.uint8)
    seen: Tensor = cut(events)
    return seen


def movies(options: Namespace, count: int, first: int) -> tuple[Tensor, Tensor]:
    """Return some movies `[T, N, 2, H, W]`, and their classes."""
    known = motions(options)
    labels = torch.arange(count) % len(known)
    made = [movie(options, known[k], first + n) for n, k in enumerate(labels.tolist())]
    return torch.stack(made, 1), labels


def train(options: Namespace, x: Tensor, y: Tensor, seed: int) -> HDSNN:
    """Return a detector that has seen all movies in each epoch."""
    torch.manual_seed(seed)
    net = HDSNN(
        options.directions * options.speeds, 2, options.size, options.delays, options.kernel, T=options.frames
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net.to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=options.lr)
    for _ in range(options.epochs):
        for some in torch.randperm(len(y)).split(options.batch):
            optimizer.zero_grad()
            net.loss(x[:, some].to(device).float(), y[some].to(device)).backward()
            optimizer.step()
    return net


@torch.inference_mode()
def accuracy(options: Namespace, net: HDSNN, x: Tensor, y: Tensor) -> float:
    """Return the share of movies whose motion is found."""
    device = net.bias.device
    right = 0
    for some in torch.arange(len(y)).split(options.batch):
        found = net(x[:, some].to(device).float()).argmax(1).cpu()
        right += int((found == y[some]).sum())
    return right / len(y)


def pruned(options: Namespace, figures: dict[str, Any]) -> Table:
    """Return accuracy against what is left of all synapses, the mean of seeds."""
    begun = time.perf_counter()
    x, y = movies(options, options.movies, 0)
    new, answers = movies(options, options.tests, 1_000_000)
    made = time.perf_counter()
    found: dict[int, list[float]] = {}
    for seed in range(options.seeds):
        net = train(options, x, y, seed)
        for share in SHARES:
            net.keep(count := round(share * net.weight.numel()))
            found.setdefault(count, []).append(accuracy(options, net, new, answers))
    classes = options.directions * options.speeds
    table = Table(f"Motion: {classes} classes, {options.size}x{options.size}, {options.frames} ms")
    table.columns = ("synapses", "of all", "accuracy", "seeds")
    for (count, several), share in zip(found.items(), SHARES, strict=True):
        mean = sum(several) / len(several)
        table.add(f"{count:,}", f"1 / {1 / share:.0f}", f"{mean:.3f}", ", ".join(f"{a:.3f}" for a in several))
    table.notes.append(
        f"{options.movies} movies to train on, {options.tests} to measure on; chance {1 / classes:.3f}; "
        f"{x.float().mean():.3f} events a pixel, polarity and ms; movies {made - begun:.0f} s, the rest "
        f"{time.perf_counter() - made:.0f} s. Published, at its sizes: 0.91; half of the gain at 1 / 670."
    )
    figures.update({"accuracy": found, "options": {k: v for k, v in vars(options).items() if k != "json"}})
    return table


if __name__ == "__main__":
    main()
