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

__all__ = [
    "ATan",
    "Custom",
    "DSpike",
    "Erf",
    "FastSigmoid",
    "Gaussian",
    "LeakyReLU",
    "MultiLevel",
    "PiecewiseExp",
    "PiecewiseQuadratic",
    "Rect",
    "Sigmoid",
    "Smooth",
    "SoftSign",
    "SuperSpike",
    "Surrogate",
    "Triangle",
]


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

    def __call__(self, u: Any) -> Any:
        """Return the spike at u, a tensor (in the loom, a symbol), with `derivative` as its derivative."""
        if isinstance(u, Scalar):
            return surrogate_node(self.forward(u), u, self.derivative(u))  # type: ignore[arg-type]
        return _Spike.apply(u, self)

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

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, surrogate: Surrogate) -> Tensor:
        return surrogate.forward(u)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Surrogate], output: Tensor) -> None:
        u, ctx.surrogate = inputs
        ctx.save_for_backward(u)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
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


class FastSigmoid(Surrogate):
    r"""$\frac{1}{(1 + \alpha |u|)^2}$ (Zenke & Ganguli 2018, SuperSpike, arXiv:1705.11146).

    Its height is 1 for every alpha; alpha = 10 is theirs (1 / mV) at 10 mV between rest and threshold.
    """

    parameters = ("alpha",)

    def __init__(self, alpha: float = 10.0) -> None:
        self.alpha = alpha

    def derivative(self, u: Tensor) -> Tensor:  # noqa: D102
        fall = 1 + self.alpha * torch.abs(u)
        return 1 / (fall * fall)

    def primitive(self, u: Tensor) -> Tensor:  # noqa: D102
        return u / (1 + self.alpha * torch.abs(u)) + 0.5


SuperSpike = FastSigmoid


class SoftSign(Surrogate):
    r"""$\frac{\alpha/2}{(1 + \alpha |u|)^2}$: `FastSigmoid`'s shape, with an area of 1."""

    parameters = ("alpha",)

    def __init__(self, alpha: float = 2.0) -> None:
        self.alpha = alpha

    def derivative(self, u: Tensor) -> Tensor:  # noqa: D102
        fall = 1 + self.alpha * torch.abs(u)
        return (self.alpha / 2) / (fall * fall)

    def primitive(self, u: Tensor) -> Tensor:  # noqa: D102
        scaled = self.alpha * u
        return 0.5 * scaled / (1 + torch.abs(scaled)) + 0.5


class Triangle(Surrogate):
    r"""$\max(0, \gamma - |u|)/\gamma^2$ (Bohte 2011; Deng et al. 2022, TET, arXiv:2202.11946)."""

    parameters = ("gamma",)

    def __init__(self, gamma: float = 1.0) -> None:
        self.gamma = gamma

    def derivative(self, u: Tensor) -> Tensor:  # noqa: D102
        return torch.relu(self.gamma - torch.abs(u)) / (self.gamma * self.gamma)

    def primitive(self, u: Tensor) -> Tensor:  # noqa: D102
        inside = torch.clamp(u / self.gamma, -1.0, 1.0)
        return 0.5 + inside - 0.5 * inside * torch.abs(inside)


PiecewiseQuadratic = Triangle


class PiecewiseExp(Surrogate):
    r"""$\frac{\alpha}{2} e^{-\alpha |u|}$ (Shrestha & Orchard 2018, SLAYER, arXiv:1810.08646)."""

    parameters = ("alpha",)

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def derivative(self, u: Tensor) -> Tensor:  # noqa: D102
        return (self.alpha / 2) * torch.exp(-self.alpha * torch.abs(u))

    def primitive(self, u: Tensor) -> Tensor:  # noqa: D102
        tail = 0.5 * torch.exp(-self.alpha * torch.abs(u))
        return torch.where(u < 0, tail, 1 - tail)


class Rect(Surrogate):
    r"""$\frac{1}{2a}$ where $|u| < a$, else 0 (Wu et al. 2018, STBP, arXiv:1706.02609)."""

    parameters = ("a",)

    def __init__(self, a: float = 0.5) -> None:
        self.a = a

    def derivative(self, u: Tensor) -> Tensor:  # noqa: D102
        return (torch.abs(u) < self.a).to(u.dtype) / (2 * self.a)

    def primitive(self, u: Tensor) -> Tensor:  # noqa: D102
        return torch.clamp(u / (2 * self.a), -0.5, 0.5) + 0.5


class Gaussian(Surrogate):
    r"""$\frac{1}{\sqrt{2\pi}\,\sigma} e^{-u^2/2\sigma^2}$ (Yin et al. 2021, arXiv:2103.12593)."""

    parameters = ("sigma",)

    def __init__(self, sigma: float = 0.5) -> None:
        self.sigma = sigma

    def derivative(self, u: Tensor) -> Tensor:  # noqa: D102
        scaled = u / self.sigma
        return torch.exp(-0.5 * (scaled * scaled)) / (math.sqrt(2 * math.pi) * self.sigma)

    def primitive(self, u: Tensor) -> Tensor:  # noqa: D102
        return 0.5 * torch.erf(u / (math.sqrt(2) * self.sigma)) + 0.5


