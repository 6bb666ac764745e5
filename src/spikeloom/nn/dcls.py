"""Kernels of a few weights whose positions are learned: dilated convolution with learnable spacings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..names import unknown

Version = Literal["gauss", "max", "v1", "v0"]
_LAST = 0.23  # the end of sigma's course: 0.27 more is half a tap
_SHARE = 0.25  # of the run, in which sigma falls
_CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {
    1: functional.conv1d,
    2: functional.conv2d,
    3: functional.conv3d,
}


def dcls_kernel(
    weight: Tensor, positions: Tensor, size: Sequence[int], sigma: float | Tensor, version: Version = "gauss"
) -> Tensor:
    r"""Return the dense kernel of weights at positions between taps.

    Along an axis of L taps, a weight at position p has its centre at $c = p + \lfloor L / 2 \rfloor$, and

    $$a_i = e^{-\frac12 \left(\frac{i - c}{|\sigma| + 0.27}\right)^2}\ \text{(gauss)}, \quad
      \max(0, |\sigma| + 1 - |i - c|)\ \text{(max)}, \quad \max(0, 1 - |i - c|)\ \text{(v1)}$$

    Of several axes a is the product. It is normalised over all taps, so that sigma spreads a weight and does
    not scale it: $K_i = \sum_k w_k\, a_{k,i} / (\sum_j a_{k,j} + 10^{-7})$. In v0, tap f = floor(c) has
    1 - (c - f) and f + 1 has c - f, without normalisation: what lies outside of the taps is lost (our own
    reading of "bilinear with floor").

    Arguments:
        weight: `[out, in, k]`.
        positions: `[d, out, in, k]`, in taps from the middle, one for each of d axes.
        size: the taps of each axis, L.
        sigma: the spread, in taps; of gauss and max.
        version: "gauss", "max", "v1" or "v0".

    Returns:
        `[out, in, *size]`, differentiable in weight, positions and sigma.

    Raises:
        ValueError: shapes that do not fit; no such version.

    Khalfaoui-Hassani, Pellegrini, Masquelier (2023). Dilated convolution with learnable spacings. ICLR.
    Khalfaoui-Hassani, Pellegrini, Masquelier (2023). DCLS beyond bilinear interpolation. arXiv:2306.00817.
    """
    if version not in get_args(Version):
        raise unknown("version of DCLS", version, get_args(Version))
    if positions.shape != (len(size), *weight.shape) or weight.ndim != 3:
        raise ValueError(
            f"dcls_kernel: weight {tuple(weight.shape)} and positions {tuple(positions.shape)} for "
            f"{len(size)} axes; weight [out, in, k] and positions [{len(size)}, out, in, k] are needed"
        )
    a: Tensor | None = None
    for axis, (p, taps) in enumerate(zip(positions, size, strict=True)):
        one = _along(p + taps // 2, taps, sigma, version)
        one = one.reshape(*weight.shape, *(taps if n == axis else 1 for n in range(len(size))))
        a = one if a is None else a * one
    assert a is not None
    if version != "v0":
        a = a / (a.sum(tuple(range(3, a.ndim)), keepdim=True) + 1e-7)
    return (weight.reshape(*weight.shape, *[1] * len(size)) * a).sum(2)


def _along(c: Tensor, taps: int, sigma: float | Tensor, version: str) -> Tensor:
    """Return a along one axis: `[out, in, k, taps]` for centres `[out, in, k]`."""
    c = c.unsqueeze(-1)
    i = torch.arange(taps, dtype=c.dtype, device=c.device)
    if version == "v0":
        f = c.floor()
        r = c - f
        return (i == f) * (1 - r) + (i == f + 1) * r
    spread = sigma.abs().to(c.dtype) if isinstance(sigma, Tensor) else abs(sigma)
    if version == "gauss":
        return torch.exp(-0.5 * ((i - c) / (spread + 0.27)) ** 2)
    wide = spread if version == "max" else 0.0
    return (wide + 1 - (i - c).abs()).clamp(min=0)


class Spaced(nn.Module):
    """Weights at learnable positions of a kernel: what all layers of this kind share. Abstract.

    In training the kernel is that of `version` and of `sigma`; in evaluation positions are rounded to whole
    taps (halves to even, and none outside of the kernel, where published code loses weights of kernels with
    an even number of taps), and each weight lies on one tap.

    Positions lie within L / 2 of the middle, where `settle()` puts them back: call it after each update
    (`sl.nn.settle(net)`; `sl.train` does). `follow(done)` sets sigma, from L // 2 of the widest axis down to
    0.23 in the first quarter of the run, a constant factor an epoch; `sl.train` calls it, too. Positions are
    no weights to decay; `lr_factors` gives them a learning rate of their own.

    Arguments:
        in_channels: channels in.
        out_channels: channels out.
        size: the taps of each axis.
        kernel_count: k, weights of each pair of channels.
        groups: as in `nn.Conv1d`.
        bias: whether a bias is added.
        version: as in `dcls_kernel`.

    Raises:
        ValueError: a number below 1, channels that groups do not divide, more weights than taps.
        UnknownName: no such version.
    """

    undecayed = ("positions",)  # for the optimiser
    sigma: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: Sequence[int],
        *,
        kernel_count: int = 1,
        groups: int = 1,
        bias: bool = False,
        version: Version = "gauss",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if version not in get_args(Version):
            raise unknown("version of DCLS", version, get_args(Version))
        counts = {"in_channels": in_channels, "out_channels": out_channels, "kernel_count": kernel_count}
        for what, count in {**counts, "groups": groups, "taps": min(size)}.items():
            if count < 1:
                raise ValueError(f"{name}: {what} = {count}; at least 1 is needed")
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{name}: {in_channels} channels in and {out_channels} out are not divided by groups = "
                f"{groups}; take a number of groups that divides both"
            )
        if kernel_count > math.prod(size):
            raise ValueError(
                f"{name}: kernel_count = {kernel_count} weights for {math.prod(size)} taps; give no more "
                "weights than taps, or a larger kernel"
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.size: tuple[int, ...] = tuple(size)
        self.kernel_count, self.version = kernel_count, version
        pairs = (out_channels, in_channels // groups, kernel_count)
        self.weight = nn.Parameter(torch.empty(pairs))
        self.positions = nn.Parameter(torch.empty(len(self.size), *pairs))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.register_buffer("sigma", torch.tensor(0.0))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights (Kaiming, uniform, for a ReLU) and positions (uniform in +-L / 2); start sigma."""
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        for p, taps in zip(self.positions.data, self.size, strict=True):
            p.uniform_(-taps / 2, taps / 2)
        self.follow(0.0)

    def kernel(self) -> Tensor:
        """Return the dense kernel, `[out, in / groups, *size]`: of training, or of evaluation."""
        if self.training:
            return dcls_kernel(self.weight, self.positions, self.size, self.sigma, self.version)
        taps = self.taps().to(self.weight.dtype)
        whole = torch.stack([t - n // 2 for t, n in zip(taps, self.size, strict=True)])
        return dcls_kernel(self.weight, whole, self.size, 0.0, "max")

    def taps(self) -> Tensor:
        """Return the tap that each weight lies on in evaluation: `[d, out, in / groups, k]`, int64."""
        rows = zip(self.positions.detach(), self.size, strict=True)
        return torch.stack([(p.round() + n // 2).clamp(0, n - 1) for p, n in rows]).long()

    @torch.no_grad()
    def settle(self) -> None:
        """Put positions back within half a kernel of its middle."""
        for p, taps in zip(self.positions, self.size, strict=True):
            p.clamp_(-taps / 2, taps / 2)

    def follow(self, done: float) -> None:
        """Set sigma for the share `done` of the run, in [0, 1]."""
        first = max(max(self.size) // 2, _LAST)
        self.sigma.fill_(first * (_LAST / first) ** min(done / _SHARE, 1.0))

    def extra_repr(self) -> str:
        """Show the sizes."""
        size = "x".join(str(n) for n in self.size)
        more = f", groups={self.groups}" if self.groups > 1 else ""
        return (
            f"{self.in_channels}, {self.out_channels}, size={size}, "
            f"kernel_count={self.kernel_count}, version={self.version!r}{more}"
        )


class _Convolution(Spaced):
    """A convolution over d axes of space with such a kernel."""

    axes = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: int | Sequence[int],
        *,
        kernel_count: int = 1,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        bias: bool = True,
        version: Version = "gauss",
    ) -> None:
        name, d = type(self).__name__, self.axes
        sizes = (size,) * d if isinstance(size, int) else tuple(size)
        if len(sizes) != d:
            raise ValueError(f"{name}: size = {size!r}; a number of taps, or one for each of {d} axes")
        if stride < 1 or padding < 0:
            raise ValueError(
                f"{name}: stride = {stride}, padding = {padding}; at least 1 and at least 0 are needed"
            )
        super().__init__(
            in_channels,
            out_channels,
            sizes,
            kernel_count=kernel_count,
            groups=groups,
            bias=bias,
            version=version,
        )
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """Return `[N, out_channels, ...]` for x, `[N, in_channels, ...]` with d axes of space."""
        name, d = type(self).__name__, self.axes
        if x.ndim != d + 2 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"{name} takes [N, {self.in_channels}] and {d} axes, but was given {tuple(x.shape)}; in "
                f"time, [T, B, C, ...], it stands in sl.PerStep({name}(...))"
            )
        if any(n + 2 * self.padding < taps for n, taps in zip(x.shape[2:], self.size, strict=True)):
            raise ValueError(
                f"{name}: a kernel of {self.size} taps is larger than {tuple(x.shape[2:])} with a padding of "
                f"{self.padding}; pad more, or take a smaller kernel"
            )
        kernel = self.kernel().to(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return _CONVOLUTIONS[d](x, kernel, bias, self.stride, self.padding, 1, self.groups)


class Dcls1d(_Convolution):
    """A convolution of `[N, C, L]` whose kernels have a few weights at learnable positions.

    See `Spaced` for kernels in training and evaluation, `settle` and `follow`, and for what is raised;
    `dcls_kernel` for the equation.

    Arguments:
        in_channels: channels in.
        out_channels: channels out.
        size: the kernel's taps, of each axis or of all.
        kernel_count: weights of each pair of channels.
        stride: as in `nn.Conv1d`.
        padding: zeros on each side.
        groups: as in `nn.Conv1d`.
        bias: whether a bias is added.
        version: "gauss", "max", "v1" or "v0".
    """

    axes = 1


class Dcls2d(_Convolution):
    """As `Dcls1d`, over the space of `[N, C, H, W]`."""

    axes = 2


class Dcls3d(_Convolution):
    """As `Dcls1d`, over the space of `[N, C, D, H, W]`."""

    axes = 3
