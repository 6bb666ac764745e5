"""Run folders: whole or refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from spikeloom.training import Recipe, RunError, RunFolder, evaluate, train_run

LAST = "checkpoints/step-00000003.safetensors"
TINY = Recipe(data="digits", model_options={"channels": [4, 4]}, epochs=1, batch_size=512)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return a finished run."""
    run = RunFolder.create(tmp_path_factory.mktemp("runs") / "run", "digits", TINY)
    train_run(run)
    return run


@pytest.fixture
def run(trained: RunFolder, tmp_path: Path) -> RunFolder:
    """Return a copy of the finished run, to spoil."""
    shutil.copytree(trained.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def test_folder_holds_what_it_promises(trained: RunFolder) -> None:
    files = {str(file.relative_to(trained.path)) for file in trained.path.rglob("*")} - {".lock"}
    assert files == {
        "config.yaml", "run.json", "metrics.jsonl", "model.safetensors", "result.json", "checkpoints",
        "checkpoints/step-00000000.safetensors", LAST,
    }  # fmt: skip
    assert trained.config() == ("digits", TINY)
    written = [trained.path / file for file in ("run.json", "model.safetensors", LAST)]
    assert len({path.stat().st_mode for path in written}) == 1
    assert (
        json.loads((trained.path / "result.json").read_text())["test_accuracy"]
        == evaluate(trained).test_accuracy
    )


def test_two_runs_into_one_folder_are_refused(run: RunFolder) -> None:
    with pytest.raises(RunError, match="--resume"):
        RunFolder.create(run.path, "digits", TINY)
    with run.locked(), pytest.raises(RunError, match="another process"):
        train_run(run, resume=True)
    assert RunFolder.create_next(run.path.parent, "new", TINY).path.name == "new-1"
    assert RunFolder.create_next(run.path.parent, "new", TINY).path.name == "new-2"


def test_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="no folder"):
        RunFolder.create(tmp_path / "file", "digits", TINY)
    with pytest.raises(RunError, match="cannot be written"):
        RunFolder.create(tmp_path / "file" / "run", "digits", TINY)


@pytest.mark.parametrize("file", ["model.safetensors", LAST])
@pytest.mark.parametrize("harm", ["cut", "empty", "gone", "header", "flipped"])
def test_damaged_tensors_are_refused(run: RunFolder, file: str, harm: str) -> None:
    path = run.path / file
    content = bytearray(path.read_bytes())
    if harm == "gone":
        path.unlink()
    else:
        if harm == "flipped":  # one bit of one weight: only a checksum sees it
            content[-1] ^= 1
        elif harm == "header":
            content[0] ^= 0xFF
        path.write_bytes({"cut": content[:-100], "empty": b""}.get(harm, content))
    if harm == "gone" and file == LAST:  # the one before is as good
        (run.path / "checkpoints/step-00000000.safetensors").unlink()
        path = path.with_name("step-*.safetensors")
    with pytest.raises(RunError) as error:
        evaluate(run) if file == "model.safetensors" else train_run(run, resume=True)
    assert str(path) in str(error.value)
    assert "into a new folder" in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read as YAML"),
        ("- 3", "holds list"),
        ("recipe: 3", "recipe = 3"),
        ("recipe: digit", "did you mean"),
        ("name: digits\nspeed: 3", "no field of a recipe"),
        ("recipe: digits\nepochs: ten", "epochs = 'ten'; a whole number >= 1"),
        ("recipe: digits\nbatch_sise: 10", "did you mean 'batch_size'"),
        ("recipe: digits\nlr: 0.1\nschedule: cosin", "schedule = 'cosin'; \"cosine\" or"),
        ("recipe: digits\nepochs: true", "epochs = True"),
        ("\xff\xfe", "cannot be read"),
    ],
)
def test_config_that_cannot_be_read_is_refused(run: RunFolder, content: str, words: str) -> None:
    (run.path / "config.yaml").write_bytes(content.encode("latin-1"))
    with pytest.raises(RunError, match=r"config\.yaml cannot be used: .*into a new one") as error:
        evaluate(run)
    assert words in str(error.value)


def test_weights_of_another_network_are_refused(run: RunFolder) -> None:
    config = (run.path / "config.yaml").read_text()
    (run.path / "config.yaml").write_text(config.replace("[4, 4]", "[6, 6]"))
    with pytest.raises(RunError, match=r"model\.safetensors does not fit config\.yaml"):
        evaluate(run)
    with pytest.raises(RunError, match=r"step-00000003\.safetensors does not fit config\.yaml"):
        train_run(run, resume=True)


def test_damaged_metrics_are_refused(run: RunFolder) -> None:
    (run.path / "metrics.jsonl").write_text('{"epoch": 1, "lo')
    with pytest.raises(RunError, match=r"metrics\.jsonl is damaged"):
        evaluate(run)


def test_write_that_fails_leaves_the_old_file(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write_tensors("model.safetensors", {"a": torch.ones(3)}, {"epoch": 1})

    def fail(*paths: object) -> None:
        raise OSError("no space left on device")

    before = set(run.path.iterdir())
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(RunError, match=r"no space .*what was there before is whole.*--resume"):
        run.write_tensors("model.safetensors", {"a": torch.zeros(3)})
    assert set(run.path.iterdir()) == before
    tensors, state = run.read_tensors("model.safetensors", "")
    assert tensors["a"].tolist() == [1, 1, 1]
    assert state == {"epoch": 1}
