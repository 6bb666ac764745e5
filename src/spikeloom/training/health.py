"""Whether a network can learn, seen while it does: how its neurons fire, its gradients, by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..neurons import Neuron
from ..nn.time import spiking_layers
from .advice import Advice


@dataclass
class Spikes:
    """What a layer's neurons did, for outputs of one shape.

    Attributes:
        counts: the steps with a spike, by neuron, int32.
        steps: the steps seen, over all samples.
        graded: whether an output was no whole number, as a membrane is.
    """

    counts: Tensor
    steps: int
    graded: Tensor


class Health:
    r"""Watch a network on every n-th batch of an epoch.

        health = Health(net)
        for i, (x, y) in enumerate(batches):
            with health.batch(i):
                loss = criterion(net(x), y)
                loss.backward()
            health.gradients()  # before they are clipped and applied
            optimizer.step()
        report = health.report()
        health.next_epoch()

    A spike is a nonzero output. A neuron is one place in `[C, H, W]`, whatever the sample. It is silent if it
    never fired in the epoch's watched batches, saturated if it fired at each step of each of their samples.
    Nothing waits for a GPU but `report` and `firing_rate`. In a run on several devices a process sees its own
    samples. What is inside of code that was compiled before is not seen.

    Arguments:
        net: the network; a wrapper of Fabric, DistributedDataParallel or torch.compile is looked through, so
            that names are those of the network itself.
        every: watch the batches 0, n, 2n, ... of an epoch; a whole number >= 1.

    Raises:
        TypeError: a net that is no module.
        ValueError: another `every`.
    """

    def __init__(self, net: nn.Module, every: int = 8) -> None:
        if not isinstance(net, nn.Module):
            raise TypeError(f"Health takes a torch.nn.Module, not {type(net).__name__}")
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise ValueError(f"Health: every = {every!r}; a whole number >= 1 is needed, as 8")
        self._net, self._every = bare(net), every
        self._parameters: dict[str, list[nn.Parameter]] = {}
        for name, parameter in self._net.named_parameters():
            self._parameters.setdefault(_shown(name.rpartition(".")[0]), []).append(parameter)
        self._advice = Advice()
        self.next_epoch()

    def next_epoch(self) -> None:
        """Forget the epoch's figures, but not which warnings were given."""
        self._spikes: dict[tuple[str, tuple[int, ...]], Spikes] = {}
        # by layer, and of all of them: the sum of finite norms, and how many these were
        self._norms = torch.zeros(2, len(self._parameters) + 1)
        self._watched = self._measured = 0
        self._due = False
        self._rate = (0, 0.0)  # after how many watched batches it was counted, and what it was

    @contextmanager
    def batch(self, number: int) -> Iterator[None]:
        """Watch the spikes of a batch, counted from 0 in its epoch, if it is one of those to be watched."""
        if number % self._every:
            yield
            return
        self._watched += 1
        self._due = True
        hooks = [
            module.register_forward_hook(self._counter(_shown(name), neuron))
            for name, module, neuron in spiking_layers(self._net)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _counter(self, name: str, neuron: Neuron) -> Callable[[nn.Module, Any, Tensor], None]:
        binary = neuron._plan is not None and neuron._plan.fires

        def count(module: nn.Module, inputs: Any, output: Tensor) -> None:
            # a forward pass within the backward one is a recomputation: its spikes have been counted
            if output.numel() == 0 or torch._C._current_graph_task_id() != -1:
                return
            output = output.detach()
            key = name, tuple(output.shape[2:])
            counts, steps = spike_counts(output, binary), output.shape[0] * output.shape[1]
            seen = self._spikes.get(key)
            if seen is None:
                graded = output.new_zeros((), dtype=torch.bool)
                if not binary:
                    graded = (output != output.round()).any()
                self._spikes[key] = Spikes(counts, steps, graded)
            else:
                seen.counts = seen.counts.to(counts.device) + counts
                seen.steps += steps

        return count

    @torch.no_grad()
    def gradients(self, scale: float = 1.0) -> None:
        r"""Measure the gradients of a watched batch, $\sqrt{\sum g^2}$ by layer, once; else do nothing.

        A layer is the module that owns the parameters. With sharded parameters all processes must call it.

        Arguments:
            scale: what the loss was multiplied by, where half precision needed that and it is not undone yet.
        """
        if not self._due:
            return
        self._due = False
        owners, grads = [], []
        for i, parameters in enumerate(self._parameters.values()):
            for parameter in parameters:
                if parameter.grad is not None:
                    owners.append(i)
                    grads.append(parameter.grad)
        if not self._parameters:
            return
        squares = torch.zeros(len(self._parameters) + 1)
        if grads:
            wide = [g if g.dtype == torch.float64 else g.float() for g in grads]  # fp16 would overflow
            norms = [_whole(norm) for norm in torch._foreach_norm(wide, 2)]
            found = torch.stack([norm.to(norms[0].device, torch.float32) for norm in norms]).square()
            squares = squares.to(found.device)
            squares.index_add_(0, torch.tensor(owners, device=found.device), found)
            squares[-1] = found.sum()
        finite = squares.isfinite()
        self._norms = self._norms.to(squares.device)
        self._norms += torch.stack([torch.where(finite, squares.sqrt() / scale, 0.0), finite.float()])
        self._measured += 1

    def report(self) -> dict[str, Any]:
        """Return the epoch's figures, and warnings that were not given before.

        Returns:
            `firing_rate`, spikes per neuron and step over all layers, 0 without neurons; `layers`, by name:
            `firing_rate`, and the shares `silent` and `saturated` of the neurons; `grad_norm`, over all
            parameters, and `grad_norms` by layer that learns, means over the watched batches where they were
            finite (missing where they never were); `warnings`, each with its remedy, once a layer and kind.
        """
        layers, graded, rate = self._firing()
        norms, total, broken = self._gradient_norms()
        names = [_shown(name) for name, _, _ in spiking_layers(self._net)] if self._watched else []
        unseen = [name for name in names if name not in layers]
        return {
            "firing_rate": rate,
            "layers": layers,
            **({} if total is None else {"grad_norm": total}),
            "grad_norms": norms,
            "warnings": [
                *self._advice.on_firing(layers, graded, unseen, self._watched),
                *self._advice.on_gradients(norms, broken, self._measured),
            ],
        }

    def firing_rate(self) -> float:
        """Return the rate over all layers in the epoch so far, for a display; it is counted once a batch."""
        if self._rate[0] != self._watched:
            spikes = sum(int(seen.counts.sum()) for seen in self._spikes.values())
            chances = sum(seen.counts.numel() * seen.steps for seen in self._spikes.values())
            self._rate = self._watched, spikes / max(chances, 1)
        return self._rate[1]

    def _firing(self) -> tuple[dict[str, dict[str, float]], set[str], float]:
        """Return the figures by layer, which layers are graded, and the rate over all."""
        found: dict[str, list[float]] = {}
        for (name, _), seen in self._spikes.items():
            counts, sums = seen.counts, found.setdefault(name, [0.0] * 6)
            figures = (counts.sum(), (counts == 0).sum(), (counts == seen.steps).sum())
            spikes, silent, saturated = torch.stack(figures).tolist()
            size = counts.numel()
            more = (spikes, silent, saturated, bool(seen.graded), size, size * seen.steps)
            found[name] = [a + b for a, b in zip(sums, more, strict=True)]
        layers = {
            name: {"firing_rate": spikes / chances, "silent": silent / size, "saturated": saturated / size}
            for name, (spikes, silent, saturated, _, size, chances) in found.items()
        }
        chances = sum(figures[5] for figures in found.values())
        rate = sum(figures[0] for figures in found.values()) / chances if chances else 0.0
        return layers, {name for name, figures in found.items() if figures[3]}, rate

    def _gradient_norms(self) -> tuple[dict[str, float], float | None, dict[str, int]]:
        """Return the norms by layer that learns, that of all, and how many were not finite by layer."""
        sums, finite = self._norms.tolist()
        norms, broken = {}, {}
        for name, total, count in zip(self._parameters, sums, finite, strict=False):
            if self._measured and any(p.requires_grad for p in self._parameters[name]):
                broken[name] = self._measured - int(count)
                if count:
                    norms[name] = total / count
        return norms, sums[-1] / finite[-1] if finite[-1] else None, broken

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what a checkpoint must hold to go on within the epoch: tensors, and plain values."""
        tensors = {"norms": self._norms}
        for i, seen in enumerate(self._spikes.values()):
            tensors |= {f"counts.{i}": seen.counts, f"graded.{i}": seen.graded}
        keys = [[name, list(shape), seen.steps] for (name, shape), seen in self._spikes.items()]
        counts = {"watched": self._watched, "measured": self._measured}
        return tensors, {"layers": keys, **counts, "told": sorted(map(list, self._advice.told))}

    def load_state(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.next_epoch()
        if tensors["norms"].shape != self._norms.shape:
            raise ValueError(
                f"Health: the state is of {tensors['norms'].shape[1] - 1} layers with parameters, but the "
                f"network has {len(self._parameters)}; load it for the network that it was saved with"
            )
        self._norms = tensors["norms"]
        self._watched, self._measured = values["watched"], values["measured"]
        self._advice.told = {(kind, name) for kind, name in values["told"]}
        for i, (name, shape, steps) in enumerate(values["layers"]):
            self._spikes[name, tuple(shape)] = Spikes(tensors[f"counts.{i}"], steps, tensors[f"graded.{i}"])


def bare(net: Any) -> nn.Module:
    """Return the network inside of wrappers of Fabric, DistributedDataParallel and torch.compile."""
    while True:
        if isinstance(net, nn.parallel.DistributedDataParallel) or type(net).__name__ == "_FabricModule":
            net = net.module
        elif isinstance(net, torch._dynamo.OptimizedModule):
            net = net._orig_mod
        else:
            return net


def spike_counts(output: Tensor, binary: bool) -> Tensor:
    """Return how often each neuron fired, `[T, B, ...]` to `[...]`, int32.

    Spikes in float32 take a product with ones in the memory's order, which needs neither mask nor integers:
    10 times faster than `torch.count_nonzero` on CPU.
    """
    order = sorted(range(2, output.ndim), key=output.stride, reverse=True)
    shape = [output.shape[axis] for axis in order]
    rows = output.permute(0, 1, *order).reshape(-1, math.prod(shape))
    if binary and rows.dtype == torch.float32 and len(rows) < 2**24:  # so far float32 counts exactly
        with torch.autocast(rows.device.type, enabled=False):
            counts = torch.mv(rows.t(), rows.new_ones(len(rows))).to(torch.int32)
    else:
        counts = (rows != 0).sum(0, dtype=torch.int32)
    return counts.reshape(shape).permute(sorted(range(len(order)), key=order.__getitem__))


def _shown(path: str) -> str:
    return path or "network"


def _whole(norm: Tensor) -> Tensor:
    """Return the norm over all shards of a sharded tensor; of another, the norm as it is."""
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm
