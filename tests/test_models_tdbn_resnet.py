"""Networks with tdBN, and TET's ResNet-19: numbers of parameters, and each against its equations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import spikeloom as sl
from spikeloom.models import find_model
from spikeloom.models.tdbn_resnet import TdBNCifarNet, TdBNResNet
from spikeloom.nn import ThresholdDependentBatchNorm2d

COUNTED = [
    ("tdbn_resnet19", {}, 12_630_858),
    ("tdbn_resnet19", {"num_classes": 100}, 12_653_988),
    ("tdbn_resnet19", {"norm": "BN"}, 12_630_858),
    ("tet_resnet19", {}, 12_630_858),
    ("tdbn_cifar_net", {}, 45_005_450),
]


def parameters(name: str, **arguments: Any) -> int:
    with torch.device("meta"):
        net = sl.create_model(name, **arguments)
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(("name", "arguments", "counted"), COUNTED)
def test_parameters(name: str, arguments: dict[str, Any], counted: int) -> None:
    assert parameters(name, **arguments) == counted


def test_parameters_that_others_round_or_that_follow_from_the_layers() -> None:
    assert parameters("tdbn_resnet34") == 21_797_672  # ResNet-34's own
    assert round(parameters("tdbn_resnet34") / 1e6) == 22
    assert round(parameters("tdbn_resnet34_large") / 1e6) == 86
    # a stem of 128 channels: 64 more, 64 more inputs of the first block, and no projection
    stem, first, projection = 64 * 27 + 2 * 64, 64 * 128 * 9, 64 * 128 + 2 * 128
    wide = parameters("tdbn_resnet19", channels=(128, 128, 256, 512))
    assert wide == 12_630_858 + stem + first - projection


def small(name: str, **more: Any) -> TdBNResNet | TdBNCifarNet:
    torch.manual_seed(0)
    net = sl.create_model(name, **{**find_model(name).cls.small, **more})
    assert isinstance(net, (TdBNResNet, TdBNCifarNet))
    return net


def rect(u: Tensor) -> Tensor:
    """A function whose derivative is 1 where |u| < 1/2, else 0."""
    return torch.clamp(u, -0.5, 0.5)


def triangle(u: Tensor) -> Tensor:
    """A function whose derivative is max(0, 1 - |u|)."""
    inside = torch.clamp(u, -1.0, 1.0)
    return inside - 0.5 * inside * inside.abs()


def neurons(x: Tensor, decay: float, threshold: float, smooth: Callable[[Tensor], Tensor]) -> Tensor:
    """Return s for u = decay u (1 - s) + x, a step at a time."""
    u, s, out = torch.zeros_like(x[0]), torch.zeros_like(x[0]), []
    for x_t in x:
        u = decay * u * (1 - s) + x_t
        over = smooth(u - threshold)
        s = (u >= threshold).to(x.dtype) + (over - over.detach())
        out.append(s)
    return torch.stack(out)


def normed(conv: nn.Module, norm: nn.Module, x: Tensor, scale: float) -> Tensor:
    """Return gamma (scale x^) + beta of a convolution's outputs, over steps, samples and positions."""
    conv, norm = cast(nn.Conv2d, conv), cast(nn.BatchNorm2d, norm)
    y = torch.stack([functional.conv2d(x_t, conv.weight, None, conv.stride, conv.padding) for x_t in x])
    mean = y.mean((0, 1, 3, 4), keepdim=True)
    var = (y - mean).square().mean((0, 1, 3, 4), keepdim=True)
    gamma, beta = (p.view(1, 1, -1, 1, 1) for p in (norm.weight, norm.bias))
    return gamma * scale * (y - mean) / torch.sqrt(var + 1e-5) + beta


@pytest.mark.parametrize(
    ("name", "decay", "threshold", "smooth"),
    [("tdbn_resnet19", 0.25, 0.4, rect), ("tet_resnet19", 0.5, 1.0, triangle)],
)
def test_against_its_equations(
    name: str, decay: float, threshold: float, smooth: Callable[[Tensor], Tensor]
) -> None:
    net = small(name, v_threshold=threshold).double().train()
    for k, p in net.named_parameters():
        if p.ndim == 1:  # so that there are spikes everywhere, but not always
            nn.init.uniform_(p, *((0.5, 1.5) if k.endswith("weight") else (0.0, 0.6 * threshold)))
    x = torch.randn(3, 4, 3, 8, 8, dtype=torch.float64)
    one = threshold if name == "tdbn_resnet19" else 1.0
    both = one / 2**0.5 if name == "tdbn_resnet19" else 1.0

    def fire(x: Tensor) -> Tensor:
        return neurons(x, decay, threshold, smooth)

    modules = dict(net.named_modules())
    y = fire(normed(modules["stem.0"], modules["stem.1"], x, one))
    for block in ("stages.0.1.0", "stages.1.0.0"):
        first, second = f"{block}.branch.0", f"{block}.branch.1.0"
        z = fire(normed(modules[f"{first}.0.0"], modules[f"{first}.1.norm"], y, one))
        z = normed(modules[f"{second}.0"], modules[f"{second}.1"], z, both)
        shortcut = f"{block}.shortcut.0"
        y = fire(z + normed(modules[f"{shortcut}.0"], modules[f"{shortcut}.1"], y, both))
    hidden, scores = (cast(nn.Linear, modules[f"head.{part}.0.0"]) for part in ("hidden", "scores"))
    y = scores(fire(hidden(y.mean((3, 4)))))
    y = (fire(y) if name == "tdbn_resnet19" else y).mean(0)

    out = net(x)
    assert y.any()
    torch.testing.assert_close(out, y)
    weight = torch.randn_like(y)
    wanted = torch.autograd.grad((y * weight).sum(), list(net.parameters()))
    found = torch.autograd.grad((out * weight).sum(), list(net.parameters()))
    assert all(g.any() for g in wanted)
    torch.testing.assert_close(found, wanted)


