"""State that outlives a call: a network fed in chunks of any length."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from .announce import announce
from .uncompiled import uncompiled


class Stream:
    """One stream of data through a network: call it with a chunk `[t, B, ...]`, and the next, and the next.

    In eval, the outputs of the chunks, concatenated, equal `net(whole)`: bit for bit for neurons, to rounding
    behind convolutions. Many streams may run through one network, in as many threads; each holds its own
    state, so neither the network nor another stream is changed by it. A compiled network runs uncompiled.

    Arguments:
        net: any module. Its neurons (and other modules with state) are found by name.

    `state` is a plain dict of contiguous tensors, keyed `path#call.name` (`"1#0.v"`: state `v` of module `1`,
    the first time that it is called in a chunk): save it, load it, assign it. `reset()` forgets it;
    `detach()` cuts the graph for truncated back-propagation through time.

    Raises:
        RuntimeError: a stream inside a stream, inside compiled code or inside a backward pass; a layer that
            looks ahead in time; gradient checkpointing, whose recomputation would not see the state.
        ValueError: a chunk of another batch, shape or device than the state; a state of another network.
    """

    def __init__(self, net: nn.Module) -> None:
        if not isinstance(net, nn.Module):
            raise TypeError(f"Stream takes a torch.nn.Module, not {type(net).__name__}: sl.Stream(net)")
        self.net = net
        self.state: dict[str, Tensor] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network on one chunk, from the state that the last chunk left."""
        if _active.chunk is not None:
            raise RuntimeError(
                "a Stream is called inside a Stream; build one Stream around the outermost network, "
                "sl.Stream(net), which keeps the state of every neuron below it"
            )
        if torch._C._current_graph_task_id() != -1:
            raise RuntimeError(
                "a Stream is called inside a backward pass, as a recomputation by torch.utils.checkpoint "
                f"does, but its state has moved on; {_INSTEAD}"
            )
        chunk = Chunk(self.net, self.state)
        _announce_differences(chunk.names)
        with uncompiled("a Stream"), chunk.active():
            out = self.net(*args, **kwargs)
        if not chunk.calls:
            announce(
                f"Stream: {type(self.net).__name__} called no module that keeps a state in this thread (an "
                "exported graph or nn.DataParallel hides them), so every chunk starts anew"
            )
        # only now: a chunk that failed leaves the state as it was
        self.state = {**self.state, **chunk.final}
        return out

    def reset(self) -> None:
        """Forget the state: the next chunk starts from the initial one."""
        self.state = {}

    def detach(self) -> None:
        """Cut the state's history, so that gradients stop at the last chunk's end."""
        self.state = {key: value.detach() for key, value in self.state.items()}


class Chunk:
    """One call of a stream, as a module with a state meets it (or leaves it to `carried`):

        where = stream.current()
        if where is not None:
            key = where.key(self)
            state = where.load(key, ("v",), x[0])
            ...
            where.store(key, {"v": v})

    Arguments:
        net: the streamed network.
        initial: the state that the stream brings.
        recomputed: whether this is called by a checkpoint that brings the same state when it recomputes.
    """

    def __init__(self, net: nn.Module, initial: dict[str, Tensor], recomputed: bool = False) -> None:
        self.names = {module: _path(name) for name, module in net.named_modules()}
        self.calls: Counter[nn.Module] = Counter()
        self.initial = initial
        self.final: dict[str, Tensor] = {}
        self.grad = torch.is_grad_enabled()
        self.known = _checkpoint_hook() if recomputed else None
        _check_state(initial, set(self.names.values()))

    @contextmanager
    def active(self) -> Iterator[None]:
        """Be the call that modules meet, in this thread."""
        before, _active.chunk = _active.chunk, self
        try:
            yield
        finally:
            _active.chunk = before

    def key(self, module: nn.Module) -> str:
        """Return the prefix of this call's keys; each call of a module in one chunk has its own."""
        if module not in self.names:
            raise RuntimeError(
                f"{type(module).__name__} is called inside a Stream but is no submodule of the streamed "
                "network, so its state has no name; register it as an attribute of the network"
            )
        if self.grad and _is_checkpointed(self.known):
            raise RuntimeError(
                f"{type(module).__name__} {self.names[module]!r} runs inside torch.utils.checkpoint (or "
                "another autograd.Function) inside a Stream; a recomputation would start from the "
                f"initial state and give wrong gradients; {_INSTEAD}"
            )
        call = self.calls[module]
        self.calls[module] += 1
        return f"{self.names[module]}#{call}."

    def load(self, key: str, names: tuple[str, ...], like: Tensor) -> dict[str, Tensor] | None:
        """Return the state under `key`, or None at the start of the stream.

        `like` is one step of the input: the state must have its shape and device.
        """
        found = {name: self.initial[key + name] for name in names if key + name in self.initial}
        if not found:
            return None
        missing = [key + name for name in names if name not in found]
        if missing:
            raise ValueError(
                f"the stream's state has {key + next(iter(found))!r}, but no {missing[0]!r}; a module's "
                "states go together: assign all, or call stream.reset()"
            )
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
        # a copy: a state may be a view of the chunk, whose memory the caller may fill anew
        self.final.update({key + n: v.clone(memory_format=torch.contiguous_format) for n, v in state.items()})


