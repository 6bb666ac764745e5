"""Weights from elsewhere: a reference checkpoint's names, files for `pretrained=`, and what does not fit."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

import spikeloom as sl
from spikeloom.cli import main
from spikeloom.models import (
    Backbone,
    PretrainedError,
    load_reference,
    origin,
    registry,
    save_pretrained,
)
from spikeloom.models.fitting import model_for
from spikeloom.models.reference import chained, renamed
from spikeloom.names import UnknownName

SMALL: dict[str, Any] = {"width": 4, "image_size": 32, "T": 3, "num_classes": 5}


@pytest.fixture(autouse=True)
def _seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    torch.manual_seed(0)


def normed(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    leaves = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{leaf}": (channels,) for leaf in leaves}, f"{name}.num_batches_tracked": ()}


def sew_names(
    blocks: tuple[int, ...], width: int, classes: int, wide: bool = False, fired: bool = True
) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of fangwei123456/Spike-Element-Wise-ResNet's networks for ImageNet.

    `wide` blocks have three convolutions, and `fired` shortcuts (SEW-ResNet's) a neuron behind them.
    """
    found = {"conv1.weight": (width, 3, 7, 7), **normed("bn1", width)}
    channels = width
    for i, count in enumerate(blocks):
        inner = width * 2**i
        out = 4 * inner if wide else inner
        for j in range(count):
            at = f"layer{i + 1}.{j}"
            three = [(inner, channels, 1), (inner, inner, 3), (out, inner, 1)]
            for k, (a, b, size) in enumerate(three if wide else [(out, channels, 3), (out, inner, 3)], 1):
                found[f"{at}.conv{k}.module.0.weight"] = (a, b, size, size)
                found |= normed(f"{at}.conv{k}.module.1", a)
            if channels != out:
                inside = "downsample.0.module" if fired else "downsample.module"
                found[f"{at}.{inside}.0.weight"] = (out, channels, 1, 1)
                found |= normed(f"{at}.{inside}.1", out)
            channels = out
    return {**found, "fc.weight": (classes, channels), "fc.bias": (classes,)}


