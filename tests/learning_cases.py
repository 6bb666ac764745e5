"""What the tests of learning rules share: gradients by naive loops, a task, and the least of loops."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Collection
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

import spikeloom as sl
from spikeloom import training
from spikeloom.training.learning import Hands, Outcome, Rule, make_rule

Gradients = dict[str, Tensor]
PLAIN = Hands(lambda loss: loss.backward(), lambda: None)
tet = functools.partial(training.tet, weight=0.0)  # a mean over steps, as the online rules have it


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gradients(net: nn.Module) -> Gradients:
    """Return the gradients in a network, and take them off."""
    found = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    return found


def learned(
    name: str, net: nn.Module, x: Tensor, y: Tensor, objective: Callable[..., Tensor] = tet, **options: Any
) -> tuple[Gradients, Outcome]:
    """Return what a rule leaves in a network's parameters for one batch."""
    outcome = make_rule(name, net, **options)(net, x, y, objective, PLAIN)
    return gradients(net), outcome


def assert_same(found: Gradients, expected: Gradients, tolerance: float = 1e-10) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert value.abs().max() > 1e-6, f"{name} has no gradient to compare"
        torch.testing.assert_close(found[name], value, rtol=tolerance, atol=tolerance, msg=name)


def naive(
    net: nn.Sequential, x: Tensor, cut: Collection[int] = (), apart: bool = False, reset: bool = True
) -> tuple[Tensor, dict[int, Tensor]]:
    """Run PerStep and LIF modules step by step, their equations written out; return outputs and spikes.

    No gradient passes through the state of the neurons in `cut` (by their place in the network), through
    the reset unless `reset`, and from a layer to the next if `apart`.
    """
    states: dict[int, Tensor] = {}
    spikes: dict[int, list[Tensor]] = {i: [] for i, m in enumerate(net) if isinstance(m, sl.LIF)}
    outputs = []
    for h in x:
        for i, module in enumerate(net):
            if isinstance(module, sl.PerStep):
                for layer in module:
                    h = layer(h)
                continue
            v = states.get(i, torch.zeros_like(h))
            u = v + (h - v) / module.tau
            h = module.surrogate(u - 1.0)
            s = h if reset else h.detach()
            v = u - s if module.reset == "soft" else (1 - s) * u
            states[i] = v.detach() if i in cut else v
            spikes[i].append(h)
            h = h.detach() if apart else h
        outputs.append(h)
    return torch.stack(outputs), {i: torch.stack(some) for i, some in spikes.items()}


def of(loss: Tensor, net: nn.Module) -> Gradients:
    """Return the gradients of a loss, by autograd."""
    loss.backward()
    return gradients(net)


class Live:
    """Within this, measures the most bytes that autograd ever keeps for backward."""

    def __init__(self) -> None:
        self.now = self.peak = 0
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda kept: kept[0])

    def _pack(self, tensor: Tensor) -> Any:
        size = tensor.numel() * tensor.element_size()
        kept = _Kept([tensor])
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(kept, self._free, size)
        return kept

    def _free(self, size: int) -> None:
        self.now -= size

    def __enter__(self) -> Live:
        self.hooks.__enter__()
        return self

    def __exit__(self, *args: object) -> None:
        self.hooks.__exit__(*args)


class _Kept(list[Tensor]):
    """A list that a weak reference may look at."""


@functools.cache
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return 1,437 scans and their labels to learn from, and 360 to be asked about; [N, 8, 8] in [0, 1]."""
    data = load_digits()
    x, y = torch.tensor(data.data).reshape(-1, 8, 8).float() / 16, torch.tensor(data.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    return x[:1437], y[:1437], x[1437:], y[1437:]


def shown(x: Tensor) -> Tensor:
    """Return images `[B, 8, 8]` shown for 4 steps, `[4, B, 64]`."""
    return x.flatten(1).expand(4, -1, -1)


def in_rows(x: Tensor) -> Tensor:
    """Return images `[B, 8, 8]` row after row, `[8, B, 8]`, which only a network with memory can tell."""
    return x.transpose(0, 1)


def accuracy(net: nn.Module, code: Callable[[Tensor], Tensor] = shown) -> float:
    _, _, x, y = digits()
    with torch.no_grad():
        return float((net(code(x)).mean(0).argmax(1) == y).double().mean())


def teach(
    rule: Rule, net: nn.Module, epochs: int, lr: float = 5e-3, code: Callable[[Tensor], Tensor] = shown
) -> float:
    """Train a network by a rule as a training loop does; return its accuracy on the scans held back."""
    x, y, _, _ = digits()
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr)

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad()

    hands = Hands(lambda loss: loss.backward(), update)
    for _ in range(epochs):
        for some in torch.randperm(len(x)).split(96):
            rule(net, code(x[some]), y[some], functional_loss, hands)
            update()
    return accuracy(net, code)


def functional_loss(outputs: Tensor, y: Tensor) -> Tensor:
    """Return the cross-entropy of the mean over time."""
    return functional.cross_entropy(outputs.mean(0), y)
