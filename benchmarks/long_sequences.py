"""A training step of spiking neurons over long sequences: a loop in Python, our fused loop, and SDN.

    python benchmarks/long_sequences.py [--lengths 1024,2048,4096,8192] [--batch 4] [--channels 64]
                                        [--rounds 5] [--block] [--device cuda]

Each contender has the same input [L, B, H] and gives a spike's gradient to it: forward and backward are
timed together. "loop" is the neuron's equations in PyTorch, a step at a time, by back-propagation through
time; "fused" is sl.LIF; "SDN" is sl.nn.SDNSpiking. With --block, each stands in a whole SpikingSSM block,
behind S4D and before its mix of channels. First, the loop must give the fused loop's spikes and gradients,
and SDN's spikes must agree with both at 99 % of the steps. Published (GPU, batch 64, a whole network): the
loop takes 7.5, 14.8, 40 and 101 times as long as SDN at L = 1K, 2K, 4K, 8K.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from harness import Ratio, Run, Table, Timing, clock_of, interleave
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.models.spiking_ssm import SpikingSSMBlock

DECAY = 0.2


class Loop(nn.Module):
    """The exact neuron as a loop in Python over PyTorch's operations."""

    def __init__(self) -> None:
        super().__init__()
        self.surrogate = sl.surrogate.Triangle()

    def forward(self, x: Tensor) -> Tensor:
        v, spikes = torch.zeros_like(x[0]), []
        for x_t in x:
            h = DECAY * v + x_t
            s = self.surrogate(h - 1)
            v = (1 - s) * h
            spikes.append(s)
        return torch.stack(spikes)


def contenders(channels: int) -> dict[str, nn.Module]:
    fused = sl.LIF(tau=1 / (1 - DECAY), decay_input=False, surrogate=sl.surrogate.Triangle())
    return {"loop": Loop(), "fused": fused, "SDN": sl.nn.SDNSpiking(channels, DECAY, learnable=False)}


def check(nets: dict[str, nn.Module], channels: int, device: torch.device) -> None:
    """Raise unless all fire alike."""
    x = torch.randn(200, 2, channels, device=device, requires_grad=True)
    outs = {name: net(x) for name, net in nets.items()}
    alike = float((outs["loop"] == outs["fused"]).float().mean())
    told = float((outs["loop"] == outs["SDN"]).float().mean())
    if alike < 0.9999 or told < 0.99:  # the two exact ones round a membrane at the threshold apart
        raise SystemExit(f"fused agrees with the loop at {alike:.4%} of the steps, SDN at {told:.4%}")
    if alike == 1:
        want, got = (torch.autograd.grad(outs[name].sum(), x)[0] for name in ("loop", "fused"))
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def in_block(neuron: nn.Module, channels: int) -> nn.Module:
    torch.manual_seed(0)
    block = SpikingSSMBlock(channels)
    block.neuron = neuron  # type: ignore[assignment]
    return block


def measured(
    nets: dict[str, nn.Module], shape: tuple[int, int, int], rounds: int, device: torch.device
) -> dict[str, Timing]:
    x = torch.randn(*shape, device=device, requires_grad=True)
    weight = torch.randn(*shape, device=device)

    def step(net: nn.Module) -> Callable[[], None]:
        return lambda: (net(x) * weight).sum().backward()

    clock = clock_of(device)
    runs = {name: Run(step(net), (x, *net.parameters()), clock=clock) for name, net in nets.items()}
    return interleave(runs, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", default="1024,2048,4096,8192")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--block", action="store_true")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    device = torch.device(given.device)
    torch.manual_seed(0)
    nets = {name: net.to(device) for name, net in contenders(given.channels).items()}
    check(nets, given.channels, device)
    if given.block:
        nets = {name: in_block(net, given.channels).to(device) for name, net in nets.items()}
    what = "a SpikingSSM block" if given.block else "the neuron alone"
    table = Table(
        f"A training step over long sequences: {what}, [L, {given.batch}, {given.channels}], {device}, "
        f"{torch.get_num_threads()} threads",
        ("L", "loop (ms)", "fused (ms)", "SDN (ms)", "loop / SDN", "loop / fused", "fused / SDN"),
    )
    for length in map(int, given.lengths.split(",")):
        took = measured(nets, (length, given.batch, given.channels), given.rounds, device)
        ratios = (("loop", "SDN"), ("loop", "fused"), ("fused", "SDN"))
        table.add(
            length,
            *(took[name].middle for name in ("loop", "fused", "SDN")),
            *(str(Ratio.of(took[slow], took[fast])) for slow, fast in ratios),
        )
    table.show()


if __name__ == "__main__":
    main()
