"""Which kernel runs for which neuron, and why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from . import kernels
from .neurons import Neuron
from .nn import EGRU, NormNeuron, Recurrent
from .nn.time import spiking_layers

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("layer", "neuron", "T x neurons", "dtype", "backend", "why", "B kept")
CAPTION = "B kept: bytes that autograd keeps for the backward pass, a neuron and step"


@dataclass(frozen=True)
class Row:
    """One call of one neuron.

    Attributes:
        layer: its path in the network.
        neuron: the neuron, with its parameters.
        steps: T.
        neurons: how many neurons a step has, the batch included.
        dtype: the data's.
        backend: "numba", "triton" or "eager".
        why: the reason for that backend.
        bytes_kept: what autograd keeps of this call for the backward pass, in bytes.
    """

    layer: str
    neuron: str
    steps: int
    neurons: int
    dtype: str
    backend: str
    why: str
    bytes_kept: int

    @property
    def bytes_per_neuron_step(self) -> float:
        """Bytes kept for backward, a neuron and step."""
        return self.bytes_kept / max(1, self.steps * self.neurons)


@dataclass(frozen=True)
class Explanation:
    """What `explain` found, a row a call; printed, a table."""

    rows: tuple[Row, ...]

    def table(self) -> Table:
        """Return the rows as a rich table."""
        from rich.table import Table

        table = Table(caption=CAPTION)
        for column in COLUMNS:
            table.add_column(column, overflow="fold", no_wrap=column not in ("layer", "neuron", "why"))
        for row in self.rows:
            size, kept = f"{row.steps} x {row.neurons}", f"{row.bytes_per_neuron_step:.1f}"
            table.add_row(row.layer, row.neuron, size, row.dtype, row.backend, row.why, kept)
        return table

    def __rich__(self) -> Table:
        return self.table()

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=160, no_color=True, force_terminal=False)
        with console.capture() as capture:
            console.print(self.table())
        return capture.get().rstrip()


def explain(net: nn.Module, x: Tensor) -> Explanation:
    """Tell which kernel runs for each neuron of `net` when it is called with x, and why.

    The network runs once, forward, as in eval (so that no statistics change), with gradients on, so that
    what autograd keeps can be counted; its mode is put back.

    Arguments:
        net: a network, or a neuron.
        x: an input of it.
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"explain takes a network first, not {type(net).__name__}: sl.explain(net, x)")
    rows: list[Row] = []
    watch = _Watch(rows)
    handles: list[RemovableHandle] = []
    for name, module, neuron in spiking_layers(net):
        handles += watch.over(name or "(itself)", module, neuron)
    modes = {module: module.training for module in net.modules()}
    try:
        with torch.enable_grad():
            net.eval()(x.detach().requires_grad_() if x.is_floating_point() else x)
    finally:
        watch.close()
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return Explanation(tuple(rows))


class _Watch:
    """Counts what autograd keeps between a module's pre-hook and its hook."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        self._open: list[tuple[Any, dict[int, int]]] = []

    def close(self) -> None:
        """Stop counting, where the network raised amid a call."""
        while self._open:
            self._open.pop()[0].__exit__(None, None, None)

    def over(self, name: str, module: nn.Module, neuron: Neuron) -> Iterator[RemovableHandle]:
        def before(_: nn.Module, args: tuple[Any, ...]) -> None:
            kept: dict[int, int] = {}
            hooks = _counting(kept)
            hooks.__enter__()
            self._open.append((hooks, kept))

        def after(_: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            hooks, kept = self._open.pop()
            hooks.__exit__(None, None, None)
            x, of_step = args[0], args[0][0].numel()
            if isinstance(module, (EGRU, Recurrent)):
                of_step = out[0].numel()
                choice = module.choice(x)
            elif isinstance(module, NormNeuron) and module.why_apart():
                choice = kernels.Choice("eager", f"norm and neuron run apart: {module.why_apart()}")
            elif neuron.eager:
                choice = kernels.Choice("eager", "its class says eager = True")
            else:
                choice = kernels.decide(x.device, x.dtype)
            norm = f"{type(module.norm).__name__}, " if isinstance(module, NormNeuron) else ""
            shown = repr(neuron) if neuron is module else f"{type(module).__name__}({norm}{neuron!r})"
            self.rows.append(
                Row(
                    name,
                    shown,
                    x.shape[0],
                    of_step,
                    str(x.dtype).removeprefix("torch."),
                    choice.backend,
                    choice.why,
                    sum(kept.values()),
                )
            )

        yield module.register_forward_pre_hook(before)
        yield module.register_forward_hook(after)


@contextmanager
def _counting(kept: dict[int, int]) -> Iterator[None]:
    """Note the size of each storage that autograd saves."""

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield
