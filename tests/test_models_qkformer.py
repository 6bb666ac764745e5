"""QKFormer: published numbers of parameters, its equations by hand, time and space in their right order."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from naive import Checkpoint
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.models import Backbone, find_model, load_reference
from spikeloom.names import UnknownName
from spikeloom.nn import QKChannelAttention, QKTokenAttention, SpikingSelfAttention, to_map, to_tokens

COUNTED = [
    ("qkformer_10_384", {}, 16_473_688),
    ("qkformer_10_512", {}, 29_079_336),
    ("qkformer_10_768", {}, 64_962_760),
    ("qkformer_4_384_cifar10", {}, 6_706_234),
    ("qkformer_4_384_cifar100", {}, 6_740_884),
    ("qkformer_4_384_cifar10", {"num_classes": 100}, 6_740_884),
    ("qkformer_2_256_cifar10dvs", {}, 1_504_138),
    ("qkformer_2_256_dvs_gesture", {}, 1_504_395),
    ("qkformer_2_256_dvs_gesture", {"mlp_ratio": 4}, 1_999_371),
]
MILLIONS = {  # of the paper's ablations, where it gives them
    "qkformer_4_384_cifar100_qkta_qkca": "6.44",
    "qkformer_4_384_cifar100_ssa": "6.79",
}


def parameters(name: str, **arguments: Any) -> int:
    with torch.device("meta"):
        net = sl.create_model(name, **arguments)
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(("name", "arguments", "count"), COUNTED)
def test_parameters(name: str, arguments: dict[str, Any], count: int) -> None:
    assert parameters(name, **arguments) == count


@pytest.mark.parametrize("name", MILLIONS)
def test_parameters_of_ablations(name: str) -> None:
    assert f"{parameters(name) / 1e6:.2f}" == MILLIONS[name]


KINDS = {"qkta": QKTokenAttention, "qkca": QKChannelAttention, "ssa": SpikingSelfAttention}


@pytest.mark.parametrize("name", sl.list_models("qkformer*_*"))
def test_what_attends_in_the_stages(name: str) -> None:
    with torch.device("meta"):
        net = sl.create_model(name)
    assert isinstance(net, Backbone)
    wanted = find_model(name).arguments["attention"]
    depths = find_model(name).arguments["depths"]
    for stage, kind, depth in zip(net.stages, wanted, depths, strict=True):
        found = [type(m) for m in stage.modules() if isinstance(m, tuple(KINDS.values()))]
        assert found == [KINDS[kind]] * depth
    if "ssa" not in wanted or set(wanted) == {"ssa"}:
        assert all(kind in name for kind in set(wanted))


def small(name: str = "qkformer_10_384", **more: Any) -> Backbone:
    torch.manual_seed(0)
    arguments = {**find_model(name).cls.small, **more}
    net = sl.create_model(name, **arguments)
    assert isinstance(net, Backbone)
    for norm in net.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(norm.weight, 0.6, 1.4)
            nn.init.uniform_(norm.bias, 0.3, 1.0)
            norm.momentum = None  # so that one batch sets the running statistics
    with torch.no_grad():
        net(torch.rand(2, 2, *net.input_shape))
    return net


@pytest.mark.parametrize(
    ("stem", "name", "strides"),
    [  # of 224x224 pixels 56, 28, 14
        ("imagenet", "qkformer_10_384", (4, 8, 16)),
        ("cifar", "qkformer_10_384", (1, 2, 4)),
        ("dvs", "qkformer_2_256_dvs_gesture", (8, 16)),
    ],
)
@pytest.mark.parametrize("size", [(32, 32), (48, 32), (33, 50)])
def test_maps_of_the_stages(stem: Any, name: str, strides: tuple[int, ...], size: tuple[int, int]) -> None:
    net = small(name, stem=stem, image_size=size).eval()
    channels, *_ = net.input_shape
    maps = net.forward_intermediates(torch.rand(2, 1, channels, *size))
    for x, stride, width in zip(maps, strides, (8, 16, 32)[-len(strides) :], strict=True):
        assert x.shape == (2, 1, width, *(-(-side // stride) for side in size))


def forward_by_hand(net: Any, x: Tensor) -> Tensor:
    """The stage table in a row; embedding, attention and MLP have tests of their own."""
    x = torch.stack([net.stem(image[None])[0] for image in x])
    for stage in net.stages:
        begun, embedding, blocks = stage
        x = embedding(begun(x))
        height, width = x.shape[-2:]
        y = to_tokens(x)
        for attention, mlp in blocks:
            y = y + attention.branch(y)
            y = y + mlp.branch(y)
        x = to_map(y, height, width)
    means = x.flatten(3).mean(3)
    return torch.stack([step @ net.head.linear.weight.T + net.head.linear.bias for step in means]).mean(0)


@pytest.mark.parametrize("order", ["post", "pre"])
def test_the_network_is_its_stages(order: str) -> None:
    net = small(order=order).eval()
    x = torch.rand(3, 2, 3, 32, 48)
    torch.testing.assert_close(net(x), forward_by_hand(net, x))


@pytest.mark.parametrize("attention", ["qkta", "qkca", "ssa"])
def test_time_is_a_neurons_first_axis(attention: Any) -> None:
    """A sample's scores do not depend on the batch around it (in the authors' code they do)."""
    net = small(attention=(attention,) * 3, image_size=16).double().eval()
    x = 2 * torch.rand(3, 4, 3, 16, 16).double()
    together = net(x)
    for i in range(4):
        torch.testing.assert_close(net(x[:, i : i + 1]), together[i : i + 1])
        others = torch.cat([torch.rand_like(x[:, :1]), x[:, i : i + 1]], 1)
        torch.testing.assert_close(net(others)[1:], together[i : i + 1])
        assert not torch.equal(net(others)[0], together[i])
    # every neuron hears T steps
    steps: list[int] = []
    for neuron in net.modules():
        if isinstance(neuron, (sl.Neuron, sl.NormNeuron)):
            neuron.register_forward_pre_hook(lambda _, given: steps.append(len(given[0])))
    with pytest.warns(sl.SpikeloomWarning, match="hooks"):
        net(x)
    assert set(steps) == {3}


def test_time_and_samples_as_one_axis_would_be_another_network() -> None:
    """The deviation from the authors' code shows: with it, a sample hears the ones before it."""
    net = small(image_size=16).double().eval()
    attention = next(m for m in net.modules() if isinstance(m, SpikingSelfAttention))
    linear, last = attention.out
    x = (torch.rand(3, 2, 4, 32) < 0.5).double()
    right = attention.out(x)
    one_axis = last(linear(x).flatten(0, 1).unsqueeze(1)).reshape(x.shape)
    assert not torch.equal(right, one_axis)
    assert torch.equal(right[0, 0], one_axis[0, 0])


