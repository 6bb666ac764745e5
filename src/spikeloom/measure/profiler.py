"""Operations and spikes, counted while a network runs."""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import CodeType
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..nn import Recurrent
from ..uncompiled import uncompiled
from . import flow
from .conventions import Convention, find_convention
from .elementwise import Tally, find_places
from .flow import Flow, Weights, plain_attention
from .products import Product, find_product
from .report import Profile
from .row import Elementwise, Row
from .states import State, state_of
from .tallies import Call, Layer, Root, Spikes, owned_parameters
from .updates import updates_of
from .watched import by_hand, fed, is_spiking, neuron_of, watched

_CALL = nn.Module._call_impl.__code__.co_filename  # where a module's call begins
_TORCH, _LAYERS = (os.path.dirname(cast(str, package.__file__)) + os.sep for package in (torch, nn))
_Site = tuple[tuple[CodeType, int], ...]


class Profiler:
    """Count what flows through a network while the `with` lasts, over any number of calls of it.

        with sl.measure.Profiler(net) as profiler, torch.inference_mode():
            for x, label in loader:
                right += (net(x).argmax(1) == label).sum()
        print(profiler.profile())

    It watches: the network's mode, random numbers and statistics are the caller's affair. What runs in a
    backward pass, in another thread, or outside of a call of a module of the network is not counted. Scaled
    dot-product attention runs as its plain equation meanwhile, equal to rounding, and compiled parts run
    uncompiled. Counts are kept, activations are not. Entered again, it goes on counting.

    Arguments:
        net: a network that maps `[T, B, ...]`, or static `[B, ...]`, to anything.
        convention: how operations are priced; a name in `CONVENTIONS`, or a `Convention`.

    Raises:
        TypeError: not a module.
        RuntimeError: entered within itself.
        ValueError: in a call, an operation of torch's own whose products cannot be seen, with a remedy; in
            `profile`, when nothing ran.
    """

    def __init__(self, net: nn.Module, convention: str | Convention = "counted") -> None:
        if not isinstance(net, nn.Module):
            raise TypeError(f"Profiler takes a network, not {type(net).__name__}: sl.measure.Profiler(net)")
        self._net = net
        self._convention = find_convention(convention)
        self._layers: dict[tuple[Any, ...], Layer] = {}
        self._neurons: dict[str, Spikes] = {}
        self._places: dict[tuple[str, str], Tally] = {}
        self._states: dict[nn.Module, dict[int, State]] = {}
        self._transformed: dict[str, None] = {}  # where Fourier transforms run, in order
        self._calls: list[Call] = []
        self._ran: set[nn.Module] = set()
        self._root = Root()
        self._site: _Site = ()  # where the last operation came from
        self._nth = 0  # and how many products came from there, one after the other
        self._watching: ExitStack | None = None
        self._counting = False
        self._thread = 0

    def __enter__(self) -> Profiler:
        if self._watching is not None:
            raise RuntimeError("this Profiler is entered already; enter it once, around all calls")
        self._thread = threading.get_ident()
        self._calls.clear()
        self._counting = False
        torch.clear_autocast_cache()  # weights cast before would not be known as weights
        with ExitStack() as watching:
            for name, module in watched(self._net):
                before = module.register_forward_pre_hook(self._before(name), with_kwargs=True)
                watching.callback(before.remove)
                after = module.register_forward_hook(self._after, always_call=True)
                watching.callback(after.remove)
            watching.enter_context(uncompiled("a Profiler"))
            watching.enter_context(plain_attention())
            watching.enter_context(Flow(self._met, Weights(self._net)))
            self._watching = watching.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.close()

    def profile(self, samples: int | None = None) -> Profile:
        """Return what was counted so far.

        Arguments:
            samples: how many samples that were; None to take it from the batches, which a network that is
                streamed in chunks, or called part by part, does not tell.

        Raises:
            ValueError: nothing ran; a number of samples that is missing or below 1.
        """
        if not self._layers:
            raise ValueError(
                f"no layer of {type(self._net).__name__} ran; call the network within the with: "
                "a network with at least one neuron or layer with weights is needed"
            )
        if samples is None:
            samples = self._root.samples
        if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
            raise ValueError(
                f"samples = {samples!r}, where at least 1 is needed; call the network itself within the "
                "with, not its parts, or say how many samples ran: profiler.profile(samples=...)"
            )
        steps = self._root.steps / samples if self._root.steps else 1.0
        owned = owned_parameters(self._net, self._ran, [layer.module for layer in self._layers.values()])
        states, named = dict(self._states), Counter[str]()
        rows = []
        for layer in self._layers.values():
            named[layer.path] += 1
            path = layer.path if named[layer.path] == 1 else f"{layer.path} ({named[layer.path]})"
            evaluations = layer.passes(samples, steps, self._root.timed)
            spikes = self._neurons.get(layer.path) if layer.spikes else None
            fired, chances, silent, saturated = (0, 0, None, None) if spikes is None else spikes.figures()
            rows.append(
                Row(
                    path,
                    layer.kind,
                    _one_sample(layer.output, self._root.first),
                    owned.pop(layer.module, 0),
                    samples,
                    tuple(one.kind for one in layer.operands),
                    tuple(one.nonzero / max(1, one.elements) for one in layer.operands),
                    layer.magnitude / max(1, layer.operands[0].elements) if layer.operands else 0.0,
                    layer.dense,
                    layer.effective,
                    layer.levels,
                    evaluations,
                    fired,
                    chances,
                    silent,
                    saturated,
                    ranges=tuple((one.low, one.high) for one in layer.operands),
                    elements=tuple(one.elements for one in layer.operands),
                    weights=layer.weights,
                    results=layer.results,
                    state=self._kept(states.pop(layer.module, {})),
                    updates=None if spikes is None else updates_of(neuron_of(layer.module)),
                )
            )
        total = sum(p.numel() for p in self._net.parameters())
        places = tuple(
            Elementwise(path, kind, tally.kinds, samples, tally.dense, tally.effective)
            for (path, kind), tally in self._places.items()
        )
        return Profile(tuple(rows), samples, steps, total, self._convention, places, tuple(self._transformed))

    def _kept(self, calls: Mapping[int, State]) -> State | None:
        """Return the states of a module's calls together: each call has its own."""
        if not calls:
            return None
        every = calls.values()
        return State(*(sum(getattr(one, name) for one in every) for name in ("values", "bytes", "moved")))

    # -- calls of modules -------------------------------------------------------------------------

    def _before(self, name: str) -> Callable[..., None]:
        def before(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            if threading.get_ident() != self._thread:
                return
            given = next((a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), None)
            call = Call(name, module, given, by_hand(module))
            if call.by_hand:
                call.fed = fed(cast(Recurrent, module))
            if not self._calls:
                self._root.begin()
            self._calls.append(call)
            self._ran.add(module)

        return before

    def _after(self, module: nn.Module, args: Any, out: Any) -> None:
        if threading.get_ident() != self._thread or not self._calls:
            return
        call = self._calls.pop()
        # a call that raised has no output
        if torch._C._current_graph_task_id() == -1 and out is not None:
            if isinstance(out, Tensor):
                self._counting = True  # what counting computes is not the network's
                self._finish(call, module, out)
                self._counting = False
            if not self._calls and module is self._net:
                self._root.end(call.given)

    def _finish(self, call: Call, module: nn.Module, out: Tensor) -> None:
        state = None if call.given is None else state_of(module, call.given, out)
        if state is not None:
            calls = self._states.setdefault(module, {})
            calls[self._root.stated[module]] = state
            self._root.stated[module] += 1
        if is_spiking(module):
            neuron = neuron_of(module)
            if call.by_hand:
                self._feed(call, cast(Recurrent, module), out)
            self._root.meet(out)
            kind = type(neuron).__name__ if neuron is module else f"{type(module).__name__}({_kind(neuron)})"
            layer = self._layer((module, "neuron"), call, module, kind)
            layer.spikes, layer.output = True, layer.output or tuple(out.shape)
            ordinal = self._root.calls[module]
            self._root.calls[module] += 1
            self._neurons.setdefault(call.path, Spikes()).see(ordinal, out.detach())
            return
        own = [layer for layer in self._layers.values() if layer.module is module]
        if not own and (state is not None or next(module.parameters(recurse=False), None) is not None):
            own = [self._layer((module, "other"), call, module, _kind(module))]
        if len(own) == 1 and not list(module.children()):  # what else it does to its product is its output
            own[0].output = own[0].whole = own[0].whole or tuple(out.shape)

    def _layer(self, key: tuple[Any, ...], call: Call, module: nn.Module, kind: str, path: str = "") -> Layer:
        if key not in self._layers:
            self._layers[key] = Layer(path or call.path, module, kind, early=not self._neurons)
        return self._layers[key]

    # -- products ---------------------------------------------------------------------------------

    def _met(self, name: str, args: Sequence[Any], weights: Weights) -> None:
        """Count an operation, if it multiplies, for the innermost module that is called."""
        if (
            self._counting
            or not self._calls
            or self._calls[-1].by_hand
            or torch._C._current_graph_task_id() != -1
        ):
            return
        call, site = self._calls[-1], _site()
        if site != self._site:
            self._site, self._nth = site, 0
        if name.startswith("_fft"):
            self._transformed.setdefault(call.path)
        product = find_product(name, args, weights.has)
        if product is None:
            places = None if is_spiking(call.module) else find_places(name, args, weights.has)
            if places is not None:
                self._places.setdefault((call.path, places.kind), Tally()).add(places)
            return
        # several in one call of PyTorch's, as in attention, are apart; those of a loop over time are not
        nth = 0 if product.other is None else self._nth
        self._nth += 1
        weighed = product.other is None and not any(
            layer.module is call.module for layer in self._layers.values()
        )
        kind = _kind(call.module) if weighed else product.operation
        layer = self._layer((call.module, site, nth), call, call.module, kind)
        if product.operation.startswith("conv"):
            layer.evaluations += product.data.shape[0]
        layer.output = layer.output or product.out
        if id(layer) not in call.counted:  # several operations of one call are one evaluation
            call.counted.add(id(layer))
            layer.meet(call.given)
        layer.add(product)

    def _feed(self, call: Call, module: Recurrent, out: Tensor) -> None:
        """Count a recurrent layer's synapse, a kernel's part: it hears the output a step late."""
        synapse = module.synapse
        layer = self._layer((synapse, "fed"), call, synapse, _kind(synapse), _join(call.path, "synapse"))
        n = out.shape[-1]
        self._ran.add(synapse)
        layer.output = layer.output or tuple(out.shape)
        first = torch.zeros_like(out[:1]) if call.fed is None else call.fed.detach().unsqueeze(0)
        layer.meet(out)
        for heard in (first, out.detach()[:-1]):
            layer.add(Product("linear", heard.numel() * n, tuple(heard.shape), heard, each=n))


def _site() -> _Site:
    """Return from where within the innermost module's forward the operation comes."""
    found = []
    frame = cast(Any, sys._getframe(2))
    while frame is not None and frame.f_code.co_filename != _CALL:
        file = frame.f_code.co_filename
        # what PyTorch does between an operation and those that it is made of depends on its mode
        if file != flow.__file__ and (not file.startswith(_TORCH) or file.startswith(_LAYERS)):
            found.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(found)


def _one_sample(shape: tuple[int, ...], batch: tuple[int, int] | None) -> tuple[int, ...]:
    return shape[2:] if batch is not None and shape[:2] == batch else shape[1:]


def _kind(module: nn.Module) -> str:
    return type(module).__name__


def _join(path: str, name: str) -> str:
    return name if path == "(itself)" else f"{path}.{name}"
