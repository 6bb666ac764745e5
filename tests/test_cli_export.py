"""`spikeloom export`: a run's network as a file for others, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import spikeloom as sl
from spikeloom.announce import SpikeloomWarning
from spikeloom.cli import main
from spikeloom.deploy import load_torch
from spikeloom.training import RunFolder, load_net, load_samples

SMALL = ["--set", "channels=[4,4]", "--set", "pools=[1,1]", "--batch-size", "512", "--epochs", "1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run whose weights were rounded to 8 bits while they learned."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    assert main(["train", "digits", *SMALL, "--weight-bits", "8", "--run-dir", str(folder)]) == 0
    return folder


def net_and_input(run: Path) -> tuple[nn.Module, torch.Tensor]:
    folder = RunFolder(run)
    _, recipe = folder.config()
    data = load_samples(recipe)
    images = data.inputs(data.test.pixels[:3])
    return load_net(folder).eval(), images.expand(recipe.T, *images.shape)


def test_c_of_a_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for dtype in ("float", "int8"):
        out = tmp_path / f"{dtype}.c"
        assert main(["export", str(run), "--to", "c", "--dtype", dtype, "--out", str(out)]) == 0
        text = out.read_text()
        assert ("int8_t weight" in text) == (dtype == "int8")
        assert "static float" in text or dtype == "int8"
        assert out.with_suffix(".h").exists()
        assert "one step takes 64 numbers" in capsys.readouterr().out


def test_nir_of_a_run(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("nir")
    out = tmp_path / "net.nir"
    with pytest.warns(SpikeloomWarning, match="the graph ends before it"):
        assert main(["export", str(run), "--to", "nir", "--out", str(out)]) == 0
    net, x = net_and_input(run)
    with torch.no_grad():
        torch.testing.assert_close(sl.from_nir(str(out))(x), net(x))


def test_torch_of_a_run(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "net.pt2"
    assert main(["export", str(run), "--to", "torch", "--out", str(out)]) == 0
    net, x = net_and_input(run)
    with torch.no_grad():
        torch.testing.assert_close(load_torch(out)(x), net(x))


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--to", "onxn"], "did you mean 'onnx'?"),
        (["--to", "nir", "--discretisation", "eulre"], "did you mean 'euler'?"),
        (["--to", "c", "--dtype", "int16"], "int16"),
        (["--to", "c", "--dtype", "int8", "--bits", "9"], "weights have 1 to 8 bits"),
        (["--to", "c", "--dtype", "int8", "--state-bits", "12"], "8, 16 or 32"),
        (["--to", "torch", "--open-axes", "TX"], "TX"),
    ],
)
def test_what_is_refused(
    argv: list[str], said: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "nir" in argv:
        pytest.importorskip("nir")
    assert main(["export", str(run), *argv, "--out", str(tmp_path / "out.c")]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_files_and_networks_that_are_not_there(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "net.c"
    there.write_text("mine")
    assert main(["export", str(run), "--to", "c", "--out", str(there)]) == 2
    assert "--overwrite replaces it" in capsys.readouterr().err
    assert there.read_text() == "mine"
    assert main(["export", "spikformer_4_348_cifar10", "--to", "c", "--out", str(tmp_path / "a.c")]) == 2
    assert "did you mean 'spikformer_4_384_cifar10" in capsys.readouterr().err
    assert main(["export", "conv_snn", "--to", "c", "--dtype", "int8", "--out", str(tmp_path / "b.c")]) == 2
    assert "give the folder of a run" in capsys.readouterr().err
