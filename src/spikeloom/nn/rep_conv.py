"""Convolutions that are trained in several layers, and are one layer when they are used."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..announce import announce
from .fold import evaluation_copy
from .norm_neuron import has_hooks


class RepConv(nn.Module):
    r"""A 3x3 convolution, trained as 1x1, depthwise 3x3 and 1x1 with batch norms (Yao et al., ICLR 2024,
    arXiv:2404.03663).

    $$y = \mathrm{BN}_2(W_2 * (K * \mathrm{pad}(\mathrm{BN}_1(W_1 * x))))$$

    All of it is linear in evaluation, so that `merge()` makes one convolution of it. For that the border of
    one pixel holds what BN_1 makes of zero, $\beta - \mu\gamma / \sqrt{\sigma^2 + \epsilon}$ with running
    statistics, of training, too; no gradient flows through it.

    The norms are torch's own, as those are what merges; a norm of another kind stands behind.

    Arguments:
        in_channels: of the input, and of the layers within.
        out_channels: of the output.
        branches: how many such convolutions of the same input, each for its share of the output, as q, k
            and v are three: W_1 and K have so many times the channels, and W_2 so many groups.

    Input `[N, C, H, W]`, inside of `sl.PerStep`; output `[N, out_channels, H, W]`.

    Raises:
        ValueError: channels or branches below 1; branches that do not divide out_channels.
    """

    def __init__(self, in_channels: int, out_channels: int, branches: int = 1) -> None:
        super().__init__()
        if in_channels < 1 or branches < 1 or out_channels < 1 or out_channels % branches:
            raise ValueError(
                f"RepConv: {in_channels} channels to {out_channels} in {branches} branches; at least one of "
                "each is needed, and as many output channels of every branch"
            )
        inner = branches * in_channels
        self.first = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(inner)
        self.depthwise = nn.Conv2d(inner, inner, 3, groups=inner, bias=False)
        self.last = nn.Conv2d(inner, out_channels, 1, groups=branches, bias=False)
        self.last_norm = nn.BatchNorm2d(out_channels)
        self.branches = branches

    def forward(self, x: Tensor) -> Tensor:
        """Return `[N, out_channels, H, W]` for x, `[N, C, H, W]`."""
        y = functional.pad(self.first_norm(self.first(x)), (1, 1, 1, 1))
        # what is padded has no gradient; the norm has counted this batch already
        with torch.no_grad():
            border = _scale_and_shift(self.first_norm)[1].to(y.dtype)[:, None]
            y[:, :, 0], y[:, :, -1] = border, border
            y[:, :, :, 0], y[:, :, :, -1] = border, border
        out: Tensor = self.last_norm(self.last(self.depthwise(y)))
        return out

    @torch.no_grad()
    def merge(self) -> nn.Conv2d:
        """Return one 3x3 convolution with the outputs that this has in evaluation, borders included."""
        out, g = self.last.out_channels, self.branches
        scale, shift = _scale_and_shift(self.first_norm, torch.float64)
        last_scale, last_shift = _scale_and_shift(self.last_norm, torch.float64)
        first = self.first.weight.double()[:, :, 0, 0] * scale[:, None]
        taps = self.depthwise.weight.double()[:, 0]
        last = self.last.weight.double()[:, :, 0, 0].unflatten(0, (g, -1))
        a, k = first.unflatten(0, (g, -1)), taps.unflatten(0, (g, -1))
        weight = torch.einsum("goh,ghuv,ghi->goiuv", last, k, a).flatten(0, 1)
        constant = torch.einsum("goh,gh->go", last, k.sum((-2, -1)) * shift.unflatten(0, (g, -1))).flatten()
        merged = _unfilled(self.first.weight, self.first.in_channels, out, 3)
        merged.weight.copy_(weight * last_scale[:, None, None, None])
        assert merged.bias is not None
        merged.bias.copy_(constant * last_scale + last_shift)
        return merged.train(self.training)


class SeparableConv2d(nn.Sequential):
    r"""A depthwise convolution and a 1x1 convolution, $y = W * (K * x)$, with nothing between them.

    `merge()` makes one convolution of the two, which sees what the first one saw: spikes, where the 1x1 sees
    sums of them.

    Arguments:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: of K, odd; the output has the input's height and width.

    Input `[N, C, H, W]`, inside of `sl.PerStep`; output `[N, out_channels, H, W]`.

    Raises:
        ValueError: an even kernel size.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"SeparableConv2d: kernel_size = {kernel_size}; it must be odd, as 3 or 7")
        depthwise = nn.Conv2d(
            in_channels,
            in_channels,
            kernel_size,
            padding=kernel_size // 2,
            groups=in_channels,
            bias=False,
        )
        last = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        super().__init__(OrderedDict(depthwise=depthwise, last=last))

    @torch.no_grad()
    def merge(self) -> nn.Conv2d:
        """Return one convolution with the same outputs; with a bias where `sl.fold` gave one."""
        depthwise, last = cast(tuple[nn.Conv2d, nn.Conv2d], tuple(self))
        taps, weight = depthwise.weight[:, 0], last.weight[:, :, 0, 0]
        out, channels = weight.shape
        size = taps.shape[-1]
        merged = _unfilled(weight, channels, out, size, bias=last.bias is not None)
        merged.weight.copy_(weight[:, :, None, None] * taps)
        if merged.bias is not None and last.bias is not None:
            merged.bias.copy_(last.bias)
        return merged.train(self.training)


def merge(net: nn.Module) -> nn.Module:
    """Return a copy of a network, for evaluation, each `RepConv` and `SeparableConv2d` in it one convolution.

    The outputs are the same, to rounding. Then every convolution sees the spikes themselves, so that it only
    adds, which is what a chip for spikes computes and what operations are counted by. Dense hardware is the
    faster without it: one 3x3 convolution has more than four times the products of its three parts.
    `sl.fold(sl.nn.merge(net))` folds the norms behind them, too. `net` is left as it is; a layer that has
    hooks, or a part with hooks, stays, announced.

    Arguments:
        net: a network in evaluation mode.

    Raises:
        TypeError: not a module.
        RuntimeError: a network in training mode, whose norms take their statistics from the batch.
    """
    net = evaluation_copy(net, "sl.nn.merge")
    merged: dict[nn.Module, nn.Module] = {}
    for path, module in net.named_modules():
        if not isinstance(module, (RepConv, SeparableConv2d)):
            continue
        if any(has_hooks(part) for part in module.modules()):
            announce(f"merge leaves {type(module).__name__} {path!r} as it is: it has hooks")
        else:
            merged[module] = module.merge()
    for parent, name, child in list(_children(net)):
        if child in merged:
            setattr(parent, name, merged[child])
    return merged.get(net, net)


def _unfilled(like: Tensor, channels: int, out: int, size: int, bias: bool = True) -> nn.Conv2d:
    """Return a convolution whose weights are still to be written, as which they draw no random numbers."""
    made = nn.utils.skip_init(
        nn.Conv2d, channels, out, size, padding=size // 2, bias=bias, device=like.device, dtype=like.dtype
    )
    return cast(nn.Conv2d, made)


def _children(net: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Go through all places of a module in another; one that is used twice, has two."""
    for module in net.modules():
        for name, child in module._modules.items():
            if child is not None:
                yield module, name, child


def _scale_and_shift(norm: nn.BatchNorm2d, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """Return what a norm in evaluation multiplies by and what it adds, a channel."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, var, weight, bias = (
        value.to(dtype) for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    scale = weight / (var + norm.eps).sqrt()
    return scale, bias - mean * scale
