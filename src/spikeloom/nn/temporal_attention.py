"""Attention that scales: of time steps (TA-SNN), and of steps, channels and positions in sequence."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import stream


class _Squeeze(nn.Module):
    """Scores of one axis of `[T, B, ...]`, in (0, 1): every other axis but B pooled, and two layers.

    With `maxima`, what the layers make of means and of maxima is added.
    """

    def __init__(self, size: int, reduction: int, axis: int, *, bias: bool, maxima: bool) -> None:
        super().__init__()
        self.axis, self.maxima = axis, maxima
        hidden = size // reduction
        self.first, self.second = nn.Linear(size, hidden, bias), nn.Linear(hidden, size, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores, of length 1 on all axes but B and `axis`."""
        away = tuple(i for i in range(x.ndim) if i not in (1, self.axis))
        total = self._layers(x.mean(away))
        if self.maxima:
            total = total + self._layers(x.amax(away))
        d = torch.sigmoid(total)
        shape = [1] * x.ndim
        shape[1], shape[self.axis] = x.shape[1], x.shape[self.axis]
        return (d.t() if self.axis == 0 else d).reshape(shape)

    def _layers(self, pooled: Tensor) -> Tensor:
        y: Tensor = self.second(torch.relu(self.first(pooled.t() if self.axis == 0 else pooled)))
        return y


class TemporalAttention(nn.Module):
    r"""Each step scaled by a score that all steps give it (temporal-wise attention, TA; Yao et al., ICCV
    2021, arXiv:2107.11711).

    $$s_t = \overline{x_t}, \qquad d = \sigma(W_2\,\mathrm{ReLU}(W_1 s + b_1) + b_2), \qquad
      y_t = d_t\,x_t$$

    with s the mean over channels and positions, a sample, and $\lfloor T / r \rfloor$ hidden units.

    Arguments:
        T: the number of steps.
        reduction: r.
        cut: None; or, in evaluation, $d_t$ is 1 where it is above `cut` and 0 elsewhere, so that a step is
            kept or dropped.

    Input and output `[T, B, ...]`. It looks ahead: a Stream refuses it.

    Raises:
        ValueError: a reduction that leaves no hidden unit; when called, another number of steps.
    """

    sees_time = True

    def __init__(self, T: int, reduction: int = 16, *, cut: float | None = None) -> None:
        super().__init__()
        _check_reduction(self, "T", T, "reduction", reduction)
        self.steps, self.cut = T, cut
        self.scores = _Squeeze(T, reduction, 0, bias=True, maxima=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return x, `[T, B, ...]`, with its steps scaled."""
        _check_steps(self, x, self.steps)
        d = self.scores(x)
        if self.cut is not None and not self.training:
            d = (d > self.cut).to(d.dtype)
        return x * d

    def extra_repr(self) -> str:
        """Show what it was made with."""
        return f"T={self.steps}" + ("" if self.cut is None else f", cut={self.cut:g}")


class MultiDimensionalAttention(nn.Module):
    r"""Steps, channels and positions scaled, one after the other (MA; Yao et al., TPAMI 2023, "Attention
    Spiking Neural Networks", arXiv:2209.13929).

    $$x' = f_T(x)\,x, \qquad x'' = f_C(x')\,x', \qquad y = \mathrm{ReLU}(f_S(x'')\,x'')$$

    $$f_{T,C}(x) = \sigma(W_2\,\mathrm{ReLU}(W_1\,\overline{x}) + W_2\,\mathrm{ReLU}(W_1 \max x)), \qquad
      f_S(x) = \sigma(K * [\overline{x}, \max x])$$

    As in the authors' code, means and maxima are over all axes but the sample's and the scaled one (of
    $f_S$: over steps and channels), so that one score a channel, and one a position, hold for all steps.

    Arguments:
        T: the number of steps.
        channels: C.
        dims: which of "T", "C" and "S", in this order.
        t_reduction, c_reduction: how many steps, and channels, there are to a hidden unit.
        kernel_size: of K; odd.
        rectify: whether there is the ReLU.

    Input and output `[T, B, C, H, W]`. It looks ahead: a Stream refuses it.

    Raises:
        ValueError: no such dims; a reduction that leaves no hidden unit; an even kernel; when called, another
            number of steps or channels.
    """

    sees_time = True

    def __init__(
        self,
        T: int,
        channels: int,
        dims: str = "TCS",
        *,
        t_reduction: int = 16,
        c_reduction: int = 16,
        kernel_size: int = 3,
        rectify: bool = True,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if not dims or dims != "".join(d for d in "TCS" if d in dims):
            raise ValueError(f"{name}: dims = {dims!r}; some of 'TCS', each once and in this order, as 'TC'")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"{name}: kernel_size = {kernel_size}; an odd number is needed, as 3 or 7")
        self.steps, self.channels, self.dims, self.rectify = T, channels, dims, rectify
        self.temporal = self.channel = self.spatial = None
        if "T" in dims:
            _check_reduction(self, "T", T, "t_reduction", t_reduction)
            self.temporal = _Squeeze(T, t_reduction, 0, bias=False, maxima=True)
        if "C" in dims:
            _check_reduction(self, "channels", channels, "c_reduction", c_reduction)
            self.channel = _Squeeze(channels, c_reduction, 2, bias=False, maxima=True)
        if "S" in dims:
            self.spatial = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return x, `[T, B, C, H, W]`, scaled."""
        _check_steps(self, x, self.steps)
        if x.ndim != 5 or x.shape[2] != self.channels:
            raise ValueError(
                f"{type(self).__name__} takes [T, B, {self.channels}, H, W], but was given shape "
                f"{tuple(x.shape)}"
            )
        if self.temporal is not None:
            x = x * self.temporal(x)
        if self.channel is not None:
            x = x * self.channel(x)
        if self.spatial is not None:
            seen = torch.stack([x.mean((0, 2)), x.amax((0, 2))], 1)
            x = x * torch.sigmoid(self.spatial(seen)).unsqueeze(0)
        return torch.relu(x) if self.rectify else x

    def extra_repr(self) -> str:
        """Show what it was made with."""
        return f"T={self.steps}, channels={self.channels}, dims={self.dims!r}"


def _check_reduction(module: nn.Module, what: str, size: int, name: str, reduction: int) -> None:
    if size < 1 or not 1 <= reduction <= size:
        raise ValueError(
            f"{type(module).__name__}: {what} = {size}, {name} = {reduction}; at least one hidden unit is "
            f"needed: {name} from 1 to {max(size, 1)}"
        )


def _check_steps(module: nn.Module, x: Tensor, steps: int) -> None:
    stream.refuse(module, "looks ahead")
    name = type(module).__name__
    if x.ndim < 3:
        raise ValueError(f"{name} takes [T, B, C, ...], but was given shape {tuple(x.shape)}")
    if len(x) != steps:
        raise ValueError(
            f"{name} has weights of each of T = {steps} steps, but was given {len(x)} steps, shape "
            f"{tuple(x.shape)}; build it with T={len(x)}"
        )
