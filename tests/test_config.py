"""Configurations and recipes: what they refuse, what files they are read from and written to."""

from __future__ import annotations

import dataclasses
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from spikeloom.cli import main
from spikeloom.names import UnknownName
from spikeloom.training import RECIPES, Config, Recipe, RunFolder, overlay, read_recipe
from spikeloom.training.recipes import read_yaml, to_yaml

ONE = ("T", "epochs", "accumulate", "devices", "evaluate_every", "keep_last")
WHOLE: dict[str, int] = dict.fromkeys(ONE, 1) | {
    "patience": 1, "checkpoint_steps": 1, "watch": 1, "step_epochs": 1,
    "mix_epochs": 1, "shift": 0, "workers": 0, "seed": 0,
    "batch_size": 2,
}  # fmt: skip
POSITIVE = ("clip_norm", "temperature")
NOT_NEGATIVE = (
    "lr", "weight_decay", "warmup_epochs", "mixup", "cutmix", "lr_end", "sparsity", "rate_penalty",
    "rate_lower", "rate_upper", "distill",
)  # fmt: skip
SHARES = ("label_smoothing", "validation", "ema", "momentum")
FACTORS = ("layer_decay", "step_factor", "mix_share")
CHOICES = (
    "device", "strategy", "precision", "loss", "readout", "optimizer", "schedule", "select", "frames"
)  # fmt: skip
TEXTS = ("teacher", "learning", "data", "model")
TABLES = (
    "loss_options", "teacher_features", "learning_options", "lr_factors", "data_options", "model_options"
)  # fmt: skip
OPTIONAL = ("clip_norm", "patience", "checkpoint_steps", "mix_epochs", "weight_bits")
FIELDS = {field.name for field in dataclasses.fields(Recipe)}


def cases() -> list[tuple[str, Any, str]]:
    """Return, for each field, values that it cannot have, and words of what it accepts."""
    found: list[tuple[str, Any, str]] = []
    for name, least in WHOLE.items():
        words = f"a whole number >= {least}"
        found += [(name, value, words) for value in (least - 1, -3, 1.5, 2.0, "2", True, [2], math.nan)]
    for name in POSITIVE:
        words = "a finite number > 0"
        found += [(name, value, words) for value in (0, -1.0, math.inf, math.nan, "1", True, (1.0,))]
    for name in NOT_NEGATIVE:
        words = "a finite number >= 0"
        found += [(name, value, words) for value in (-1e-9, math.inf, math.nan, "1e-3", False, None)]
    for name in SHARES:
        found += [(name, v, r"a number in \[0, 1\)") for v in (1, 1.0, -0.1, math.nan, math.inf, "0", True)]
    for name in FACTORS:
        found += [(name, v, r"a number in \(0, 1\]") for v in (0, 1.001, -0.1, math.nan, math.inf, "1", True)]
    for name in CHOICES:
        default = getattr(Recipe(), name)
        wrong: tuple[Any, ...] = ("no such", "", default.upper(), 1, True, None, [])
        found += [(name, value, f'"{default}"') for value in wrong]
    for name in TEXTS:
        found += [(name, value, "text") for value in (1, None, True, ["a"])]
    for name in TABLES:
        wrong = ("a", None, 1, [("a", 1)], {1: "a"})
        found += [(name, value, "a table of names and values") for value in wrong]
    found.append(("seed", 2**63, "a whole number"))
    found.append(("teacher_features", {"a": 1}, "a table"))
    found += [("lr_factors", {"a": value}, "a table") for value in ("1", None, True)]
    found += [("weight_bits", value, "a whole number from 1 to 8") for value in (0, 9, -3)]
    found += [("weight_bits", value, "a whole number") for value in (1.5, "8", True)]
    found += [("flip", value, "true or false") for value in (1, 0, "true", None)]
    found += [("trackers", value, "a list") for value in ("tensorboard", None, (1,), {"a": 1})]
    return found


@pytest.mark.parametrize(("name", "value", "words"), cases(), ids=lambda v: str(v)[:20])
def test_a_value_that_a_field_cannot_have_is_refused(name: str, value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"recipe: {name} = .*{words}.* is needed") as error:
        Recipe(**{name: value})
    assert repr(value) in str(error.value)


def test_each_field_is_refused_something() -> None:
    assert {name for name, _, _ in cases()} == FIELDS


def made(**values: Any) -> Recipe:
    return Recipe(**values)