def filled(names: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Return tensors of these shapes, with which spikes pass."""
    found = {}
    for name, shape in names.items():
        found[name] = torch.randn(shape) * (0.5 if len(shape) > 1 else 0.3)
        if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
            found[name] = 1 + torch.rand(shape)
        if name.endswith("num_batches_tracked"):
            found[name] = torch.tensor(7)
    return found


def same(net: nn.Module, other: nn.Module) -> bool:
    mine, theirs = net.state_dict(), other.state_dict()
    return list(mine) == list(theirs) and all(torch.equal(mine[name], theirs[name]) for name in mine)


def integrate(x: Tensor) -> Tensor:
    v, spikes = torch.zeros_like(x[0]), []
    for x_t in x:
        v = v + x_t
        s = (v >= 1).to(x)
        spikes.append(s)
        v = v * (1 - s)
    return torch.stack(spikes)


def sew_truth(state: dict[str, Tensor], x: Tensor, T: int, blocks: tuple[int, ...], fired: bool) -> Tensor:
    """Return the scores of an image `[B, 3, H, W]` from the reference's weights by the papers' equations."""

    def norm(name: str, y: Tensor) -> Tensor:
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return functional.batch_norm(y, mean, var, state[f"{name}.weight"], state[f"{name}.bias"])

    def conv(name: str, y: Tensor, stride: int) -> Tensor:
        weight = state[f"{name}.0.weight"]
        z = functional.conv2d(y.flatten(0, 1), weight, None, stride, weight.shape[-1] // 2)
        return norm(f"{name}.1", z).unflatten(0, y.shape[:2])

    stem = norm("bn1", functional.conv2d(x, state["conv1.weight"], None, 2, 3))
    spikes = integrate(stem.expand(T, *stem.shape))
    y = functional.max_pool2d(spikes.flatten(0, 1), 3, 2, 1).unflatten(0, spikes.shape[:2])
    for i, count in enumerate(blocks):
        for j in range(count):
            at, stride = f"layer{i + 1}.{j}", 2 if i and not j else 1
            a = conv(f"{at}.conv2.module", integrate(conv(f"{at}.conv1.module", y, stride)), 1)
            inside = f"{at}.downsample.0.module" if fired else f"{at}.downsample.module"
            there = f"{inside}.0.weight" in state
            s = conv(inside, y, stride) if there else y
            if fired:
                y = integrate(a) + (integrate(s) if there else s)
            else:
                y = integrate(a + s)
    features = y.mean((-2, -1)).mean(0)
    return functional.linear(features, state["fc.weight"], state["fc.bias"])


DEPTHS = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("family", ["sew_resnet", "spiking_resnet"])
def test_sew_resnets_names_and_shapes(family: str, depth: int) -> None:
    blocks, wide = DEPTHS[depth]
    names = sew_names(blocks, 64, 1000, wide, family == "sew_resnet")
    with torch.device("meta"):
        net = sl.create_model(f"{family}{depth}")
        theirs = {name: torch.empty(shape) for name, shape in names.items()}
        mapped = renamed(net, theirs, "the checkpoint")
    assert {name: v.shape for name, v in mapped.items()} == {n: v.shape for n, v in net.state_dict().items()}


@pytest.mark.parametrize("family", ["sew_resnet18", "spiking_resnet18"])
def test_sew_resnet_computes_what_the_reference_does(family: str) -> None:
    blocks, fired = (2, 2, 2, 2), family == "sew_resnet18"
    state = filled(sew_names(blocks, 4, 5, fired=fired))
    net = sl.create_model(family, **SMALL).eval()
    load_reference(net, state)
    x = 2 * torch.rand(2, 3, 32, 32)
    truth = sew_truth(state, x, 3, blocks, fired)
    assert truth.std() > 0.1
    torch.testing.assert_close(net(x), truth, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("neuron", ["ReLU", "LIF"])
@pytest.mark.parametrize("norm", ["BN", "tdBN"])
def test_norms_that_lie_elsewhere_are_found(neuron: str, norm: str) -> None:
    state = filled(sew_names((2, 2, 2, 2), 4, 5))
    net = sl.create_model("sew_resnet18", **SMALL, neuron=neuron, norm=norm)
    load_reference(net, state)
    (first,) = (
        v for n, v in net.state_dict().items() if n.startswith("stages.1.0.branch.0.") and "bias" in n
    )
    assert torch.equal(first, state["layer2.0.conv1.module.1.bias"])


# -- the words around a checkpoint, and the rules ------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {f"module._orig_mod.{name}": value for name, value in state.items()},
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{n}": v for n, v in state.items()}, "optimizer": {"lr": 0.1}},
    ],
)
def test_what_is_around_the_weights_is_understood(wrap: Callable[..., Any]) -> None:
    state = filled(sew_names((2, 2, 2, 2), 4, 5))
    one, two = (sl.create_model("sew_resnet18", **SMALL) for _ in range(2))
    load_reference(one, state)
    load_reference(two, wrap(state))
    assert same(one, two)


class Fused(nn.Module):
    """A layer of q, k and v, whose reference has three, as 1x1 convolutions."""

    reference_keys: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^unused\.", ""),
        (r"^q_conv\.", "#0"),
        (r"^k_conv\.", "#1"),
        (r"^v_conv\.", "#2"),
        (r"^(#\d)weight$", r"qkv.weight\1"),
        (r"^q_bn\.(.*)", r"norm.\1#0"),
        (r"^k_bn\.(.*)", r"norm.\1#1"),
        (r"^v_bn\.(.*)", r"norm.\1#2"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(3, 6, bias=False)
        self.norm = nn.BatchNorm1d(6)


def three(shape: tuple[int, ...] = (2, 3, 1, 1)) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for one in "qkv":
        state |= {f"{one}_conv.weight": torch.rand(shape)}
        state |= {n: torch.rand(s) for n, s in normed(f"{one}_bn", 2).items() if s}
        state |= {f"{one}_bn.num_batches_tracked": torch.tensor(9)}
    return {**state, "unused.weight": torch.rand(4)}


def test_parts_are_joined_axes_of_one_left_away_and_names_dropped() -> None:
    net, state = Fused(), three()
    load_reference(net, dict(reversed(state.items())))
    joined = torch.cat([state[f"{one}_conv.weight"][..., 0, 0] for one in "qkv"])
    assert torch.equal(net.qkv.weight, joined)
    assert torch.equal(
        net.state_dict()["norm.running_var"], torch.cat([state[f"{one}_bn.running_var"] for one in "qkv"])
    )
    assert net.norm.num_batches_tracked == 9


def test_a_part_that_is_missing_is_named() -> None:
    net, state = Fused(), three()
    del state["k_conv.weight"]
    with pytest.raises(PretrainedError, match=r"1 missing in the file: qkv\.weight.*qkv\.weight#0") as error:
        load_reference(net, state)
    assert "qkv.weight#2" in str(error.value)


def test_dtypes_are_the_networks() -> None:
    net, state = Fused().double(), three()
    load_reference(net, {n: v.half() if v.is_floating_point() else v for n, v in state.items()})
    assert {v.dtype for v in net.state_dict().values()} == {torch.float64, torch.int64}


def test_two_names_that_become_one_are_refused() -> None:
    class Twice(Fused):
        reference_keys = ((r"^(q|k)\.", "qkv."),)

    with pytest.raises(PretrainedError, match=r"'q\.weight' and 'k\.weight' both are 'qkv\.weight'"):
        load_reference(Twice(), {"q.weight": torch.rand(6, 3), "k.weight": torch.rand(6, 3)})


def test_keys_of_a_layer_and_its_norm() -> None:
    class Chained(nn.Module):
        reference_keys = (
            *chained(r"^q_conv", "qk", 0),
            *chained(r"^k_conv", "qk", 1),
            *chained(r"^fc_conv", "out"),
        )

        def __init__(self) -> None:
            super().__init__()
            self.qk = sl.nn.chain(nn.Linear(3, 4), nn.BatchNorm1d(4), sl.LIF())
            self.out = sl.nn.chain(nn.Linear(4, 2), nn.BatchNorm1d(2))  # without a neuron

    net, state = Chained(), {}
    for theirs, layer, shape in (
        ("q", "conv", (2, 3, 1)),
        ("k", "conv", (2, 3, 1)),
        ("fc", "linear", (2, 4)),
    ):
        state |= {f"{theirs}_{layer}.weight": torch.rand(shape), f"{theirs}_{layer}.bias": torch.rand(2)}
        state |= {f"{theirs}_bn.{name}": value + 1 for name, value in nn.BatchNorm1d(2).state_dict().items()}
    load_reference(net, state)
    own = net.state_dict()
    rows = [state[f"{part}_conv.weight"][..., 0] for part in "qk"]
    assert torch.equal(own["qk.0.0.weight"], torch.cat(rows))
    assert torch.equal(own["qk.1.norm.bias"], torch.ones(4))
    assert torch.equal(own["out.0.0.weight"], state["fc_linear.weight"])
    assert torch.equal(own["out.0.1.running_var"], torch.full((2,), 2.0))


# -- all or nothing -----------------------------------------------------------------------------------


def unchanged(net: nn.Module, weights: Any, match: str, **more: Any) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(PretrainedError, match=match):
        load_reference(net, weights, **more)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_another_models_checkpoint_leaves_the_network_as_it_was() -> None:
    net = sl.create_model("sew_resnet18", **SMALL)
    fewer = filled(sew_names((2, 2, 2, 1), 4, 5))
    unchanged(net, fewer, r"does not fit model sew_resnet18: 12 missing in the file: stages\.3\.1\.branch\.0")
    more = filled(sew_names((2, 2, 2, 3), 4, 5))
    unchanged(net, more, r"12 not of this network: stages\.3\.2\.branch.*, and 8 more")
    wide = filled(sew_names((2, 2, 2, 2), 8, 5))
    unchanged(
        net, wide, r"stem\.0\.weight is float32 \[8, 3, 7, 7\] in the file, but float32 \[4, 3, 7, 7\] in the"
    )
    other = {f"patch_embed.{i}.weight": torch.rand(2) for i in range(3)}
    unchanged(net, other, r"3 not of this network: patch_embed")


def test_a_value_that_is_refused_late_leaves_the_network_as_it_was() -> None:
    net = sl.create_model("sew_resnet18", **SMALL, neuron="LIF", neuron_options={"learnable": ("tau",)})
    state = {name: value + 1 for name, value in net.state_dict().items()}
    last = [name for name in state if name.endswith("tau")][-1]
    state[last] = torch.tensor(0.1)
    unchanged(net, state, r"tau = 0\.1; it must be")


def test_what_the_reference_does_not_have_is_kept_if_asked_to() -> None:
    net = sl.create_model("sew_resnet18", **SMALL, neuron="PLIF")
    state = filled(sew_names((2, 2, 2, 2), 4, 5))
    unchanged(net, state, r"20 missing in the file: stages\.0\.0\.0\.w")
    load_reference(net, state, keep=["*.w"])
    assert torch.equal(net.state_dict()["stem.0.weight"], state["conv1.weight"])


def test_what_is_no_checkpoint_is_refused() -> None:
    net = sl.create_model("sew_resnet18", **SMALL)
    unchanged(net, {"epoch": 3, "lr": 0.1}, r"holds 'epoch': int, 'lr': float, where tensors by name are")
    unchanged(net, {}, r"holds nothing")
    unchanged(
        nn.Linear(2, 2),
        {"w": torch.rand(2, 2)},
        r"Linear has no reference_keys, so the names must be its own",
    )
    with torch.device("meta"):
        on_meta = sl.create_model("sew_resnet18", **SMALL)
    with pytest.raises(PretrainedError, match='"meta", which holds no weights'):
        load_reference(on_meta, filled(sew_names((2, 2, 2, 2), 4, 5)))


def test_all_but_the_head() -> None:
    net = sl.create_model("sew_resnet18", **{**SMALL, "num_classes": 3})
    state = filled(sew_names((2, 2, 2, 2), 4, 5))
    head = net.state_dict()["head.linear.weight"].clone()
    load_reference(net, state, keep=["head.*"])
    assert torch.equal(net.state_dict()["head.linear.weight"], head)
    assert torch.equal(net.state_dict()["stem.0.weight"], state["conv1.weight"])
    unchanged(
        net,
        state,
        r"keep: no tensor of model sew_resnet18 is like 'haed\.\*'; did you mean 'head",
        keep=["haed.*"],
    )


# -- files, folders and repositories ------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file of a reference's weights."""
    safetensors.torch.save_file(filled(sew_names((2, 2, 2, 2), 4, 5)), tmp_path / "theirs.safetensors")
    return tmp_path / "theirs.safetensors"


def test_pretrained_of_a_file(file: Path, tmp_path: Path) -> None:
    net = sl.create_model("sew_resnet18", pretrained=file, **{**SMALL, "T": 6})
    assert isinstance(net, Backbone)
    assert net.T == 6
    again = sl.create_model("sew_resnet18", **SMALL)
    load_reference(again, str(file))
    assert same(net, again)
    safetensors.torch.save_file(net.state_dict(), tmp_path / "ours.safetensors")
    assert same(sl.create_model("sew_resnet18", pretrained=tmp_path / "ours.safetensors", **SMALL), net)


def test_pretrained_of_a_folder(file: Path, tmp_path: Path) -> None:
    net = sl.create_model("sew_resnet18", pretrained=file, **SMALL, neuron="LIF")
    made = origin(net)
    assert made is not None
    assert "pretrained" not in made.arguments
    assert made.arguments["width"] == 4
    save_pretrained(net, tmp_path / "net")
    again = sl.create_model("sew_resnet18", pretrained=str(tmp_path / "net"), T=5)
    assert same(again, net)
    assert origin(again) == registry.Origin("sew_resnet18", {**made.arguments, "T": 5})
    empty = sl.create_model("sew_resnet18", **SMALL, neuron="LIF")
    load_reference(empty, tmp_path / "net")
    assert same(empty, net)
    with pytest.raises(
        PretrainedError, match=r"holds model sew_resnet18, not sew_resnet34: sl\.create_model\("
    ):
        sl.create_model("sew_resnet34", pretrained=tmp_path / "net")
    weights = tmp_path / "net" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(PretrainedError, match=r"its sha256 is"):
        sl.create_model("sew_resnet18", pretrained=tmp_path / "net")


def test_pretrained_of_a_repository(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "repo").mkdir()
    file.rename(tmp_path / "repo" / "model.safetensors")
    asked = []

    def download(name: str, **options: Any) -> str:
        asked.append(name)
        return str(tmp_path / "repo")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    sl.create_model("sew_resnet18", pretrained="someone/sew", **SMALL)
    (tmp_path / "repo" / "config.json").write_text('{"architecture": "theirs"}')
    sl.create_model("sew_resnet18", pretrained="someone/sew", **SMALL)
    assert asked == ["someone/sew"] * 2
    (tmp_path / "repo" / "config.json").write_text("{")
    with pytest.raises(PretrainedError, match=r"config\.json cannot be read"):
        sl.create_model("sew_resnet18", pretrained="someone/sew", **SMALL)


def test_another_number_of_classes_gives_the_remedy(file: Path) -> None:
    with pytest.raises(
        PretrainedError, match=r"scores of 5 classes, but num_classes = 3; give num_classes=5"
    ):
        sl.create_model("sew_resnet18", pretrained=file, **{**SMALL, "num_classes": 3})
    with pytest.raises(PretrainedError, match=r"keep=\['head\.linear\.\*'\]\)"):
        sl.create_model("sew_resnet18", pretrained=file, **{**SMALL, "num_classes": 3})
    net = sl.create_model("sew_resnet18", **{**SMALL, "num_classes": 3})
    load_reference(net, file, keep=["head.linear.*"])
    with pytest.raises(PretrainedError, match=r"stem\.0\.weight is float32 \[4, 3, 7, 7\] in the file"):
        sl.create_model("sew_resnet18", pretrained=file, **{**SMALL, "width": 8})
    with pytest.raises(UnknownName, match="did you mean 'num_classes'"):
        sl.create_model("sew_resnet18", pretrained=file, num_clases=5)


@pytest.mark.parametrize("name", ["sew18.pth", "checkpoint_max.PT", "pytorch_model.bin", "x.pth.tar"])
def test_a_pickle_is_never_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = filled(sew_names((2, 2, 2, 2), 4, 5))
    torch.save({"model": state, "epoch": 1}, tmp_path / name)
    net = sl.create_model("sew_resnet18", **SMALL)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was read"))
        unchanged(net, tmp_path / name, r"is a pickle.*load_reference\(net, torch\.load\(.*weights_only=True")
        with pytest.raises(PretrainedError, match="is a pickle"):
            sl.create_model("sew_resnet18", pretrained=tmp_path / name, **SMALL)
    load_reference(net, torch.load(tmp_path / name, weights_only=True))
    assert torch.equal(net.state_dict()["stem.0.weight"], state["conv1.weight"])


def test_files_that_are_none(tmp_path: Path) -> None:
    net = sl.create_model("sew_resnet18", **SMALL)
    unchanged(net, tmp_path / "gone.safetensors", r"gone\.safetensors does not exist")
    (tmp_path / "cut.safetensors").write_bytes(b"12")
    unchanged(net, tmp_path / "cut.safetensors", r"is no whole safetensors file")
    (tmp_path / "empty").mkdir()
    unchanged(
        net, tmp_path / "empty", r"does not exist; give a folder that sl\.models\.save_pretrained wrote"
    )


def test_pretrained_in_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = sl.create_model("conv_snn", channels=(4, 6), pools=(2, 2), image_size=8)
    save_pretrained(net, tmp_path / "net")
    again = model_for("conv_snn", (1, 8, 8), 10, 6, pretrained=tmp_path / "net")
    assert same(again, net)
    made = origin(again)
    assert made is not None
    assert made.arguments["T"] == 6
    run = ["train", "digits", "--epochs", "1", "--run-dir", str(tmp_path / "run")]
    assert main([*run, "--set", "pretrained=sew18.pth"]) == 2
    assert "sew18.pth is a pickle" in capsys.readouterr().err


def test_every_map_is_of_expressions() -> None:
    """A map of a registered class can be compiled, and its replacements refer to groups that there are."""
    for name in sl.list_models():
        for pattern, replacement in getattr(registry.find_model(name).cls, "reference_keys", ()):
            groups = re.compile(pattern).groups
            used = [int(n) for n in re.findall(r"\\(\d)", replacement)]
            assert max(used, default=0) <= groups, (name, pattern)
