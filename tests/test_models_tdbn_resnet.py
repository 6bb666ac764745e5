"""Networks with tdBN, and TET's ResNet-19: numbers of parameters, and each against its equations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from model_cases import assert_same, fire, layer, parameters, rect, static_streamed_and_folded, triangle
from torch import Tensor, nn

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

    def fired(x: Tensor) -> Tensor:
        return fire(x, lambda v, x_t: decay * v + x_t, threshold, smooth, detach=False)

    modules = dict(net.named_modules())

    def normed(x: Tensor, conv: str, norm: str, scale: float) -> Tensor:
        return layer(x, modules[conv], modules[norm], scale)

    y = fired(normed(x, "stem.0", "stem.1", one))
    for block in ("stages.0.1.0", "stages.1.0.0"):
        first, second, shortcut = f"{block}.branch.0", f"{block}.branch.1.0", f"{block}.shortcut.0"
        z = fired(normed(y, f"{first}.0.0", f"{first}.1.norm", one))
        z = normed(z, f"{second}.0", f"{second}.1", both)
        y = fired(z + normed(y, f"{shortcut}.0", f"{shortcut}.1", both))
    hidden, scores = (modules[f"head.{part}.0.0"] for part in ("hidden", "scores"))
    y = scores(fired(hidden(y.mean((3, 4)))))
    y = (fired(y) if name == "tdbn_resnet19" else y).mean(0)
    assert y.any()
    assert_same(net(x), y, list(net.parameters()))


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
    folded = static_streamed_and_folded(net)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())


def test_channels_and_blocks_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="channels are those of the stem and then of each stage, one more"):
        sl.create_model("tdbn_resnet19", channels=(4, 8), blocks=(1, 1))
