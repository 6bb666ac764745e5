"""Spike-driven Transformer: published numbers, parts by hand, spikes at every product, reference names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from naive import Checkpoint, layer_and_norm, lif, linear_and_norm, stepwise
from torch import nn

import spikeloom as sl
from spikeloom.models import Backbone, example_input, find_model, load_reference
from spikeloom.models.spike_driven_transformer import SpikeDrivenTransformer

# as counted in the reference; 8 x 8 weights of each block are used by nothing
COUNTED = {
    "spike_driven_transformer_8_384": 16_816_536,
    "spike_driven_transformer_6_512": 23_373_736,
    "spike_driven_transformer_8_512": 29_689_896,
    "spike_driven_transformer_10_512": 36_006_056,
    "spike_driven_transformer_8_768": 66_339_144,
    "spike_driven_transformer_2_512_cifar10": 10_233_546,
    "spike_driven_transformer_2_512_cifar100": 10_279_716,
    "spike_driven_transformer_2_256_dvs_gesture": 2_567_051,
    "spike_driven_transformer_2_256_cifar10_dvs": 2_566_794,
}
# the tokens along a side
SIDES = {"8_512": 14, "2_512_cifar10": 8, "2_256_dvs_gesture": 16, "2_256_cifar10_dvs": 16}


def build(**more: Any) -> SpikeDrivenTransformer:
    torch.manual_seed(0)
    net = SpikeDrivenTransformer(**{**SpikeDrivenTransformer.small, **more})
    x = 3 * torch.rand(net.T, 4, *net.input_shape)
    for module in net.modules():  # larger than published, so that a small net fires
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.weight, 0.8, 2.0)
            nn.init.uniform_(module.bias, 0.0, 0.8)
    for _ in range(20):
        net(x)
    return net.eval()


@pytest.mark.parametrize("name", COUNTED)
def test_parameters(name: str) -> None:
    with torch.device("meta"):
        net = sl.create_model(name)
    assert sum(p.numel() for p in net.parameters()) == COUNTED[name]
    unused = sum(p.numel() for p in net.parameters() if not p.requires_grad)
    assert unused == 64 * find_model(name).arguments["depth"]


@pytest.mark.parametrize("variant", SIDES)
def test_tokens(variant: str) -> None:
    name = f"spike_driven_transformer_{variant}"
    size = {**find_model(name).arguments}["image_size"]
    small = {**SpikeDrivenTransformer.small, "image_size": size}
    given = {key: value for key, value in find_model(name).preset.items() if key in ("pools", "in_channels")}
    net = sl.create_model(name, **{**small, "pools": "1111", **given})
    assert isinstance(net, Backbone)
    shapes = [tuple(y.shape[2:]) for y in net.forward_intermediates(example_input(net))]
    assert shapes[-1] == (32, SIDES[variant], SIDES[variant])
    assert [channels for channels, *_ in shapes] == [4, 8, 16, 32]


@pytest.mark.parametrize(("pools", "erode"), [("0011", False), ("1010", False), ("0110", True)])
def test_the_equations(pools: str, erode: bool) -> None:
    net = build(pools=pools, erode=erode).double()
    x = 3 * torch.rand(2, 3, *net.input_shape, dtype=torch.float64)
    found = net.forward_intermediates(x)
    pool = [nn.MaxPool2d(3, 2, 1) if flag == "1" else nn.Identity() for flag in pools]

    y = stepwise(pool[0], lif(layer_and_norm([net.stem], x)))
    torch.testing.assert_close(found[0], y)
    for i in (1, 2):
        stage: Any = net.stages[i]
        y = stepwise(pool[i], lif(layer_and_norm(stage[:2], y)))
        torch.testing.assert_close(found[i], y)

    last: Any = net.stages[3]
    f = stepwise(pool[3], layer_and_norm(last.patches[:1], y))
    y = f + layer_and_norm(last.position.branch[1], lif(f))
    dilate = nn.MaxPool2d(3, 1, 1) if erode else nn.Identity()
    for attention, mlp in last.blocks:
        branch = attention.branch
        q, k, v = lif(linear_and_norm(branch.qkv, lif(y))).chunk(3, 2)
        kv = stepwise(dilate, stepwise(dilate, k) * stepwise(dilate, v)).sum((-2, -1), keepdim=True)
        bits = lif(kv, 0.5)
        assert 0 < bits.mean() < 1
        y = y + linear_and_norm(branch.out, stepwise(dilate, q * bits))
        begin, first, second = mlp.branch[0]
        assert isinstance(begin, sl.LIF)
        y = y + linear_and_norm(second, lif(linear_and_norm(first, lif(y))))
    torch.testing.assert_close(found[3], y)

    scores = net.head.linear(lif(y.mean((-2, -1)))).mean(0)
    torch.testing.assert_close(net(x), scores)


@pytest.mark.parametrize("options", [{}, {"erode": True}, {"attention": "SDSA-3"}, {"attention": "SDSA-4"}])
def test_behind_the_encoder_there_are_spikes_alone(options: dict[str, Any]) -> None:
    net = build(**options)
    rows = [row for row in sl.measure.profile(net, 3 * example_input(net, 4)).rows if row.kinds]
    first, *others = rows
    assert first.path == "stem.0"
    assert first.kinds == ("graded",)
    assert len(others) == (9 if "attention" not in options else 11)
    assert all(row.kinds == ("binary",) for row in others if row.kind != "matmul")
    assert all("binary" in row.kinds for row in others)
    assert all(row.acs > 0 for row in others)
    assert not any(row.macs for row in others)


@pytest.mark.parametrize("attention", ["SDSA-1", "SDSA-2", "SDSA-3", "SDSA-4"])
def test_other_attentions_train(attention: str) -> None:
    net = build(attention=attention).train()
    net(3 * torch.rand(2, 4, *net.input_shape)).square().sum().backward()
    learning = [p for p in net.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learning)
    qkv = net.state_dict()["stages.3.blocks.0.0.branch.qkv.0.0.weight"]
    assert len(qkv) == 32 * (2 if attention == "SDSA-2" else 3)


def reference(dim: int, depth: int, heads: int, classes: int) -> Checkpoint:
    """Return weights under the names, and in the shapes, of BICLab/Spike-Driven-Transformer."""
    made = Checkpoint()
    widths = [3, dim // 8, dim // 4, dim // 2, dim]
    for i in range(4):
        number = str(i or "")
        made.layer(f"patch_embed.proj_conv{number}", widths[i + 1], widths[i], 3, 3)
        made.norm(f"patch_embed.proj_bn{number}", widths[i + 1])
    made.layer("patch_embed.rpe_conv", dim, dim, 3, 3)
    made.norm("patch_embed.rpe_bn", dim)
    for i in range(depth):
        for part in "qkv":
            made.layer(f"block.{i}.attn.{part}_conv", dim, dim, 1, 1)
            made.norm(f"block.{i}.attn.{part}_bn", dim)
        made.layer(f"block.{i}.attn.talking_heads", heads, heads, 1)
        made.layer(f"block.{i}.attn.proj_conv", dim, dim, 1, 1, bias=True)
        made.norm(f"block.{i}.attn.proj_bn", dim)
        made.layer(f"block.{i}.mlp.fc1_conv", 4 * dim, dim, 1, 1, bias=True)
        made.norm(f"block.{i}.mlp.fc1_bn", 4 * dim)
        made.layer(f"block.{i}.mlp.fc2_conv", dim, 4 * dim, 1, 1, bias=True)
        made.norm(f"block.{i}.mlp.fc2_bn", dim)
    made.layer("head", classes, dim, bias=True)
    return made


@pytest.mark.parametrize("options", [{}, {"pools": "1111"}, {"neuron": "ReLU"}])
def test_the_reference_checkpoints_names(options: dict[str, Any]) -> None:
    torch.manual_seed(1)
    net = build(depth=2, **options)
    given = reference(32, 2, 2, 5)
    trainable = sum(v.numel() for n, v in given.items() if "running" not in n and "num_" not in n)
    assert sum(p.numel() for p in net.parameters()) == trainable
    load_reference(net, given)
    state = net.state_dict()
    block = "stages.3.blocks.1.0.branch.qkv"
    parts = [given[f"block.1.attn.{part}_conv.weight"][:, :, 0, 0] for part in "qkv"]
    torch.testing.assert_close(state[f"{block}.0.0.weight"], torch.cat(parts))
    means = [given[f"block.1.attn.{part}_bn.running_mean"] for part in "qkv"]
    name = f"{block}.0.1.running_mean" if options.get("neuron") else f"{block}.1.norm.running_mean"
    torch.testing.assert_close(state[name], torch.cat(means))
    torch.testing.assert_close(state["head.linear.bias"], given["head.bias"])


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="pools = '011'; four of 0 and 1"):
        build(pools="011")
    with pytest.raises(ValueError, match="dim = 20; a multiple of 8"):
        build(dim=20)
    with pytest.raises(ValueError, match="3 heads do not divide a width of 32"):
        build(heads=3)
    with pytest.raises(ValueError, match="no spike-driven attention 'SDSA-5'; did you mean"):
        build(attention="SDSA-5")
