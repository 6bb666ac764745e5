"""Patch embedding with deformed shortcut: shapes of its three forms, and its equation by hand."""

from __future__ import annotations

import pytest
import torch
from naive import lif
from torch import Tensor, nn
from torch.nn import functional

import spikeloom as sl
from spikeloom.names import UnknownName
from spikeloom.nn import SPEDS

FORMS = {  # channels, poolings, by how much height and width shrink
    "imagenet, first": ((4, 8, 8), (True, False), 2),
    "imagenet, later": ((4, 8, 8), (True, False), 2),
    "cifar, first": ((4, 8), (False,), 1),
    "cifar, later": ((4, 8, 8), (False, True), 2),
    "dvs, first": ((4, 6, 8), (True, True), 4),
}


def normed(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Over steps, samples and positions, a channel."""
    channels = []
    for c in range(x.shape[2]):
        values = x[:, :, c]
        mean, var = values.mean(), values.var(unbiased=False)
        channels.append(norm.weight[c] * (values - mean) / torch.sqrt(var + norm.eps) + norm.bias[c])
    return torch.stack(channels, 2)


def each_image(x: Tensor, layer: nn.Module) -> Tensor:
    """A layer on each step's image of each sample by itself."""
    return torch.stack([torch.stack([layer(image[None])[0] for image in step]) for step in x])


def pooled(x: Tensor) -> Tensor:
    """The largest of 3x3 about every second pixel, beyond the border nothing."""
    padded = functional.pad(x, (1, 1, 1, 1), value=-torch.inf)
    rows = range(0, x.shape[-2], 2)
    columns = range(0, x.shape[-1], 2)
    return torch.stack(
        [torch.stack([padded[..., i : i + 3, j : j + 3].amax((-1, -2)) for j in columns], -1) for i in rows],
        -2,
    )


def naive(net: SPEDS, x: Tensor, pools: tuple[bool, ...], order: str) -> Tensor:
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    s = lif(x) if order == "pre" else x
    y = s
    for i, pool in enumerate(pools):
        y = normed(each_image(y, convs[i]), norms[i])
        y = pooled(y) if pool else y
        y = y if order == "pre" and i == len(pools) - 1 else lif(y)
    short = normed(each_image(s, convs[-1]), norms[-1])
    return y + (short if order == "pre" else lif(short))


def build(form: str, order: str = "post") -> SPEDS:
    torch.manual_seed(2)
    channels, pools, _ = FORMS[form]
    net = SPEDS(channels, pools, order)  # type: ignore[arg-type]
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, 0.0, 1.0)
    return net


@pytest.mark.parametrize("order", ["post", "pre"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [(8, 8), (5, 7)])
def test_it_is_its_equation(form: str, order: str, size: tuple[int, int]) -> None:
    net = build(form, order).double()
    x = torch.randint(0, 2, (3, 2, 4, *size)).double()
    y = net(x)
    torch.testing.assert_close(y, naive(net, x, FORMS[form][1], order))
    stride = FORMS[form][2]
    assert y.shape[-2:] == tuple(-(-side // stride) for side in size)
    if order == "post":
        assert set(y.unique().tolist()) == {0.0, 1.0, 2.0}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("order", ["post", "pre"])
def test_every_parameter_learns(form: str, order: str) -> None:
    net = build(form, order)
    x = (4 * torch.rand(3, 2, 4, 8, 8)).requires_grad_()
    net(x).square().sum().backward()
    assert x.grad is not None
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


@pytest.mark.parametrize("order", ["post", "pre"])
@pytest.mark.parametrize("form", FORMS)
def test_folded(form: str, order: str) -> None:
    net = build(form, order).eval()
    x = torch.rand(3, 2, 4, 8, 8)
    folded = sl.fold(net)
    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]
    torch.testing.assert_close(folded(x), net(x), rtol=1e-4, atol=1e-5)


def test_channels_last_stays() -> None:
    net = build("imagenet, later").to(memory_format=torch.channels_last)
    x = torch.rand(3, 2, 8, 8, 4).movedim(-1, 2)
    assert net(x).stride(2) == 1


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"channels = \(4, 8\) makes 1 convolutions, but pools = .* is of 2"):
        SPEDS((4, 8), (True, False))
    with pytest.raises(ValueError, match="at least one"):
        SPEDS((4,), ())
    with pytest.raises(UnknownName, match="no order 'prae'; did you mean 'pre'"):
        SPEDS((4, 8), (True,), "prae")  # type: ignore[arg-type]