def current() -> Chunk | None:
    """Return the call of a stream around this call, for a module that has a state to keep."""
    return _active.chunk


class Carrier(Protocol):
    """A module that runs from a state to a state, as a neuron does, with `states` by name.

    `_run(x, inputs, generator, state, final)` starts from `state` (None: its own) and returns the output and,
    if `final`, the final state, by the names in `states`; `_check(x)` raises for what x cannot be.
    """

    @property
    def states(self) -> tuple[str, ...]: ...  # noqa: D102
    def _check(self, x: Tensor) -> None: ...
    def _run(self, x: Tensor, *arguments: Any) -> tuple[Tensor, dict[str, Tensor]]: ...


def carried(
    module: Carrier, x: Tensor, inputs: tuple[Tensor, ...], generator: torch.Generator | None
) -> Tensor:
    """Return a module's output, its state taken from the stream around this call, and left to it, if any."""
    where = _active.chunk
    if where is None:
        return module._run(x, inputs, generator, None, False)[0]
    module._check(x)
    key = where.key(cast(nn.Module, module))
    state = where.load(key, module.states, x[0])
    out, final = module._run(x, inputs, generator, state, True)
    where.store(key, final)
    return out


def refuse(module: nn.Module, why: str) -> None:
    """Raise inside a Stream; for a layer that needs all steps at once: `refuse(self, "looks ahead")`."""
    if _active.chunk is not None:
        raise RuntimeError(
            f"{type(module).__name__} {why}, so it cannot run inside a Stream, chunk by chunk; "
            "call the network itself on the whole sequence, net(x)"
        )


class _Active(threading.local):
    """The call of a stream that this thread is inside of, if any."""

    chunk: Chunk | None = None


_active = _Active()
_INSTEAD = "leave checkpointing out and call stream.detach() between chunks, which bounds the memory"


def _checkpoint_hook() -> Any:
    """Return what torch.utils.checkpoint (use_reentrant=False) saves tensors with here, if it does."""
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    return hooks[0] if hooks is not None and hooks[0].__module__ == "torch.utils.checkpoint" else None


def _is_checkpointed(known: Any) -> bool:
    """Whether what runs now, with gradients wanted, will be recomputed in backward, other than by `known`."""
    hook = _checkpoint_hook()
    if hook is not None and hook is not known:
        return True
    if torch.is_grad_enabled():
        return False
    # use_reentrant=True, and other libraries' checkpoints, run in the forward of an autograd.Function
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code is not Stream.__call__.__code__:
        first = frame.f_code.co_varnames[:1]
        if first and isinstance(frame.f_locals.get(first[0]), torch.autograd.function.FunctionCtx):
            return True
        frame = frame.f_back
    return False


def _check_state(state: dict[str, Tensor], paths: set[str]) -> None:
    for key, value in state.items():
        path, _, rest = key.rpartition("#")
        if path not in paths or "." not in rest:
            raise ValueError(
                f"the stream's state has {key!r}, but the network has no module {path!r}; keys are "
                "'path#call.name', as a Stream of the same network makes them; stream.reset() forgets them"
            )
        if not isinstance(value, Tensor):
            raise TypeError(f"the stream's state {key!r} is a {type(value).__name__}, not a tensor")


def _path(name: str) -> str:
    """Return a module's name without wrappers of torch.compile and Fabric, no part of the network."""
    return ".".join(part for part in name.split(".") if part not in ("_orig_mod", "_forward_module"))


def uses_batch(module: nn.Module) -> bool:
    """Return whether a module is a norm that takes its statistics from the batch that it sees."""
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return module.training or module.running_mean is None
    return bool(getattr(module, "uses_batch", False))  # a norm of this library's own


def _announce_differences(names: dict[nn.Module, str]) -> None:
    """Say where chunks do not add up to the whole, or run slower than one would expect."""
    found: dict[str, list[str]] = {}
    for module, name in names.items():
        if uses_batch(module):
            what = "takes its statistics from each chunk alone; call net.eval() to stream"
        elif isinstance(module, nn.modules.dropout._DropoutNd) and module.training and module.p > 0:
            what = "draws a new mask in each chunk; call net.eval() to stream"
        elif isinstance(module, nn.RNNBase):
            what = "starts from its own initial state in each chunk, since torch keeps none between calls"
        elif "_orig_mod" in module._modules or module._compiled_call_impl is not None:
            what = "runs uncompiled in a Stream, whose state compiled code would not see"
        else:
            continue
        found.setdefault(what, []).append(f"{type(module).__name__} {name!r}")
    for what, which in found.items():
        more = f" (and {len(which) - 1} more)" if len(which) > 1 else ""
        announce(f"Stream: {which[0]}{more} {what}")
