"""RepConv and separable convolutions: their equations, and the one convolution that they merge to."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import spikeloom as sl
from spikeloom.nn import RepConv, SeparableConv2d, merge


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def ready(net: nn.Module) -> nn.Module:
    """Return the network in eval and float64, with norms that do something."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.weight, module.bias, module.running_mean, module.running_var):
                assert value is not None
                value.data.uniform_(0.5, 1.5)
    return net.double().eval()


def response(norm: nn.BatchNorm2d) -> Tensor:
    """Return what a norm makes of zero."""
    zero = torch.zeros(1, norm.num_features, 1, 1, dtype=torch.float64)
    return copy.deepcopy(norm).eval()(zero).detach()


def naive(conv: RepConv, x: Tensor) -> Tensor:
    """One branch after the other, one pixel after the other."""
    y = conv.first_norm(functional.conv2d(x, conv.first.weight))
    n, inner, height, width = y.shape
    padded = response(conv.first_norm).expand(n, inner, height + 2, width + 2).clone()
    padded[:, :, 1:-1, 1:-1] = y
    z = torch.zeros_like(y)
    for c in range(inner):
        for i in range(height):
            for j in range(width):
                window = padded[:, c, i : i + 3, j : j + 3]
                z[:, c, i, j] = (window * conv.depthwise.weight[c, 0]).sum((-2, -1))
    own = z.chunk(conv.branches, 1)
    last = conv.last.weight.chunk(conv.branches)
    parts = [torch.einsum("nchw,oc->nohw", a, w[:, :, 0, 0]) for a, w in zip(own, last, strict=True)]
    out: Tensor = conv.last_norm(torch.cat(parts, 1))
    return out


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("channels", "out", "branches"), [(3, 4, 1), (2, 6, 3)])
def test_the_equation(channels: int, out: int, branches: int, training: bool) -> None:
    conv = ready(RepConv(channels, out, branches)).train(training)
    assert isinstance(conv, RepConv)
    other = copy.deepcopy(conv)
    x = torch.randn(2, channels, 4, 5, dtype=torch.float64)
    one, two = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, wanted = conv(one), naive(other, two)
    torch.testing.assert_close(y, wanted)
    up = torch.randn_like(y)
    grads = torch.autograd.grad(y, [one, *conv.parameters()], up)
    for a, b in zip(grads, torch.autograd.grad(wanted, [two, *other.parameters()], up), strict=True):
        torch.testing.assert_close(a, b)


def test_parameters() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in RepConv(512, 512).parameters()) == 530_944
        assert sum(p.numel() for p in RepConv(512, 3 * 512, 3).parameters()) == 3 * 530_944


@pytest.mark.parametrize(("channels", "out", "branches"), [(3, 5, 1), (4, 6, 3), (1, 2, 2)])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (6, 5)])
def test_merged_it_is_one_convolution(channels: int, out: int, branches: int, size: tuple[int, int]) -> None:
    conv = ready(RepConv(channels, out, branches))
    assert isinstance(conv, RepConv)
    merged = conv.merge()
    assert merged.weight.shape == (out, channels, 3, 3)
    assert not merged.training
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    torch.testing.assert_close(merged(x), conv(x), rtol=1e-12, atol=1e-12)
    single = conv.float()
    torch.testing.assert_close(single.merge()(x.float()), single(x.float()), rtol=1e-5, atol=1e-5)


def test_a_border_of_zeros_would_be_wrong() -> None:
    conv = ready(RepConv(2, 2))
    assert isinstance(conv, RepConv)
    x = torch.randn(1, 2, 5, 5, dtype=torch.float64)
    y = functional.pad(conv.first_norm(conv.first(x)), (1, 1, 1, 1))
    zeros = conv.last_norm(conv.last(conv.depthwise(y)))
    torch.testing.assert_close(zeros[..., 1:-1, 1:-1], conv(x)[..., 1:-1, 1:-1])
    assert not torch.isclose(zeros, conv(x))[..., 0, :].any()


