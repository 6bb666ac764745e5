"""Networks saved in the hub's convention: they come back bit for bit, and what is wrong is refused."""

from __future__ import annotations

import copy
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from families import one_of_each, small_network
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.models import PretrainedError, from_pretrained, registry, save_pretrained
from spikeloom.models.conv_snn import ConvSNN
from spikeloom.names import UnknownName

SMALL: dict[str, Any] = {"channels": [4, 6], "image_size": 8, "T": 3}


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    torch.manual_seed(0)


def stirred(net: nn.Module) -> nn.Module:
    """Return the network with no weight or buffer where its construction left it."""
    for name, value in net.state_dict().items():
        if name.endswith("trained_for"):  # a decay, without which it fits no neuron
            continue
        if value.is_floating_point():
            value.copy_(value + 0.1 * torch.rand(value.shape))
        else:
            value.fill_(7)
    return net.eval()


def small(**more: Any) -> nn.Module:
    return stirred(sl.create_model("conv_snn", **{**SMALL, **more}))


def assert_same(net: nn.Module, other: nn.Module, dtype: torch.dtype = torch.float32) -> None:
    mine, theirs = net.state_dict(), other.state_dict()
    assert list(mine) == list(theirs)
    for name, value in mine.items():
        assert theirs[name].dtype == value.dtype, name
        assert torch.equal(theirs[name], value), name
    x = torch.rand(5, 1, 8, 8).to(dtype)
    y = net(x)
    assert y.abs().sum() > 0
    assert torch.equal(other(x), y)


# -- they come back -----------------------------------------------------------------------------------

NETS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "learnable": {"neuron": "PLIF", "neuron_options": {"init_tau": 3.0}},
    "learnable by name": {"neuron_options": {"learnable": ["tau", "v_threshold"], "tau": 2.5}},
    "a value a channel": {"channels": [4, 4], "neuron_options": {"tau": [2.0, 3.0, 4.0, 5.0]}},
    "surrogate": {"neuron_options": {"surrogate": sl.surrogate.Sigmoid(3.0), "reset": "soft"}},
}


@pytest.mark.parametrize("name", NETS)
def test_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    net = small(**NETS[name])
    save_pretrained(net, tmp_path / "net")
    assert sorted(os.listdir(tmp_path / "net")) == ["README.md", "config.json", "model.safetensors"]
    again = from_pretrained(tmp_path / "net")
    assert not again.training
    assert_same(net, again)
    assert repr(again) == repr(net)
    for a, b in zip(net.parameters(), again.parameters(), strict=True):
        assert a.requires_grad == b.requires_grad
    assert [repr(n.surrogate) for n in again.neurons] == [repr(n.surrogate) for n in net.neurons]
    save_pretrained(again, tmp_path / "again")  # what came back can be saved again, to the same bytes
    for file in ("model.safetensors", "config.json"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "net" / file).read_bytes()


def test_every_model_comes_back(tmp_path: Path) -> None:
    for name in one_of_each():
        net = stirred(small_network(name))
        save_pretrained(net, tmp_path / name)
        again = from_pretrained(tmp_path / name)
        x = sl.models.example_input(net, 2)
        assert torch.equal(again(x), net(x)), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtype_comes_back(dtype: torch.dtype, tmp_path: Path) -> None:
    net = small(neuron="PLIF").to(dtype)
    save_pretrained(net, tmp_path)
    assert_same(net, from_pretrained(tmp_path), dtype)


def test_memory_format_comes_back(tmp_path: Path) -> None:
    net = small(in_channels=1, channels=[16, 16]).to(memory_format=torch.channels_last)
    save_pretrained(net, tmp_path)
    again = from_pretrained(tmp_path)
    for a, b in zip(net.parameters(), again.parameters(), strict=True):
        assert a.stride() == b.stride()
    assert_same(net, again)


