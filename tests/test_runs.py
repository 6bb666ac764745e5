"""Run folders: whole or refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from spikeloom.training import Recipe, RunError, RunFolder, evaluate, train

TINY = Recipe("digits", model_options={"channels": [4, 4]}, epochs=1, batch_size=512)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return a finished run."""
    run = RunFolder.create(tmp_path_factory.mktemp("runs") / "run", "digits", TINY)
    train(run)
    return run


@pytest.fixture
def run(trained: RunFolder, tmp_path: Path) -> RunFolder:
    """Return a copy of the finished run, to spoil."""
    (tmp_path / "run").mkdir()
    for file in trained.path.iterdir():
        (tmp_path / "run" / file.name).write_bytes(file.read_bytes())
    return RunFolder(tmp_path / "run")


def test_folder_holds_what_it_promises(trained: RunFolder) -> None:
    files = {file.name for file in trained.path.iterdir()} - {".lock"}
    assert files == {
        "config.json", "metrics.jsonl", "model.safetensors", "checkpoint.safetensors", "result.json"
    }  # fmt: skip
    assert trained.config() == ("digits", TINY)
    assert (
        json.loads((trained.path / "result.json").read_text())["test_accuracy"]
        == evaluate(trained).test_accuracy
    )


def test_two_runs_into_one_folder_are_refused(run: RunFolder) -> None:
    with pytest.raises(RunError, match="--resume"):
        RunFolder.create(run.path, "digits", TINY)
    with run.locked(), pytest.raises(RunError, match="another process"):
        train(run, resume=True)
    assert RunFolder.create_next(run.path.parent, "new", TINY).path.name == "new-1"
    assert RunFolder.create_next(run.path.parent, "new", TINY).path.name == "new-2"


def test_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="no folder"):
        RunFolder.create(tmp_path / "file", "digits", TINY)
    with pytest.raises(RunError, match="cannot be written"):
        RunFolder.create(tmp_path / "file" / "run", "digits", TINY)


@pytest.mark.parametrize("file", ["model.safetensors", "checkpoint.safetensors"])
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
    with pytest.raises(RunError) as error:
        evaluate(run) if file == "model.safetensors" else train(run, resume=True)
    assert str(path) in str(error.value)
    assert "into a new folder" in str(error.value)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"recipe": "digits", "data": "digits", "speed": 3}', '{"recipe": 3}']
)
def test_config_that_cannot_be_read_is_refused(run: RunFolder, content: str) -> None:
    (run.path / "config.json").write_text(content)
    with pytest.raises(RunError, match=r"config\.json cannot be read.*into a new one"):
        evaluate(run)


def test_weights_of_another_network_are_refused(run: RunFolder) -> None:
    config = json.loads((run.path / "config.json").read_text())
    (run.path / "config.json").write_text(json.dumps({**config, "model_options": {"channels": [6, 6]}}))
    with pytest.raises(RunError, match=r"model\.safetensors does not fit config\.json"):
        evaluate(run)
    with pytest.raises(RunError, match=r"checkpoint\.safetensors does not fit config\.json"):
        train(run, resume=True)


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
    with pytest.raises(OSError, match="no space"):
        run.write_tensors("model.safetensors", {"a": torch.zeros(3)})
    assert set(run.path.iterdir()) == before
    tensors, state = run.read_tensors("model.safetensors", "")
    assert tensors["a"].tolist() == [1, 1, 1]
    assert state == {"epoch": 1}
