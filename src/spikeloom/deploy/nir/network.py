"""A graph of layers that runs: all steps at once, or step by step where it has loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ... import stream
from ...neurons import Neuron
from ...nn import PerStep
from .neurons import NirDelay
from .units import NirError


class NirNetwork(nn.Module):
    """Layers, each of which takes the sum of others' outputs.

    It takes and gives `[T, B, ...]`. `layers` holds the modules by name, in the order in which they run.

    Arguments:
        layers: by name; each maps `[T, B, ...]` to `[T, B, ...]`.
        sources: for each layer the names of what it sums, "input" for the network's.
        ends: what adds up to the output.
        readout: "mean" or "sum" over time, behind it all; empty for each step's output.
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        sources: Mapping[str, Sequence[str]],
        ends: Sequence[str],
        readout: str = "",
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.sources = {name: tuple(given) for name, given in sources.items()}
        self.ends, self.readout = tuple(ends), readout

    def forward(self, x: Tensor) -> Tensor:
        """Return the output for x, both `[T, B, ...]`; without T where there is a readout."""
        made = {"input": x}
        for name, layer in self.layers.items():
            try:
                made[name] = layer(total(made, self.sources[name]))
            except RuntimeError as error:
                raise NirError(f"node {name!r} ({_kind(layer)}): {error}") from error
        out = total(made, self.ends)
        if not self.readout:
            return out
        return out.mean(0) if self.readout == "mean" else out.sum(0)


def total(made: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    """Return the sum of what was made under these names."""
    first, *rest = names
    out = made[first]
    for name in rest:
        if made[name].shape != out.shape:
            raise NirError(
                f"{first!r} and {name!r} lead to one node, which adds them up, but they are "
                f"{tuple(out.shape[2:])} and {tuple(made[name].shape[2:])} a sample"
            )
        out = out + made[name]
    return out


def _kind(layer: nn.Module) -> str:
    while isinstance(layer, PerStep):
        layer = layer[0]
    return type(layer).__name__


class StepByStep(nn.Module):
    """A graph with loops, run one step at a time.

    Within a loop, what a neuron says is heard a step later by the nodes that `late` names; delays break loops
    by themselves. A neuron that was not heard yet said 0.

    Arguments:
        layers: by name, in the order in which they run within a step: neurons, `NirDelay`, and layers that
            map `[B, ...]`.
        sources: for each layer the names of what it sums, "input" for the network's.
        ends: what adds up to the output.
        late: pairs (layer, source), where it hears what the source said a step ago.
        shapes: of each layer's input and output, for one sample.
    """

    sees_time = True

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        sources: Mapping[str, Sequence[str]],
        ends: Sequence[str],
        late: set[tuple[str, str]],
        shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]],
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.sources = {name: tuple(given) for name, given in sources.items()}
        self.ends, self.late, self.shapes = tuple(ends), set(late), dict(shapes)

    @property
    def neuron(self) -> Neuron | None:
        """One of its neurons, by which others see that it runs them itself."""
        return next((m for m in self.layers.values() if isinstance(m, Neuron)), None)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output for x, both `[T, B, ...]`."""
        where = stream.current()
        key = None if where is None else where.key(self)
        state: dict[str, Tensor] = {}
        if where is not None and key is not None:
            state = {name.removeprefix(key): v for name, v in where.initial.items() if name.startswith(key)}
        out = []
        for x_t in x:
            y_t, state = self._step(x_t, state)
            out.append(y_t)
        if where is not None and key is not None:
            where.store(key, state)
        return torch.stack(out)

    def _step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        made, new = {"input": x}, {}
        delays = {n: d for n, d in self.layers.items() if isinstance(d, NirDelay)}
        past = {name: self._past(name, delay, x, state) for name, delay in delays.items()}
        for name, delay in delays.items():
            if delay.breaks_loops:  # what it says now, it heard before
                made[name] = delay.pick(past[name], 1)[0]
        for name, layer in self.layers.items():
            if name in made:
                continue
            given = self._given(name, made, state)
            if isinstance(layer, NirDelay):
                made[name] = layer.pick(torch.cat([past[name], given.unsqueeze(0)]), 1)[0]
            elif isinstance(layer, Neuron):
                known = all(f"{name}/{s}" in state for s in layer.states)
                before = {s: state[f"{name}/{s}"] for s in layer.states} if known and layer.states else None
                y, after, _ = layer.run(given.unsqueeze(0), state=before)
                made[name] = y[0]
                new.update({f"{name}/{s}": value for s, value in after.items()})
            else:
                made[name] = layer(given)
        for name in delays:
            given = self._given(name, made, state)
            new[f"{name}/past"] = torch.cat([past[name], given.unsqueeze(0)])[1:]
        for _, source in self.late:
            new[f"{source}/said"] = made[source]
        return total(made, self.ends), new

    def _past(self, name: str, delay: NirDelay, x: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        found = state.get(f"{name}/past")
        return x.new_zeros(delay.longest, x.shape[0], *self.shapes[name][0]) if found is None else found

    def _given(self, name: str, made: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Tensor:
        heard = dict(made)
        for source in self.sources[name]:
            if (name, source) in self.late:
                said, like = state.get(f"{source}/said"), made["input"]
                heard[source] = (
                    like.new_zeros(like.shape[0], *self.shapes[source][1]) if said is None else said
                )
        return total(heard, self.sources[name])
