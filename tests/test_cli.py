"""The command: verbs, exit codes, and what it says."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spikeloom.cli import VERBS, bench, doctor, main
from spikeloom.training import RunFolder, train_run

TINY = ["--set", "channels=[4,4]", "--set", "pools=[2,2]", "--batch-size", "512"]


def accuracy(text: str) -> str:
    """Return the accuracy as it is printed."""
    found = re.findall(r"^test accuracy: (\S+)$", text, re.MULTILINE)
    assert len(found) == 1
    return found[0]


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, code in (["--help"], 0), ([], 2):
        assert main(argv) == code
        text = capsys.readouterr().out
        assert all(verb in text for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main([verb, "--help"])
    except SystemExit as stop:  # tyro's
        code = int(stop.code or 0)
    assert code == 0
    assert verb in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["trian", "digits"], "no verb 'trian'; did you mean 'train'?"),
        (["train", "digit"], "no recipe 'digit'; did you mean 'digits'?"),
        (["train"], "the recipe, one of digits"),
        (["train", "--epochs", "3"], "comes first"),
        (["train", "digits", "--model", "conv_snm"], "did you mean 'conv_snn'?"),
        (["train", "digits", "--data", "digit"], "did you mean 'digits'?"),
        (["train", "digits", "--set", "chanels=[3]"], "did you mean 'channels'?"),
        (["train", "digits", "--set", "channels"], "--set name=value"),
        (["train", "digits", "--epochs", "0"], "epochs = 0"),
        (["train", "digits", "--learning", "bttp"], "did you mean 'bptt'"),
        (["train", "digits", "--precision", "fp16", "--device", "cpu"], "use bf16 or fp32 on a CPU"),
        (["train", "digits", "--overlay", "nowhere.yaml"], "nowhere.yaml cannot be read"),
        (["train", "nowhere.yaml"], "nowhere.yaml cannot be read"),
        (["train", "digits", "--patience", "2"], "validation=0.1"),
        (["train", "digits", "--set", "epochs.x=1"], "epochs is no table"),
        (["train", "digits", "--loss", "tet"], "--set readout=none"),
        (["train", "digits", "--learning", "ottt"], "reset='soft'"),
        (["recipes", "digit"], "did you mean 'digits'"),
        (["train", "digits", "--resume", "runs/a", "--seed", "3"], "--resume DIR alone"),
        (["bench", "neuron"], "did you mean 'neurons'?"),
    ],
)
def test_misuse_is_answered_with_the_remedy(
    argv: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []  # no folder is left behind


def test_unknown_option_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "digits", "--epoch", "3"])
    assert stop.value.code == 2
    assert "--epochs" in capsys.readouterr().err


def test_train_and_evaluate_print_the_same_accuracy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "digits", "--epochs", "1", "--seed", "3", *TINY]) == 0
    first = capsys.readouterr().out
    assert "run folder: runs/digits-1" in first
    assert re.search(r"epoch 1/1  loss \S+  accuracy \S+  firing rate \S+  \S+ samples/s", first)
    assert main(["evaluate", "runs/digits-1", "--samples", "30", "--json", "found.json"]) == 0
    again = capsys.readouterr().out
    assert accuracy(again) == accuracy(first)
    for words in ("breaks even", "moved: fetched", "latency to decision", "mean of 30:", "45nm-int8: add"):
        assert words in again
    assert max(map(len, again.splitlines())) <= 110
    written = json.loads(Path("found.json").read_text())
    assert str(written["test_accuracy"]) == accuracy(first)
    assert written["profile"]["samples"] == 30
    assert written["energy"]["low"] < written["energy"]["high"]
    assert main(["evaluate", "runs/digits-1", "--json", "none/found.json"]) == 2
    assert main(["evaluate", "runs/digits-1", "--samples", "0"]) == 2
    assert main(["evaluate", "runs/digits-1", "--convention", "paper"]) == 2
    assert "did you mean 'papers'" in capsys.readouterr().err
    assert main(["train", "digits", "--run-dir", "runs/digits-1", *TINY]) == 1
    assert "--resume runs/digits-1" in capsys.readouterr().err
    assert main(["train", "mnist", "--resume", "runs/digits-1"]) == 2
    assert "spikeloom train digits --resume" in capsys.readouterr().err


def test_entries_of_tables_may_be_called_as_fields_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = "neuron: PSN, neuron_options: {T: 4}"
    file = tmp_path / "psn.yaml"
    file.write_text(f"recipe: digits\nT: 4\nlr_factors: {{'*': 2.0}}\nmodel_options: {{{table}}}\n")

    def stop(folder: RunFolder, **_: object) -> None:
        recipe = folder.config()[1]
        assert recipe.model_options["neuron_options"] == {"T": 4}
        assert recipe.model_options["channels"] == [8]
        assert (recipe.T, recipe.epochs, recipe.lr_factors) == (4, 1, {"*": 2.0})
        raise SystemExit(0)

    monkeypatch.setattr("spikeloom.cli.train.train_run", stop)
    options = ["--epochs", "1", "--set", "channels=[8]", "--set", "pools=[2]"]
    with pytest.raises(SystemExit, match="0"):
        main(["train", str(file), *options, "--run-dir", str(tmp_path / "run")])


def test_evaluate_refuses_what_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tmp_path)]) == 1
    assert f"{tmp_path / 'config.yaml'} does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_signal_leaves_a_folder_to_evaluate_and_resume(tmp_path: Path, which: signal.Signals) -> None:
    run = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "spikeloom.cli",
        "train",
        "digits",
        "--run-dir",
        str(run),
        "--epochs",
        "40",
    ]
    with subprocess.Popen(
        [*command, *TINY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert any(line.startswith("epoch  2/40") for line in process.stdout)
        process.send_signal(which)
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + which
    assert f"stopped by {which.name}" in errors
    assert f"--resume {run}" in errors
    assert "Traceback" not in errors
    assert "test accuracy" not in rest
    assert main(["evaluate", str(run)]) == 0
    result = train_run(RunFolder(run), resume=True)
    assert result.epochs == 40
    assert [line["epoch"] for line in RunFolder(run).metrics()] == list(range(1, 41))


def test_models_and_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "conv*"]) == 0
    assert "conv_snn" in capsys.readouterr().out
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"backend eager +works", text)
    assert re.search(r"data digits +in scikit-learn", text)


def test_doctor_gives_a_remedy_for_a_backend_that_does_not_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("Numba does not import; pip install numba")

    monkeypatch.setattr(doctor, "LIF", broken)
    assert main(["doctor"]) == 1
    assert re.search(r"backend numba +Numba does not import -> pip install numba", capsys.readouterr().out)


def test_doctor_names_what_optional_parts_lack(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = doctor.importlib.metadata.version

    def installed(package: str) -> str:
        if package == "optuna":
            raise doctor.importlib.metadata.PackageNotFoundError(package)
        return known(package)

    monkeypatch.setattr(doctor.importlib.metadata, "version", installed)
    main(["doctor"])
    found = rows(capsys.readouterr().out)
    assert found["extra search"] == "not installed: optuna -> pip install 'spikeloom[search]'"
    assert found["extra images"] == "installed"
    assert "extra dev" not in found


def rows(text: str) -> dict[str, str]:
    """Return what doctor printed, by what it is about."""
    return {line[:20].rstrip(): line[21:] for line in text.splitlines()}


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (None, "Triton is not installed; a GPU needs >= 3.3 -> pip install 'spikeloom[gpu]'"),
        ("2.1.0", "Triton 2.1.0 is too old; a GPU needs >= 3.3 -> pip install 'triton>=3.3'"),
        ("9.1.0", "9.1.0 (>= 3.3 is needed)"),
    ],
)
def test_doctor_looks_at_triton(
    version: str | None, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = doctor.importlib.metadata.version

    def installed(package: str) -> str:
        if package == "triton" and version is None:
            raise doctor.importlib.metadata.PackageNotFoundError(package)
        return str(version) if package == "triton" else known(package)

    monkeypatch.setattr(doctor.importlib.metadata, "version", installed)
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(doctor.triton_backend, "MINIMUM", (3, 3))
    doctor.triton_backend.problem.cache_clear()
    try:
        main(["doctor"])
    finally:
        doctor.triton_backend.problem.cache_clear()
    found = rows(capsys.readouterr().out)
    assert found["triton"] == said
    assert "unset it for compiled kernels" in found["TRITON_INTERPRET"]


@pytest.mark.parametrize(
    ("avx", "amx", "said"),
    [
        (
            False,
            False,
            "emulated (no AVX512-BF16, no AMX) -> bf16 saves memory here, not time; train in float32",
        ),
        (True, False, "AVX512-BF16"),
        (True, True, "AVX512-BF16 and AMX"),
    ],
)
def test_doctor_tells_of_bf16_on_the_cpu(
    avx: bool, amx: bool, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(doctor.torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    monkeypatch.setattr(doctor.torch.cpu, "_is_amx_tile_supported", lambda: amx)
    main(["doctor"])
    assert rows(capsys.readouterr().out)["bf16 on cpu"] == said


@pytest.mark.parametrize(
    ("cuda", "said"),
    [(None, "built for CPU -> for a GPU, install"), ("13.0", "none that torch sees -> look at")],
)
def test_doctor_tells_why_there_is_no_gpu(
    cuda: str | None, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor.torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(doctor.torch.version, "cuda", cuda)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert main(["doctor"]) == 0
    found = rows(capsys.readouterr().out)
    assert said in found["device cuda"]
    assert found["backend triton"] == "no GPU for it"


def test_bench_says_where_benchmarks_come_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    assert main(["bench", "neurons"]) == 2
    assert "source checkout" in capsys.readouterr().err


def test_command_starts_without_a_parser_or_numba() -> None:
    code = "import sys, spikeloom.cli; print(sorted({'tyro', 'rich', 'numba', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