def test_a_threshold_is_given_once() -> None:
    for name in ("tdbn_resnet19", "tdbn_cifar_net"):
        net = small(name, v_threshold=0.7)
        found = [m for m in net.modules() if isinstance(m, (sl.LIF, ThresholdDependentBatchNorm2d))]
        assert {type(m) for m in found} == {sl.LIF, ThresholdDependentBatchNorm2d}
        assert {m.v_threshold for m in found} == {0.7}
        with pytest.raises(ValueError, match=r"give v_threshold=0.7, not neuron_options"):
            small(name, neuron_options={"v_threshold": 0.7})


def test_what_is_added_is_normed_to_half_the_variance() -> None:
    net = small("tdbn_resnet19", blocks=(2, 1))
    norms_ = {k: m for k, m in net.named_modules() if isinstance(m, ThresholdDependentBatchNorm2d)}
    added = {k for k in norms_ if "branch.1" in k or "shortcut" in k}
    assert len(added) == 5
    assert all(m.alpha == (0.5**0.5 if k in added else 1.0) for k, m in norms_.items())
    # of two independent ways the sum has the threshold's variance
    first, second = (norms_[k] for k in sorted(added)[1:3])
    assert first.num_features == second.num_features
    x = torch.randn(2, 5000, first.num_features, 1, 1)
    assert float((first(x[0]) + second(x[1])).std().detach()) == pytest.approx(0.5, rel=0.02)


def test_blocks_keep_the_shape_but_for_the_first_of_a_stage() -> None:
    with torch.device("meta"):
        net = sl.create_model("tdbn_resnet19", neuron="ReLU")
        assert isinstance(net, TdBNResNet)
        shapes = [tuple(s.shape[2:]) for s in net.forward_intermediates(torch.zeros(1, 1, 3, 32, 32))]
        assert shapes == [(128, 32, 32), (256, 16, 16), (512, 8, 8)]
        large = sl.create_model("tdbn_resnet34", neuron="ReLU")
        assert isinstance(large, TdBNResNet)
        shapes = [tuple(s.shape[2:]) for s in large.forward_intermediates(torch.zeros(1, 1, 3, 64, 64))]
        assert shapes == [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]


@pytest.mark.parametrize("name", ["tdbn_resnet19", "tdbn_resnet34", "tet_resnet19", "tdbn_cifar_net"])
def test_behind_the_encoder_convolutions_see_spikes_alone(name: str) -> None:
    net = small(name)
    found = sl.measure.profile(net, 3 * torch.rand(2, 3, *net.input_shape))
    kinds = {row.path: row.kinds for row in found.rows if row.kinds}
    assert kinds.pop("stem.0") == ("graded",)
    convolutions = {k: v for k, v in kinds.items() if k.startswith("stages.")}
    assert len(convolutions) >= 2
    assert set(convolutions.values()) == {("binary",)}
    if name == "tdbn_cifar_net":  # neurons behind its pooling, too
        assert set(kinds.values()) == {("binary",)}


@pytest.mark.parametrize("name", ["tdbn_resnet19", "tdbn_cifar_net"])
def test_scores_are_rates(name: str) -> None:
    net, each = small(name), small(name, readout="none")
    x = 3 * torch.rand(4, 2, *net.input_shape)
    assert set(each(x).unique().tolist()) <= {0.0, 1.0}
    rates = net(x) * 4
    torch.testing.assert_close(rates, rates.round())


@pytest.mark.parametrize("norm", ["BN", "tdBN"])
@pytest.mark.parametrize("name", ["tdbn_resnet19", "tdbn_resnet34", "tdbn_cifar_net"])
def test_static_streamed_and_folded(name: str, norm: str) -> None:
    more = {} if name == "tdbn_cifar_net" else {"spiking_scores": False}
    net = small(name, norm=norm, T=3, readout="none", **more).double()
    x = 3 * torch.rand(2, *net.input_shape, dtype=torch.float64)
    frames = torch.stack([x, 0.5 * x, 2 * x])
    for _ in range(20):
        net(frames)
    net.eval()
    torch.testing.assert_close(net(x), net(x.expand(3, *x.shape)))
    stream = sl.Stream(net)
    torch.testing.assert_close(torch.cat([stream(frames[:2]), stream(frames[2:])]), net(frames))
    folded = sl.fold(net)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    torch.testing.assert_close(folded(frames), net(frames))


def test_channels_and_blocks_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="channels are those of the stem and then of each stage, one more"):
        sl.create_model("tdbn_resnet19", channels=(4, 8), blocks=(1, 1))
