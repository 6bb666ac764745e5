"""docs/models.md: its code runs as printed, its new model keeps what all keep, its table is the registry."""

from __future__ import annotations

import importlib
import inspect
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import test_models
import torch
from test_models_reference import filled, sew_names

import spikeloom as sl
from spikeloom.cli import VERBS
from spikeloom.cli.models import HEAD, markdown
from spikeloom.models import Backbone, registry
from spikeloom.models.parts import _NORMS
from spikeloom.training import RunFolder, train_run
from spikeloom.training.recipes import Recipe

NEW = ["pooled_snn", "pooled_snn_deep"]


@pytest.fixture
def text(root: Path) -> str:
    return (root / "docs" / "models.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def variants(text: str) -> list[str]:
    """Return the lines of the table of all networks, its head first."""
    return [line for line in text.split("## All of them\n")[1].splitlines() if line.startswith("|")]


@pytest.fixture(autouse=True)
def _registry_left_alone() -> Iterator[None]:
    """Forget what a test registers."""
    sl.list_models()
    before = dict(registry._entries)
    yield
    registry._entries.clear()
    registry._entries.update(before)


def test_python_runs_as_printed(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    state = filled(sew_names((2, 2, 2, 2), 64, 1000))
    torch.save({"model": state, "epoch": 319}, "sew18.pth")
    space: dict[str, Any] = {"__name__": "printed"}
    *before, _ = blocks(text, "python")
    with torch.no_grad():
        for block in before:
            exec(block, space)
            if "pretrained=" in block:
                assert space["net"].T == 8
            if 'torch.load("sew18.pth"' in block:
                assert torch.equal(space["net"].state_dict()["stem.0.weight"], state["conv1.weight"])
    assert space["scores"].shape == (2, 10)
    assert space["changed"](torch.rand(6, 1, 2, 48, 64)).shape == (6, 1, 10)
    assert space["own"](torch.rand(1, 3, 64, 64)).shape == (1, 1000)
    assert len(space["pyramid"]) == 4
    assert "integer |" in space["card"].markdown()
    assert (tmp_path / "sew" / "README.md").read_text() == space["card"].markdown()
    said = capsys.readouterr().out
    assert "[(4, 2, 16, 32, 32), (4, 2, 32, 16, 16), (4, 2, 64, 8, 8), (4, 2, 128, 4, 4)]" in said
    assert "'stages.1.0.branch.0.0.0': 'integer'" in said


@pytest.fixture
def new(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Backbone]]:
    """Return the new model's class, its file imported."""
    *_, block = blocks(text, "python")
    assert len([line for line in block.splitlines() if line.strip()]) <= 45
    (tmp_path / "pooled_snn.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    assert "pooled_snn" not in sys.modules
    try:
        yield importlib.import_module("pooled_snn").PooledSNN
    finally:
        sys.modules.pop("pooled_snn", None)


def test_the_new_model_keeps_what_all_keep(new: type[Backbone], tmp_path: Path) -> None:
    assert sl.list_models("pooled_snn*") == NEW
    kept = 0
    for name, test in vars(test_models).items():
        if not name.startswith("test_"):
            continue
        cases: list[dict[str, Any]] = [{}]
        for mark in getattr(test, "pytestmark", []):
            argument, values = mark.args
            cases = [{**case, argument: value} for case in cases for value in values]
        if "tmp_path" in inspect.signature(test).parameters:
            cases = [{**case, "tmp_path": tmp_path / name} for case in cases]
        for case in cases:
            test(name="pooled_snn", **case)
            kept += 1
    assert kept >= 12


def test_the_new_model_trains_by_its_name(new: type[Backbone], tmp_path: Path) -> None:
    options = {"channels": [16, 32]}
    recipe = Recipe(data="digits", model="pooled_snn", model_options=options, T=2, epochs=3, lr=1e-2)
    result = train_run(RunFolder.create(tmp_path / "run", "new", recipe))
    assert result.test_accuracy > 0.6  # chance is 0.1


def test_commands_exist(text: str) -> None:
    for block in blocks(text, "sh"):
        for line in block.splitlines():
            program, verb, *given = shlex.split(line, comments=True)
            assert (program, verb) == ("spikeloom", "models")
            assert all(sl.list_models(pattern) for pattern in given)
    for verb, given in re.findall(r"`spikeloom (\w+) ?([^`]*)`", text):
        assert verb in VERBS
        assert given in ("NAME", "RUN", "--markdown", "")


def test_the_arguments_and_the_norms_are_those_there_are(text: str) -> None:
    table = text.split("| argument |")[1].split("\n\n")[0].splitlines()[2:]
    shown = [name for row in table for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    own = inspect.signature(registry.find_model("sew_resnet18").cls).parameters
    assert set(shown) <= set(own)
    assert {"num_classes", "in_channels", "image_size", "T", "neuron", "neuron_options", "norm"} <= set(shown)
    (line,) = [row for row in table if row.startswith("| `norm`")]
    assert set(re.findall(r'"(\w+)"', line)) == set(_NORMS)


def test_the_table_has_every_model(text: str) -> None:
    """Mend it with: spikeloom models --markdown."""
    head, _, *lines = variants(text)
    assert head == "| " + " | ".join(HEAD) + " |"
    assert [line.split("`")[1] for line in lines] == sl.list_models()


def test_the_tables_rows_are_true(text: str, request: pytest.FixtureRequest) -> None:
    lines = {line.split("`")[1]: line for line in variants(text)[2:]}
    # one of each class, all of them in the whole product
    classes = {registry.find_model(name).cls: name for name in lines}
    names = list(lines) if request.config.getoption("--full") else sorted(classes.values())
    _, _, *true = markdown(names)
    assert [lines[name] for name in names] == true
