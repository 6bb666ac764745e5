"""Layers of Spiking MLP: tokens are mixed along rows and columns, channels in each token, patches encoded."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..neurons import LIF
from .tokens import to_map, to_tokens
from .unit import Unit, chain, unit

Norms = Callable[[int], nn.Module]


class TokenMixer(nn.Module):
    r"""Mix each channel of a map along its height, and along its width, then all with what came in.

    $$a_{hw} = \mathrm{SN}(\mathrm{BN}_h(\textstyle\sum_{i} A_{hi}\,x_{iw} + \alpha_h)), \qquad
    b_{hw} = \mathrm{SN}(\mathrm{BN}_w(\textstyle\sum_{j} B_{wj}\,x_{hj} + \beta_w)), \qquad
    y_{hw} = \mathrm{BN}(W [x_{hw}, a_{hw}, b_{hw}])$$

    A and B are one matrix each for all channels, so that the norms behind them have a mean and a variance for
    each row h, and for each column w. With `fire`, $\mathrm{SN}(\mathrm{BN}(x))$ stands in x's place in the
    last equation. Spikes in, a membrane out. The spiking token block of Li et al., TNNLS 2024,
    arXiv:2306.12465.

    Arguments:
        channels: C.
        height, width: of the map.
        fire: whether x, too, passes a norm and a neuron.
        neuron: what makes a neuron.
        norm: what makes a batch norm of so many channels, over `[N, C, H, W]` (or, of one that sees time,
            `[T, B, C, H, W]`).

    Input and output `[T, B, C, H, W]`.

    Raises:
        ValueError: a map of another size.
    """

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        *,
        fire: bool = False,
        neuron: Unit = LIF,
        norm: Norms = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.size = channels, height, width
        # rows, or columns, take the place of channels: the neurons' channels are then on axis 3
        rows, columns = nn.Conv2d(height, height, 1), nn.Conv2d(width, width, 1)
        self.rows = chain(rows, norm(height), unit(neuron, channel_axis=3))
        self.columns = chain(columns, norm(width), unit(neuron, channel_axis=3))
        self.identity = chain(nn.Identity(), norm(channels), unit(neuron)) if fire else nn.Identity()
        self.fuse = chain(nn.Conv2d(3 * channels, channels, 1, bias=False), norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixed map's membrane for x, `[T, B, C, H, W]`."""
        _check("TokenMixer", x, self.size)
        a = self.rows(x.transpose(2, 3)).transpose(2, 3)
        b = self.columns(x.movedim(4, 2)).movedim(2, 4)
        y: Tensor = self.fuse(torch.cat((self.identity(x), a, b), 2))
        return y


class ChannelMixer(nn.Module):
    r"""Two linear layers over the channels of each token, with norms that belong to tokens.

    $$y_n = \mathrm{BN}_n(W_2\,\mathrm{SN}(\mathrm{BN}_n(W_1 x_n + b_1)) + b_2)$$

    The norms have a mean and a variance for each of the N = H W tokens, over steps, samples and channels.
    Spikes in, a membrane out. The spiking channel block of Li et al., TNNLS 2024, arXiv:2306.12465.

    Arguments:
        channels: C.
        height, width: of the map.
        hidden: channels between the layers.
        neuron: what makes a neuron.
        norm: what makes a batch norm, as in `TokenMixer`.

    Input and output `[T, B, C, H, W]`.

    Raises:
        ValueError: a map of another size.
    """

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        hidden: int,
        *,
        neuron: Unit = LIF,
        norm: Norms = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.size = channels, height, width
        tokens = height * width
        first, second = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        # within [T, B, N, 1, C], so that a norm finds tokens where it has its channels; a linear layer inside
        # of a Sequential works on the last axis there
        self.expand = chain(nn.Sequential(first), norm(tokens), unit(neuron, channel_axis=-1))
        self.reduce = chain(nn.Sequential(second), norm(tokens))

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixed map's membrane for x, `[T, B, C, H, W]`."""
        _check("ChannelMixer", x, self.size)
        y = self.reduce(self.expand(to_tokens(x).unsqueeze(3)))
        return to_map(y.squeeze(3), *self.size[1:])


class SpikingPatchEncoding(nn.Module):
    r"""Halve a map's height and width by a cell of three nodes, each of a third of the channels.

    $$n_1 = C_1 x, \qquad n_2 = C_2 x + D_1\,\mathrm{SN}(n_1), \qquad
    n_3 = C_3 x + n_1 + D_2\,\mathrm{SN}(n_2), \qquad y = [n_1, n_2, n_3]$$

    with C a 3x3 convolution of stride 2 and a norm, D one of stride 1 and a norm. Spikes in, a membrane out.
    Li et al., TNNLS 2024, arXiv:2306.12465.

    Arguments:
        channels: of the input.
        out: channels of the output, a multiple of 3.
        neuron: what makes a neuron.
        norm: what makes a batch norm, as in `TokenMixer`.

    Input `[T, B, C, H, W]`, output `[T, B, out, ceil(H / 2), ceil(W / 2)]`.

    Raises:
        ValueError: `out` is no multiple of 3.
    """

    def __init__(self, channels: int, out: int, *, neuron: Unit = LIF, norm: Norms = nn.BatchNorm2d) -> None:
        super().__init__()
        if out % 3 or out < 3:
            raise ValueError(
                f"SpikingPatchEncoding: out = {out} channels; its three nodes share them equally, so that a "
                f"multiple of 3 is needed, as {max(3, round(out / 3) * 3)}"
            )
        node = out // 3
        # the three convolutions of the input are one
        self.enter = chain(nn.Conv2d(channels, out, 3, 2, 1, bias=False), norm(out))
        self.neurons = nn.ModuleList(unit(neuron) for _ in range(2))
        self.between = nn.ModuleList(
            chain(nn.Conv2d(node, node, 3, 1, 1, bias=False), norm(node)) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the three nodes' membranes, one behind the other."""
        first, second, third = self.enter(x).chunk(3, 2)
        second = second + self.between[0](self.neurons[0](first))
        third = third + first + self.between[1](self.neurons[1](second))
        return torch.cat((first, second, third), 2)


def _check(name: str, x: Tensor, size: tuple[int, int, int]) -> None:
    if x.ndim != 5 or tuple(x.shape[2:]) != size:
        wanted = ", ".join(map(str, size))
        raise ValueError(
            f"{name} has weights of each row, column or token of [T, B, {wanted}], but was given shape "
            f"{tuple(x.shape)}; build it for that size"
        )
