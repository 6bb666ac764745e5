"""State that outlives a call: a network fed in chunks of any length."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from .announce import announce


class _Active(threading.local):
    """The stream that this thread is inside of, if any."""

    stream: Stream | None = None


_active = _Active()
# modules that have run inside a stream with gradients on: a recomputation of them, later and outside of
# it, would start from the wrong state
_streamed: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def current() -> Stream | None:
    """Return the stream around this call, for a module that has a state to keep."""
    return _active.stream


class Stream:
    """One stream of data through a network: call it with a chunk `[t, B, ...]`, and the next, and the next.

    In eval, the outputs of the chunks, concatenated, equal `net(whole)`: bit for bit for neurons, to rounding
    behind convolutions. Many streams may run through one network; each holds its own state, so neither
    the network nor another stream is changed by it.

    Arguments:
        net: any module. Its neurons (and other modules with state) are found by name.

    `state` is a plain dict of tensors, keyed `path#call.name` (`"1#0.v"`: state `v` of module `1`, the first
    time that it is called in a chunk): save it, load it, assign it. `reset()` forgets it; `detach()` cuts
    the graph for truncated back-propagation through time.

    Raises:
        RuntimeError: a stream inside a stream; a layer that looks ahead in time; gradient checkpointing
            inside a stream, whose recomputation would not see the state.
        ValueError: a chunk of another batch, shape or device than the state.
    """

    def __init__(self, net: nn.Module) -> None:
        if not isinstance(net, nn.Module):
            raise TypeError(f"Stream takes a torch.nn.Module, not {type(net).__name__}: sl.Stream(net)")
        self.net = net
        self.state: dict[str, Tensor] = {}
        self._calls: Counter[nn.Module] = Counter()
        self._new: dict[str, Tensor] = {}
        self._names: dict[nn.Module, str] = {}
        self._grad = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network on one chunk, from the state that the last chunk left."""
        if _active.stream is not None:
            raise RuntimeError(
                "a Stream is called inside a Stream; build one Stream around the outermost network, "
                "sl.Stream(net), which keeps the state of every neuron below it"
            )
        self._announce_training()
        self._names = {module: name for name, module in self.net.named_modules()}
        self._calls.clear()
        self._new = {}
        self._grad = torch.is_grad_enabled()
        _active.stream = self
        try:
            out = self.net(*args, **kwargs)
        finally:
            _active.stream = None
        # all or nothing: a chunk that failed leaves the state as it was
        self.state = {**self.state, **self._new}
        self._new = {}
        return out

    def reset(self) -> None:
        """Forget the state: the next chunk starts from the initial one."""
        self.state = {}

    def detach(self) -> None:
        """Cut the state's history, so that gradients stop at the last chunk's end."""
        self.state = {key: value.detach() for key, value in self.state.items()}

    # -- for modules with a state ---------------------------------------------------------------

    def key(self, module: nn.Module) -> str:
        """Return the prefix of this call's keys; each call of a module in one chunk has its own."""
        if module not in self._names:
            raise RuntimeError(
                f"{type(module).__name__} is called inside a Stream but is no submodule of the streamed "
                "network, so its state has no name; register it as an attribute of the network"
            )
        if self._grad:
            _streamed.add(module)
        call = self._calls[module]
        self._calls[module] += 1
        return f"{self._names[module]}#{call}."

    def load(self, key: str, names: tuple[str, ...], like: Tensor) -> dict[str, Tensor] | None:
        """Return the state under `key`, or None at the start of the stream.

        `like` is one step of the input: the state must have its shape and device.
        """
        if key + names[0] not in self.state:
            return None
        found = {name: self.state[key + name] for name in names}
        for name, value in found.items():
            if value.shape != like.shape or value.device != like.device:
                raise ValueError(
                    f"the stream's state {key + name!r} is {tuple(value.shape)} on {value.device}, but this "
                    f"chunk's steps are {tuple(like.shape)} on {like.device}; call stream.reset() before "
                    "another batch, or use one Stream a source"
                )
        return found

    def store(self, key: str, state: dict[str, Tensor]) -> None:
        """Keep the state that this call ends with."""
        self._new.update({key + name: value for name, value in state.items()})

    def _announce_training(self) -> None:
        for name, module in self.net.named_modules():
            if not module.training:
                continue
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
                what = "takes its statistics from each chunk alone"
            elif isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
                what = "draws a new mask in each chunk"
            else:
                continue
            announce(
                f"Stream: {type(module).__name__} {name!r} is in training mode and {what}, so the chunks "
                "do not add up to the whole; call net.eval() to stream"
            )


def refuse_recomputation(module: nn.Module) -> None:
    """Raise if `module`, streamed before, is now recomputed inside a backward pass, outside of its stream."""
    if torch.compiler.is_compiling() or module not in _streamed:
        return
    if torch._C._current_graph_task_id() != -1:
        raise RuntimeError(
            f"{type(module).__name__} is recomputed by torch.utils.checkpoint outside of the Stream that it "
            "ran in, so it would start from the initial state and give wrong gradients; do not checkpoint "
            "inside a Stream (call stream.detach() between chunks instead, which bounds the memory)"
        )
