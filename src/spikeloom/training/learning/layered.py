"""A network of linear layers and neurons, in parts: what e-prop trains it by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from torch import nn

from ...neurons import LI, Neuron
from ...nn import PerStep, Recurrent
from ...nn.time import find_time


@dataclass(frozen=True)
class Hidden:
    """A layer that e-prop trains: `neuron(linear(x) + recurrent(last output))`."""

    linear: nn.Linear
    module: Neuron | Recurrent

    @property
    def neuron(self) -> Neuron:
        """The neuron itself."""
        return self.module.neuron if isinstance(self.module, Recurrent) else self.module

    @property
    def recurrent(self) -> nn.Linear | None:
        """The synapse that the output comes back through."""
        return cast(nn.Linear, self.module.synapse) if isinstance(self.module, Recurrent) else None


@dataclass(frozen=True)
class Parts:
    """A network as e-prop sees it: what stands before its first weights, layers, a readout."""

    front: tuple[nn.Module, ...]
    layers: tuple[Hidden, ...]
    readout: nn.Linear
    filter: LI | None


def find_parts(net: nn.Module) -> Parts:
    """Return a network in the parts that e-prop trains it by.

    Raises:
        ValueError: a network of another form.
    """
    modules = list(_flat(net))
    front: list[nn.Module] = []
    while (
        modules
        and not _has_weights(modules[0])
        and (isinstance(modules[0], PerStep) or find_time(modules[0]) is None)
    ):
        front.append(modules.pop(0))
    layers: list[Hidden] = []
    while len(modules) > 2 and isinstance(modules[0], nn.Linear):
        linear, module = modules[:2]
        if not isinstance(module, (Neuron, Recurrent)):
            break
        if isinstance(module, Recurrent) and type(module.synapse) is not nn.Linear:
            break
        layers.append(Hidden(cast(nn.Linear, linear), module))
        modules = modules[2:]
    last = modules[1] if len(modules) == 2 else None
    fixed = isinstance(last, LI) and isinstance(last.tau, (int, float))
    if not layers or not modules or type(modules[0]) is not nn.Linear or not (len(modules) == 1 or fixed):
        at = f"; {type(modules[0]).__name__} is met where it is not known" if modules else ""
        raise ValueError(
            f"e-prop cannot train this {type(net).__name__}{at}. It trains nn.Sequential(<no weights> ..., "
            "nn.Linear, neuron or Recurrent(neuron, nn.Linear), ..., nn.Linear, maybe sl.LI(tau) with a "
            "fixed number tau), each nn.Linear bare or in sl.PerStep; use the rule 'bptt' for others"
        )
    return Parts(tuple(front), tuple(layers), modules[0], last if isinstance(last, LI) else None)


def _flat(net: nn.Module) -> Iterator[nn.Module]:
    """Go through the modules that run one after the other."""
    if isinstance(net, (nn.Sequential, PerStep)):
        for module in net:
            for part in _flat(module):
                yield PerStep(part) if isinstance(net, PerStep) and not _has_weights(part) else part
    elif not isinstance(net, nn.Identity):
        yield net


def _has_weights(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None or isinstance(module, (Neuron, Recurrent))
