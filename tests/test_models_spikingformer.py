"""Spikingformer: published parameters and energy, and the network by hand in the reference's names."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from families import lively
from naive import Checkpoint, attention, lif, norm_in_evaluation, pooled, stepwise
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.measure import Convention
from spikeloom.models import Backbone, find_model

# without the two layer norms a block that the reference makes but does not use, and with them
COUNTED = {
    "spikingformer_8_384": (16_816_024, None),
    "spikingformer_8_512": (29_689_384, None),
    "spikingformer_8_768": (66_338_632, 66_363_208),
    "spikingformer_4_256_cifar10": (None, 4_156_202),
    "spikingformer_2_384_cifar10": (None, 5_765_818),
    "spikingformer_4_384_cifar10": (None, 9_326_266),
    "spikingformer_4_384_cifar100": (None, 9_360_916),
    "spikingformer_2_256_cifar10_dvs": (None, 2_568_714),
}


@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize("cml", ["", "_cml"])
def test_parameters(name: str, cml: str) -> None:
    with torch.device("meta"):
        net = sl.create_model(name + cml)
    found = sum(p.numel() for p in net.parameters())
    used, raw = COUNTED[name]
    given = find_model(name).arguments
    assert used is None or found == used
    assert raw is None or found + 2 * 2 * given["dim"] * given["depth"] == raw


def test_all_variants_are_counted() -> None:
    names = {name for name in sl.list_models("spikingformer*") if "gesture" not in name}
    assert names == {name + cml for name in COUNTED for cml in ("", "_cml")}


@pytest.mark.parametrize(
    ("name", "conv", "gigamacs", "gigaacs", "millijoules"),
    [
        ("spikingformer_8_512", 346_816_512, 0.3473, 6.5175, 7.4635),
        ("spikingformer_8_768", 520_224_768, 0.5210, 12.5137, 13.6589),
    ],
)
def test_the_published_energy(
    name: str, conv: int, gigamacs: float, gigaacs: float, millijoules: float
) -> None:
    # the authors count the first convolution at each of 4 steps, the head once, on the mean over time
    net = sl.create_model(name, depth=1)
    assert isinstance(net, Backbone)
    image, features = torch.rand(1, 1, 3, 224, 224), torch.rand(1, 1, find_model(name).arguments["dim"], 1, 1)
    (first,) = (row.dense for row in sl.measure.profile(net.stem, image).rows if row.kinds)
    (head,) = (row.dense for row in sl.measure.profile(net.head, features).rows if row.kinds)
    macs = 4 * first + head
    assert 4 * first == conv
    assert round(macs / 1e9, 4) == gigamacs
    assert round(Convention().energy(macs, gigaacs * 1e9).millijoules, 4) == millijoules


@pytest.mark.parametrize("cml", [False, True])
def test_everything_between_encoder_and_head_sees_spikes(cml: bool) -> None:
    found = sl.measure.profile(
        lively("spikingformer_8_512", cml=cml), 3 * torch.rand(4, 3, 16, 16), convention="spikingformer"
    )
    rows = [row for row in found.rows if row.kinds]
    ends = {row.path: row for row in rows if row.path in ("stem.0", "head.linear")}
    assert {row.kinds for row in ends.values()} == {("graded",)}
    inside = [row for row in rows if row.path not in ends]
    assert len([row for row in inside if len(row.kinds) == 1]) == 3 + 2 * 4
    assert {row.kinds for row in inside if len(row.kinds) == 1} == {("binary",)}
    # K^T V, and Q times that
    assert {row.kinds for row in inside if len(row.kinds) == 2} == {
        ("binary", "binary"),
        ("binary", "integer"),
    }
    assert all(density > 0 for row in inside for density in row.densities)
    # so that only the ends are multiply-accumulates
    assert found.energy.macs == 2 * ends["stem.0"].dense + ends["head.linear"].dense


DIM, DEPTH, HEADS, CLASSES = 32, 2, 4, 5


def reference(kind: str) -> Checkpoint:
    """Return weights by the names of the authors' code; "block": those of its tokenizer for CIFAR."""
    torch.manual_seed(4)
    found = Checkpoint(torch.float64)
    widths = [2 if "dvs" in kind else 3, DIM // 8, DIM // 4, DIM // 2, DIM, DIM]
    for i in range(5):
        name = f"patch_embed.{tokenizer(kind, i)}"
        found.layer(f"{name}_conv", widths[i + 1], widths[i], 3, 3)
        found.norm(f"{name}_bn", widths[i + 1])
    for i in range(DEPTH):
        for part in ("norm1", "norm2"):
            found[f"block.{i}.{part}.weight"] = found[f"block.{i}.{part}.bias"] = torch.ones(DIM)
        for part in ("q", "k", "v", "proj"):
            found.layer(f"block.{i}.attn.{part}_conv", DIM, DIM, 1, bias=part == "proj")
            found.norm(f"block.{i}.attn.{part}_bn", DIM)
        for part, out, into in (("mlp1", 4 * DIM, DIM), ("mlp2", DIM, 4 * DIM)):
            found.layer(f"block.{i}.mlp.{part}_conv", out, into, 1, 1, bias=True)
            found.norm(f"block.{i}.mlp.{part}_bn", out)
    found.layer("head", CLASSES, DIM, bias=True)
    return found


def tokenizer(kind: str, i: int) -> str:
    return f"block{i}" if kind == "block" else f"proj{i or ''}"


def by_hand(
    w: dict[str, Tensor], x: Tensor, kind: str, pools: tuple[bool, ...], cml: bool, tau: float
) -> Tensor:
    """The network in evaluation, in the reference's names."""

    fire = functools.partial(lif, tau=tau)

    def conv(x: Tensor, name: str) -> Tensor:
        y = stepwise(lambda x_t: nn.functional.conv2d(x_t, w[f"{name}_conv.weight"], padding=1), x)
        return norm_in_evaluation(y, w, f"{name}_bn", 2)

    def project(x: Tensor, name: str) -> Tensor:
        y = x @ w[f"{name}_conv.weight"].flatten(1).T + w.get(f"{name}_conv.bias", torch.zeros(()))
        return norm_in_evaluation(y, w, f"{name}_bn", -1)

    x = conv(x, f"patch_embed.{tokenizer(kind, 0)}")
    for i, pool in enumerate(pools):
        s = fire(pooled(x, pool)) if cml else pooled(fire(x), pool)
        x = conv(s, f"patch_embed.{tokenizer(kind, i + 1)}")
    x = x.flatten(3).transpose(2, 3)
    for i in range(DEPTH):
        at, mlp = f"block.{i}.attn", f"block.{i}.mlp"
        s = fire(x)
        q, k, v = (fire(project(s, f"{at}.{part}")) for part in "qkv")
        x = x + project(fire(attention(q, k, v, HEADS, 0.125), 0.5), f"{at}.proj")
        x = x + project(fire(project(fire(x), f"{mlp}.mlp1")), f"{mlp}.mlp2")
    return x.mean(2).mean(0) @ w["head.weight"].T + w["head.bias"]


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "proj": ("spikingformer_8_512", {"image_size": 32}),
    "proj, cml": ("spikingformer_8_512_cml", {"image_size": 32}),
    "block": ("spikingformer_4_384_cifar10", {"image_size": 16}),
    "proj, cifar, cml": ("spikingformer_4_384_cifar10_cml", {"image_size": 16}),
    "proj, dvs": ("spikingformer_2_256_cifar10_dvs", {"image_size": 32}),
    "proj, dvs, cml": ("spikingformer_2_256_cifar10_dvs_cml", {"image_size": 32}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_weights_make_the_reference_network(kind: str) -> None:
    name, more = KINDS[kind]
    net = sl.create_model(name, dim=DIM, depth=DEPTH, heads=HEADS, num_classes=CLASSES, T=3, **more)
    assert isinstance(net, Backbone)
    net = net.double().eval()
    given = reference(kind)
    sl.models.load_reference(net, given)
    x = torch.rand(2, *net.input_shape, dtype=torch.float64)
    arguments = find_model(name).arguments
    pools, cml, tau = arguments["pools"], arguments["cml"], arguments["tau"]
    assert cml == ("cml" in kind)
    assert tau == ((1.75 if cml else 1.5) if "dvs" in kind else 2.0)
    wanted = by_hand(given, x.expand(3, *x.shape), kind, pools, cml, tau)
    assert wanted.std() > 0.1
    torch.testing.assert_close(net(x), wanted)
    moving = torch.rand(4, 2, *net.input_shape, dtype=torch.float64)
    torch.testing.assert_close(net(moving), by_hand(given, moving, kind, pools, cml, tau))
