"""Steps split over processes, against the model of what that saves.

    python benchmarks/time_parallel.py [--devices 1 2] [--steps 64] [--batch 32] [--units 512] [--layers 4]
        [--rounds 7]

Layers of a linear synapse and a LIF; a training pass, forward and backward, on one thread a process, by gloo.
Measured: the pass of one process, W; the time in which a state of one layer gets from one process to the
other, h, as half of the way there and back; then the pass of P processes, beside `time_on(P, W, 2 h, L)`. A
pass hands over twice, states forward and gradients backward, each in a pipeline of its own, and W and h of
both add: hence 2 h. Also the best number of processes by the model, for this W and h. More processes
than cores share cores, and say nothing.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, distributed, multiprocessing, nn

import spikeloom as sl
from spikeloom.nn import TimeParallel, best_devices, time_on


def network(units: int, layers: int) -> nn.Module:
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for _ in range(layers):
        parts += [sl.PerStep(nn.Linear(units, units)), sl.LIF(tau=2.0, v_threshold=0.3)]
    return nn.Sequential(*parts)


def passes(net: nn.Module, x: Tensor, rounds: int) -> tuple[float, Tensor]:
    """Return the median time of a pass, from when all are ready to when the last is done; and the output."""
    times, y = [], x
    for _ in range(rounds + 2):
        distributed.barrier()
        start = time.perf_counter()
        y = net(x)
        y.mean().backward()
        distributed.barrier()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:]), y.detach()


def hand_over(shape: tuple[int, ...], rounds: int) -> float:
    """Return the median time of one way between the first two processes, in seconds."""
    rank, state, times = distributed.get_rank(), torch.zeros(shape), []
    for _ in range(4 * rounds):
        start = time.perf_counter()
        if rank == 0:
            distributed.send(state, 1)
            distributed.recv(state, 1)
        elif rank == 1:
            distributed.recv(state, 0)
            distributed.send(state, 0)
        times.append((time.perf_counter() - start) / 2)
    return statistics.median(times[rounds:])


def measure(rank: int, size: int, folder: str, options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    torch.manual_seed(1)
    x = 2 * torch.randn(options.steps, options.batch, options.units)
    net = TimeParallel(network(options.units, options.layers))
    seconds, y = passes(net, net.share(x), options.rounds)
    h = hand_over((options.batch, options.units), options.rounds) if size > 1 else 0.0
    with torch.no_grad():
        agree = (y == net.share(net.net(x))).float().mean().item()
    if rank == 0:
        torch.save((seconds, h, agree), f"{folder}/found")
    distributed.barrier()
    distributed.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--units", type=int, default=512)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    found = {}
    for size in sorted({1, *options.devices}):
        with tempfile.TemporaryDirectory() as folder:
            multiprocessing.start_processes(measure, (size, folder, options), size, start_method="spawn")
            found[size] = torch.load(Path(folder) / "found")
    compute = found[1][0]
    print(f"W = {1e3 * compute:.2f} ms")
    for size, (seconds, h, agree) in found.items():
        if size == 1:
            continue
        model = time_on(size, compute, 2 * h, options.layers)
        best = best_devices(compute, 2 * h, options.layers)
        at_best = compute / time_on(best, compute, 2 * h, options.layers)
        print(
            f"P = {size}: measured {1e3 * seconds:.2f} ms ({compute / seconds:.2f}x), "
            f"model {1e3 * model:.2f} ms ({compute / model:.2f}x); h = {1e3 * h:.3f} ms, "
            f"best P = {best:.1f} ({at_best:.2f}x); {agree:.2%} of spikes as one process has"
        )


if __name__ == "__main__":
    main()