@pytest.mark.parametrize("size", [1, 3, 7])
def test_separable(size: int) -> None:
    conv = SeparableConv2d(3, 4, size).double()
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    padded = functional.pad(x, (size // 2,) * 4)
    wanted = torch.zeros(2, 4, 6, 5, dtype=torch.float64)
    for o in range(4):
        for c in range(3):
            kernel = conv.last.weight[o, c] * conv.depthwise.weight[c : c + 1]
            wanted[:, o] += functional.conv2d(padded[:, c : c + 1], kernel)[:, 0]
    torch.testing.assert_close(conv(x), wanted)
    torch.testing.assert_close(conv.merge()(x), wanted)


def network() -> nn.Sequential:
    rep = RepConv(3, 4)
    return nn.Sequential(
        sl.nn.chain(rep, nn.BatchNorm2d(4), sl.LIF()),
        sl.PerStep(SeparableConv2d(4, 4, 3)),
        sl.nn.chain(RepConv(4, 4), nn.BatchNorm2d(4), sl.LIF()),
    )


def test_all_of_a_network_are_merged_and_then_folded() -> None:
    net = ready(network())
    x = torch.randn(3, 2, 3, 5, 6, dtype=torch.float64)
    before = copy.deepcopy(net.state_dict())
    seed = torch.get_rng_state()
    merged = merge(net)
    assert torch.equal(torch.get_rng_state(), seed)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(isinstance(m, (RepConv, SeparableConv2d)) for m in merged.modules())
    assert not any(m.training for m in merged.modules())
    torch.testing.assert_close(merged(x), net(x))
    folded = sl.fold(merged)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    torch.testing.assert_close(folded(x), net(x))
    # without merging, norms fold into separable convolutions, which merge then, too
    separable = ready(sl.nn.chain(SeparableConv2d(3, 4, 3), nn.BatchNorm2d(4), sl.LIF()))
    folded = sl.fold(separable)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    for net_of_less in (folded, merge(folded)):
        torch.testing.assert_close(net_of_less(x), separable(x))
    assert isinstance(merge(folded)[0][0], nn.Conv2d)
    # the network itself, and one that is used twice
    torch.testing.assert_close(merge(net[0][0][0])(x[0]), net[0][0][0](x[0]))
    shared = ready(RepConv(3, 3))
    twice = sl.PerStep(shared, shared).eval()
    both = merge(twice)
    assert both[0] is both[1]
    torch.testing.assert_close(both(x), twice(x))


def test_what_has_hooks_stays() -> None:
    net = ready(network())
    net[0][0][0].first.register_forward_hook(lambda *_: None)
    with pytest.warns(UserWarning, match="merge leaves RepConv '0.0.0' as it is: it has hooks"):
        merged = merge(net)
    assert [isinstance(m, RepConv) for m in (merged[0][0][0], merged[2][0][0])] == [True, False]


def test_half_precision_and_channels_last() -> None:
    conv = ready(RepConv(3, 4)).float()
    x = torch.randn(2, 3, 6, 6)
    like = x.to(memory_format=torch.channels_last)
    torch.testing.assert_close(conv.to(memory_format=torch.channels_last)(like), conv(x))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(conv(x).float(), conv.float()(x).float())
    half = copy.deepcopy(conv).bfloat16()
    torch.testing.assert_close(half(x.bfloat16()).float(), conv(x), rtol=0.1, atol=0.2)
    assert half.merge().weight.dtype == torch.bfloat16


def test_it_compiles() -> None:
    conv = RepConv(3, 4)
    other = copy.deepcopy(conv)
    x = torch.randn(2, 3, 5, 5)
    whole = torch.compile(other, fullgraph=True, backend="aot_eager")
    for net, run in ((conv, conv), (other, whole)):
        run(x).square().sum().backward()
        assert all(p.grad is not None for p in net.parameters())
    for a, b in zip(conv.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    for a, b in zip(conv.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(a, b)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="4 channels to 5 in 3 branches"):
        RepConv(4, 5, 3)
    with pytest.raises(ValueError, match="at least one"):
        RepConv(0, 5)
    with pytest.raises(ValueError, match="kernel_size = 4; it must be odd"):
        SeparableConv2d(4, 4, 4)
    with pytest.raises(RuntimeError, match=r"merge: .* is in training mode"):
        merge(network())
    with pytest.raises(TypeError, match="takes a network, not str"):
        merge("net")  # type: ignore[arg-type]
