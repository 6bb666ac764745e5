"""Online learning with traces before the synapse (OTTT), and with nothing but the present step (SLTT)."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...names import unknown
from ...neurons import IF, LI, LIF, PLIF
from ...nn import Recurrent
from ...nn.time import spiking_layers
from .rule import Objective
from .synapses import call, find_synapses, forwards
from .truncated import Pass, TruncatedBPTT, whole


class SLTT(TruncatedBPTT):
    r"""Spatial learning through time (Meng et al. 2023, ICCV, arXiv:2302.14311).

    Each step is learned from by itself: the gradient goes back through the layers at step t, through the
    surrogates, and through no state. That is BPTT with every $\partial v_t / \partial v_{t-1}$ detached, of
    the leak and of the reset alike, for any neuron and any reset:

    $$\nabla_{W^l} L = \sum_t g^l_t\, (s^{l-1}_t)^\top, \qquad
      g^l_t = \Big(\frac{\partial L_t}{\partial I^l_t}\Big)_{v_{t-1}\ \text{constant}}, \qquad
      L = \frac1T \sum_t \ell(O_t, y)$$

    with $I^l_t$ the current into layer l. The memory is that of one step, whatever T is.

    Arguments:
        net: a network that a Stream can run.
        steps: K of SLTT-K, how many steps of a sequence are learned from, drawn anew for each batch; the
            others run forward only. Their gradients count T / K times, so that their expectation is that
            of all steps. None is all of them, as is K >= T.
        update: "sequence" (theirs) or "step", an update of the weights after each step that is learned from.

    Raises:
        ValueError: as `TruncatedBPTT`; steps that are no whole number of 1 or more.
    """

    name = "sltt"

    def __init__(self, net: nn.Module, steps: int | None = None, update: str = "sequence") -> None:
        if steps is not None:
            whole("steps", steps)
        super().__init__(net, chunk=1, update=_in_chunks(update))
        self.steps = steps

    def _weights(self, chunks: int) -> list[float]:
        if self.steps is None or self.steps >= chunks:
            return [1.0] * chunks
        chosen = set(torch.randperm(chunks)[: self.steps].tolist())
        return [chunks / self.steps if i in chosen else 0.0 for i in range(chunks)]


class OTTT(TruncatedBPTT):
    r"""Online training through time (Xiao et al. 2022, NeurIPS, arXiv:2210.04195).

    As SLTT, but each synapse remembers its input in a trace that leaks as the membrane behind it does:

    $$\nabla_{W^l} L = \sum_t g^l_t\, (a^{l-1}_t)^\top, \qquad a_t = \lambda\, a_{t-1} + s_t, \qquad
      \lambda = 1 - \frac1\tau$$

    and a bias has the trace of a constant 1; g and L are those of `SLTT`. A synapse with no membrane behind
    it, as a linear readout, has no trace ($\lambda = 0$). The memory is that of one step and a trace a
    synapse.

    Why: with a soft reset $h_t = \lambda (h_{t-1} - v_\mathrm{th} s_{t-1}) + c\,I_t$. Where the gradient does
    not pass through the reset's $s_{t-1}$, $\partial h_t / \partial I_r = c \lambda^{t-r}$, the same number
    for all neurons of the layer, and the sum over r moves to the synapse's input. So:

    * in the last layer with a membrane, and in a readout behind it that has none, this is the gradient of
      BPTT, exactly, given `detach_reset=True` and a loss that is a mean over steps (not one of their mean);
    * in each layer before that, it is BPTT with the states of all later layers detached between steps.

    A hard reset would end each neuron's own trace at its spike, which no trace before the synapse can do.
    Linear layers and convolutions have traces; all else between two neurons should be linear and the same at
    each step (average pooling, weights that are standardised), and is otherwise taken as it is at step t. The
    parameters of norms and neurons get the gradient of the present step.

    Arguments:
        net: IF, LIF, PLIF or LI neurons (or `sl.NormNeuron` with one), with linear layers and convolutions,
            in any graph in which all neurons that a synapse reaches share one leak.
        update: "sequence", one update from the sum of all steps (OTTT_A), or "step", one each (OTTT_O).

    Raises:
        ValueError: another neuron; a hard reset; a leak that differs from neuron to neuron; `sl.Recurrent`;
            weights other than those of nn.Linear and nn.Conv1d to 3d; an unknown update.
    """

    name = "ottt"

    def __init__(self, net: nn.Module, update: str = "sequence") -> None:
        super().__init__(net, chunk=1, update=_in_chunks(update))
        find_synapses(net, self.name)
        _leaks(net, self.name)

    @contextmanager
    def _passing(self, net: nn.Module, y: Tensor, objective: Objective) -> Iterator[Pass]:
        traces = _Traces(find_synapses(net, self.name), _leaks(net, self.name), self.name)
        with super()._passing(net, y, objective) as run, traces.kept():

            def step(part: Tensor) -> tuple[Tensor, list[Tensor]]:
                result = run(part)
                traces.next_step()
                return result

            yield step


class _Traces:
    """The traces of one sequence: what each synapse was given, leaking as the membrane behind it.

    Which membrane that is, the graph of the first step tells: a synapse is before a neuron if its output
    comes to the neuron's input without passing through another.
    """

    def __init__(
        self, synapses: Mapping[str, nn.Module], leaks: Mapping[nn.Module, tuple[str, float]], rule: str
    ) -> None:
        self.synapses, self.leaks, self.rule = synapses, leaks, rule
        self.traces: dict[tuple[str, int], tuple[Tensor, float]] = {}
        self.decays: dict[str, float] | None = None
        self.calls: Counter[str] = Counter()
        self.nodes: dict[Any, str] = {}
        self.fed: list[tuple[nn.Module, Any]] = []
        self.ends: set[Any] = set()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Within this, the network's synapses keep traces."""
        handles = [layer.register_forward_hook(self._note) for layer in self.leaks]
        try:
            with forwards(
                {layer: functools.partial(self._call, name, layer) for name, layer in self.synapses.items()}
            ):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _call(self, name: str, layer: nn.Module, x: Tensor) -> Tensor:
        key = (name, self.calls[name])
        self.calls[name] += 1
        decay = 1.0 if self.decays is None else self.decays.get(name, 0.0)
        trace, count = x.detach(), 1.0
        if key in self.traces and decay:
            past, n = self.traces[key]
            trace, count = trace + decay * past, 1 + decay * n
        if decay:
            self.traces[key] = trace, count
        y = call(layer, x, trace=trace, count=count)
        if self.decays is None and y.grad_fn is not None:
            self.nodes[y.grad_fn] = name
        return y

    def _note(self, layer: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        if self.decays is None:
            self.fed.append((layer, inputs[0].grad_fn))
            self.ends.add(out.grad_fn)

    def next_step(self) -> None:
        """End a step; the first one says which membrane is behind each synapse."""
        self.calls.clear()
        if self.decays is not None:
            return
        found: dict[str, tuple[str, float]] = {}
        for layer, node in self.fed:
            neuron, leak = self.leaks[layer]
            for synapse in _sources(node, self.nodes, self.ends):
                other, known = found.setdefault(synapse, (neuron, leak))
                if known != leak:
                    raise ValueError(
                        f"{self.rule}: the synapse {synapse!r} is before the neurons {other!r}, of leak "
                        f"{known:g}, and {neuron!r}, of leak {leak:g}, but its trace has one; give them one "
                        "tau, or use the rule 'sltt' or 'tbptt'"
                    )
        self.decays = {synapse: leak for synapse, (_, leak) in found.items()}
        self.traces = {key: trace for key, trace in self.traces.items() if self.decays.get(key[0])}
        # the graph of the step ends here
        self.nodes, self.fed, self.ends = {}, [], set()


def _sources(node: Any, nodes: Mapping[Any, str], ends: set[Any]) -> set[str]:
    """Return the names of the nodes that a node of the graph comes from, short of the ends."""
    found, seen, todo = set(), set(), [node]
    while todo:
        node = todo.pop()
        if node is None or node in seen or node in ends:
            continue
        seen.add(node)
        if node in nodes:
            found.add(nodes[node])
        todo.extend(before for before, _ in node.next_functions)
    return found


def _leaks(net: nn.Module, rule: str) -> dict[nn.Module, tuple[str, float]]:
    """Return the path and the leak of each layer with a membrane: what is left of it after a step.

    Raises:
        ValueError: a neuron whose membrane leaks otherwise than by one number.
    """
    found: dict[nn.Module, tuple[str, float]] = {}
    for name, layer, neuron in spiking_layers(net):
        what = f"{type(neuron).__name__} {name!r}"
        if isinstance(layer, Recurrent):
            raise ValueError(
                f"{rule} has no trace for the synapse within Recurrent {name!r}; use the rule 'sltt' "
                "or 'tbptt'"
            )
        found[layer] = name, _leak(neuron, what, rule)
        if getattr(neuron, "reset", "soft") != "soft":
            raise ValueError(
                f"{rule} needs a soft reset, but {what} has a hard one, which ends a membrane's past, and no "
                "trace before the synapse does; give it reset='soft', or use the rule 'sltt' or 'tbptt'"
            )
    if not found:
        raise ValueError(
            f"{rule} is for spiking networks, but {type(net).__name__} has no neuron; add one, as "
            "sl.LIF(reset='soft'), or use the rule 'bptt'"
        )
    return found


def _leak(neuron: Any, what: str, rule: str) -> float:
    step = type(neuron).step
    if step not in (IF.step, LIF.step, PLIF.step, LI.step):
        raise ValueError(
            f"{rule} knows the leak of IF, LIF, PLIF and LI, but not that of {what}; use one of them, or the "
            "rule 'sltt' or 'tbptt'"
        )
    if step is IF.step:
        return 1.0
    given = neuron.w if step is PLIF.step else neuron.tau
    value = torch.as_tensor(given, dtype=torch.float64).detach()
    rate = value.sigmoid() if step is PLIF.step else 1 / value
    if rate.min() != rate.max():
        raise ValueError(
            f"{rule} needs one leak a layer, but {what} has {rate.numel()} time constants; give it one tau, "
            "or use the rule 'sltt' or 'tbptt'"
        )
    return 1.0 - float(rate.flatten()[0])


def _in_chunks(update: str) -> str:
    """Return the truncated rule's word for an update, a step being a chunk of one."""
    if update not in ("sequence", "step"):
        raise unknown("update", str(update), ("sequence", "step"))
    return "chunk" if update == "step" else update
