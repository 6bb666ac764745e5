"""Meta-SpikeFormer: published numbers, parts by hand, spikes at each product once merged, reference names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from naive import Checkpoint, layer_and_norm, lif, linear_and_norm
from torch import nn

import spikeloom as sl
from spikeloom.models import Backbone, example_input, load_reference
from spikeloom.models.meta_spikeformer import MetaSpikeFormer
from spikeloom.nn import RepConv, SeparableConv2d, merge

COUNTED = {
    "meta_spikeformer_15m": 15_112_208,
    "meta_spikeformer_31m": 31_333_864,
    "meta_spikeformer_55m": 55_350_248,
    "meta_spikeformer_55m_distilled": 55_991_248,
    "meta_spikeformer_124m": 123_741_160,
}


def build(**more: Any) -> MetaSpikeFormer:
    torch.manual_seed(0)
    net = MetaSpikeFormer(**{**MetaSpikeFormer.small, **more})
    for module in net.modules():  # so that a small net fires
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.weight, 0.8, 2.0)
            nn.init.uniform_(module.bias, 0.5, 1.5)
    x = 3 * torch.rand(net.T, 4, *net.input_shape)
    for _ in range(20):
        net(x)
    return net.eval()


@pytest.mark.parametrize("name", COUNTED)
def test_parameters(name: str) -> None:
    with torch.device("meta"):
        net = sl.create_model(name)
    assert sum(p.numel() for p in net.parameters()) == COUNTED[name]


def test_stages() -> None:
    net = sl.create_model("meta_spikeformer_31m", **{**MetaSpikeFormer.small, "image_size": 224, "T": 1})
    assert isinstance(net, Backbone)
    with torch.no_grad():
        shapes = [tuple(y.shape[2:]) for y in net.forward_intermediates(example_input(net))]
    assert shapes == [(2, 112, 112), (4, 56, 56), (4, 28, 28), (8, 14, 14), (16, 14, 14)]
    with torch.device("meta"):
        whole = sl.create_model("meta_spikeformer_31m")
    assert isinstance(whole, Backbone)
    blocks = [
        sum(isinstance(part, sl.nn.Residual) for part in stage.modules()) // 2 for stage in whole.stages
    ]
    assert blocks == [1, 1, 2, 6, 2]


def test_the_equations() -> None:
    net = build(image_size=64, depths=(1, 1, 2, 2, 1)).double()
    x = 3 * torch.rand(2, 2, *net.input_shape, dtype=torch.float64)
    found = net.forward_intermediates(x)
    y, rates = layer_and_norm([net.stem], x), []
    for i, stage in enumerate(net.stages):
        blocks: list[Any] = list(stage)
        if i:
            neuron, down = blocks.pop(0)
            assert isinstance(neuron, sl.LIF)
            y = layer_and_norm(down, lif(y))
        for one, two in blocks:
            if i < 3:
                for residual in (one, two):
                    _, first, second = residual.branch
                    y = y + layer_and_norm(second, lif(layer_and_norm(first, lif(y))))
                continue
            q, k, v = lif(layer_and_norm(one.branch.qkv, lif(y))).chunk(3, 2)
            q, k, v = (z.flatten(3).unflatten(2, (2, -1)).mT for z in (q, k, v))
            weighed = 0.125 * (q @ k.mT) @ v
            rates.append(lif(weighed, 0.5).mean().item())
            maps = lif(weighed, 0.5).mT.flatten(2, 3).unflatten(-1, y.shape[-2:])
            y = y + layer_and_norm(one.branch.out, maps)
            _, first, second = two.branch[0]
            y = y + linear_and_norm(second, lif(linear_and_norm(first, lif(y))))
        torch.testing.assert_close(found[i], y)
    assert any(0 < rate < 1 for rate in rates)
    torch.testing.assert_close(net(x), net.head.linear(lif(y.mean((-2, -1)))).mean(0))


def test_once_merged_every_layer_behind_the_encoder_sees_spikes_alone() -> None:
    net = build(image_size=64).double()  # in which rounding moves no membrane across its threshold
    x = 3 * example_input(net, 4).double()
    rows = [row for row in sl.measure.profile(net, x).rows if row.kinds]
    assert rows[0].path == "stem.0"
    assert rows[0].kinds == ("graded",)
    # until then, what is within a RepConv, and 1x1 behind 7x7, sees sums
    graded = {row.path for row in rows[1:] if "binary" not in row.kinds}
    within = set()
    for path, module in net.named_modules():
        if isinstance(module, RepConv):
            within |= {f"{path}.depthwise", f"{path}.last"}
        if isinstance(module, SeparableConv2d):
            within.add(f"{path}.last")
    assert graded == within

    for whole in (merge(net), sl.fold(merge(net))):
        torch.testing.assert_close(whole(x), net(x))
        first, *others = (row for row in sl.measure.profile(whole, x).rows if row.kinds)
        assert first.path == "stem.0"
        assert len(others) == 4 + 3 * 4 + 2 * 6 + 1
        assert all(row.kinds == ("binary",) for row in others if row.kind != "matmul")
        assert all("binary" in row.kinds for row in others)
        assert not any(row.macs for row in others)
    assert not any(isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)) for m in sl.fold(merge(net)).modules())


def test_two_readouts() -> None:
    net = build(distilled=True)
    x = 3 * torch.rand(2, 4, *net.input_shape)
    classes, teacher = net.forward_each(x)
    assert classes.shape == teacher.shape == (4, 5)
    assert not torch.equal(classes, teacher)
    torch.testing.assert_close(net(x), (classes + teacher) / 2)
    (only,) = build().forward_each(x)
    torch.testing.assert_close(only, build()(x))
    net.train().forward_each(x)[1].sum().backward()
    assert net.head.teacher is not None
    assert net.head.linear.weight.grad is None


@pytest.mark.parametrize("attention", ["SDSA-1", "SDSA-2", "SDSA-4"])
def test_other_attentions_train(attention: str) -> None:
    net = build(attention=attention).train()
    net(3 * torch.rand(2, 4, *net.input_shape)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def reference(widths: tuple[int, ...], classes: int, distilled: bool) -> Checkpoint:
    """Return weights under the names, and in the shapes, of BICLab/Spike-Driven-Transformer-V2."""
    made = Checkpoint()

    def down(name: str, channels: int, out: int, size: int = 3) -> None:
        made.layer(f"{name}.encode_conv", out, channels, size, size, bias=True)
        made.norm(f"{name}.encode_bn", out)

    def convolutions(name: str, dim: int) -> None:
        made.layer(f"{name}.Conv.pwconv1", 2 * dim, dim, 1, 1)
        made.norm(f"{name}.Conv.bn1", 2 * dim)
        made.layer(f"{name}.Conv.dwconv", 2 * dim, 1, 7, 7)
        made.layer(f"{name}.Conv.pwconv2", dim, 2 * dim, 1, 1)
        made.norm(f"{name}.Conv.bn2", dim)
        made.layer(f"{name}.conv1", 4 * dim, dim, 3, 3)
        made.norm(f"{name}.bn1", 4 * dim)
        made.layer(f"{name}.conv2", dim, 4 * dim, 3, 3)
        made.norm(f"{name}.bn2", dim)

    def attention(name: str, dim: int) -> None:
        for part in ("q", "k", "v", "proj"):
            own = f"{name}.attn.{part}_conv"
            made.layer(f"{own}.0.body.0", dim, dim, 1, 1)
            made.norm(f"{own}.0.body.1.bn", dim)
            made.layer(f"{own}.0.body.2.0", dim, 1, 3, 3)
            made.layer(f"{own}.0.body.2.1", dim, dim, 1, 1)
            made.norm(f"{own}.0.body.2.2", dim)
            made.norm(f"{own}.1", dim)
        made.layer(f"{name}.mlp.fc1_conv", 4 * dim, dim, 1, bias=True)
        made.norm(f"{name}.mlp.fc1_bn", 4 * dim)
        made.layer(f"{name}.mlp.fc2_conv", dim, 4 * dim, 1, bias=True)
        made.norm(f"{name}.mlp.fc2_bn", dim)

    half, (first, second, third, last) = widths[0] // 2, widths
    down("downsample1_1", 3, half, 7)
    convolutions("ConvBlock1_1.0", half)
    down("downsample1_2", half, first)
    convolutions("ConvBlock1_2.0", first)
    down("downsample2", first, second)
    convolutions("ConvBlock2_1.0", second)
    convolutions("ConvBlock2_2.0", second)
    down("downsample3", second, third)
    for i in range(6):
        attention(f"block3.{i}", third)
    down("downsample4", third, last)
    for i in range(2):
        attention(f"block4.{i}", last)
    for name in ("head", "head_kd") if distilled else ("head",):
        made.layer(name, classes, last, bias=True)
    return made


@pytest.mark.parametrize("options", [{}, {"distilled": True}, {"neuron": "ReLU"}])
def test_the_reference_checkpoints_names(options: dict[str, Any]) -> None:
    torch.manual_seed(1)
    net = build(depths=(1, 1, 2, 6, 2), mlp_ratio=4, **options)
    given = reference((4, 4, 8, 16), 5, "distilled" in options)
    trainable = sum(v.numel() for n, v in given.items() if "running" not in n and "num_" not in n)
    assert sum(p.numel() for p in net.parameters()) == trainable
    load_reference(net, given)
    state = net.state_dict()
    own = "stages.3.6.0.branch.qkv"
    for theirs, ours in (
        ("0.body.2.1.weight", "0.0.last.weight"),
        ("0.body.1.bn.bias", "0.0.first_norm.bias"),
    ):
        parts = [given[f"block3.5.attn.{part}_conv.{theirs}"] for part in "qkv"]
        torch.testing.assert_close(state[f"{own}.{ours}"], torch.cat(parts))
    outer = "0.1" if options.get("neuron") else "1.norm"
    parts = [given[f"block3.5.attn.{part}_conv.1.running_var"] for part in "qkv"]
    torch.testing.assert_close(state[f"{own}.{outer}.running_var"], torch.cat(parts))
    torch.testing.assert_close(
        state["stages.2.2.0.branch.2.0.0.last.weight"], given["ConvBlock2_2.0.Conv.pwconv2.weight"]
    )
    torch.testing.assert_close(state["stages.4.0.1.0.0.bias"], given["downsample4.encode_conv.bias"])


def test_a_block_of_the_reference_branch_by_branch() -> None:
    """Three convolutions side by side are those of the reference, one after the other."""
    torch.manual_seed(2)
    together = RepConv(4, 12, 3).eval()
    apart = [RepConv(4, 4).eval() for _ in range(3)]
    for i, one in enumerate(apart):
        for module in one.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.bias)
        for name, value in one.state_dict().items():
            if value.ndim:
                together.state_dict()[name].unflatten(0, (3, -1))[i] = value
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(together(x), torch.cat([one(x) for one in apart], 1))


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="four widths are needed, the first even, five depths"):
        build(widths=(4, 8, 16))
    with pytest.raises(ValueError, match="four widths are needed"):
        build(widths=(3, 8, 16, 16))
    with pytest.raises(ValueError, match="3 heads do not divide a width of 8"):
        build(heads=3)


def test_small_images_want_smaller_strides() -> None:
    net = MetaSpikeFormer(**{**MetaSpikeFormer.small, "strides": (1, 2, 2, 1, 1)})
    sides = [y.shape[-1] for y in net.forward_intermediates(torch.randn(2, 3, 32, 32))]
    assert sides == [32, 16, 8, 8, 8]
    with pytest.raises(ValueError, match="five strides of at least 1"):
        MetaSpikeFormer(**{**MetaSpikeFormer.small, "strides": (2, 2, 2)})
