"""Model cards: what they say is what was measured, the hub can read them, and nothing is invented."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import spikeloom as sl
from spikeloom.cli.arguments import Misuse
from spikeloom.cli.card import run as card_verb
from spikeloom.models import ModelCard, Operations
from spikeloom.training import Recipe, RunError, RunFolder, load_net, load_samples, train_run
from spikeloom.training.card import card_of, publish

TINY = Recipe(
    data="digits", model_options={"channels": [8, 6], "pools": [2, 2]}, T=3, epochs=3, batch_size=128, lr=2e-2
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[RunFolder]:
    """Return finished runs of seeds 0 and 1."""
    root = tmp_path_factory.mktemp("runs")
    runs = []
    for seed in (0, 1):
        run = RunFolder.create(root / f"digits-{seed}", "digits", dataclasses.replace(TINY, seed=seed))
        train_run(run)
        runs.append(run)
    return runs


@pytest.fixture
def run(trained: list[RunFolder], tmp_path: Path) -> RunFolder:
    """Return a copy of the finished run, to spoil."""
    return RunFolder(shutil.copytree(trained[0].path, tmp_path / "run"))


def hub_card(text: str, folder: Path) -> huggingface_hub.ModelCard:
    """Return the card as the hub's library reads it from a file."""
    (folder / "README.md").write_text(text, encoding="utf-8")
    return huggingface_hub.ModelCard.load(folder / "README.md")


FULL = ModelCard(
    "digits-net",
    model="conv_snn",
    license="apache-2.0",
    data="digits",
    task="image-classification",
    command="spikeloom train digits --epochs 3",
    accuracy={0: 0.9, 1: 0.8, 2: 0.97},
    published_seed=0,
    firing_rate=0.125,
    layers={"neurons.0": 0.25, "neurons.1": 0.0625},
    operations=Operations(4608, 12345.6),
    parameters=1234,
    hours=0.5,
    hardware="2 cores",
    versions={"torch": "2.13.0"},
    config_hash="0123456789ab",
    revision="abcdef",
    settings={"lr": 0.01, "schedule": "cosine"},
    limits=("Digits of 43 writers alone.",),
    tags=("vision",),
)


# -- the card -----------------------------------------------------------------------------------------


def test_the_hub_reads_the_metadata(tmp_path: Path) -> None:
    data = hub_card(FULL.markdown(), tmp_path).data
    assert data.license == "apache-2.0"
    assert data.library_name == "spikeloom"
    assert data.tags == ["spikeloom", "vision"]
    assert data.datasets == ["digits"]
    assert data.metrics == ["accuracy"]
    assert data.pipeline_tag == "image-classification"
    assert data.model_name == "digits-net"
    mean, *seeds = data.eval_results
    assert mean.metric_value == pytest.approx(0.89)
    assert mean.metric_type == "accuracy"
    assert (mean.task_type, mean.dataset_type, mean.dataset_split) == (
        "image-classification",
        "digits",
        "test",
    )
    assert [(r.metric_args["seed"], r.metric_value) for r in seeds] == [(0, 0.9), (1, 0.8), (2, 0.97)]
    again = huggingface_hub.ModelCardData(**{**data.to_dict(), "eval_results": data.eval_results})
    assert again.to_dict()["model-index"] == FULL.metadata()["model-index"]


def test_the_text_says_what_is_known() -> None:
    text = FULL.markdown()
    # of 0.9, 0.8, 0.97: mean 0.89; deviations 0.01, -0.09, 0.08: sqrt(0.0146 / 2) = 0.08544
    assert "| Accuracy (test split) | 89.00% ± 8.54% (mean and standard deviation, 3 seeds) |" in text
    assert "| seed 0 | 90.0000%, these weights |" in text
    assert "| Firing rate | 0.1250 spikes per neuron and step |" in text
    assert "| neurons.1 | 0.0625 |" in text
    assert "4,608 MACs and 12,346 ACs a sample" in text
    # 4608 x 4.6 pJ + 12345.6 x 0.9 pJ = 32307.84 pJ
    assert "3.231e-05 mJ a sample by the 45 nm convention (Horowitz 2014" in text
    for row in ("Parameters | 1,234", "Seeds | 0, 1, 2", "Hours | 0.5, one seed", "Versions | torch 2.13.0"):
        assert f"| {row} |" in text
    assert "```sh\nspikeloom train digits --epochs 3\n```" in text
    assert "* Digits of 43 writers alone." in text
    assert "unknown" not in text
    assert "not measured" not in text


