"""Spikformer: published numbers of parameters, and the network by hand in the reference's names.

What it shares with Spikingformer, as sizes of stages and constants, is tested of both.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from families import lively
from naive import Checkpoint, attention, lif, norm_in_evaluation, pooled, stepwise
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.models import Backbone, find_model
from spikeloom.models.spikformer import Spikformer

# without what the reference makes but does not use, and with it
COUNTED = {
    "spikformer_8_384": (16_816_024, 16_828_312),
    "spikformer_6_512": (23_373_352, 23_385_640),
    "spikformer_8_512": (29_689_384, 29_705_768),
    "spikformer_10_512": (36_005_416, 36_025_896),
    "spikformer_8_768": (66_338_632, 66_363_208),
    "spikformer_4_256_cifar10": (4_155_178, None),
    "spikformer_2_384_cifar10": (5_765_050, None),
    "spikformer_4_384_cifar10": (9_324_730, 9_330_874),
    "spikformer_4_384_cifar100": (9_359_380, None),
    "spikformer_2_256_cifar10_dvs": (2_566_666, 2_585_610),
    "spikformer_8_384_cml": (16_816_024, None),
    "spikformer_8_512_cml": (29_689_384, None),
    "spikformer_8_768_cml": (66_338_632, None),
    "spikformer_4_256_cifar10_cml": (4_155_178, None),
    "spikformer_2_384_cifar10_cml": (5_765_050, None),
    "spikformer_4_384_cifar10_cml": (9_324_730, None),
    "spikformer_4_384_cifar100_cml": (9_359_380, None),
    "spikformer_2_256_cifar10_dvs_cml": (2_566_666, None),
}


@pytest.mark.parametrize("name", COUNTED)
def test_parameters(name: str) -> None:
    with torch.device("meta"):
        net = sl.create_model(name)
    used, raw = COUNTED[name]
    assert sum(p.numel() for p in net.parameters()) == used
    if raw is not None:
        given = find_model(name).arguments
        unused = 2 * 2 * given["dim"] * given["depth"]  # two layer norms a block
        if "dvs" in name:
            unused += 2 * given["dim"] + 64 * given["dim"]  # one more, and embedded positions
        assert used + unused == raw


def test_all_variants_are_counted() -> None:
    names = {name for name in sl.list_models("spikformer*") if "gesture" not in name}
    assert names == set(COUNTED)


BOTH = ("spikformer", "spikingformer")


@pytest.mark.parametrize("family", BOTH)
@pytest.mark.parametrize(
    ("variant", "sides"),
    [
        ("8_512", [112, 56, 28, 14, 14]),
        ("8_512_cml", [112, 56, 28, 14, 14]),
        ("4_384_cifar10", [32, 32, 16, 8, 8]),
        ("2_256_cifar10_dvs", [64, 32, 16, 8, 8]),
    ],
)
def test_stages_have_the_published_sizes(family: str, variant: str, sides: list[int]) -> None:
    net = sl.create_model(f"{family}_{variant}", dim=16, heads=2, depth=1, T=1).eval()
    assert isinstance(net, Backbone)
    with torch.no_grad():
        stages = net.forward_intermediates(sl.models.example_input(net))
    assert [tuple(stage.shape[-2:]) for stage in stages] == [(side, side) for side in sides]
    assert [stage.shape[2] for stage in stages] == [2, 4, 8, 16, 16]


SMALL = dict(Spikformer.small)
DIM, DEPTH, HEADS, CLASSES = 32, 2, 4, 5


def reference(kind: str) -> Checkpoint:
    """Return weights by the names of the authors' code: "imagenet", "cifar", "dvs", or "cml" (CIFAR, too)."""
    torch.manual_seed(4)
    found = Checkpoint(torch.float64)
    channels = 2 if kind == "dvs" else 3
    linear = kind in ("cifar", "cml")
    widths = [channels, DIM // 8, DIM // 4, DIM // 2, DIM]
    for i in range(4):
        names = (
            [f"block{i + 1}_conv", f"block{i + 1}_bn"] if kind == "cml" else [f"proj_conv{i}", f"proj_bn{i}"]
        )
        conv, bn = (f"patch_embed.{name}".removesuffix("0") for name in names)
        found.layer(conv, widths[i + 1], widths[i], 3, 3)
        found.norm(bn, widths[i + 1])
    found.layer("patch_embed.rpe_conv", DIM, DIM, 3, 3)
    found.norm("patch_embed.rpe_bn", DIM)
    what, ends = ("linear", ()) if linear else ("conv", (1,))
    for i in range(DEPTH):
        for part in ("norm1", "norm2"):
            found[f"block.{i}.{part}.weight"] = found[f"block.{i}.{part}.bias"] = torch.ones(DIM)
        for part in ("q", "k", "v", "proj"):
            found.layer(f"block.{i}.attn.{part}_{what}", DIM, DIM, *ends, bias=linear or part == "proj")
            found.norm(f"block.{i}.attn.{part}_bn", DIM)
        more = (1, 1) if kind == "imagenet" else ends
        for part, out, into in (("fc1", 4 * DIM, DIM), ("fc2", DIM, 4 * DIM)):
            found.layer(f"block.{i}.mlp.{part}_{what}", out, into, *more, bias=True)
            found.norm(f"block.{i}.mlp.{part}_bn", out)
    if kind == "dvs":
        found["pos_embed"] = torch.zeros(1, 64, DIM)
        found["norm.weight"] = found["norm.bias"] = torch.ones(DIM)
    found.layer("head", CLASSES, DIM, bias=True)
    return found


def by_hand(w: dict[str, Tensor], x: Tensor, pools: tuple[bool, ...], cml: bool, scale: float) -> Tensor:
    """The network in evaluation, in the reference's names."""

    def conv(x: Tensor, name: str) -> Tensor:
        y = stepwise(lambda x_t: nn.functional.conv2d(x_t, w[f"{name}.weight"], padding=1), x)
        return norm_in_evaluation(y, w, name.replace("conv", "bn"), 2)

    def project(x: Tensor, name: str) -> Tensor:
        key = next(f"{name}_{kind}" for kind in ("conv", "linear") if f"{name}_{kind}.weight" in w)
        y = x @ w[f"{key}.weight"].flatten(1).T + w.get(f"{key}.bias", torch.zeros(()))
        return norm_in_evaluation(y, w, f"{name}_bn", -1)

    for i, pool in enumerate(pools):
        h = conv(x, f"patch_embed.block{i + 1}_conv" if cml else f"patch_embed.proj_conv{i or ''}")
        x = lif(pooled(h, pool)) if cml else pooled(lif(h), pool)
    x = x + lif(conv(x, "patch_embed.rpe_conv"))
    x = x.flatten(3).transpose(2, 3)
    for i in range(DEPTH):
        at, mlp = f"block.{i}.attn", f"block.{i}.mlp"
        q, k, v = (lif(project(x, f"{at}.{part}")) for part in "qkv")
        x = x + lif(project(lif(attention(q, k, v, HEADS, scale), 0.5), f"{at}.proj"))
        x = x + lif(project(lif(project(x, f"{mlp}.fc1")), f"{mlp}.fc2"))
    return x.mean(2).mean(0) @ w["head.weight"].T + w["head.bias"]


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "imagenet": ("spikformer_8_512", {"image_size": 32}),
    "cifar": ("spikformer_4_384_cifar10", {"image_size": 16}),
    "dvs": ("spikformer_2_256_cifar10_dvs", {"image_size": 32}),
    "cml": ("spikformer_4_384_cifar10_cml", {"image_size": 16}),
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
    pools, cml, scale = arguments["pools"], arguments["cml"], arguments["scale"]
    assert scale == (0.25 if kind == "dvs" else 0.125)
    wanted = by_hand(given, x.expand(3, *x.shape), pools, cml, scale)
    assert wanted.std() > 0.1
    torch.testing.assert_close(net(x), wanted)
    moving = torch.rand(4, 2, *net.input_shape, dtype=torch.float64)
    torch.testing.assert_close(net(moving), by_hand(given, moving, pools, cml, scale))


@pytest.mark.parametrize("family", BOTH)
def test_constants_are_those_of_the_authors_code(family: str) -> None:
    net = sl.create_model(f"{family}_8_512", **SMALL)
    neurons = [m for m in net.modules() if isinstance(m, sl.LIF)]
    assert {(m.tau, m.detach_reset, repr(m.surrogate)) for m in neurons} == {
        (2.0, True, "Sigmoid(alpha=4.0)")
    }
    assert sorted(m.v_threshold for m in neurons) == [0.5] + [1.0] * (len(neurons) - 1)


def test_sums_of_spikes_are_whole_numbers() -> None:
    net = lively("spikformer_8_512")
    x = 3 * torch.rand(4, 3, 16, 16)
    kinds = {row.path: row.kinds for row in sl.measure.profile(net, x).rows if row.kinds}
    behind_a_sum = [path for path in kinds if path.endswith(("branch.qkv.0.0", "branch.0.0.0"))]
    assert len(behind_a_sum) == 4
    assert {kinds[path] for path in behind_a_sum} == {("integer",)}
    others = [path for path in kinds if path not in behind_a_sum]
    assert {path for path in others if kinds[path] == ("graded",)} == {"stem.0", "head.linear"}
    products = {path: kind for path, kind in kinds.items() if len(kind) == 2}
    assert sorted(products.values()) == [("binary", "binary")] * 2 + [("binary", "integer")] * 2
    rest = set(others) - {"stem.0", "head.linear"} - set(products)
    assert {kinds[path] for path in rest} == {("binary",)}


@pytest.mark.parametrize("family", BOTH)
@pytest.mark.parametrize("cml", [False, True])
@pytest.mark.parametrize("norm", ["BN", "tdBN"])
def test_folded_is_the_same(family: str, cml: bool, norm: str) -> None:
    net = lively(f"{family}_8_512", cml=cml, norm=norm).double()
    folded = sl.fold(net)
    assert not [m for m in folded.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    x = 3 * torch.rand(2, 4, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(folded(x), net(x))


@pytest.mark.parametrize("family", BOTH)
@pytest.mark.parametrize("norm", ["TEBN", "BNTT"])
def test_norms_of_steps_stand_before_the_pooling(family: str, norm: str) -> None:
    net = sl.create_model(f"{family}_8_512", **{**SMALL, "pools": (True, True)}, cml=True, norm=norm)
    x = 3 * torch.rand(2, 3, 16, 16)
    assert net(x).shape == (2, 5)
    torch.testing.assert_close(net.eval()(x), net(x.expand(2, *x.shape)))


@pytest.mark.parametrize("family", BOTH)
def test_bad_arguments(family: str) -> None:
    with pytest.raises(ValueError, match="7 heads do not divide a width of 512; take 4 or 8"):
        sl.create_model(f"{family}_8_512", heads=7)
    with pytest.raises(ValueError, match="a dim that is a multiple of 8"):
        sl.create_model(f"{family}_8_512", dim=100, heads=4)
