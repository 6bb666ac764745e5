"""Less memory for more time: what a forward pass computed is computed again in the backward pass."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from . import stream
from .announce import announce
from .neurons import Neuron
from .uncompiled import uncompiled


def recompute(module: nn.Module) -> nn.Module:
    """Wrap a stage so that it keeps nothing but its input for the backward pass, which runs it a second time.

        net = nn.Sequential(*(sl.recompute(nn.Sequential(sl.PerStep(conv, norm), sl.LIF())) for ...))
        with sl.packed_spikes():  # the stages' inputs are spikes: one bit each
            loss = criterion(net(x), target)

    Numbers and gradients are the same. The second run starts from the buffers and the random state that the
    first started from, and leaves them alone: batch norms count a batch once. Without gradients the module
    just runs.

    Arguments:
        module: any module without state between calls.

    Returns:
        A module around it, with the same keys in its `state_dict`; the module is its attribute `module`.

    Raises:
        RuntimeError: inside a Stream with gradients: a recomputation would not see the stream's state.
    """
    return _Recompute(module)


def checkpoint_time(net: nn.Module, steps: int) -> nn.Module:
    """Run long sequences in chunks of `steps`, and compute each chunk again in the backward pass.

        y = sl.checkpoint_time(net, 50)(x)  # x: [T, B, ...]

    The backward pass needs the memory of `steps` steps and a state for each chunk, O(steps + T / steps), in
    place of T steps. Outputs and gradients are the whole's (bit for bit for neurons, to rounding behind
    convolutions); random draws are repeated, but are other ones than the whole's. Compiled parts of the
    network run uncompiled.

    Arguments:
        net: a network that maps `[T, B, ...]` to one tensor `[T, ...]`, causal in time.
        steps: the length of a chunk; the last may be shorter. About the square root of T needs least memory.

    Returns:
        A module around the network, with the same keys in its `state_dict`; the network is its attribute
        `module`.

    Raises:
        RuntimeError: batch norm in training and whatever else changes its buffers, which would see chunks,
            and each of them twice; a layer that looks ahead, or keeps no state (torch's recurrent layers); a
            checkpoint inside of the network; a Stream around it, with gradients; inside compiled code.
        ValueError: an input or output that is not `[T, ...]`; steps that are no whole number >= 1.
    """
    return _InChunks(net, steps)


class _Wrapper(nn.Module):
    """A module around another, under whose keys its `state_dict` is."""

    def __init__(self, module: nn.Module, name: str) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise TypeError(f"sl.{name} takes a torch.nn.Module, not {type(module).__name__}")
        self.module = module
        self.register_state_dict_post_hook(_drop_name)
        self.register_load_state_dict_pre_hook(_add_name)


def _drop_name(_: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    _rename(state, f"{prefix}module.", prefix)


def _add_name(_: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    _rename(state, prefix, f"{prefix}module.")


def _rename(state: dict[str, Any], old: str, new: str) -> None:
    for key in [key for key in state if key.startswith(old)]:
        state[new + key.removeprefix(old)] = state.pop(key)


class _Recompute(_Wrapper):
    def __init__(self, module: nn.Module) -> None:
        super().__init__(module, "recompute")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self.module(*args, **kwargs)
        if torch.compiler.is_compiling():  # compiled code changes a buffer once, whatever it recomputes
            return checkpoint(self.module, *args, use_reentrant=False, **kwargs)
        buffers = _Buffers(self.module)
        return checkpoint(
            self.module,
            *args,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), buffers),
            **kwargs,
        )


class _Buffers:
    """The buffers that modules in training may change, as a first run finds them: a context to run again in.

    All are copied, not those alone whose version rises: batch norm writes its statistics without a word.
    """

    def __init__(self, module: nn.Module) -> None:
        self.before = [
            (part, name, buffer.clone())
            for part in module.modules()
            if part.training and not isinstance(part, Neuron)  # whose buffers are fixed parameters
            for name, buffer in part.named_buffers(recurse=False)
        ]
        self.now: list[Tensor | None] = []

    def __enter__(self) -> None:
        self.now = [part._buffers[name] for part, name, _ in self.before]
        for part, name, value in self.before:
            part._buffers[name] = value.clone()

    def __exit__(self, *error: object) -> None:
        for (part, name, _), buffer in zip(self.before, self.now, strict=True):
            part._buffers[name] = buffer
        self.now = []


class _InChunks(_Wrapper):
    def __init__(self, module: nn.Module, steps: int) -> None:
        super().__init__(module, "checkpoint_time")
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
            raise ValueError(f"checkpoint_time: steps = {steps!r}; a whole number >= 1 is needed, as 50")
        self.steps = steps

    def extra_repr(self) -> str:
        return f"steps={self.steps}"

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor) or x.ndim < 2 or x.shape[0] == 0:
            given = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"checkpoint_time takes a tensor [T, B, ...] of at least one step, not {given}")
        grad = torch.is_grad_enabled()
        if stream.current() is not None:
            if grad:
                raise RuntimeError(
                    "checkpoint_time is called inside a Stream (or a checkpoint_time), which is in chunks "
                    "already; stream its attribute .module and call stream.detach() between chunks, or "
                    "stream under no_grad"
                )
            return self.module(x)
        if torch.compiler.is_compiling():
            raise RuntimeError("checkpoint_time runs uncompiled; call it outside of torch.compile")
        self._check()
        outs: list[Tensor] = []
        state: dict[str, Tensor] = {}
        parts = x.split(self.steps)
        for part in parts:
            if grad and len(parts) > 1:
                out, state = checkpoint(self._run, part, list(state), *state.values(), use_reentrant=False)
            else:
                out, state = self._run(part, list(state), *state.values())
            outs.append(out)
        return torch.cat(outs)

    def _run(self, x: Tensor, names: list[str], *values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Run the network on a chunk, from the state that the last one ended with; return out and state."""
        versions = {name: buffer._version for name, buffer in self.module.named_buffers()}
        chunk = stream.Chunk(self.module, dict(zip(names, values, strict=True)), recomputed=True)
        with uncompiled("checkpoint_time"), chunk.active():
            out = self.module(x)
        for name, buffer in self.module.named_buffers():
            if versions.get(name) != buffer._version:
                raise RuntimeError(
                    f"checkpoint_time: the network changes its buffer {name!r} in forward, which would happen"
                    f" for each chunk, and again in the backward pass; {_REMEDY}"
                )
        if not chunk.calls:
            raise RuntimeError(
                f"checkpoint_time: {type(self.module).__name__} called no module that keeps a state in this "
                "thread (an exported graph or nn.DataParallel hides them), so every chunk would start anew; "
                "wrap a network of neurons, inside of nn.DataParallel"
            )
        if not isinstance(out, Tensor) or out.ndim == 0 or out.shape[0] != x.shape[0]:
            got = tuple(out.shape) if isinstance(out, Tensor) else f"a {type(out).__name__}"
            raise ValueError(
                f"checkpoint_time: for a chunk {tuple(x.shape)} the network returned {got}; one tensor "
                f"[{x.shape[0]}, ...], time first, is needed: take means over time behind it"
            )
        return out, chunk.final

    def _check(self) -> None:
        for name, part in self.module.named_modules():
            what = f"checkpoint_time: {type(part).__name__} {name!r}"
            tracks = isinstance(part, nn.modules.instancenorm._InstanceNorm) and part.track_running_stats
            if stream.uses_batch(part) or (tracks and part.training):
                raise RuntimeError(
                    f"{what} takes its statistics from its input, which would be each chunk, and would count "
                    f"it twice; {_REMEDY}"
                )
            if isinstance(part, nn.RNNBase):
                raise RuntimeError(
                    f"{what} would start anew in each chunk, since torch keeps no state of it between calls; "
                    "use sl.Recurrent, or run the network whole"
                )
            if "_orig_mod" in part._modules or part._compiled_call_impl is not None:
                announce(f"{what} runs uncompiled, since compiled code would not see the chunks' states")


_REMEDY = "call eval() on it, use a norm of single samples (nn.GroupNorm), or sl.recompute, over all T steps"
