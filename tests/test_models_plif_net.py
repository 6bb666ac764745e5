"""PLIF nets: published numbers of parameters, and a whole small one against torch alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_cases import assert_same, conv, fire, norm, parameters, rows_of
from torch import Tensor, nn
from torch.nn import functional as F

import spikeloom as sl
from spikeloom.models.plif_net import PLIFNet

COUNTED: list[tuple[str, dict[str, Any], int]] = [
    ("plif_net_mnist", {}, 13_198_980),
    ("plif_net_fashion_mnist", {}, 13_198_980),
    ("plif_net_cifar10", {}, 36_718_344),
    ("plif_net_cifar10_dvs", {}, 17_427_718),
    ("plif_net_cifar10_dvs", {"hidden": 512, "bias": True}, 4_691_818),
    ("plif_net_dvs_gesture", {}, 1_698_311),
]


@pytest.mark.parametrize(("name", "options", "counted"), COUNTED)
def test_parameters(name: str, options: dict[str, Any], counted: int) -> None:
    assert parameters(name, **options) == counted


def test_parameters_of_the_one_for_n_mnist() -> None:
    # not counted in a reference, but by its table: 34 pixels, halved twice, are 8
    convolutions = 2 * 128 * 9 + 128 * 128 * 9 + 2 * 2 * 128
    assert parameters("plif_net_n_mnist") == convolutions + 128 * 8 * 8 * 2048 + 2048 * 100 + 4


def test_each_data_sets_net() -> None:
    wanted = {  # kernels of convolutions, poolings, votes
        "mnist": (2, 2, 100),
        "fashion_mnist": (2, 2, 100),
        "cifar10": (6, 2, 100),
        "n_mnist": (2, 2, 100),
        "cifar10_dvs": (4, 4, 100),
        "dvs_gesture": (5, 5, 110),
    }
    for name, (convolutions, pools, votes) in wanted.items():
        with torch.device("meta"):
            net = sl.create_model(f"plif_net_{name}")
        modules = list(net.modules())
        assert sum(isinstance(m, nn.Conv2d) for m in modules) == convolutions
        assert sum(isinstance(m, nn.MaxPool2d) for m in modules) == pools
        assert sum(isinstance(m, sl.PLIF) for m in modules) == convolutions + 2
        assert next(m for m in reversed(modules) if isinstance(m, nn.Linear)).out_features == votes


def tiny(**more: Any) -> PLIFNet:
    torch.manual_seed(0)
    net = sl.create_model("plif_net_mnist", **{**PLIFNet.small, **more})
    assert isinstance(net, PLIFNet)
    return net


def plif(x: Tensor, w: Tensor) -> Tensor:
    return fire(x, lambda v, x_t: v + torch.sigmoid(w) * (x_t - v))


@pytest.mark.parametrize("pool", ["max", "avg"])
def test_against_torch_alone(pool: Any) -> None:
    net = tiny(pool=pool, convolutions=2, in_channels=2, num_classes=3, dropout=0.0).double()
    for parameter in net.parameters():
        if parameter.ndim == 0:
            nn.init.normal_(parameter)
        elif parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
        elif parameter.ndim == 2:
            nn.init.normal_(parameter, 0.0, 8 / parameter.shape[1] ** 0.5)
    own = list(net.parameters())
    x = torch.randn(3, 2, 2, 16, 16, dtype=torch.float64, requires_grad=True)
    y = x
    for i in range(4):  # each: convolution, norm, neuron
        weight, scale, shift, w = own[4 * i : 4 * i + 4]
        y = plif(norm(conv(y, weight), scale, shift), w)
        if i % 2:
            pooled = F.max_pool2d if pool == "max" else F.avg_pool2d
            y = torch.stack([pooled(y_t, 2) for y_t in y])
    y = plif(y.flatten(2) @ own[16].T, own[17])
    y = plif(y @ own[18].T, own[19])
    assert y.shape[-1] == 3 * 10
    expected = torch.stack([y[:, :, 10 * k : 10 * k + 10].sum((0, 2)) / 30 for k in range(3)], -1)
    assert 0.05 < expected.mean() < 0.95
    assert_same(net(x), expected, [x, *own])


def test_scores_are_rates() -> None:
    net = tiny(T=4, readout="none")
    each = net(3 * torch.randn(8, *net.input_shape))
    assert each.shape == (4, 8, 5)
    assert torch.equal((each * 10).round() / 10, each)  # of ten neurons
    assert each.min() >= 0
    assert each.max() <= 1


def test_dropout_hides_the_same_at_all_steps() -> None:
    net = tiny(T=3)
    seen: list[Tensor] = []
    dropouts = [m for m in net.modules() if isinstance(m, sl.nn.SharedDropout)]
    assert [dropout.p for dropout in dropouts] == [0.5, 0.5]
    dropouts[0].register_forward_hook(lambda m, x, y: seen.extend([x[0], y]))
    x = 3 * torch.randn(8, *net.input_shape)
    net(x)
    before, after = seen
    kept = (after != 0).any(0)
    torch.testing.assert_close(after, before * kept * 2)
    assert not torch.equal(kept, (before != 0).any(0))


@pytest.mark.parametrize(("pool", "kind"), [("max", "binary"), ("avg", "graded")])
def test_max_pooling_keeps_spikes_binary(pool: Any, kind: str) -> None:
    net = tiny(pool=pool)
    rows = rows_of(net)
    assert len(rows) == 4
    assert [row.kinds[0] for row in rows] == ["graded", kind, kind, "binary"]


def test_sides_may_differ_and_every_norm_folds() -> None:
    net = tiny(image_size=(17, 25), convolutions=2)
    x = 3 * torch.randn(4, 1, 17, 25)
    net(x)
    net.double().eval()
    folded = sl.fold(net)  # which would announce what it leaves
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    torch.testing.assert_close(folded(x.double()), net(x.double()))


def test_bad_arguments() -> None:
    with pytest.raises(
        ValueError, match="5 poolings leave nothing of 16x16 pixels; give images of at least 32"
    ):
        tiny(pools=5)
    with pytest.raises(ValueError, match="no pooling 'mean'"):
        tiny(pool="mean")
    with pytest.raises(ValueError, match="convolutions = 0"):
        tiny(convolutions=0)