def test_trained_network_goes_on_training(tmp_path: Path) -> None:
    net = small(neuron="PLIF")
    save_pretrained(net, tmp_path)
    losses = []
    for one in (net, from_pretrained(tmp_path)):
        one.train()
        one(torch.ones(4, 1, 8, 8)).square().sum().backward()
        losses.append([p.grad.clone() for p in one.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*losses, strict=True))


def test_the_network_remembers_what_it_was_built_of(tmp_path: Path) -> None:
    channels = [4, 6]
    net = sl.create_model("conv_snn", channels=channels, image_size=8)
    channels.append(9)
    for one in (net, copy.deepcopy(net)):
        origin = sl.models.origin(one)
        assert origin is not None
        assert origin.model == "conv_snn"
        assert origin.arguments["channels"] == [4, 6]
        assert origin.arguments["neuron"] == "LIF"  # a default, which may change some day
    assert sl.models.origin(nn.Linear(2, 2)) is None
    assert sl.models.origin(ConvSNN()) is None
    save_pretrained(torch.compile(net), tmp_path)  # what compile wraps is saved
    assert_same(net.eval(), from_pretrained(tmp_path))


def test_random_numbers_are_left_alone(tmp_path: Path) -> None:
    net = small()
    before = torch.get_rng_state()
    save_pretrained(net, tmp_path)
    from_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_overrides_of_what_has_no_weights(tmp_path: Path) -> None:
    net = small()
    save_pretrained(net, tmp_path)
    assert from_pretrained(tmp_path, T=7).T == 7
    with pytest.raises(UnknownName, match="did you mean 'T'"):
        from_pretrained(tmp_path, t=7)


