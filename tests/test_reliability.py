"""What goes wrong around a run, a process that is killed or a disk that is full, costs nothing but time."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, get_worker_info

import spikeloom as sl
from spikeloom.cli import main
from spikeloom.data import DataError, Info, Stored
from spikeloom.training import Config, Recipe, Result, RunError, RunFolder, TrainingFailed, evaluate, train
from spikeloom.training.interrupt import StopSignal

# nine batches an epoch; much is drawn at random, and much is kept from one update to the next
LONG = [
    "train", "digits", "--set", "channels=[4,4]", "--set", "pools=[1,2]", "--batch-size", "128",
    "--epochs", "3", "--shift", "1", "--mixup", "0.2", "--ema", "0.9", "--optimizer", "lamb",
    "--warmup-epochs", "1", "--clip-norm", "1", "--validation", "0.2", "--select", "best", "--workers", "1",
    "--checkpoint-steps", "3", "--keep-last", "100",
]  # fmt: skip
TINY = [
    "train", "digits", "--set", "channels=[4,4]", "--set", "pools=[1,2]", "--batch-size", "512",
    "--epochs", "1",
]  # fmt: skip

SERVER = multiprocessing.get_context("forkserver")  # its processes need not import everything anew
SERVER.set_forkserver_preload(["spikeloom.cli.train", "lightning_fabric", "sklearn.datasets"])


def _command(argv: list[str], output: Path, file_limit: int) -> None:
    """Be the command, in a session of its own, as one that is started by hand."""
    os.setsid()
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    multiprocessing.set_start_method("fork", force=True)
    torch.set_num_threads(1)
    if file_limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    sys.argv = ["spikeloom", *argv]
    sys.exit(main(argv))


class Command:
    """The command in a process, which can be ended by all means.

    Arguments:
        argv: its words.
        folder: where its output goes.
        file_limit: bytes beyond which it can write no file, as on a full disk; 0 for none.
    """

    def __init__(self, argv: list[str], folder: Path, file_limit: int = 0) -> None:
        self.output = folder / f"output-{len(list(folder.glob('output-*')))}"
        self.output.touch()
        self.process = SERVER.Process(target=_command, args=(argv, self.output, file_limit))
        self.process.start()

    def signal(self, which: signal.Signals, group: bool = False) -> None:
        assert self.process.pid is not None
        (os.killpg if group else os.kill)(self.process.pid, which)

    def end(self) -> tuple[int, str]:
        """Wait for its end; return the exit code and what was printed."""
        self.process.join(120)
        if self.process.exitcode is None:
            self.signal(signal.SIGKILL, group=True)
            pytest.fail(f"the command hangs; it printed: {self.output.read_text()}")
        return self.process.exitcode, self.output.read_text()


def run_to_end(argv: list[str], folder: Path, file_limit: int = 0) -> str:
    code, output = Command(argv, folder, file_limit).end()
    assert code == 0, output
    return output


def wait_for(condition: Callable[[], Any], command: Command) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert command.process.is_alive(), command.output.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.001)


def step_of(file: Path | str) -> int:
    return int(re.findall(r"step-(\d+)", str(file))[0])


def last_step(run: Path) -> int:
    return max((step_of(file) for file in RunFolder(run).checkpoints()), default=-1)


def reached(run: Path, step: int) -> bool:
    return last_step(run) >= step


def without_times(run: Path) -> list[dict[str, Any]]:
    times = {"seconds", "samples_per_second"}
    return [{k: v for k, v in line.items() if k not in times} for line in RunFolder(run).metrics()]


def assert_same(run: Path, unbroken: Path) -> None:
    """Compare what two runs left, but for the time they took, bit for bit."""
    for file in ("model.safetensors", "best.safetensors", RunFolder(unbroken).checkpoints()[-1]):
        if (unbroken / file).exists():
            found, expected = (RunFolder(r).read_tensors(file, "")[0] for r in (run, unbroken))
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[name], expected[name]) for name in expected), file
    assert without_times(run) == without_times(unbroken)
    results = [json.loads((r / "result.json").read_text()) for r in (run, unbroken)]
    assert results[0]["test_loss"] == results[1]["test_loss"]
    assert [f for f in run.rglob(".*") if f.name != ".lock"] == []  # no halves of files


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an undisturbed LONG."""
    folder = tmp_path_factory.mktemp("unbroken")
    run_to_end([*LONG, "--run-dir", str(folder / "run")], folder)
    return folder / "run"