@pytest.mark.parametrize("attention", ["qkta", "qkca", "ssa"])
@pytest.mark.parametrize("order", ["post", "pre"])
def test_height_and_width_keep_their_order(attention: Any, order: Any) -> None:
    """Of images and kernels turned over the diagonal, features and all are turned over."""
    net = small(attention=(attention,) * 3, order=order, image_size=(16, 32)).double().eval()
    turned = small(attention=(attention,) * 3, order=order, image_size=(32, 16)).double().eval()
    for name, value in net.state_dict().items():
        turned.state_dict()[name].copy_(value.mT if value.ndim == 4 else value)
    x = 2 * torch.rand(2, 2, 3, 16, 32).double()
    for one, other in zip(net.forward_intermediates(x), turned.forward_intermediates(x.mT), strict=True):
        assert one.detach().unique().numel() > 2
        torch.testing.assert_close(one, other.mT)


def kinds(net: Backbone, x: Tensor) -> set[tuple[str, ...]]:
    """What flows into the layers behind the first."""
    rows = [row for row in sl.measure.profile(net, x).rows if row.kinds]
    assert rows[0].kinds == ("graded",)
    assert rows[-1].path.startswith("head")
    return {tuple(sorted(row.kinds)) for row in rows[1:-1]}


@pytest.mark.parametrize("name", ["qkformer_10_384", "qkformer_2_256_dvs_gesture"])
def test_sums_of_spikes_are_whole_numbers(name: str) -> None:
    """Post-spike shortcuts: what is behind one sees integers; attention and inner layers see spikes."""
    net = small(name).eval()
    found = kinds(net, torch.rand(2, 2, *net.input_shape))
    assert found == {("binary",), ("integer",), ("binary", "binary"), ("binary", "integer")}
    rows = {row.path: row.kinds for row in sl.measure.profile(net, torch.rand(2, 2, *net.input_shape)).rows}
    integers = {path.split(".branch.")[-1].split(".")[0] for path, k in rows.items() if k == ("integer",)}
    assert {"qk", "qkv"} <= integers


@pytest.mark.parametrize("name", ["qkformer_10_384", "qkformer_2_256_dvs_gesture"])
def test_added_membranes_leave_spikes_alone_to_layers(name: str) -> None:
    """In "pre", each convolution and linear layer behind the first sees spikes; so does each product."""
    net = small(name, order="pre").eval()
    found = kinds(net, torch.rand(2, 2, *net.input_shape))
    # of Q, K, V: the product of the first two counts
    assert found == {("binary",), ("binary", "binary"), ("binary", "integer")}


def test_folded() -> None:
    net = small().eval()
    x = torch.rand(2, 2, 3, 32, 32)
    folded = sl.fold(net)
    assert not [m for m in folded.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    torch.testing.assert_close(folded(x), net(x), rtol=1e-3, atol=1e-4)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="QKTokenAttention: 5 heads do not divide a width of 8; take 4 or 8"):
        small(heads=5)
    with pytest.raises(ValueError, match="dim = 30; 3 stages behind the stem 'imagenet' take multiples of 8"):
        small(dim=30)
    with pytest.raises(ValueError, match=r"depths = \(1, 1\) has 2 stages, but attention = .* has 3"):
        small(depths=(1, 1))
    with pytest.raises(UnknownName, match="no attention 'qkt'; did you mean 'qkta'"):
        small(attention=("qkt", "qkca", "ssa"))
    with pytest.raises(UnknownName, match="no stem 'image_net'; did you mean 'imagenet'"):
        small(stem="image_net")
    with pytest.raises(UnknownName, match="no order 'pr'; did you mean 'pre'"):
        small(order="pr")