class Tied(nn.Module):
    """Two layers with one weight, and a buffer that is not saved."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(width, width), nn.Linear(width, width)
        self.b.weight = self.a.weight
        self.register_buffer("scratch", torch.zeros(2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x)))


def test_shared_weights_are_held_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sl.list_models()
    monkeypatch.setitem(registry._entries, "tied", registry.Entry("tied", Tied, {}))
    net = stirred(sl.create_model("tied").double())
    save_pretrained(net, tmp_path)
    assert sorted(safetensors.torch.load_file(tmp_path / "model.safetensors")) == [
        "a.bias", "a.weight", "b.bias"
    ]  # fmt: skip
    again = from_pretrained(tmp_path)
    assert again.a.weight is again.b.weight
    x = torch.randn(4, 3, dtype=torch.float64)
    assert torch.equal(again(x), net(x))


# -- what cannot come back is not written -------------------------------------------------------------


def test_folded_and_changed_networks_are_refused(tmp_path: Path) -> None:
    net = small()
    folded = sl.fold(net)
    with pytest.raises(PretrainedError, match=r"Identity.*before sl\.fold"):
        save_pretrained(folded, tmp_path / "a")
    save_pretrained(net, tmp_path / "net")  # the remedy that the message gives
    x = torch.rand(4, 1, 8, 8)
    assert torch.equal(sl.fold(from_pretrained(tmp_path / "net"))(x), folded(x))

    def threshold(net: Any) -> None:
        net.neurons[0].v_threshold = 0.75

    def alpha(net: Any) -> None:
        net.neurons[1].surrogate.alpha = 5.0

    def steps(net: Any) -> None:
        net.T = 9

    def norm(net: Any) -> None:
        net.synapses[0][1].eps = 0.1

    def head(net: Any) -> None:
        net.head[1] = nn.Linear(net.head[1].in_features, 4)

    changes = {
        threshold: r"neurons\.0\.v_threshold is 0\.75.*has 1\.0",
        alpha: r"neurons\.1\.surrogate",
        steps: "T is 9.*has 3",
        norm: r"synapses\.0\.1\.eps",
        head: r"head\.1\.out_features is 4.*has 10",
    }
    for change, message in changes.items():
        net = small()
        change(net)
        with pytest.raises(PretrainedError, match=message):
            save_pretrained(net, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_networks_without_a_name_are_refused(tmp_path: Path) -> None:
    for net in (ConvSNN(), nn.Sequential(nn.Linear(2, 2), sl.LIF())):
        with pytest.raises(PretrainedError, match=r"sl\.create_model.*HubMixin"):
            save_pretrained(net, tmp_path)


def test_arguments_that_json_cannot_hold_are_refused(tmp_path: Path) -> None:
    custom = sl.surrogate.Custom(lambda u: torch.exp(-u * u))
    for options, message in (
        ({"tau": torch.full((4,), 2.0)}, r"neuron_options: tau is a Tensor.*tolist"),
        ({"surrogate": custom}, "is code"),
    ):
        net = small(channels=[4, 4], neuron_options=options)
        with pytest.raises(PretrainedError, match=message):
            save_pretrained(net, tmp_path)
    assert not list(tmp_path.iterdir())


def test_other_things_in_the_folder_stay(tmp_path: Path) -> None:
    net, other = small(), small()
    (tmp_path / "notes.txt").write_text("mine")
    save_pretrained(net, tmp_path)
    (tmp_path / "README.md").write_text("# written by hand")
    save_pretrained(other, tmp_path)  # saved before by the same function: replaced, but for the card
    assert_same(other, from_pretrained(tmp_path))
    assert (tmp_path / "README.md").read_text() == "# written by hand"
    save_pretrained(other, tmp_path, card="# given")
    assert (tmp_path / "README.md").read_text() == "# given"
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "files",
    [
        {"model.safetensors": b"a run's weights"},
        {"config.json": b'{"recipe": "digits"}', "model.safetensors": b"a run's weights"},
        {"config.json": b"no json"},
    ],
)
def test_files_of_others_are_not_replaced(files: dict[str, bytes], tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(PretrainedError, match="did not write there"):
        save_pretrained(small(), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_a_readme_of_others_is_kept_or_the_card_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("of a new repository")
    with pytest.raises(PretrainedError, match=r"README\.md"):
        save_pretrained(small(), tmp_path, card="# new")
    save_pretrained(small(), tmp_path)
    assert (tmp_path / "README.md").read_text() == "of a new repository"


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("fails", [1, 2, 3])
def test_save_that_fails(step: str, fails: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new, work = small(), small(neuron="PLIF"), getattr(os, step)
    save_pretrained(old, tmp_path)
    count = 0

    def failing(*arguments: Any) -> None:
        nonlocal count
        count += 1
        if count == fails:
            raise OSError("no space left on device")
        work(*arguments)

    monkeypatch.setattr(os, step, failing)
    with pytest.raises(PretrainedError, match=r"cannot be written \(no space left.*save again"):
        save_pretrained(new, tmp_path, card="# new")
    assert sorted(os.listdir(tmp_path)) == ["README.md", "config.json", "model.safetensors"]
    if step == "fsync" or fails == 1:
        assert_same(old, from_pretrained(tmp_path))
        assert (tmp_path / "README.md").read_text() != "# new"
    elif fails == 2:  # new weights beside the old config are never taken for one network
        with pytest.raises(PretrainedError, match=r"sha256.*config\.json expects"):
            from_pretrained(tmp_path)
    else:
        assert_same(new, from_pretrained(tmp_path))
    monkeypatch.undo()
    (tmp_path / ".model.safetensors.0123.part").touch()  # of a process that was killed
    save_pretrained(new, tmp_path)
    assert_same(new, from_pretrained(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["README.md", "config.json", "model.safetensors"]


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PretrainedError, match="cannot be made"):
        save_pretrained(small(), tmp_path / "file")


# -- what does not fit is refused ---------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_pretrained(small(), tmp_path / "saved")
    return tmp_path / "saved"


def edit(folder: Path, **changes: Any) -> None:
    """Change config.json: entries of ours under their names, arguments under theirs."""
    config = json.loads((folder / "config.json").read_text())
    for name, value in changes.items():
        (config["spikeloom"] if name in config["spikeloom"] else config)[name] = value
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("harm", ["cut", "empty", "header", "flipped", "pickle"])
def test_damaged_weights_are_refused(saved: Path, harm: str) -> None:
    path = saved / "model.safetensors"
    content = bytearray(path.read_bytes())
    if harm == "pickle":
        torch.save({"a": torch.ones(2)}, path)
    elif harm == "flipped":  # one bit of one weight: only the checksum sees it
        content[-1] ^= 1
        path.write_bytes(content)
    elif harm == "header":
        content[3] ^= 0xFF
        path.write_bytes(content)
    else:
        path.write_bytes({"cut": content[:-100], "empty": b""}[harm])
    with pytest.raises(PretrainedError) as error:
        from_pretrained(saved)
    assert str(path) in str(error.value)
    assert "save the network again, or download it again" in str(error.value)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "last.ckpt"])
def test_pickles_are_never_read(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "exploded"),))

    folder = tmp_path / "foreign"
    folder.mkdir()
    torch.save({"weight": Bomb()}, folder / name)
    (folder / "config.json").write_text("{}")
    for source in (folder, folder / name):
        with pytest.raises(PretrainedError, match=r"pickle.*weights_only=True.*save_pretrained") as error:
            from_pretrained(source)
        assert name in str(error.value)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read"),
        ("[]", "no entry 'spikeloom'"),
        ('{"architectures": ["BertModel"]}', "another library wrote it"),
        ('{"spikeloom": {"model": 3}}', "names a model"),
        ('{"spikeloom": {"model": "conv_snn", "format": 9, "version": "7.0"}}', r"spikeloom 7\.0.*--upgrade"),
    ],
)
def test_foreign_configs_are_refused(saved: Path, content: str, message: str) -> None:
    (saved / "config.json").write_text(content)
    with pytest.raises(PretrainedError, match=message):
        from_pretrained(saved)


def test_folders_that_are_none(saved: Path, tmp_path: Path) -> None:
    (saved / "config.json").unlink()
    with pytest.raises(PretrainedError, match=r"config\.json does not exist"):
        from_pretrained(saved)
    (saved / "metrics.jsonl").touch()
    with pytest.raises(PretrainedError, match="training run: spikeloom card"):
        from_pretrained(saved)
    for source in (tmp_path / "nothing", "./nothing", str(tmp_path / "nothing"), "a/b/c"):
        with pytest.raises(PretrainedError, match="no such folder"):
            from_pretrained(source)
    with pytest.raises(PretrainedError, match="leave revision out"):
        from_pretrained(tmp_path, revision="v1")


def test_models_and_arguments_of_other_versions(saved: Path) -> None:
    edit(saved, speed=3)
    with pytest.raises(UnknownName, match="no argument of model conv_snn 'speed'"):
        from_pretrained(saved)
    edit(saved, model="conv_snm")
    with pytest.raises(UnknownName, match=r"config\.json.*did you mean 'conv_snn'.*newer spikeloom"):
        from_pretrained(saved)
    edit(saved, model="conv_snn", speed=None, pools=[9, 9])
    config = json.loads((saved / "config.json").read_text())
    del config["speed"]
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(PretrainedError, match="does not take these arguments"):
        from_pretrained(saved)


def test_shapes_that_do_not_fit_are_listed(saved: Path) -> None:
    edit(saved, channels=[4, 8])
    with pytest.raises(PretrainedError) as error:
        from_pretrained(saved)
    assert "6 other than they should be" in str(error.value)
    shown = "synapses.1.0.weight is float32 [6, 4, 3, 3] in the file, but float32 [8, 4, 3, 3] in the network"
    assert shown in str(error.value)
    assert "and 2 more" in str(error.value)


def rewrite(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Put other tensors into the folder, with a checksum that is theirs."""
    content = safetensors.torch.save(tensors)
    (folder / "model.safetensors").write_bytes(content)
    edit(folder, weights=sl.models.weights.digest(content))


