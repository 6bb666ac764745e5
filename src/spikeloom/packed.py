"""Spikes that autograd keeps for the backward pass, kept as one bit each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from .kernels import bits, spikes


@contextmanager
def packed_spikes() -> Iterator[None]:
    """Keep the spikes that autograd saves within a `with` as one bit each, in this thread.

        with sl.packed_spikes():
            loss = criterion(net(x), target)
        loss.backward()  # inside or outside

    A convolution, a matrix product or a pooling keeps its input for the backward pass. Where that is the
    output of a neuron that says 0 or 1 (as its equations tell), or a view of it, it is packed when saved and
    unpacked when needed, to the same values in the same layout. Layers that save the same spikes share the
    bits. All else is kept as ever: spikes of more levels, sums and copies of spikes (so, a cast by autocast),
    spikes made before the `with`, spikes written to in place. Around `torch.utils.checkpoint` and
    `sl.recompute`, their inputs are packed.

    Only memory that PyTorch knows to be unwritten is packed. On CPU, writing behind its back (`.data`,
    NumPy) is noticed; on a GPU it is not. Inside compiled code nothing is packed, which is announced.

    Raises:
        RuntimeError: entered inside compiled code; around `torch.func.grad`, which takes no such hooks.
    """
    if torch.compiler.is_compiling():
        raise RuntimeError(
            "packed_spikes is entered inside compiled code, which would not see it; put it around the call: "
            "with sl.packed_spikes(): compiled(x)"
        )
    with spikes.wanting(), torch.autograd.graph.saved_tensors_hooks(_keep, _restore):
        yield


class _Kept(Protocol):
    """What autograd holds in a saved tensor's place."""

    def restore(self) -> Tensor: ...


def _keep(tensor: Tensor) -> _Kept:
    mark = spikes.find(tensor)
    packed = None if mark is None else _pack(tensor, mark)
    return _Whole(tensor) if packed is None else packed


def _restore(kept: _Kept) -> Tensor:
    return kept.restore()


class _Whole:
    """A tensor as it is. With hooks autograd no longer looks whether it was written to: this does."""

    __slots__ = ("tensor", "version")

    def __init__(self, tensor: Tensor) -> None:
        # detached: autograd's node holds this, and a tensor holds its node
        self.tensor, self.version = tensor.detach(), tensor._version

    def restore(self) -> Tensor:
        if self.tensor._version != self.version:
            raise RuntimeError(
                f"a tensor of shape {tuple(self.tensor.shape)} that the backward pass needs was modified by "
                f"an in-place operation: it is at version {self.tensor._version}, but was saved at version "
                f"{self.version}; write to a clone of it"
            )
        return self.tensor


class _Packed:
    """A view of packed memory."""

    __slots__ = ("bits", "shape", "strides")

    def __init__(self, bits: _Bits, tensor: Tensor) -> None:
        self.bits, self.shape, self.strides = bits, tensor.shape, tensor.stride()

    def restore(self) -> Tensor:
        return bits.unpack(self.bits.words, self.bits.dtype).as_strided(self.shape, self.strides)


class _Bits:
    """A row of spikes, one bit each, held by whatever saved a view of it."""

    __slots__ = ("__weakref__", "dtype", "words")

    def __init__(self, words: Tensor, dtype: torch.dtype) -> None:
        self.words, self.dtype = words, dtype


def _pack(tensor: Tensor, mark: spikes.Mark) -> _Packed | None:
    """Pack the memory that a view spans, once; where it spans far more than it shows, a copy of it."""
    if tensor.numel() == 0:
        return None
    span = 1 + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    distinct = math.prod(n for n, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride)
    if mark.kept is None:
        mark.kept = WeakValueDictionary()
    key: tuple[object, ...]
    if span > 2 * distinct:
        key = tensor.storage_offset(), tensor.shape, tensor.stride()
        tensor = tensor.contiguous()
        span = tensor.numel()
    else:
        key = tensor.storage_offset(), span
    found = mark.kept.get(key)
    if found is None:
        words = bits.pack(tensor.detach().as_strided((span,), (1,)))
        if words is None:
            return None
        found = mark.kept[key] = _Bits(words, tensor.dtype)
    return _Packed(found, tensor)
