r"""What stands in for the derivative of a spike.

A spike is $s = H(u)$ with $u = h - v_{threshold}$; its derivative is zero nearly everywhere. A surrogate
keeps the step in the forward pass and puts a bump in the place of its derivative in the backward pass
(Neftci, Mostafa & Zenke 2019, "Surrogate gradient learning in spiking neural networks").

Each surrogate here is one expression (two, where it is no derivative of a Heaviside step). Your own is
one lambda, `sl.surrogate.Custom(lambda u: torch.exp(-u * u))`, or a subclass with `derivative`; it is
woven into the kernel like the rest.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from .kernels.trace import Scalar, surrogate_node



class Surrogate:
    """A spike's forward, and the derivative used in its place in the backward pass.

    Subclasses give `derivative(u)`, built of operators and `torch` functions, and name in `parameters` the
    attributes (positive numbers) that it reads: these stay run-time values of the kernel. `forward(u)` is
    the Heaviside step unless overridden; `primitive(u)`, where there is one, is the smooth function whose
    derivative this is.
    """

    parameters: ClassVar[tuple[str, ...]] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.parameters and isinstance(value, (int, float, Tensor)):
            if isinstance(value, Tensor):
                raise TypeError(
                    f"{type(self).__name__}: {name} is a tensor of shape {tuple(value.shape)}; a surrogate's "
                    f"parameters are numbers: pass {name}=2.0, say"
                )
            if isinstance(value, bool) or not math.isfinite(value) or value <= 0:
                raise ValueError(
                    f"{type(self).__name__}: {name} = {value!r}; a positive finite number is needed, "
                    f"as in {type(self).__name__}({name}=2.0)"
                )
            value = float(value)
        object.__setattr__(self, name, value)

    def derivative(self, u: Tensor) -> Tensor:
        """Return the stand-in for ds/du at u = h - v_threshold."""
        raise TypeError(f"{type(self).__name__} does not define derivative(self, u)")

    def forward(self, u: Tensor) -> Tensor:
        """Return the spike, 1 where u >= 0 and 0 elsewhere."""
        return torch.where(u >= 0, 1.0, 0.0).to(u.dtype)

    def primitive(self, u: Tensor) -> Tensor:
        """Return the smooth function whose derivative is `derivative`."""
        raise TypeError(f"{type(self).__name__} has no primitive in closed form")

    def __call__(self, u: Tensor) -> Tensor:
        if isinstance(u, Scalar):
            return surrogate_node(self.forward(u), u, self.derivative(u))  # type: ignore[arg-type,return-value]
        spikes: Tensor = _Spike.apply(u, self)
        return spikes

    def bound(self, **values: Any) -> Surrogate:
        """Return a copy whose parameters are `values` (the loom binds symbols here)."""
        other = copy.copy(self)
        other.__dict__.update(values)
        return other

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)}" for name in self.parameters)
        return f"{type(self).__name__}({values})"


class _Spike(torch.autograd.Function):
    """The eager truth of a spike; its backward is made of differentiable operations."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(u)
        ctx.surrogate = surrogate
        return surrogate.forward(u)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (u,) = ctx.saved_tensors
        return g * ctx.surrogate.derivative(u), None


class ATan(Surrogate):
    r"""$\frac{\alpha/2}{1 + (\frac{\pi}{2}\alpha u)^2}$ (Fang et al. 2021, PLIF, arXiv:2007.05785)."""

    parameters = ("alpha",)

    def __init__(self, alpha: float = 2.0) -> None:
        self.alpha = alpha

    def derivative(self, u: Tensor) -> Tensor:  # noqa: D102
        scaled = (math.pi / 2 * self.alpha) * u
        return (self.alpha / 2) / (1 + scaled * scaled)

    def primitive(self, u: Tensor) -> Tensor:  # noqa: D102
        return torch.atan((math.pi / 2 * self.alpha) * u) / math.pi + 0.5


class Sigmoid(Surrogate):
    r"""$\alpha\,\sigma(\alpha u)(1 - \sigma(\alpha u))$, the logistic function's derivative."""

    parameters = ("alpha",)

    def __init__(self, alpha: float = 4.0) -> None:
        self.alpha = alpha

    def derivative(self, u: Tensor) -> Tensor:  # noqa: D102
        y = torch.sigmoid(self.alpha * u)
        return self.alpha * ((1 - y) * y)

    def primitive(self, u: Tensor) -> Tensor:  # noqa: D102
        return torch.sigmoid(self.alpha * u)