def test_names_that_do_not_fit_are_listed(saved: Path) -> None:
    tensors = safetensors.torch.load_file(saved / "model.safetensors")
    rewrite(saved, {("head.weight" if name == "head.1.weight" else name): t for name, t in tensors.items()})
    message = (
        r"1 missing in the file: head\.1\.weight \(like head\.weight\?\); 1 not of this network: head\.weight"
    )
    with pytest.raises(PretrainedError, match=message):
        from_pretrained(saved)
    rewrite(saved, {**tensors, "head.1.bias": tensors["head.1.bias"].int()})
    with pytest.raises(PretrainedError, match=r"head\.1\.bias is int32 \[10\] in the file, but float32"):
        from_pretrained(saved)


def test_values_out_of_bounds_are_refused(tmp_path: Path) -> None:
    save_pretrained(small(neuron_options={"learnable": ["tau"]}), tmp_path)
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
    rewrite(tmp_path, {**tensors, "neurons.0.tau": torch.tensor(0.5)})
    with pytest.raises(PretrainedError, match=r"neurons\.0\.tau = 0\.5; it must be"):
        from_pretrained(tmp_path)


# -- the hub ------------------------------------------------------------------------------------------


def cached(folder: Path, cache: Path, repo: str, **refs: str) -> None:
    """Lay a folder into a cache as the hub's library would after a download, under its refs."""
    place = cache / f"models--{repo.replace('/', '--')}"
    for ref, commit in refs.items():
        (place / "refs").mkdir(parents=True, exist_ok=True)
        (place / "refs" / ref).write_text(commit)
        snapshot = place / "snapshots" / commit
        snapshot.mkdir(parents=True, exist_ok=True)
        (place / "blobs").mkdir(exist_ok=True)
        for file in folder.iterdir():
            blob = place / "blobs" / f"{commit}-{file.name}"
            blob.write_bytes(file.read_bytes())
            (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))