def test_edges_are_accepted() -> None:
    for name, least in WHOLE.items():
        more = {"validation": 0.5} if name == "patience" else {}
        assert getattr(made(**{name: least}, **more), name) == least
    for name in OPTIONAL:
        assert getattr(made(**{name: None}), name) is None
    for name in (*NOT_NEGATIVE, *SHARES):
        assert getattr(made(**{name: 0}), name) == 0
    for name in FACTORS:
        assert getattr(made(**{name: 1}), name) == 1


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"patience": 3}, "patience = 3 .*validation=0.1"),
        ({"select": "best"}, "select = 'best' .*validation=0.1"),
        ({"learning": "sltt", "sparsity": 0.1}, "sparsity .*bptt"),
        ({"learning": "e-prop", "rate_penalty": 0.1}, "rate_penalty .*bptt"),
        ({"learning": "ottt", "teacher": "runs/a"}, "teacher .*bptt"),
        ({"ema": 0.9, "strategy": "fsdp", "devices": 2}, "ema .*ddp"),
        ({"rate_penalty": 1.0, "rate_lower": 0.5}, "rate_lower = 0.5 is above rate_upper = 0.2"),
        ({"teacher_features": {"a": "b"}}, "teacher_features .*teacher"),
        ({"loss": "rate-mse", "label_smoothing": 0.1}, "label_smoothing .*rate-mse"),
        ({"loss": "count-mse", "label_smoothing": 0.1}, "label_smoothing .*count-mse"),
        ({"lr": 1e-3, "lr_end": 1e-2}, "lr_end = 0.01 .*lr = 0.001"),
    ],
    ids=str,
)
def test_values_that_do_not_go_together_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"recipe: {words}"):
        Config(**values)


def test_tables_hold_what_a_file_can_hold() -> None:
    with pytest.raises(ValueError, match=r"recipe: model_options .*plain values"):
        Recipe(model_options={"neuron": object})


# -- files ----------------------------------------------------------------------------------------