@pytest.fixture
def stopped(unbroken: Path, tmp_path: Path) -> Path:
    """Return the folder of LONG as it was after 12 updates, within the second epoch."""
    shutil.copytree(unbroken, tmp_path / "run")
    for file in RunFolder(unbroken).checkpoints():
        if step_of(file) > 12:
            (tmp_path / "run" / file).unlink()
    (tmp_path / "run/result.json").unlink()
    return tmp_path / "run"


def resumed(run: Path) -> list[str]:
    return ["train", "digits", "--resume", str(run)]


# -- processes that are ended -------------------------------------------------------------------------


def test_killed_at_random_moments_ends_as_unbroken(unbroken: Path, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    moments = [(step, chance.random() * 0.03) for step in sorted(chance.sample(range(24), 3))]
    print(f"seed {seed}: killed some seconds after an update, {moments}")
    run = tmp_path / "run"
    argv = [*LONG, "--run-dir", str(run)]
    for step, delay in moments:
        command = Command(argv, tmp_path)
        wait_for(partial(reached, run, step), command)
        time.sleep(delay)
        command.signal(signal.SIGKILL)
        assert command.end()[0] == -signal.SIGKILL
        for file in RunFolder(run).checkpoints():  # whole, each of them
            RunFolder(run).read_tensors(file, "")
        argv = resumed(run)
    (run / "checkpoints/.step-00000099.safetensors.4711").touch()  # as of one that was killed in writing
    (run / ".model.safetensors.4711").touch()
    run_to_end(argv, tmp_path)
    assert_same(run, unbroken)


def test_killed_before_anything_was_kept(unbroken: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    name, recipe = RunFolder(unbroken).config()
    RunFolder.create(run, name, recipe)
    assert "the run begins anew" in run_to_end(resumed(run), tmp_path)
    assert_same(run, unbroken)


def test_ctrl_c_reaches_workers_too_and_nothing_is_lost(tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = Command([*LONG, "--epochs", "400", "--keep-last", "1", "--run-dir", str(run)], tmp_path)
    wait_for(lambda: last_step(run) >= 3, command)
    command.signal(signal.SIGINT, group=True)
    code, output = command.end()
    assert code == 130
    assert f"go on with: spikeloom train digits --resume {run}" in output
    assert "Traceback" not in output


def test_two_processes_stop_and_go_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    epochs = ["--epochs", "2000", "--checkpoint-steps", "1", "--keep-last", "1", "--evaluate-every", "2000"]
    command = Command([*TINY, *epochs, "--devices", "2", "--run-dir", str(run)], tmp_path)
    wait_for(lambda: last_step(run) >= 1, command)
    command.signal(signal.SIGTERM)  # the one that started them is told
    code, output = command.end()
    first = last_step(run)
    assert code == 128 + signal.SIGTERM, output
    assert "stopped by SIGTERM after" in output
    assert f"go on with: spikeloom train digits --resume {run}" in output
    assert "Traceback" not in output

    command = Command(resumed(run), tmp_path)
    wait_for(lambda: last_step(run) > first, command)
    command.signal(signal.SIGKILL)  # those that are left end by themselves, their state saved
    command.end()
    deadline = time.monotonic() + 60
    while True:
        try:
            with RunFolder(run).locked():
                break
        except RunError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    _, state = RunFolder(run).read_tensors(RunFolder(run).checkpoints()[-1], "")
    assert state["course"]["step"] > first


def test_signals_to_one_of_several_processes() -> None:
    before = signal.getsignal(signal.SIGINT)
    with StopSignal(patient=True) as stop:  # Ctrl-C reaches it, and the one that started it hands it on
        for which in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(which)
            assert stop.caught == which
    assert signal.getsignal(signal.SIGINT) == before
    with StopSignal() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.caught == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_two_that_begin_in_one_folder(tmp_path: Path) -> None:
    run = tmp_path / "run"
    argv = [*TINY, "--epochs", "5000", "--keep-last", "1", "--run-dir", str(run)]
    both = [Command(argv, tmp_path) for _ in range(2)]
    deadline = time.monotonic() + 120
    while all(command.process.is_alive() for command in both):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    both.sort(key=lambda command: command.process.is_alive())
    loser, winner = both
    code, output = loser.end()
    assert code == 1
    assert f"{run} exists and is a run; continue it with --resume {run}, or choose another" in output
    wait_for(lambda: last_step(run) >= 3, winner)
    code, output = Command(resumed(run), tmp_path).end()
    assert code == 1
    assert f"{run}: another process is training in this folder; wait for it, or choose another" in output
    winner.signal(signal.SIGTERM)
    assert winner.end()[0] == 143


# -- a disk that is full, or cannot be written --------------------------------------------------------


def test_full_disk_by_a_limit(unbroken: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    # the state before the first update is smaller
    limit = min((unbroken / file).stat().st_size for file in RunFolder(unbroken).checkpoints()[1:]) - 1
    # workers hand samples over in files, too
    argv = [*LONG, "--workers", "0", "--run-dir", str(run)]
    code, output = Command(argv, tmp_path, limit).end()
    assert code == 1
    file = run / "checkpoints/step-00000003.safetensors"
    assert f"{file} cannot be written (" in output
    assert "File too large" in output
    assert f"free some space or mend the disk, then go on with --resume {run}" in output
    assert "Traceback" not in output
    assert last_step(run) == 0
    run_to_end(resumed(run), tmp_path)
    assert_same(run, unbroken)


@contextmanager
def mounted(place: Path, size: str) -> Iterator[Callable[[str], None]]:
    """Give a small disk for the `with`, and what changes its options; skip where that is not allowed."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "spikeloom-test", str(place)]
    if (
        os.geteuid()
        or shutil.which("mount") is None
        or subprocess.run(command, capture_output=True).returncode
    ):
        pytest.skip("a small disk of its own is mounted for this test, which only root may do")
    try:
        yield lambda options: void(
            subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)
        )
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def void(anything: object) -> None:
    """Return nothing."""


def test_full_disk(unbroken: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "144k") as remount:
        run = tmp_path / "disk/run"
        code, output = Command([*LONG, "--run-dir", str(run)], tmp_path).end()
        assert code == 1
        assert re.search(rf"spikeloom: {run}/\S+ cannot be written \(.*No space left on device", output)
        assert f"free some space or mend the disk, then go on with --resume {run}" in output
        assert "Traceback" not in output
        assert last_step(run) >= 3
        for file in RunFolder(run).checkpoints():
            RunFolder(run).read_tensors(file, "")
        remount("size=4m")
        run_to_end(resumed(run), tmp_path)
        assert_same(run, unbroken)


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_for_each_kind_of_file(tmp_path: Path) -> None:
    recipe = Recipe(data="digits")
    with no_file_above(100), pytest.raises(RunError, match=r"cannot be written .*File too large.*free some"):
        RunFolder.create(tmp_path / "a/b/run", "digits", recipe)
    assert not (tmp_path / "a").exists()  # the same command can be given again
    run = RunFolder.create(tmp_path / "a/b/run", "digits", recipe)
    run.write_metrics([{"epoch": 1}])
    run.write_tensors("model.safetensors", {"a": torch.ones(3)})
    before = {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()}
    writes: list[Callable[[], None]] = [
        lambda: run.write_metrics([{"epoch": n} for n in range(99)]),
        lambda: run.write_json("result.json", list(range(99))),
        lambda: run.write_tensors("model.safetensors", {"a": torch.zeros(99)}),
        lambda: run.write_checkpoint(3, {"a": torch.zeros(99)}, {}, keep=1),
    ]
    for write in writes:
        with (
            no_file_above(100),
            pytest.raises(RunError, match=r"cannot be written \(.*File too large.*--resume"),
        ):
            write()
    assert {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()} == before


def test_folder_that_can_only_be_read(unbroken: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "4m") as remount:
        run = tmp_path / "disk/run"
        shutil.copytree(unbroken, run)
        remount("ro")
        for argv, folder in (
            (resumed(run), run),
            ([*TINY, "--run-dir", str(tmp_path / "disk/new")], tmp_path / "disk/new"),
        ):
            code, output = Command(argv, tmp_path).end()
            assert code == 1
            assert f"spikeloom: {folder} cannot be written (" in output
            assert "Read-only file system" in output
            assert "choose another folder with --run-dir" in output
        assert evaluate(RunFolder(run)).epochs == 3  # which writes nothing


# -- what is in the folder ----------------------------------------------------------------------------


def test_truncated_checkpoint_is_removed_and_the_one_before_is_as_good(
    unbroken: Path, stopped: Path, tmp_path: Path
) -> None:
    last = stopped / RunFolder(stopped).checkpoints()[-1]
    last.write_bytes(last.read_bytes()[:-100])
    code, output = Command(resumed(stopped), tmp_path).end()
    assert code == 1
    assert f"{last} is damaged" in output
    assert "remove it to go on from the one before" in output
    last.unlink()
    run_to_end(resumed(stopped), tmp_path)
    assert_same(stopped, unbroken)


def test_the_last_checkpoint_is_that_of_the_last_step(unbroken: Path, stopped: Path, tmp_path: Path) -> None:
    files = RunFolder(stopped).checkpoints()
    for age, file in enumerate(
        files
    ):  # the newest seems the oldest, as after a copy or a change of the clock
        os.utime(stopped / file, (10**9 - age, 10**9 - age))
    _, state = RunFolder(stopped).read_tensors(files[-1], "")
    assert state["course"]["step"] == step_of(files[-1]) == 12
    run_to_end(resumed(stopped), tmp_path)
    assert_same(stopped, unbroken)
    many = RunFolder(tmp_path / "many")
    (many.path / "checkpoints").mkdir(parents=True)
    for step in (99_999_999, 100_000_000, 7):
        many.write_checkpoint(step, {}, {}, keep=9)
    assert [step_of(file) for file in many.checkpoints()] == [7, 99_999_999, 100_000_000]


def test_finished_run_is_only_measured_again(unbroken: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(unbroken, run)
    (run / "result.json").unlink()
    before = {file: (run / file).read_bytes() for file in ["metrics.jsonl", *RunFolder(run).checkpoints()]}
    output = run_to_end(resumed(run), tmp_path)
    assert "epoch 1/3" not in output
    assert "test accuracy:" in output
    assert {file: (run / file).read_bytes() for file in before} == before
    assert_same(run, unbroken)


def edit(run: Path, **values: object) -> None:
    """Change config.yaml as by hand."""
    text = (run / "config.yaml").read_text()
    for name, value in values.items():
        text, found = re.subn(rf"^{name}: .*$", f"{name}: {value}", text, flags=re.MULTILINE)
        assert found == 1
    (run / "config.yaml").write_text(text)


def test_changed_configuration_is_announced_once(stopped: Path, tmp_path: Path) -> None:
    edit(stopped, lr=1e-3)
    words = "the configuration is not the one that the run went by so far: from update 12 on"
    output = run_to_end(resumed(stopped), tmp_path)
    assert output.count(words) == 1
    assert [line["lr"] > 1e-3 for line in RunFolder(stopped).metrics()] == [True, False, False]
    about = json.loads((stopped / "run.json").read_text())
    changed = RunFolder(stopped).config()[1].hash
    assert about["changes"] == [{"step": 12, "hash": changed}]
    assert about["hash"] != changed
    assert words[:40] not in run_to_end(resumed(stopped), tmp_path)


def test_larger_batches_from_the_middle_of_an_epoch_on(stopped: Path, tmp_path: Path) -> None:
    edit(stopped, batch_size=600)  # two an epoch, of which three are done
    run_to_end(resumed(stopped), tmp_path)
    assert [(line["epoch"], line["step"]) for line in RunFolder(stopped).metrics()] == [
        (1, 9),
        (2, 12),
        (3, 14),
    ]


# -- data ---------------------------------------------------------------------------------------------


def test_missing_data_are_told_before_a_folder_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPIKELOOM_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for more in ([], ["--run-dir", "mine"]):
        assert main(["train", "fashion-mnist", *more]) == 1
        told = capsys.readouterr().err
        assert "fashion-mnist" in told
        assert "is not here" in told
        assert "or set SPIKELOOM_DATA to a folder with" in told
        assert not (tmp_path / "runs").exists()
        assert not (tmp_path / "mine").exists()


class Small(nn.Module):
    """Three steps of a static image."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            sl.PerStep(nn.Flatten(), nn.Linear(16, 8)), sl.LIF(v_threshold=0.3), sl.PerStep(nn.Linear(8, 4))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.net(x.expand(3, *x.shape))
        return out


OWN = Config(epochs=2, batch_size=8, checkpoint_steps=1, keep_last=100, lr=1e-2)


class Pairs(Dataset[tuple[torch.Tensor, int]]):
    """40 images, of which number 17 does what it is told.

    Attributes:
        harm: nothing; "raise" an error; "kill" the process that reads it, if it is a worker.
    """

    def __init__(self, harm: str = "") -> None:
        self.harm = harm

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index == 17 and self.harm == "raise":
            raise KeyError("no such image")
        if index == 17 and self.harm == "kill" and get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.from_numpy(np.random.default_rng(index).random((1, 4, 4), np.float32)), index % 4


def own(folder: Path, data: Any = None, resume: bool = False, objective: Any = None, **values: Any) -> Result:
    data = data or Pairs()
    config = dataclasses.replace(OWN, **values)
    test = data[1] if isinstance(data, tuple) else Pairs()
    train_split = data[0] if isinstance(data, tuple) else data
    return train(Small(), (train_split, test), config, folder, resume=resume, objective=objective)


@pytest.fixture(scope="module")
def own_unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a network of one's own, trained."""
    folder = tmp_path_factory.mktemp("own") / "run"
    own(folder)
    return folder


@pytest.mark.parametrize("workers", [0, 2])
def test_sample_that_cannot_be_read(own_unbroken: Path, tmp_path: Path, workers: int) -> None:
    with pytest.raises(
        DataError, match="sample 17 of Pairs cannot be read: KeyError: 'no such image'; "
    ) as error:
        own(tmp_path / "run", Pairs("raise"), workers=workers)
    assert "mend or replace its file, or leave the sample out" in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert 'raise KeyError("no such image")' in error.value.__notes__[0]  # where, for who looks for it
    assert last_step(tmp_path / "run") >= 0
    own(tmp_path / "run", resume=True)
    assert_same(tmp_path / "run", own_unbroken)


class Files(Stored):
    """An image a file."""

    def __init__(self, folder: Path) -> None:
        words: dict[str, Any] = dict.fromkeys(("title", "kind", "licence", "citation", "homepage"), "")
        super().__init__(
            Info(name="files", splits={"train": 40}, classes=("a", "b", "c", "d"), **words), "train"
        )
        self.folder = folder
        for i in range(40):
            np.save(folder / f"{i}.npy", Pairs()[i][0].numpy())

    def __len__(self) -> int:
        return 40

    def item(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(np.load(self.folder / f"{index}.npy")), index % 4


@pytest.mark.parametrize("harm", ["cut", "gone"])
@pytest.mark.parametrize("workers", [0, 2])
def test_file_that_is_damaged_or_goes(tmp_path: Path, harm: str, workers: int) -> None:
    (tmp_path / "files").mkdir()
    data = Files(tmp_path / "files")
    file = tmp_path / "files/17.npy"
    content = file.read_bytes()
    file.unlink() if harm == "gone" else file.write_bytes(content[:-9])
    # held out or not, it has the number that it has in the whole
    with pytest.raises(DataError, match="sample 17 of files, train, cannot be read: ") as error:
        own(tmp_path / "run", (data, Pairs()), workers=workers, validation=0.25)
    if harm == "gone":
        assert f"No such file or directory: '{file}'; mend or replace" in str(error.value)
    kept = RunFolder(tmp_path / "run")
    kept.read_tensors(kept.checkpoints()[-1], "")
    file.write_bytes(content)
    assert own(tmp_path / "run", (data, Pairs()), True, workers=workers, validation=0.25).epochs == 2


def test_sample_of_a_part_has_the_number_of_the_whole(tmp_path: Path) -> None:
    for seed in range(3):
        with pytest.raises(DataError, match="sample 17 of Pairs cannot be read"):
            own(tmp_path / f"run-{seed}", Pairs("raise"), validation=0.5, seed=seed)


def test_worker_that_dies(own_unbroken: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="a process that prepares samples, of --workers 2, was ended"
    ) as error:
        own(tmp_path / "run", Pairs("kill"), workers=2)
    assert "set fewer workers in config.yaml, 0 for none, and go on with --resume" in str(error.value)
    own(tmp_path / "run", Pairs("kill"), resume=True)
    assert_same(tmp_path / "run", own_unbroken)


# -- numbers that are none ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda scores: scores.sum() * math_nan(), "the loss is nan at epoch 1, batch 4"),
        # 0, of which the slope is without end
        (lambda scores: (scores * 0).sum().abs().sqrt(), "weights are NaN or infinite after 4 updates"),
    ],
)
def test_nan_leaves_the_last_finite_state(
    own_unbroken: Path, tmp_path: Path, harm: Callable[[torch.Tensor], torch.Tensor], words: str
) -> None:
    updates = 0

    def objective(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        nonlocal updates
        updates += outputs.requires_grad
        loss = nn.functional.cross_entropy(outputs.mean(0), y)
        return loss + harm(outputs) if updates == 4 else loss

    run = RunFolder(tmp_path / "run")
    with pytest.raises(TrainingFailed, match=words) as error:
        own(run.path, objective=objective)
    assert "train again with a smaller --lr, or with --clip-norm 1" in str(error.value)
    assert f"{run.path} holds the last checkpoint, of finite weights" in str(error.value)
    assert last_step(run.path) == 3
    for file in ("model.safetensors", *run.checkpoints()):
        tensors, _ = run.read_tensors(file, "")
        assert all(value.isfinite().all() for value in tensors.values() if value.is_floating_point())
    own(run.path, resume=True)  # what was wrong being mended
    assert_same(run.path, own_unbroken)


def math_nan() -> float:
    """Return what is no number."""
    return float("nan")


# -- the clock ----------------------------------------------------------------------------------------


def test_clock_that_is_changed(own_unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def jumping() -> float:
        nonlocal calls
        calls += 1
        return 1.8e9 + (-1) ** calls * 3e7  # a year back, a year on

    monkeypatch.setattr(time, "time", jumping)
    monkeypatch.setattr(time, "time_ns", lambda: int(jumping() * 1e9))
    assert 0 < own(tmp_path / "run").seconds_per_epoch < 600
    assert_same(tmp_path / "run", own_unbroken)
    for line in RunFolder(tmp_path / "run").metrics():
        assert 0 < line["seconds"] < 600
        assert line["samples_per_second"] > 0