def test_repositories_and_their_revisions(tmp_path: Path) -> None:
    nets = {"main": small(), "v1": small(neuron="PLIF")}
    for (ref, net), commit in zip(nets.items(), ("a" * 40, "b" * 40), strict=True):
        save_pretrained(net, tmp_path / ref)
        cached(tmp_path / ref, tmp_path / "cache", "someone/digits-net", **{ref: commit})
    load = {"cache_dir": tmp_path / "cache", "local_files_only": True}
    assert_same(nets["main"], from_pretrained("someone/digits-net", **load))
    for revision in ("v1", "b" * 40):
        assert_same(nets["v1"], from_pretrained("someone/digits-net", revision, **load))
    with pytest.raises(PretrainedError, match=r"someone/digits-net.*revision 'v2'.*check the name"):
        from_pretrained("someone/digits-net", "v2", **load)
    with pytest.raises(PretrainedError, match="did not give it"):
        from_pretrained("someone/other", cache_dir=tmp_path / "cache")
    with pytest.raises(PretrainedError, match="did not give it"):
        from_pretrained("no name-", **load)


def test_only_three_files_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = small()
    save_pretrained(net, tmp_path)
    asked: dict[str, Any] = {}

    def download(repo: str, **options: Any) -> str:
        asked.update(options, repo=repo)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert_same(net, from_pretrained("someone/net", revision="v1"))
    assert asked["repo"] == "someone/net"
    assert asked["revision"] == "v1"
    assert asked["allow_patterns"] == ["config.json", "model.safetensors", "README.md"]


def test_without_the_hubs_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_pretrained(small(), tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    from_pretrained(tmp_path)  # a folder needs none
    with pytest.raises(ImportError, match=r"pip install 'spikeloom\[hub\]'"):
        from_pretrained("someone/net")
    sl.models.hub_mixin.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'spikeloom\[hub\]'"):
        _ = sl.models.HubMixin


# -- the mixin ----------------------------------------------------------------------------------------


class Body(nn.Module):
    def __init__(self, width: int = 4, tau: float = 2.0) -> None:
        super().__init__()
        self.layer, self.neuron = nn.Linear(3, width), sl.LIF(tau=tau, learnable=("tau",))

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.layer(x))