def written(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_yaml_says_what_it_looks_like(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "data: digits\nlr: 1e-3\nweight_decay: 1\nema: .5\nclip_norm: 1E+1\ntrackers: [tensorboard]\n"
        "flip: true\nmodel_options: {channels: [8, 16]}\n"
        "model: 'conv_snn'\npatience: null\n",
    )
    name, recipe = read_recipe(path)
    assert name == "mine"
    assert (recipe.lr, recipe.weight_decay, recipe.ema, recipe.clip_norm) == (1e-3, 1.0, 0.5, 10.0)
    assert isinstance(recipe.weight_decay, float)
    assert recipe.trackers == ("tensorboard",)
    assert recipe.flip is True
    assert recipe.patience is None
    assert recipe.model_options == {"channels": [8, 16]}


def test_none_is_nothing_in_a_file(tmp_path: Path) -> None:
    """The message of a wrong value says `or none`, so that word is understood."""
    assert read_recipe(written(tmp_path, "clip_norm: none\npatience: None\n"))[1].clip_norm is None
    with pytest.raises(ValueError, match="epochs = 'none'"):
        read_recipe(written(tmp_path, "epochs: none\n"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learning_rate: 0.1", "no field of a recipe"),
        ("epoch: 3", "did you mean 'epochs'"),
        ("warmup: 3", "did you mean 'warmup_epochs'"),
        ("label_smooting: 0.1", "did you mean 'label_smoothing'"),
        ("1: 2", "no field of a recipe"),
        ("epochs: 2.5", "epochs = 2.5; a whole number >= 1 is needed"),
        ("lr: fast", "lr = 'fast'; a finite number >= 0 is needed"),
        ("flip: 1", "flip = 1; true or false is needed"),
        ("trackers: tensorboard", "trackers = 'tensorboard'; a list"),
        ("model_options: [1]", "a table of names and values"),
        ("clip_norm: [1]", "a finite number > 0 or none"),
        ("lr: 1\nlr: 2", "cannot be read as YAML"),
        ("lr: [1", "cannot be read as YAML"),
        ("3", "holds int"),
    ],
)
def test_a_file_that_says_what_cannot_be_is_refused_by_its_name(
    tmp_path: Path, text: str, words: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        read_recipe(path)
    assert str(path) in str(error.value)


def test_an_overlay_merges_tables_and_replaces_all_else(tmp_path: Path) -> None:
    base = Recipe(data="digits", model_options={"channels": [4], "T": 2}, trackers=("wandb",), lr=0.5, seed=3)
    path = written(tmp_path, "model_options: {T: 8, pools: [1]}\ntrackers: [mlflow]\nlr: 0.25\n")
    changed = overlay(base, path)
    assert changed == dataclasses.replace(
        base, model_options={"channels": [4], "T": 8, "pools": [1]}, trackers=("mlflow",), lr=0.25
    )
    assert base.model_options == {"channels": [4], "T": 2}  # as it was
    assert overlay(base, written(tmp_path, "")) == base


def test_recipe_starts_from_one_and_name_says_all(tmp_path: Path) -> None:
    digits = RECIPES["digits"]
    name, started = read_recipe(written(tmp_path, "recipe: digits\nepochs: 3\n"))
    assert (name, started) == ("digits", dataclasses.replace(digits, epochs=3))
    name, whole = read_recipe(written(tmp_path, "name: digits\nepochs: 3\n"))
    assert (name, whole) == ("digits", Recipe(epochs=3))
    assert read_recipe(written(tmp_path, "epochs: 3\n", "some.yaml")) == ("some", Recipe(epochs=3))
    with pytest.raises(UnknownName, match="did you mean 'digits'"):
        read_recipe(written(tmp_path, "recipe: digit\n"))


FULL: dict[str, Any] = {
    "T": 3, "epochs": 7, "batch_size": 10, "accumulate": 2, "seed": 5, "device": "cpu", "devices": 2,
    "strategy": "fsdp", "precision": "bf16", "loss": "tet", "loss_options": {"weight": 1e-05},
    "readout": "last", "label_smoothing": 0.1, "sparsity": 1e-6, "rate_penalty": 0.3,
    "rate_lower": 0.02, "rate_upper": 0.3,
    "teacher": "runs/a b: c", "distill": 0.25, "temperature": 2.0, "teacher_features": {"neurons.0": "n.1"},
    "optimizer": "sgd", "lr": 1e-5, "weight_decay": 0.0, "momentum": 0.5, "layer_decay": 0.75,
    "lr_factors": {"*.positions": 20.0},
    "schedule": "step", "warmup_epochs": 1.5, "lr_end": 1e-7, "step_epochs": 2, "step_factor": 0.5,
    "clip_norm": 1.0, "ema": 0.0,
    "shift": 2, "flip": True, "mixup": 0.2, "cutmix": 0.5, "mix_share": 0.5, "mix_epochs": 2,
    "learning": "bptt",
    "learning_options": {"a": None}, "validation": 0.1, "select": "best", "patience": 4,
    "evaluate_every": 2, "checkpoint_steps": 9,
    "keep_last": 3, "workers": 1, "watch": 2, "trackers": ("tensorboard", "wandb"), "data": "digits",
    "data_options": {"bands": 40, "names": ["1e3", "no", "null"]}, "model": "sew", "weight_bits": 4,
    "frames": "count",
    "model_options": {"channels": [1, 2], "deep": {"x": [1.5, True, None, "on"]}},
}  # fmt: skip


def test_a_recipe_written_is_the_recipe_read(tmp_path: Path) -> None:
    assert set(FULL) == FIELDS
    for name, recipe in {**RECIPES, "full": Recipe(**FULL), "plain": Recipe()}.items():
        path = written(tmp_path, to_yaml(name, recipe))
        assert read_recipe(path) == (name, recipe)
        assert read_recipe(path)[1].hash == recipe.hash


def test_what_is_written_is_yaml_to_another_reader() -> None:
    """PyYAML reads YAML 1.1, in which 1e-05 and no are other things than in 1.2: without these, it agrees."""
    given = {name: value for name, value in FULL.items() if name not in ("data_options", "model_options")}
    given |= {"lr": 0.125, "lr_end": 0.0, "sparsity": 0.5, "loss_options": {"weight": 0.25}}
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    found = yaml.safe_load(to_yaml("full", Recipe(**given)))
    named = {"name": "full", "data_options": {}, "model_options": {}}
    assert found == {**given, **named, "trackers": ["tensorboard", "wandb"]}


def test_the_command_reads_back_what_recipes_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, recipe in RECIPES.items():
        assert main(["recipes", name]) == 0
        assert read_recipe(written(tmp_path, capsys.readouterr().out)) == (name, recipe)


def test_recipes_lists_each_with_its_data_and_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    out = capsys.readouterr().out
    for name, recipe in RECIPES.items():
        (line,) = (line for line in out.splitlines() if line.split()[:1] == [name])
        assert line.split()[1:3] == [recipe.data, recipe.model]
        assert line.split()[-1] in ("yes", "no")


# -- the hash -------------------------------------------------------------------------------------


def test_the_hash_changes_with_any_field() -> None:
    base, seen = Recipe(), {Recipe().hash}
    for name, value in FULL.items():
        more: dict[str, Any] = {}
        if name in ("select", "patience"):
            more = {"validation": 0.5}
        if name == "teacher_features":
            more = {"teacher": "runs/b"}
        if getattr(base, name) == value:  # the default
            value = {"ema": 0.5, "cutmix": 0.5, "learning": "sltt"}[name]
        seen.add(dataclasses.replace(base, **{name: value}, **more).hash)
    assert len(seen) == len(FULL) + 1


def test_the_hash_is_of_values_not_of_how_they_are_written(tmp_path: Path) -> None:
    assert Recipe(lr=1).hash == Recipe(lr=1.0).hash
    assert Recipe(clip_norm=1).hash == Recipe(clip_norm=1.0).hash
    one, other = {"a": 1, "b": 2}, {"b": 2, "a": 1}
    assert Recipe(model_options=one).hash == Recipe(model_options=other).hash
    run = RunFolder.create(tmp_path / "run", "x", Recipe(lr=1, weight_decay=0))
    assert run.config()[1].hash == run.read_json("run.json")["hash"]


def test_the_hash_is_the_same_in_another_process() -> None:
    text = (
        "from spikeloom.training import Recipe, RECIPES;"
        "print(RECIPES['digits'].hash, Recipe(lr=0.1, model_options={'b': [1], 'a': 'x'}).hash)"
    )
    found = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    ).stdout.split()
    here = [RECIPES["digits"].hash, Recipe(lr=0.1, model_options={"a": "x", "b": [1]}).hash]
    assert found == here
    assert all(re.fullmatch("[0-9a-f]{12}", one) for one in here)


# -- the command ----------------------------------------------------------------------------------


def helped(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the help of `spikeloom train digits`, without its frames."""
    with pytest.raises(SystemExit) as stop:
        main(["train", "digits", "--help"])
    assert stop.value.code == 0
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())


def test_help_explains_each_field(capsys: pytest.CaptureFixture[str]) -> None:
    text = helped(capsys)
    explained = {**documented(Config), **documented(Recipe)}
    assert set(explained) == FIELDS
    for name in FIELDS - set(TABLES):
        assert f"--{name.replace('_', '-')} " in text, name
        assert explained[name][:24] in text, name


def test_help_explains_each_table(capsys: pytest.CaptureFixture[str]) -> None:
    text = helped(capsys)
    for name in TABLES:
        assert name in text.replace("-", "_"), name
        assert {**documented(Config), **documented(Recipe)}[name][:24] in text, name


def documented(kind: type) -> dict[str, str]:
    """Return the text of each attribute in a docstring, on one line."""
    lines = (kind.__doc__ or "").partition("Attributes:")[2]
    found = re.findall(r"^        (\w+): (.*(?:\n            .*)*)", lines, re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in found}


def test_a_yaml_file_of_numbers_alone_reads_as_numbers(tmp_path: Path) -> None:
    for text, value in (("1e-3", 1e-3), ("1.", 1.0), (".5", 0.5), ("0x10", 16)):
        found = read_yaml(written(tmp_path, f"lr: {text}"))["lr"]
        assert found == value
        assert type(found) is type(value)


def test_the_run_of_a_runs_config_repeats_it_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(
        "recipe: digits\nepochs: 1\nbatch_size: 512\nlr: 1e-2\nshift: 1\nmixup: 0.2\nmodel_options:\n"
        "  channels: [4, 4]\n  pools: [2, 2]\n"
    )
    assert main(["train", "own.yaml", "--seed", "5", "--run-dir", "runs/a"]) == 0
    assert main(["train", "runs/a/config.yaml", "--run-dir", "runs/b"]) == 0
    first, again = RunFolder("runs/a"), RunFolder("runs/b")
    assert first.config() == again.config()
    assert first.config()[1].seed == 5
    one, other = (load_file(run.path / "model.safetensors") for run in (first, again))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    found, repeated = (run.read_json("result.json") for run in (first, again))
    assert {**found, "seconds_per_epoch": 0} == {**repeated, "seconds_per_epoch": 0}
    assert first.read_json("run.json")["hash"] == again.read_json("run.json")["hash"]
