"""Weights at learnable positions: against loops and numbers worked out by hand, and convolutions."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.names import UnknownName
from spikeloom.nn import Dcls1d, Dcls2d, Dcls3d, dcls_kernel

VERSIONS = ("gauss", "max", "v1", "v0")
SIZES = [(1,), (2,), (7,), (4, 3), (2, 3, 4)]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def drawn(size: tuple[int, ...], k: int = 2) -> tuple[Tensor, Tensor]:
    """Return weights [3, 2, k] and positions within half a kernel, in float64."""
    weight = torch.randn(3, 2, k, dtype=torch.float64)
    rows = [n * (torch.rand(3, 2, k, dtype=torch.float64) - 0.5) for n in size]
    return weight, torch.stack(rows)


def naive(weight: Tensor, positions: Tensor, size: tuple[int, ...], sigma: float, version: str) -> Tensor:
    """Return the kernel, a number at a time."""

    def one(i: int, c: float) -> float:
        if version == "gauss":
            return math.exp(-0.5 * ((i - c) / (abs(sigma) + 0.27)) ** 2)
        if version == "max":
            return max(0.0, abs(sigma) + 1 - abs(i - c))
        if version == "v1":
            return max(0.0, 1 - abs(i - c))
        f = math.floor(c)
        return {f: 1 - (c - f), f + 1: c - f}.get(i, 0.0)

    out = torch.zeros(*weight.shape[:2], *size, dtype=torch.float64)
    for o, i, k in itertools.product(*map(range, weight.shape)):
        a = {}
        for at in itertools.product(*map(range, size)):
            cs = [float(positions[d, o, i, k]) + n // 2 for d, n in enumerate(size)]
            a[at] = math.prod(one(tap, c) for tap, c in zip(at, cs, strict=True))
        total = 1.0 if version == "v0" else sum(a.values()) + 1e-7
        for at, value in a.items():
            out[(o, i, *at)] += float(weight[o, i, k]) * value / total
    return out


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_equation(version: Any, size: tuple[int, ...]) -> None:
    weight, positions = drawn(size)
    for sigma in (0.0, 0.23, -1.7):
        want = naive(weight, positions, size, sigma, version)
        torch.testing.assert_close(dcls_kernel(weight, positions, size, sigma, version), want)
        found = dcls_kernel(weight, positions, size, torch.tensor(sigma), version)
        torch.testing.assert_close(found, want, rtol=1e-6, atol=1e-7)


def test_by_hand() -> None:
    def kernel(version: Any, p: float, sigma: float = 0.0, L: int = 5) -> list[float]:
        given = torch.full((1, 1, 1, 1), p, dtype=torch.float64)
        return dcls_kernel(2 * torch.ones_like(given[0]), given, (L,), sigma, version).flatten().tolist()

    # the middle of 5 taps is tap 2: a weight of 2 at 2.25
    assert kernel("v1", 0.25) == pytest.approx([0, 0, 1.5, 0.5, 0], abs=1e-6)
    assert kernel("v0", 0.25) == pytest.approx([0, 0, 1.5, 0.5, 0])
    # sigma 1: triangles of half width 2 about 2: 0, 1, 2, 1, 0, which are 4
    assert kernel("max", 0.0, 1.0) == pytest.approx([0, 0.5, 1, 0.5, 0], abs=1e-6)
    # width 1: e^0, e^-1/2, e^-2
    ends = [math.exp(-2), math.exp(-0.5), 1, math.exp(-0.5), math.exp(-2)]
    assert kernel("gauss", 0.0, 0.73) == pytest.approx([2 * a / sum(ends) for a in ends], abs=1e-6)
    # at -0.5, half of it outside: lost without normalisation
    assert kernel("v0", -2.5) == pytest.approx([1, 0, 0, 0, 0])
    assert kernel("v1", -2.5) == pytest.approx([2, 0, 0, 0, 0], abs=1e-6)
    # normalised, what is spread is not scaled
    for sigma in (0.0, 0.5, 3.0, 12.0):
        assert sum(kernel("gauss", 0.7, sigma)) == pytest.approx(2, abs=1e-6)


@pytest.mark.parametrize("size", [(5,), (3, 4), (2, 3, 3)])
@pytest.mark.parametrize("version", VERSIONS)
def test_gradients(version: Any, size: tuple[int, ...]) -> None:
    weight, positions = drawn(size, k=1)
    positions.mul_(0.9)  # off the corners of the triangles
    sigma = torch.tensor(0.61, dtype=torch.float64, requires_grad=version in ("gauss", "max"))
    leaves = (weight.requires_grad_(), positions.requires_grad_(), sigma)
    assert torch.autograd.gradcheck(lambda w, p, s: dcls_kernel(w, p, size, s, version), leaves, eps=1e-7)


@pytest.mark.parametrize("kind", [Dcls1d, Dcls2d, Dcls3d])
@pytest.mark.parametrize("version", VERSIONS)
def test_layers_are_convolutions_with_that_kernel(kind: Any, version: Any) -> None:
    d = kind.axes
    layer = kind(4, 6, 3, kernel_count=2, stride=2, padding=1, groups=2, version=version).double()
    plain: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[d - 1](4, 6, 3, stride=2, padding=1, groups=2).double()
    x = torch.randn(2, 4, *(5, 6, 7)[:d], dtype=torch.float64)
    layer.bias.data.normal_()
    for training in (True, False):
        layer.train(training)
        with torch.no_grad():
            plain.weight.copy_(layer.kernel())
            plain.bias.copy_(layer.bias)
        torch.testing.assert_close(layer(x), plain(x))
    steps = torch.stack([x, 2 * x])
    torch.testing.assert_close(sl.PerStep(layer)(steps), torch.stack([layer(x), layer(2 * x)]))
    assert layer.float()(x.float()).dtype == torch.float32
    assert layer(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("L", [1, 2, 5, 6])
def test_evaluation_has_each_weight_on_one_tap(L: int) -> None:
    layer = Dcls1d(3, 4, L)
    layer.positions.data.uniform_(-L / 2, L / 2)
    layer.positions.data.flatten()[:2] = torch.tensor([-L / 2, L / 2])
    layer.eval()
    kernel = layer.kernel()
    where = (layer.positions[0].round() + L // 2).clamp(0, L - 1).long()
    want = torch.zeros(4, 3, L).scatter_(2, where, layer.weight)
    torch.testing.assert_close(kernel, want, rtol=1e-6, atol=0)
    assert torch.equal(layer.taps()[0], where)
    assert bool(((kernel != 0).sum(-1) == 1).all())


def test_positions_are_put_back_and_sigma_falls() -> None:
    layer, single = Dcls2d(1, 2, (6, 3)), Dcls1d(1, 2, 1)
    net = nn.Sequential(layer, nn.ReLU(), single)
    with torch.no_grad():
        layer.positions.fill_(50.0)
        layer.positions[:, 0] = -50.0
    sl.nn.settle(net)
    assert layer.positions.amax((1, 2, 3)).tolist() == [3.0, 1.5]
    assert layer.positions.amin((1, 2, 3)).tolist() == [-3.0, -1.5]
    # 3 (half of 6) falls to 0.23 in a quarter of the run, by a constant factor an epoch
    for done, sigma in ((0, 3.0), (0.125, math.sqrt(3 * 0.23)), (0.25, 0.23), (0.7, 0.23), (1, 0.23)):
        sl.nn.follow(net, done)
        assert float(layer.sigma) == pytest.approx(sigma, rel=1e-6)
    assert float(single.sigma) == pytest.approx(0.23)
    with pytest.raises(ValueError, match=r"done = 1.5; the share"):
        sl.nn.follow(net, 1.5)
    assert "sigma" in layer.state_dict()
    assert sum(p.numel() for p in layer.parameters()) == 2 + 2 * 2 + 2  # weights, positions, bias


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dcls1d(3, 4, 5, groups=2), "not divided by groups = 2; take a number"),
        (lambda: Dcls1d(3, 4, 5, kernel_count=6), "kernel_count = 6 weights for 5 taps; give no more"),
        (lambda: Dcls1d(3, 4, 0), "taps = 0; at least 1"),
        (lambda: Dcls1d(3, 0, 5), "out_channels = 0; at least 1"),
        (lambda: Dcls2d(3, 4, (5, 5, 5)), "one for each of 2 axes"),
        (lambda: Dcls2d(3, 4, 5, stride=0), "stride = 0"),
        (lambda: Dcls1d(3, 4, 5)(torch.rand(2, 5, 9)), r"takes \[N, 3\] and 1 axes.*sl.PerStep"),
        (lambda: Dcls2d(3, 4, 5)(torch.rand(2, 3, 4, 9)), "larger than .*pad more, or take a smaller"),
        (lambda: dcls_kernel(torch.rand(2, 2), torch.rand(1, 2, 2), (3,), 0), r"weight \[out, in, k\]"),
    ],
)
def test_what_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_no_such_version() -> None:
    version: Any = "gaus"
    with pytest.raises(UnknownName, match="did you mean 'gauss'"):
        Dcls1d(3, 4, 5, version=version)
    with pytest.raises(UnknownName, match="did you mean 'gauss'"):
        dcls_kernel(torch.rand(1, 1, 1), torch.rand(1, 1, 1, 1), (3,), 0, version)
