"""A training step in a CUDA graph, and the kernels that a call launches; parts of gpu.py."""

from __future__ import annotations

from collections.abc import Callable

import torch
from harness import Run, Timing, clock_of, interleave
from torch import nn

import spikeloom as sl


class Training:
    """A small network in training on one batch, each step of the same operations."""

    def __init__(self, device: torch.device) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(
            sl.PerStep(nn.Conv2d(2, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32)),
            sl.LIF(tau=torch.full((32,), 2.0), learnable="tau"),
            sl.PerStep(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(32 * 64, 10)),
            sl.LI(),
        ).to(device)
        self.x = torch.rand(4, 16, 2, 16, 16, device=device)
        self.target = torch.arange(16, device=device) % 10
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1)
        self.loss = torch.zeros((), device=device)

    def step(self) -> None:
        for parameter in self.net.parameters():
            parameter.grad = None
        loss = nn.functional.cross_entropy(self.net(self.x).mean(0), self.target)
        loss.backward()
        self.optimizer.step()
        self.loss.copy_(loss.detach())


def captured(training: Training) -> Callable[[], None]:
    """Return a step captured in a CUDA graph; three steps are done on the way."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            training.step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        training.step()
    return graph.replay


def losses(training: Training, step: Callable[[], object], count: int) -> list[float]:
    """Return the losses of `count` steps."""
    found = []
    for _ in range(count):
        step()
        found.append(training.loss.item())
    return found


def graph(rounds: int, device: torch.device) -> dict[str, Timing]:
    """Return the times of a step and of its replay, once their losses are equal."""
    plain, replayed = Training(device), Training(device)
    replay = captured(replayed)
    for _ in range(3):  # those that the capture took to warm up
        plain.step()
    expected, found = losses(plain, plain.step, 5), losses(replayed, replay, 5)
    if not all(abs(a - b) <= 1e-3 * abs(a) for a, b in zip(expected, found, strict=True)):
        raise RuntimeError(f"a captured step gives the losses {found}, the step itself {expected}")
    clock = clock_of(device)
    return interleave({"step": Run(plain.step, clock=clock), "replay": Run(replay, clock=clock)}, rounds)


def launches(call: Callable[[], object], device: torch.device) -> int:
    """Return how many kernels a call runs on the device (0 on CPU)."""
    from torch.profiler import ProfilerActivity, profile

    call()
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with profile(activities=activities) as profiled:
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
    on_device = [event for event in profiled.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    return sum(not event.name.startswith(("Memcpy", "Memset")) for event in on_device)


def recurrent(device: torch.device, steps: int = 100, units: int = 128) -> tuple[float, float]:
    """Return the kernels that a recurrent layer launches a time step: forward, and forward with backward."""
    layer = sl.Recurrent(sl.LIF(), nn.Linear(units, units)).to(device)
    x = torch.randn(steps, 32, units, device=device, requires_grad=True)

    def both() -> None:
        layer(x).sum().backward()

    return launches(lambda: layer(x), device) / steps, launches(both, device) / steps
