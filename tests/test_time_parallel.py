"""Time split over two and three processes gives what one process gives, backward too."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn

import spikeloom as sl
from spikeloom.nn import EGRU, Residual, TimeParallel, best_devices, time_on

F64 = torch.float64
SHAPE = (7, 3, 5)


def chain() -> nn.Module:
    return nn.Sequential(
        sl.PerStep(nn.Linear(5, 8)), sl.PLIF(v_threshold=0.3), sl.PerStep(nn.Linear(8, 6)),
        sl.ALIF(v_threshold=0.2), sl.PerStep(nn.Linear(6, 4)),
    )  # fmt: skip


def raw() -> nn.Module:
    """A neuron without parameters, on data that take no gradient."""
    return nn.Sequential(sl.LIF(v_threshold=0.2), sl.PerStep(nn.Linear(5, 4)), sl.LI())


def looped() -> nn.Module:
    return nn.Sequential(
        sl.Recurrent(sl.LIF(tau=2.0, v_threshold=0.4), nn.Linear(5, 5)),
        EGRU(5, 6),
        sl.PerStep(nn.Linear(6, 4)),
    )


def residual() -> nn.Module:
    neuron = sl.LIF(v_threshold=0.2)
    twice = nn.Sequential(neuron, sl.PerStep(nn.Linear(5, 5)), neuron)  # one neuron, two states
    return nn.Sequential(sl.PerStep(nn.Linear(5, 5)), Residual(twice), sl.PerStep(nn.Linear(5, 4)))


def normed() -> nn.Module:
    return nn.Sequential(sl.PerStep(nn.Linear(5, 4), nn.BatchNorm1d(4)), sl.LIF(v_threshold=0.1)).eval()


NETS: dict[str, Callable[[], nn.Module]] = {f.__name__: f for f in (chain, raw, looped, residual, normed)}


def build(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    return NETS[name]().double(), 2 * torch.randn(SHAPE, dtype=F64), torch.randn(7, 3, 4, dtype=F64)


def outcome(net: nn.Module, y: Tensor) -> dict[str, Tensor]:
    return {"y": y.detach(), **{name: p.grad for name, p in net.named_parameters() if p.grad is not None}}


def _rank(rank: int, size: int, folder: str, job: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    found = JOBS[job]()
    torch.save(found, f"{folder}/found{rank}")
    distributed.barrier()
    os._exit(0)  # a process that takes its group apart may wait for itself


def together(folder: Path, job: str, size: int = 2) -> list[Any]:
    """Return what each of some processes finds; forked, since importing takes longer than the job."""
    multiprocessing.start_processes(_rank, args=(size, str(folder), job), nprocs=size, start_method="fork")
    return [torch.load(folder / f"found{rank}") for rank in range(size)]


def gradients() -> dict[str, dict[str, Tensor]]:
    found = {}
    for name in NETS:
        net, x, weight = build(name)
        split = TimeParallel(net)
        x = split.share(x).requires_grad_(name == "chain")
        y = split(x)
        (y * split.share(weight)).sum().backward()
        split.sum_gradients()
        found[name] = outcome(net, y)
        if x.grad is not None:
            found[name]["x"] = x.grad
    return found


@pytest.mark.parametrize("size", [2, 3])
def test_it_is_one_process(tmp_path: Path, size: int) -> None:
    ranks = together(tmp_path, "gradients", size)
    for name in NETS:
        net, x, weight = build(name)
        x.requires_grad_(name == "chain")
        y = net(x)
        (y * weight).sum().backward()
        want = outcome(net, y)
        if x.grad is not None:
            want["x"] = x.grad
        assert (y != 0).any()
        for key, value in want.items():
            if key in ("y", "x"):  # ranks have their slices
                got = torch.cat([rank[name][key] for rank in ranks])
                torch.testing.assert_close(got, value, rtol=1e-12, atol=1e-12)
                continue
            for rank in ranks:
                torch.testing.assert_close(rank[name][key], value, rtol=1e-10, atol=1e-12)


def rate() -> dict[str, Tensor]:
    """Scores averaged over all steps, then a loss; and a rank that reads nothing out."""
    net, x, _ = build("chain")
    split = TimeParallel(net)
    mean = split.mean_over_time(split(split.share(x)))
    nn.functional.cross_entropy(mean, torch.tensor([0, 1, 2])).backward()
    split.sum_gradients()
    found = {"mean": mean.detach(), **outcome(net, mean)}
    net, x, _ = build("chain")
    split = TimeParallel(net)
    y = split(split.share(x))
    (y[-1].sum() if split.rank == 1 else (0 * y).sum()).backward()
    split.sum_gradients()
    found |= {f"last.{name}": p.grad for name, p in net.named_parameters() if p.grad is not None}
    with torch.no_grad():
        found["eval"] = split(split.share(x))
    return found


def test_means_and_last_steps(tmp_path: Path) -> None:
    ranks = together(tmp_path, "rate")
    net, x, _ = build("chain")
    mean = net(x).mean(0)
    nn.functional.cross_entropy(mean, torch.tensor([0, 1, 2])).backward()
    for rank in ranks:
        torch.testing.assert_close(rank["mean"], mean)
        for name, p in net.named_parameters():
            torch.testing.assert_close(rank[name], p.grad)
    net.zero_grad()
    y = net(x)
    y[-1].sum().backward()
    for rank in ranks:
        for name, p in net.named_parameters():
            torch.testing.assert_close(rank[f"last.{name}"], p.grad)
    torch.testing.assert_close(torch.cat([rank["eval"] for rank in ranks]), y)


class Ahead(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        sl.stream.refuse(self, "looks ahead")
        return x


def refusals() -> dict[str, str]:
    found = {}

    def refuses(name: str, call: Callable[[], object]) -> None:
        with pytest.raises((RuntimeError, TypeError, ValueError)) as error:
            call()
        found[name] = str(error.value)

    x = torch.randn(4, 2, 5)
    refuses("norm", lambda: TimeParallel(normed().train())(x))
    refuses("mask", lambda: TimeParallel(sl.nn.SharedDropout(0.5))(x))
    refuses("ahead", lambda: TimeParallel(nn.Sequential(Ahead()))(x))
    refuses("rnn", lambda: TimeParallel(nn.Sequential(nn.GRU(5, 5))))
    refuses("stream", lambda: sl.Stream(TimeParallel(sl.LIF()))(x))
    refuses("few", lambda: TimeParallel(sl.LIF()).share(x[:1]))
    return found


def test_refusals(tmp_path: Path) -> None:
    wanted = {
        "norm": "takes its statistics for each slice", "mask": "draws a mask", "ahead": "looks ahead",
        "rnn": "GRU '0' would start anew", "stream": "inside a Stream", "few": "T = 1 steps for 2 ranks",
    }  # fmt: skip
    for found in together(tmp_path, "refusals"):
        assert found.keys() == wanted.keys()
        for name, message in wanted.items():
            assert message in found[name]


JOBS: dict[str, Callable[[], Any]] = {f.__name__: f for f in (gradients, rate, refusals)}


def test_without_a_group() -> None:
    with pytest.raises(RuntimeError, match="no process group"):
        TimeParallel(sl.LIF())


# -- the model of speed ----------------------------------------------------------------------------


def test_time_by_a_simulated_pipeline() -> None:
    """Each layer of each device begins when the layer before it, and the state from the left, are there."""

    def simulated(devices: int, compute: float, hand_over: float, layers: int) -> float:
        piece, left = compute / devices / layers, [0.0] * layers
        done = 0.0
        for device in range(devices):
            done, ends = 0.0, []
            for layer in range(layers):
                arrives = left[layer] + hand_over if device else 0.0
                done = max(done, arrives) + piece
                ends.append(done)
            left = ends
        return done

    for devices in (1, 2, 5):
        assert time_on(devices, 12.0, 0.1, 6) == pytest.approx(simulated(devices, 12.0, 0.1, 6))


def test_the_best_number_of_devices() -> None:
    assert best_devices(100.0, 1.0, 10**9) == pytest.approx(10)  # the root of compute over hand-over
    assert best_devices(100.0, 1.0, 1) == 1
    best = best_devices(100.0, 1.0, 4)
    times = {p: time_on(p, 100.0, 1.0, 4) for p in (best - 0.1, best, best + 0.1)}
    assert min(times, key=times.__getitem__) == best
    assert times[best] == pytest.approx(100 / 4 + 2 * (100 * 0.75) ** 0.5 - 1)
    assert 100 / times[best] < 4


@pytest.mark.parametrize("wrong", [(0.0, 1.0, 2), (1.0, 0.0, 2), (1.0, 1.0, 0)])
def test_wrong_numbers(wrong: tuple[float, float, int]) -> None:
    with pytest.raises(ValueError, match="positive times"):
        best_devices(*wrong)
    with pytest.raises(ValueError, match="positive times"):
        time_on(2, *wrong)
    with pytest.raises(ValueError, match="at least 1"):
        time_on(0, 1.0, 1.0, 1)