def test_energies_that_were_published() -> None:
    # Spikingformer (Zhou et al. 2023), 8-512 and 8-768, ImageNet, T = 4; MACs, to 0.05 M, are 2.3e-4 mJ
    assert Operations(0.3473e9, 6.5175e9).energy == pytest.approx(7.4635, abs=2.3e-4)
    assert Operations(0.5210e9, 12.5137e9).energy == pytest.approx(13.6589, abs=2.3e-4)
    # ViT-B/16 at 384 x 384: 55.4 G MACs
    assert Operations(55.4e9, 0).energy == pytest.approx(254.84, abs=1e-2)


def test_what_is_not_known_is_said_so(tmp_path: Path) -> None:
    text = ModelCard("net").markdown()
    for what in ("Accuracy (test split)", "Firing rate", "Operations", "Energy"):
        assert f"| {what} | not measured |" in text
    for what in ("Parameters", "Model", "Data", "Seeds", "Hours", "Hardware", "Versions", "Source revision"):
        assert f"| {what} | unknown |" in text
    assert "Command: unknown." in text
    assert "unknown: none were stated." in text
    data = hub_card(text, tmp_path).data
    assert data.license == "unknown"
    assert data.eval_results is None
    assert data.datasets is None


@pytest.mark.parametrize(
    "word",
    ["no", "1e3", "2024-01-01", "a: b # c", "'\"`|", "---", "two\nlines\n---\n", "Größe 😀", "0x1F", "~"],
)
def test_any_word_survives(word: str, tmp_path: Path) -> None:
    card = dataclasses.replace(
        FULL,
        name=word,
        data=word,
        license=word,
        tags=(word,),
        command=word,
        limits=(word,),
        settings={word: word},
    )
    data = hub_card(card.markdown(), tmp_path).data
    assert (data.license, data.datasets, data.tags[-1]) == (word, [word], word)
    assert data.model_name == word
    assert data.eval_results[0].dataset_name == word


