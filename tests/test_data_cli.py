"""`spikeloom data list | info | get | verify | cache`: what is printed, and the exit code."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from spikeloom.cli import main
from spikeloom.data import Cached, info, list_data, load
from spikeloom.data import files as data_files
from spikeloom.data.info import File, Info

REAL = os.environ.get("SPIKELOOM_DATA", "")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("SPIKELOOM_DATA", str(tmp_path / "data"))


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list_data()
    assert all(info(line.split()[0]).title in line for line in lines)
    assert [line.split()[0] for line in lines if line.split()[2] == "here"] == [
        "digits",
        "list-ops",
        "mackey-glass",
    ]
    assert main(["data", "list", "audio"]) == 0
    assert capsys.readouterr().out.split()[0] == "fsdd"
    assert main(["data", "list", "audios"]) == 2
    assert "did you mean 'audio'" in capsys.readouterr().err


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "info", "n-mnist"]) == 0
    text = capsys.readouterr().out
    for part in (
        "train 60,000, test 10,000",
        "CC BY-SA 4.0",
        "Orchard",
        "data.mendeley.com",
        "md5 20959b8e626244a1b502305a9e6e2031",
        "here       no",
        "Sample: `Events` of 34x34",
    ):
        assert part in text
    for name in list_data():
        assert main(["data", "info", name]) == 0
    capsys.readouterr()
    assert main(["data", "info", "nmnist"]) == 2
    assert "did you mean 'n-mnist'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["data"], "one of list, info, get, verify and cache comes first"),
        (["data", "lits"], "did you mean 'list'"),
        (["data", "get", "mnit"], "did you mean 'mnist'"),
        (["data", "get", "mnist", "--split", "tests"], "did you mean 'test'"),
        (["data", "verify", "mnit"], "did you mean 'mnist'"),
        (["data", "cache", "clean"], "did you mean 'clear'"),
        (["data", "cache", "clear", "digit"], "did you mean 'digits'"),
    ],
)
def test_misuse(argv: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert hint in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "--help"]) == 0
    assert "spikeloom data get NAME" in capsys.readouterr().out


def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, checksum: bool = True) -> Path:
    """Let tinyshakespeare be a data set of two files that a folder of this machine serves."""
    content = {"a.txt": b"one", "b.txt": b"two"}
    served = tmp_path / "served"
    served.mkdir()
    for name, text in content.items():
        (served / name).write_bytes(text)
    files = tuple(
        File(
            name=f"toy/{name}",
            addresses=((served / name).as_uri(),),
            sha256=hashlib.sha256(text).hexdigest() if checksum else None,
            splits=(split,),
        )
        for (name, text), split in zip(content.items(), ("train", "val"), strict=True)
    )
    real = info("tinyshakespeare")
    changed = Info(
        name="tinyshakespeare",
        title=real.title,
        kind=real.kind,
        splits={"train": None, "val": None},
        licence=real.licence,
        citation=real.citation,
        homepage=real.homepage,
        files=(*files, File(name="toy/all.zip", optional=True)),
    )
    from spikeloom.cli import data as verb
    from spikeloom.data.registry import find_set

    cls = find_set("tinyshakespeare")[1]
    monkeypatch.setattr(verb, "find_set", lambda name: (changed, cls))
    return tmp_path / "cache/spikeloom/toy"


def test_get_and_verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = toy(tmp_path, monkeypatch)
    assert main(["data", "verify", "tinyshakespeare"]) == 1
    assert capsys.readouterr().out.split() == [
        *("toy/a.txt:", "missing", "toy/b.txt:", "missing", "toy/all.zip:", "not", "here"),
    ]
    assert main(["data", "get", "tinyshakespeare", "--split", "train"]) == 0
    assert capsys.readouterr().out.strip() == f"toy/a.txt: {folder / 'a.txt'}"
    assert not (folder / "b.txt").exists()
    assert main(["data", "verify", "tinyshakespeare"]) == 1
    assert main(["data", "get", "tinyshakespeare"]) == 0
    assert (folder / "b.txt").read_bytes() == b"two"
    capsys.readouterr()
    assert main(["data", "verify", "tinyshakespeare"]) == 0
    assert capsys.readouterr().out.count(": right") == 2
    (folder / "b.txt").write_bytes(b"tow")
    os.utime(folder / "b.txt", ns=(1, 1))
    assert main(["data", "verify", "tinyshakespeare"]) == 1
    assert "its sha256 is" in capsys.readouterr().out
    assert main(["data", "get", "tinyshakespeare"]) == 1
    assert "remove the file" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::spikeloom.SpikeloomWarning")
def test_get_what_cannot_be_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = toy(tmp_path, monkeypatch, checksum=False)
    assert main(["data", "get", "tinyshakespeare"]) == 1
    assert "--no-verify" in capsys.readouterr().err
    assert main(["data", "get", "tinyshakespeare", "--no-verify"]) == 0
    assert (folder / "a.txt").read_bytes() == b"one"
    capsys.readouterr()
    assert main(["data", "verify", "tinyshakespeare"]) == 0
    assert capsys.readouterr().out.count("no checksum of it is published") == 2


def test_get_what_nobody_serves(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "get", "n-cars"]) == 1
    text = capsys.readouterr().err
    assert "n-cars_train.zip is not here" in text
    assert "prophesee.ai" in text
    assert main(["data", "get", "digits"]) == 0
    assert "in scikit-learn" in capsys.readouterr().out
    assert main(["data", "verify", "digits"]) == 0


def test_verify_the_real_samples(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    if not REAL:
        pytest.skip("SPIKELOOM_DATA names no folder of data")
    monkeypatch.setenv("SPIKELOOM_DATA", REAL)
    for name in ("cora", "n-mnist-1100", "fsdd", "dvs128-gesture-clips", "tinyshakespeare"):
        about = info(name)
        if any(data_files.find(file) is None for file in about.files if file.checksum):
            continue
        assert main(["data", "verify", name]) == 0
        wrong = [line for line in capsys.readouterr().out.splitlines() if not line.endswith(": right")]
        assert wrong == (["fsdd/free-spoken-digit-dataset-1.0.10.tar.gz: missing"] if name == "fsdd" else [])


def test_cache(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "cache"]) == 0
    assert capsys.readouterr().out.startswith("0 bytes in ")
    data = Cached(load("digits", "test"))
    for i in range(3):
        data[i]
    assert main(["data", "cache", "show", "digits"]) == 0
    text = capsys.readouterr().out
    assert "3 samples" in text
    assert data.folder.name in text
    assert main(["data", "cache", "clear", "mnist"]) == 0
    assert data.folder.exists()
    assert main(["data", "cache", "clear"]) == 0
    assert "bytes freed" in capsys.readouterr().out
    assert not data.folder.exists()
