"""PyTorch's operations, seen as they run; which of the tensors that they take are weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode


class Flow(TorchDispatchMode):
    """Sees each of PyTorch's operations in this thread."""

    def __init__(self, met: Callable[[str, Sequence[Any], Weights], None], weights: Weights) -> None:
        super().__init__()
        self.met, self.weights = met, weights

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing compiles meanwhile, and importing it takes seconds

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if _is_made_of_others(func):  # in inference mode, `linear` and the like come whole
            with self:
                return func.decompose(*args, **kwargs)
        made = func(*args, **kwargs)
        if func.namespace == "aten":
            self.met(func._schema.name.removeprefix("aten::"), args, self.weights)
        self.weights.follow(args, kwargs, made)
        return made


@lru_cache(maxsize=4096)
def _is_made_of_others(func: Any) -> bool:
    return func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd)


class Weights:
    """Which tensors are a network's own, or made of those alone: casts, scaled or normalised weights."""

    _MARK = "_spikeloom_weights"

    def __init__(self, net: nn.Module) -> None:
        own = [*net.parameters(), *net.buffers()]
        own += [v for m in net.modules() for v in m.__dict__.values() if isinstance(v, Tensor)]
        self._kept = own  # memory that is freed has another's address
        self._at = {_address(tensor) for tensor in own} - {0}
        for tensor in own:  # on the device "meta" all have one address
            if tensor.is_meta:
                setattr(tensor.untyped_storage(), self._MARK, self)

    def has(self, tensor: Tensor) -> bool:
        """Whether a tensor is a weight, or a view of one."""
        if tensor.layout is not torch.strided:
            return False
        return _address(tensor) in self._at or getattr(tensor.untyped_storage(), self._MARK, None) is self

    def follow(self, args: Sequence[Any], kwargs: Mapping[str, Any], made: Any) -> None:
        """Mark what an operation made of weights alone; what it wrote data into is none any more."""
        given = list(_tensors((*args, *kwargs.values())))
        ours = bool(given) and all(map(self.has, given))
        for tensor in _tensors((made,)):
            if tensor.layout is not torch.strided or ours == self.has(tensor):
                continue
            if ours:
                setattr(tensor.untyped_storage(), self._MARK, self)
            else:
                self._at.discard(_address(tensor))
                setattr(tensor.untyped_storage(), self._MARK, None)


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else 0


@contextmanager
def plain_attention() -> Iterator[None]:
    """Run attention as its equation: fused kernels would hide its products."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
