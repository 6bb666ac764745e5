"""EGRU: what silent units save, a step at a time; its loop; and what it learns beside a GRU of equal size.

    python benchmarks/egru.py speed [--units 512 1024] [--silent 0 0.5 0.8 0.9 0.95] [--steps 200]
    python benchmarks/egru.py loop [--units 128 512] [--length 100] [--batch 32] [--rounds 7]
    python benchmarks/egru.py text [--data wikitext-2] [--cell gru] [--hidden 512] [--epochs 5] [--seed 0]
    python benchmarks/egru.py smnist [--cell gru] [--hidden 590] [--epochs 200] [--seed 0]

speed: a layer in evaluation, batch 1, a step a call through an `sl.Stream`. Inputs and the units before are
silent to a share that is set, by writing the stream's state before each step; `skip_silent=False` is the
dense layer, whose results are first shown to be the same. torch's GRU of equal size is beside, as found.

loop: a layer, forward (without gradients) and a training step, in one kernel over all steps, by a product and
a kernel a step, and torch's GRU. First, in float64, both loops are shown to give the same.

text: bits a byte on the held-out split, and the share of silent units. smnist: accuracy on the test set after
each epoch, and that share; MNIST read a pixel a step. Both take --limit, a number of batches an epoch.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from harness import Ratio, Run, interleave
from torch import Tensor, nn
from torch.nn import functional as F

import spikeloom as sl
from spikeloom.kernels import recur_run, recur_steps
from spikeloom.nn import EGRU, activity_penalty


def silenced(size: int, share: float) -> Tensor:
    """Return positive numbers of which a share is 0."""
    keep = torch.rand(1, 1, size) >= share
    return torch.rand(1, 1, size) * keep


def speed(options: argparse.Namespace) -> None:
    torch.manual_seed(0)
    print("units  silent  skipping us  dense us  torch GRU us  dense / skipping")
    for units in options.units:
        net, gru = EGRU(units, units).eval(), nn.GRU(units, units).eval()
        for share in options.silent:
            x, y, c = silenced(units, share), silenced(units, share)[0], torch.rand(1, units) / 2

            def step(skip: bool, x: Tensor = x, y: Tensor = y, c: Tensor = c, net: EGRU = net) -> Tensor:
                net.skip_silent = skip
                stream = sl.Stream(net)
                stream.state = {"#0.c": c, "#0.y": y}
                out: Tensor = stream(x)
                return out

            with torch.no_grad():
                torch.testing.assert_close(step(True), step(False), rtol=1e-4, atol=1e-5)
                calls: list[Callable[[], object]] = [
                    lambda: step(True), lambda: step(False), lambda x=x, y=y, gru=gru: gru(x, y.unsqueeze(0))
                ]  # fmt: skip
                found = [medians(call, options.steps) for call in calls]
            a, b, g = (1e6 * seconds for seconds in found)
            print(f"{units:5d}  {share:6.2f}  {a:11.0f}  {b:8.0f}  {g:12.0f}  {b / a:16.2f}")


@contextmanager
def stepwise() -> Iterator[None]:
    """Run a kernel a step, as on a GPU."""
    whole = recur_run._kernels
    recur_run._kernels = lambda device: recur_steps  # type: ignore[assignment]
    try:
        yield
    finally:
        recur_run._kernels = whole


def loop(options: argparse.Namespace) -> None:
    print(f"T={options.length}, batch {options.batch}; ratios: of the medians / median of the rounds'")
    for units in options.units:
        torch.manual_seed(0)
        net, gru = EGRU(units, units), nn.GRU(units, units)
        x, g = torch.randn(options.length, options.batch, units), torch.randn(options.batch, units)
        leaves = (x.requires_grad_(), *net.parameters(), *gru.parameters())

        def forward(net: nn.Module = net, x: Tensor = x) -> None:
            with torch.no_grad():
                net(x)

        def train(net: nn.Module = net, x: Tensor = x, g: Tensor = g) -> None:
            y = net(x)
            (y[0] if isinstance(y, tuple) else y).backward(g.expand(len(x), *g.shape))

        def steps(call: Callable[[], None]) -> Callable[[], None]:
            def run() -> None:
                with stepwise():
                    call()

            return run

        double = EGRU(units, units).double()
        results = []
        for manage in (stepwise, torch.enable_grad):
            leaf = x[:5, :3].detach().double().requires_grad_()
            with manage():
                y = double(leaf)
                results.append([y, *torch.autograd.grad(y.square().sum(), [leaf, *double.parameters()])])
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)

        for name, call in (("forward", forward), ("training step", train)):
            runs = {
                "one kernel": Run(call, leaves),
                "a kernel a step": Run(steps(call), leaves),
                "torch GRU": Run(lambda c=call, n=gru: c(n), leaves),
            }
            found = interleave(runs, options.rounds)
            ours = found["one kernel"]
            shown = ", ".join(
                f"{who} {timing} ms ({Ratio.of(timing, ours)})" for who, timing in found.items()
            )
            print(f"H={units} {name}: {shown}", flush=True)


def medians(call: Callable[[], object], steps: int) -> float:
    times = []
    for _ in range(steps + 3):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return sorted(times[3:])[steps // 2]


def batches(data: object, size: int, seed: int, limit: int) -> Iterator[tuple[Tensor, Tensor]]:
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))  # type: ignore[arg-type]
    for n, rows in enumerate(order.split(size)):
        if limit and n >= limit:
            return
        items = [data[int(i)] for i in rows]  # type: ignore[index]
        yield (
            torch.stack([torch.as_tensor(x) for x, _ in items]),
            torch.stack([torch.as_tensor(y) for _, y in items]),
        )


def learn(options: argparse.Namespace, text: bool) -> None:
    torch.manual_seed(options.seed)
    data = options.data if text else "mnist"
    held_out = "val" if data == "tinyshakespeare" else "test"
    train, held = sl.data.load(data, split="train"), sl.data.load(data, split=held_out)
    name = "egru_characters" if text else "egru_smnist"
    hidden = options.hidden or ([512] if text else [590])
    net = sl.create_model(name, hidden=hidden, cell=options.cell)
    optimizer = torch.optim.Adam(net.parameters(), options.lr)

    def run(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return scores and labels, a row each, and what the layers said."""
        layers = net.layers(x.t() if text else x.float().div(255) if x.dtype == torch.uint8 else x)
        scores = net.scores(layers[-1])
        return (scores.flatten(0, 1), y.t().flatten(), layers) if text else (scores, y, layers)

    for epoch in range(options.epochs):
        net.train()
        for x, y in batches(train, options.batch, 1000 * options.seed + epoch, options.limit):
            scores, labels, layers = run(x, y)
            loss = F.cross_entropy(scores, labels)
            if options.cell == "egru":
                loss = loss + options.activity * sum(activity_penalty(layer) for layer in layers)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), options.clip)
            optimizer.step()
        net.eval()
        total, right, count, silent = 0.0, 0, 0, []
        with torch.no_grad():
            for x, y in batches(held, options.batch, 0, options.limit):
                scores, labels, layers = run(x, y)
                total += F.cross_entropy(scores, labels, reduction="sum").item()
                right += int((scores.argmax(1) == labels).sum())
                count += len(labels)
                silent.append(sum((layer == 0).float().mean().item() for layer in layers) / len(layers))
        shown = f"{total / count / math.log(2):.4f} bits a byte" if text else f"{right / count:.4f} accuracy"
        print(
            f"{options.cell} epoch {epoch + 1}: {shown}, {sum(silent) / len(silent):.3f} silent", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["speed", "loop", "text", "smnist"])
    parser.add_argument("--units", type=int, nargs="+", default=[128, 512, 1024])
    parser.add_argument("--silent", type=float, nargs="+", default=[0.0, 0.5, 0.8, 0.9, 0.95])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--data", default="tinyshakespeare", help="tinyshakespeare or wikitext-2")
    parser.add_argument("--cell", choices=["egru", "gru"], default="egru")
    parser.add_argument("--hidden", type=int, nargs="+", default=None)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--clip", type=float, default=0.25)
    parser.add_argument("--activity", type=float, default=0.01, help="the weight of the activity penalty")
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.what == "speed":
        speed(options)
    elif options.what == "loop":
        loop(options)
    else:
        learn(options, options.what == "text")


if __name__ == "__main__":
    main()
