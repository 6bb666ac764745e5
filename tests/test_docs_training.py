"""docs/training.md: its code runs as printed, its commands parse, its tables name what there is."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch

import spikeloom as sl
from spikeloom import training
from spikeloom.cli import VERBS
from spikeloom.cli.train import Options, with_tables
from spikeloom.training import Config, Recipe, RunFolder, check, find_recipe
from spikeloom.training.advice import Advice
from spikeloom.training.learning import RULES


@pytest.fixture
def text(root: Path) -> str:
    return (root / "docs" / "training.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def section(text: str, title: str) -> str:
    return re.split(r"^##+ ", text.split(f"## {title}\n")[1], flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of a section's table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def names(cell: str) -> list[str]:
    return re.findall(r"`([a-z0-9_-]+)`", cell, re.IGNORECASE)


@pytest.mark.filterwarnings("ignore::spikeloom.SpikeloomWarning")
def test_python_runs_as_printed(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    space: dict[str, Any] = {}
    assert "my_loop" not in sys.modules
    try:
        for block in blocks(text, "python"):
            exec(block, space)
    finally:
        sys.modules.pop("my_loop", None)
    # chance is 0.1
    assert space["result"].test_accuracy > 0.7
    assert space["learned"].test_accuracy > 0.5
    assert space["result"].epochs == len(RunFolder("runs/own").metrics()) == 3
    # the copied loop leaves what the loop leaves
    assert RunFolder("runs/copied").read_json("result.json")["epochs"] == 1
    assert {p.name for p in Path("runs/copied").iterdir()} == {p.name for p in Path("runs/own").iterdir()}
    assert space["train_here"].__module__ == "my_loop"
    assert space["loss"].item() > 0
    assert space["found"].samples == 100
    assert space["found"].energy.millijoules > 0
    assert "hidden.0.1" in capsys.readouterr().out


class Parsed(BaseException):
    """What a command's options are; no verb catches it."""


def test_commands_parse(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    RunFolder.create("runs/a", "digits", find_recipe("digits"))
    (overlay,) = blocks(text, "yaml")
    Path("mine.yaml").write_text(overlay)

    def stopping(parse: Callable[..., Any]) -> Callable[..., Any]:
        def parsed(*given: Any) -> Any:
            raise Parsed(parse(*given))

        return parsed

    commands = [line for block in blocks(text, "sh") for line in block.splitlines()]
    assert len(commands) > 15
    seen = set()
    for line in commands:
        program, verb, *given = shlex.split(line, comments=True)
        assert program == "spikeloom"
        assert verb in VERBS, line
        seen.add(verb)
        module = importlib.import_module(f"spikeloom.cli.{verb}")
        with monkeypatch.context() as patch:
            patch.setattr(module, "parse", stopping(module.parse))
            with pytest.raises(Parsed) as stopped:
                module.run(given)
        (options,) = stopped.value.args
        if isinstance(options, Options) and options.resume is None:
            # the teacher is what another of these commands leaves
            check(replace(with_tables(options.recipe, options.set), teacher=""))
    assert seen == {"train", "recipes", "evaluate", "report", "card"}


def test_options_in_the_text_exist(text: str) -> None:
    known = {f.name for f in [*fields(Options), *fields(Recipe)]} | {"help"}
    others = {"nproc_per_node", "logdir"}  # torchrun's and TensorBoard's
    outside = re.sub(r"^```sh\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    found = {name.replace("-", "_") for name in re.findall(r"(?<=[ `])--([a-z][a-z-]*)", outside)}
    assert {"resume", "run_dir", "clip_norm"} < found <= known | others


def test_the_table_has_each_field_with_its_default(text: str) -> None:
    shown: dict[str, tuple[str, str]] = {}
    for _, field, what, default, unit in rows(section(text, "Every field")):
        all_names, defaults = names(field), default.split(", ")
        assert len(all_names) == len(defaults), field
        assert len(unit.split(", ")) in (1, len(all_names)), field
        assert len(what.split("; ")) >= len(all_names), field
        for name, value in zip(all_names, defaults, strict=True):
            assert name not in shown
            shown[name] = value, what
    hints = get_type_hints(Recipe)
    assert {name: value for name, (value, _) in shown.items()} == {
        f.name: printed(default_of(f)) for f in fields(Recipe)
    }
    assert list(shown)[-6:] == [f.name for f in fields(Recipe)][-6:]
    assert {f.name for f in fields(Recipe)} - {f.name for f in fields(Config)} == set(list(shown)[-6:])
    for name, (_, what) in shown.items():
        if get_origin(hints[name]) is Literal:
            assert set(get_args(hints[name])) <= set(names(what)), name


def default_of(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def printed(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"{value:g}"
    return '""' if value == "" else str(value)


def test_the_tables_name_all_rules_codes_losses_and_warnings(text: str) -> None:
    rules = [name for row in rows(section(text, "Learning rules")) for name in names(row[0])]
    assert sorted(rules) == sorted(RULES)

    codes = [name for row in rows(section(text, "Codes")) for name in names(row[0])]
    assert sorted([*codes, "Cochlea"]) == sorted(sl.encoding.__all__)

    first = " ".join(row[0] for row in rows(section(text, "Losses and readouts")))
    functions = re.findall(r"`([a-z_]+)(?:\(.*?\))?`", first)
    assert all(hasattr(training, name) for name in functions)
    by_name = set(get_args(get_type_hints(Config)["loss"]))
    assert by_name <= set(names(first))
    assert {"van_rossum", "victor_purpura", "firing_rate_penalty", "sparsity"} <= set(functions)

    layers = {
        "a": {"firing_rate": 0.0, "silent": 1.0, "saturated": 0.0},
        "b": {"firing_rate": 1.0, "silent": 0.0, "saturated": 1.0},
    }
    advice = Advice()
    said = [
        *advice.on_firing(layers, (), ("c",), 1),
        *advice.on_gradients({"a": 1e4, "b": 1e-6}, {"c": 1}, 1),
    ]
    kinds = {re.split(r" in (?:the|\d+) watched", line)[0] for line in said}
    shown = {row[0] for row in rows(section(text, "Watching"))}
    assert len(kinds) == 6
    assert {kind for one in shown for kind in one.replace(", or", ",gradients").split(",")} == kinds


def test_what_the_table_of_failures_quotes_is_said(tmp_path: Path) -> None:
    """The messages that need no second process, no full disk and no crash."""
    digits, config = sl.data.load_data("digits"), Config(epochs=1, loss="tet")
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    with pytest.raises(ValueError, match=r"loss 'tet' needs the scores of each step.*--set readout=none"):
        training.train(net, digits, config, tmp_path / "run")
    with pytest.raises(training.RunError, match=r"exists and is a run.*--resume.*--run-dir"):
        training.train(net, digits, config, tmp_path / "run")
    with torch.no_grad():
        net[1].weight.fill_(float("nan"))
    with pytest.raises(
        training.TrainingFailed, match=r"the loss is nan at epoch 1, batch 1.*--lr.*--clip-norm 1"
    ):
        training.train(net, digits, Config(epochs=1))
    run = RunFolder(tmp_path / "run")
    (last,) = run.checkpoints()
    (run.path / last).write_bytes((run.path / last).read_bytes()[:-1])
    with pytest.raises(training.RunError, match=r"is damaged.*remove it to go on from the one before"):
        training.train(net, digits, Config(epochs=1), run.path, resume=True)