class Erf(Surrogate):
    r"""$\frac{\alpha}{\sqrt\pi} e^{-\alpha^2 u^2}$, a `Gaussian` of $\sigma = 1/(\sqrt2\,\alpha)$."""

    parameters = ("alpha",)

    def __init__(self, alpha: float = 2.0) -> None:
        self.alpha = alpha

    def derivative(self, u: Tensor) -> Tensor:  # noqa: D102
        scaled = self.alpha * u
        return (self.alpha / math.sqrt(math.pi)) * torch.exp(-(scaled * scaled))

    def primitive(self, u: Tensor) -> Tensor:  # noqa: D102
        return 0.5 * torch.erf(self.alpha * u) + 0.5


class DSpike(Surrogate):
    r"""$\frac{b}{2\tanh(b/2)} (1 - \tanh^2 b u)$ where $|u| < \frac12$, else 0 (Li et al., NeurIPS 2021)."""

    parameters = ("b",)

    def __init__(self, b: float = 3.0) -> None:
        self.b = b

    def _scale(self) -> float:
        """Return 1 / (2 tanh(b / 2)), of operators alone: b is a number here and a symbol in the loom."""
        q = math.e**-self.b
        return (1 + q) / (2 * (1 - q))

    def derivative(self, u: Tensor) -> Tensor:  # noqa: D102
        y = torch.tanh(self.b * u)
        return (self.b * self._scale()) * (1 - y * y) * (torch.abs(u) < 0.5).to(u.dtype)

    def primitive(self, u: Tensor) -> Tensor:  # noqa: D102
        return self._scale() * torch.tanh(self.b * torch.clamp(u, -0.5, 0.5)) + 0.5


class LeakyReLU(Surrogate):
    r"""`slope` where $u \ge 0$, else `leak`: the derivative of a leaky ReLU."""

    parameters = ("leak", "slope")

    def __init__(self, leak: float = 0.01, slope: float = 1.0) -> None:
        self.leak, self.slope = leak, slope

    def derivative(self, u: Tensor) -> Tensor:  # noqa: D102
        return torch.where(u >= 0, self.slope * torch.ones_like(u), self.leak)

    def primitive(self, u: Tensor) -> Tensor:  # noqa: D102
        return torch.where(u >= 0, self.slope * u, self.leak * u)


class MultiLevel(Surrogate):
    r"""$\operatorname{clip}(\operatorname{round}(u), 0, D)$, straight through: 1 where $0 \le u \le D$.

    For neurons that fire 0 to D spikes in a step (Luo et al. 2024, SpikeYOLO, arXiv:2407.20708).
    """

    parameters = ("levels",)

    def __init__(self, levels: int = 4) -> None:
        self.levels = levels
        if self.levels % 1:
            raise ValueError(
                f"MultiLevel: levels = {levels}; a whole number of spikes is needed, as levels=4"
            )

    def derivative(self, u: Tensor) -> Tensor:  # noqa: D102
        return ((u >= 0) & (u <= self.levels)).to(u.dtype)

    def forward(self, u: Tensor) -> Tensor:  # noqa: D102
        return torch.round(u).clamp(0.0, self.levels)

    def primitive(self, u: Tensor) -> Tensor:  # noqa: D102
        return u.clamp(0.0, self.levels)


class Custom(Surrogate):
    """Your own, of operators and torch functions: `Custom(lambda u: torch.exp(-u * u))`.

    Arguments:
        derivative: the stand-in for ds/du, a function of u = h - v_threshold.
        forward: the spike, a function of u; the Heaviside step if None.
        primitive: the function whose derivative `derivative` is, for `Smooth`.

    Numbers inside a lambda are constants of the kernel: for ones that vary at run time, write a subclass and
    name them in `parameters`.
    """

    def __init__(
        self,
        derivative: Callable[[Tensor], Tensor],
        forward: Callable[[Tensor], Tensor] | None = None,
        primitive: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        for name, given in (("derivative", derivative), ("forward", forward), ("primitive", primitive)):
            if not callable(given) and (given is not None or name == "derivative"):
                raise TypeError(
                    f"Custom: {name} is a {type(given).__name__}; a function of u is needed, "
                    "as in Custom(lambda u: torch.exp(-u * u))"
                )
        self._derivative, self._forward, self._primitive = derivative, forward, primitive

    def derivative(self, u: Tensor) -> Tensor:  # noqa: D102
        return self._derivative(u)

    def forward(self, u: Tensor) -> Tensor:  # noqa: D102
        return super().forward(u) if self._forward is None else self._forward(u)

    def primitive(self, u: Tensor) -> Tensor:  # noqa: D102
        return super().primitive(u) if self._primitive is None else self._primitive(u)


class Smooth(Surrogate):
    """`base` with its primitive as the forward: no spikes, and a derivative that is the true one.

    For checking gradients by finite differences, and for smooth relaxations of a network.

    Arguments:
        base: a surrogate with a primitive.
    """

    def __init__(self, base: Surrogate) -> None:
        self.base = base
        self.parameters = base.parameters  # type: ignore[misc]
        for name in base.parameters:
            setattr(self, name, getattr(base, name))

    def _now(self) -> Surrogate:
        return self.base.bound(**{name: getattr(self, name) for name in self.parameters})

    def derivative(self, u: Tensor) -> Tensor:  # noqa: D102
        return self._now().derivative(u)

    def forward(self, u: Tensor) -> Tensor:  # noqa: D102
        return self._now().primitive(u)

    def primitive(self, u: Tensor) -> Tensor:  # noqa: D102
        return self._now().primitive(u)

    def __repr__(self) -> str:
        return f"Smooth({self._now()!r})"