class Mine(Body, sl.models.HubMixin):
    def __init__(self, width: int = 4, tau: float = 2.0) -> None:
        super().__init__(width, tau)


class Theirs(Body, PyTorchModelHubMixin):
    def __init__(self, width: int = 4, tau: float = 2.0) -> None:
        super().__init__(width, tau)


class HubConv(ConvSNN, PyTorchModelHubMixin):
    """The registered class with the hub's own mixin."""


@pytest.mark.parametrize(("writer", "reader"), [(Mine, Mine), (Mine, Theirs), (Theirs, Mine)])
def test_the_mixin_and_the_hubs_own_read_each_other(writer: Any, reader: Any, tmp_path: Path) -> None:
    net = stirred(writer(5, tau=3.0))
    net.save_pretrained(tmp_path)
    again = reader.from_pretrained(tmp_path)
    assert again.layer.out_features == 5
    assert not again.training
    x = 3 * torch.rand(4, 2, 3)
    assert torch.equal(again(x), net(x))
    assert net(x).any()
    assert "library_name: spikeloom" in (tmp_path / "README.md").read_text() or writer is Theirs
    net.save_pretrained(tmp_path)  # again into the same folder


def test_the_hubs_loader_reads_what_save_pretrained_wrote(tmp_path: Path) -> None:
    net = small(neuron="PLIF")
    save_pretrained(net, tmp_path / "net")
    assert_same(net, HubConv.from_pretrained(tmp_path / "net", strict=True))
    cached(tmp_path / "net", tmp_path / "cache", "someone/net", main="c" * 40)
    again = HubConv.from_pretrained("someone/net", cache_dir=tmp_path / "cache", local_files_only=True)
    assert_same(net, again)


def test_mixin_keeps_dtype_and_refuses(tmp_path: Path) -> None:
    net = stirred(Mine(5).bfloat16())
    net.save_pretrained(tmp_path / "a", card="# mine")
    assert (tmp_path / "a" / "README.md").read_text() == "# mine"
    assert Mine.from_pretrained(tmp_path / "a").layer.weight.dtype == torch.bfloat16
    with pytest.raises(PretrainedError, match=r"layer\.weight is bfloat16 \[5, 3\]"):
        Mine.from_pretrained(tmp_path / "a", width=6)
    with pytest.raises(PretrainedError, match=r"YourClass\.from_pretrained"):
        from_pretrained(tmp_path / "a")
    (tmp_path / "a" / "model.safetensors").unlink()
    torch.save(net.state_dict(), tmp_path / "a" / "pytorch_model.bin")
    with pytest.raises(PretrainedError, match=r"pytorch_model\.bin, a pickle"):
        Mine.from_pretrained(tmp_path / "a")
    save_pretrained(small(), tmp_path / "b")
    with pytest.raises(PretrainedError, match="did not write there"):
        net.save_pretrained(tmp_path / "b")


def test_mixin_from_a_repository_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = stirred(Mine(5))
    net.save_pretrained(tmp_path / "net")
    cached(tmp_path / "net", tmp_path / "cache", "someone/mine", main="d" * 40)
    again = Mine.from_pretrained("someone/mine", cache_dir=tmp_path / "cache", local_files_only=True)
    assert torch.equal(again.layer.weight, net.layer.weight)

    pushed: dict[str, bytes] = {}

    class Api:
        def __init__(self, **_: Any) -> None:
            pass

        def create_repo(self, repo_id: str, **_: Any) -> Any:
            return type("Repo", (), {"repo_id": repo_id})

        def upload_folder(self, *, folder_path: Path, **_: Any) -> str:
            pushed.update({path.name: path.read_bytes() for path in Path(folder_path).iterdir()})
            return "https://hub/commit"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    assert net.push_to_hub("someone/mine") == "https://hub/commit"
    assert pushed == {path.name: path.read_bytes() for path in (tmp_path / "net").iterdir()}