def test_tables_and_commands_stay_whole() -> None:
    text = dataclasses.replace(FULL, hardware="a | b\nc", command="echo '```'").markdown()
    assert "| Hardware | a \\| b c |" in text
    assert "````sh\necho '```'\n````" in text


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"accuracy": {0: 97.2}}, "seed 0 is 97.2.*not per cent"),
        ({"accuracy": {0: float("nan")}}, "seed 0"),
        ({"name": " "}, "a name is needed"),
        ({"firing_rate": -0.1}, "firing_rate = -0.1"),
        ({"layers": {"neurons.0": float("nan")}}, r"neurons\.0 = nan"),
        ({"hours": -1}, "hours = -1"),
        ({"parameters": -1}, "parameters = -1"),
    ],
)
def test_values_that_cannot_be(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(FULL, **wrong)
    with pytest.raises(ValueError, match="macs = nan"):
        Operations(float("nan"), 0)


def test_card_of_a_network_alone() -> None:
    net = sl.create_model("conv_snn", channels=[4], image_size=8)
    card = ModelCard.of(net, "conv_snn")
    # conv 4 x 9, norm 2 x 4, head 4 x 16 x 10 + 10
    assert card.parameters == 36 + 8 + 650
    assert card.accuracy == {}
    assert card.tags == ("spiking-neural-network",)
    twin = sl.create_model("conv_snn", channels=[4], image_size=8, neuron="ReLU")
    assert ModelCard.of(twin, "conv_snn").tags == ()


# -- of a run -----------------------------------------------------------------------------------------


def naive_operations(net: Any, x: Tensor) -> tuple[float, float]:
    """Count by hand, for conv_snn of two blocks: the first convolution once, then each spike's products."""
    spikes: list[Tensor] = []
    handles = [n.register_forward_hook(lambda _, __, out: spikes.append(out)) for n in net.neurons]
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    first = net.synapses[0][0]
    macs = first.weight.numel() * x.shape[-1] * x.shape[-2]
    # each spike meets every output channel in as many windows as it lies in
    inner = spikes[0].flatten(0, 1)
    windows = functional.conv2d(inner.sum(1, keepdim=True), torch.ones(1, 1, 3, 3), padding=1)
    head = net.head[1].out_features * spikes[1].sum()
    return macs, float(windows.sum() * net.synapses[1][0].out_channels + head) / len(x)


def test_card_states_what_the_run_measured(trained: list[RunFolder]) -> None:
    run, other = trained
    card = card_of(run, [other], license="mit", limits=("Mine.",))
    results = [json.loads((r.path / "result.json").read_text()) for r in trained]
    assert card.accuracy == {0: results[0]["test_accuracy"], 1: results[1]["test_accuracy"]}
    assert card.published_seed == 0
    assert card.layers == results[0]["firing_rates"]
    net = load_net(run).eval()
    assert card.parameters == 8 * 9 + 16 + 6 * 8 * 9 + 12 + 6 * 4 * 10 + 10
    data = load_samples(TINY)
    x = data.inputs(data.test.pixels)
    assert card.operations is not None
    macs, acs = naive_operations(net, x)
    assert card.operations.macs == macs == 8 * 9 * 64
    assert card.operations.acs == pytest.approx(acs, rel=1e-6)
    assert card.operations.samples == len(x) == 360
    # neurons come behind the pooling
    sizes = {"neurons.0": 8 * 4 * 4, "neurons.1": 6 * 2 * 2}
    mean = sum(card.layers[name] * size for name, size in sizes.items()) / sum(sizes.values())
    assert card.firing_rate == pytest.approx(mean, rel=1e-6)
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert card.hours == pytest.approx(sum(line["seconds"] for line in lines) / 3600)
    made = json.loads((run.path / "run.json").read_text())
    assert card.config_hash == made["hash"] == dataclasses.replace(TINY, seed=0).hash
    assert card.versions == made["versions"]
    assert card.task == "image-classification"
    assert card.settings["T"] == 3
    assert card.settings["model_options"] == TINY.model_options
    assert "CC BY 4.0" in card.data_note
    assert "/" not in card.command.split()[0]
    assert card.license == "mit"
    assert card.limits[-1] == "Mine."
    assert not any("One seed" in text for text in card.limits)
    assert any("Nothing was held out" in text for text in card.limits)


def test_some_samples_or_none(trained: list[RunFolder]) -> None:
    card = card_of(trained[0], samples=50)
    assert card.operations is not None
    assert card.operations.samples == 50
    assert list(card.inputs.values()) == ["graded", "binary", "binary"]
    assert any("first 50 of 360 test samples" in text for text in card.limits)
    assert any("One seed" in text for text in card.limits)
    card = card_of(trained[0], samples=0)
    assert card.operations is None
    assert "| Operations | not measured |" in card.markdown()
    with pytest.raises(ValueError, match="samples = -1"):
        card_of(trained[0], samples=-1)


def test_recordings_split_in_time_are_said_so(
    trained: list[RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = sl.data.info("digits")
    without = dataclasses.replace(known, kind="events", splits={"all": None})
    assert not any("windows" in text for text in card_of(trained[0], samples=0).limits)
    net = load_net(trained[0])
    monkeypatch.setattr("spikeloom.training.card.info", lambda name: without)
    card = card_of(trained[0], net=net, samples=0)
    assert any("windows of the same recordings" in text for text in card.limits)
    assert card.task == "other"


def test_missing_parts_are_unknown(run: RunFolder) -> None:
    for file in ("result.json", "run.json", "metrics.jsonl"):
        (run.path / file).unlink()
    card = card_of(run, samples=0)
    assert card.accuracy == {}
    assert card.layers == {}
    assert card.hours is None
    assert (card.command, card.hardware, card.config_hash, card.revision) == ("", "", "", "")
    assert "not finished" in card.limits[0]
    assert "model-index" not in card.metadata()
    assert "| Hours | unknown |" in card.markdown()


def test_labels_without_classes_have_no_accuracy(run: RunFolder) -> None:
    result = json.loads((run.path / "result.json").read_text())
    (run.path / "result.json").write_text(json.dumps({**result, "test_accuracy": float("nan")}))
    assert card_of(run, samples=0).accuracy == {}


def test_damaged_parts_are_refused(run: RunFolder) -> None:
    (run.path / "run.json").write_text("[]")
    with pytest.raises(RunError, match=r"run\.json holds a list"):
        card_of(run)
    (run.path / "run.json").write_text('{"hash": ')
    with pytest.raises(RunError, match=r"run\.json is damaged"):
        card_of(run)


def test_runs_that_do_not_belong_together(trained: list[RunFolder], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is of seed 0, as a run before it"):
        card_of(trained[0], [trained[0]])
    values = dataclasses.replace(TINY, seed=2)
    other = RunFolder.create(tmp_path / "other", "digits", dataclasses.replace(values, lr=0.5))
    with pytest.raises(RunError, match=r"another recipe than .*lr = 0\.5, not 0\.02"):
        card_of(trained[0], [other])
    unfinished = RunFolder.create(tmp_path / "unfinished", "digits", values)
    with pytest.raises(RunError, match=r"no result\.json.*--resume"):
        card_of(trained[0], [unfinished])


def test_published_run_is_the_same_network(trained: list[RunFolder], tmp_path: Path) -> None:
    publish(trained[0], tmp_path / "net", name="tiny-digits")
    net, again = load_net(trained[0]).eval(), sl.models.from_pretrained(tmp_path / "net")
    data = load_samples(TINY)
    x = data.inputs(data.test.pixels)
    with torch.no_grad():
        scores = again(x)
        assert torch.equal(scores, net(x))
    card = huggingface_hub.ModelCard.load(tmp_path / "net" / "README.md")
    right = int((scores.argmax(1) == data.test.labels).sum())
    assert right > 36  # better than chance
    assert card.data.eval_results[0].metric_value == pytest.approx(right / len(x))
    assert card.data.model_name == "tiny-digits"


# -- the verb -----------------------------------------------------------------------------------------


def test_card_verb(trained: list[RunFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (str(run.path) for run in trained)
    out = tmp_path / "net"
    arguments = [
        first,
        second,
        "--out",
        str(out),
        "--license",
        "apache-2.0",
        "--limit",
        "A.",
        "--limit",
        "B.",
    ]
    assert card_verb(arguments) == 0
    said = capsys.readouterr().out
    assert f"hf upload OWNER/conv_snn-digits {out}" in said
    text = (out / "README.md").read_text()
    assert "* A.\n* B." in text
    assert "2 seeds" in text
    assert card_verb([*arguments, "--summary", "Reads digits."]) == 0  # its own folder may be written again
    assert "Reads digits." in (out / "README.md").read_text()
    files = {path: path.read_bytes() for path in trained[1].path.iterdir() if path.is_file()}
    with pytest.raises(Misuse, match="did not write there"):
        card_verb([first, "--out", second, "--samples", "0"])
    assert {path: path.read_bytes() for path in trained[1].path.iterdir() if path.is_file()} == files


def test_card_verb_misused(tmp_path: Path, trained: list[RunFolder]) -> None:
    with pytest.raises(Misuse, match="give the run folder"):
        card_verb([])
    with pytest.raises(RunError, match="does not exist"):
        card_verb([str(tmp_path / "nothing")])
    with pytest.raises(Misuse, match="samples = -3"):
        card_verb([str(trained[0].path), "--samples", "-3"])