def embedding(made: Checkpoint, name: str, *convolutions: tuple[str, int, int]) -> None:
    """Convolutions by name, output and input channels, and the shortcut's; each with its norm."""
    for own, out, channels in convolutions:
        size = 1 if own == "proj_res" else 3
        made.layer(f"{name}.{own}_conv", out, channels, size, size)
        made.norm(f"{name}.{own}_bn", out)


def block(made: Checkpoint, name: str, attention: str, mlp: str, dim: int, ratio: int) -> None:
    for part in "qk" if attention == "tssa" else "qkv":
        made.layer(f"{name}.{attention}.{part}_conv", dim, dim, 1)
        made.norm(f"{name}.{attention}.{part}_bn", dim)
    made.layer(f"{name}.{attention}.proj_conv", dim, dim, 1, bias=True)
    made.norm(f"{name}.{attention}.proj_bn", dim)
    for i, (out, channels) in enumerate([(ratio * dim, dim), (dim, ratio * dim)]):
        made.layer(f"{name}.mlp.{mlp}{i + 1}_conv", out, channels, 1, 1, bias=True)
        made.norm(f"{name}.mlp.{mlp}{i + 1}_bn", out)


PUBLISHED = {"attention": ("qkta", "qkta", "ssa"), "mlp_ratio": 4}
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "imagenet": ("qkformer_10_384", {**PUBLISHED, "depths": (1, 2, 1)}),
    "cifar": ("qkformer_4_384_cifar100", {**PUBLISHED, "depths": (1, 1, 2), "stem": "cifar"}),
    "dvs": ("qkformer_2_256_dvs_gesture", {"mlp_ratio": 1}),
}


def reference(form: str) -> Checkpoint:
    """Return weights under the names, and in the shapes, of zhouchenlin2096/QKFormer."""
    made = Checkpoint()
    if form == "dvs":
        first = ("proj", 2, 2), ("proj1", 4, 2), ("proj2", 8, 4), ("proj3", 16, 8), ("proj_res", 16, 4)
        embedding(made, "patch_embed1", *first)
        block(made, "stage1.0", "tssa", "mlp", 16, 1)
        embedding(made, "patch_embed2", ("proj", 32, 16), ("proj4", 32, 32), ("proj_res", 32, 16))
        block(made, "stage2.0", "ssa", "mlp", 32, 1)
    else:
        last, mlp = ("attn", "fc") if form == "imagenet" else ("ssa", "mlp")
        more = [("proj2", 8, 8)] if form == "imagenet" else []
        embedding(made, "patch_embed1", ("proj", 4, 3), ("proj1", 8, 4), *more, ("proj_res", 8, 4))
        embedding(made, "patch_embed2", ("proj3", 16, 8), ("proj4", 16, 16), ("proj_res", 16, 8))
        embedding(made, "patch_embed3", ("proj3", 32, 16), ("proj4", 32, 32), ("proj_res", 32, 16))
        for stage, (attention, depth) in enumerate(
            zip(("tssa", "tssa", last), FORMS[form][1]["depths"], strict=True)
        ):
            for i in range(depth):
                block(made, f"stage{stage + 1}.{i}", attention, mlp, 8 * 2**stage, 4)
    made.layer("head", 5, 32, bias=True)
    return made


@pytest.mark.parametrize("form", FORMS)
def test_the_authors_names(form: str) -> None:
    name, arguments = FORMS[form]
    net = small(name, **arguments)
    given = reference(form)
    load_reference(net, given)
    own = net.state_dict()
    assert sum(v.numel() for k, v in given.items() if "num_batches" not in k) == sum(
        v.numel() for k, v in own.items() if "num_batches" not in k
    )
    last = "attn" if form == "imagenet" else "ssa"
    theirs = f"stage{len(net.stages)}.0.{last}"
    ours = f"stages.{len(net.stages) - 1}.2.0.0.branch.qkv"
    for i, part in enumerate("qkv"):
        rows = slice(32 * i, 32 * (i + 1))
        assert torch.equal(own[f"{ours}.0.0.weight"][rows], given[f"{theirs}.{part}_conv.weight"].squeeze(-1))
        assert torch.equal(own[f"{ours}.1.norm.running_var"][rows], given[f"{theirs}.{part}_bn.running_var"])
    lead = "stages.0.1.0.branch.0.0.0.weight" if form != "dvs" else "stages.0.0.1.0.0.weight"
    assert torch.equal(own[lead], given["patch_embed1.proj1_conv.weight"])
    assert torch.equal(own["stem.0.weight"], given["patch_embed1.proj_conv.weight"])
    assert torch.equal(own["head.linear.bias"], given["head.bias"])
