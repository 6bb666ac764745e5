"""The examples run as they are, and find what they say."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def run(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return what runs an example in an empty folder, with one thread, and gives what it printed."""
    monkeypatch.setenv("OUT", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")

    def of(name: str, *arguments: str) -> str:
        command = [sys.executable, str(root / "examples" / name), *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return of


def number(pattern: str, text: str) -> float:
    """Return the number that stands in a text where a pattern has its group."""
    found = re.search(pattern, text, re.MULTILINE)
    assert found is not None, f"{pattern} is not in\n{text}"
    return float(found.group(1))


def pictures(folder: Path, *names: str) -> None:
    """Check that these files are pictures with something in them."""
    from matplotlib.image import imread

    for name in names:
        pixels = imread(folder / name)
        assert pixels.std() > 0.01, name


def test_first_network(run, tmp_path: Path) -> None:
    said = run("first_network.py")
    accuracy = number(r"^test accuracy ([\d.]+)", said)
    assert accuracy > 0.95
    assert number(r"^by hand: ([\d.]+)", said) == accuracy
    assert number(r"1, 2, \.\.\.: ([\d.]+)", said) > 0.8
    assert said.count("numba") == 2
    # gray values are multiplied, spikes are not
    assert re.search(r"0\.0 +Conv2d +32x8x8 +288 +graded", said)
    assert re.search(r"2\.0 +Conv2d +32x8x8 +9\.22k +binary", said)
    pictures(tmp_path, "raster.png", "rates.png")


def test_own_neuron(run, tmp_path: Path) -> None:
    said = run("own_neuron.py")
    gaps = [int(n) for n in re.search(r"to spike: \[(.*)\]", said).group(1).split(", ")]
    assert max(gaps[:2]) < min(gaps[4:])  # it tires
    assert number(r"gradients differ by ([\d.e+-]+)", said) < 1e-12
    assert number(r"^LIF: test accuracy ([\d.]+)", said) > 0.8
    assert number(r"^Tired: test accuracy ([\d.]+)", said) > 0.8
    assert number(r"learned: tau ([\d.]+)", said) != 2.0
    pictures(tmp_path, "tired.png")


def test_own_surrogate(run, tmp_path: Path) -> None:
    said = run("own_surrogate.py")
    table = {line.split()[0]: line.split()[1:] for line in said.splitlines()[-3:]}
    assert list(table) == ["ATan", "mine", "narrow"]
    assert float(table["ATan"][1]) > 0.8
    assert float(table["mine"][1]) > 0.8
    assert float(table["narrow"][0]) == 0
    assert float(table["narrow"][1]) < 0.2
    assert "warning: gradients vanish" in said
    pictures(tmp_path, "surrogates.png")


def test_stream_from_camera_file(run, tmp_path: Path) -> None:
    said = run("stream_from_camera_file.py")
    assert number(r"^whole recordings: test accuracy ([\d.]+)", said) > 0.85
    assert number(r"^after 100 ms each, (\d+) of 10", said) >= 7
    assert number(r"^(\d+) windows", said) == 101
    assert number(r"whole recording by ([\d.e+-]+)", said) < 1e-4
    assert (tmp_path / "digits.raw").read_bytes()[:2] == b"% "  # a Prophesee file begins with a header
    pictures(tmp_path, "events.png")


def test_learning_rules(run) -> None:
    said = run("learning_rules.py")
    floors = {
        "bptt": 0.93, "sltt": 0.93, "ottt": 0.93, "decolle": 0.9, "feedback-alignment": 0.85,
        "stdp, one layer, no labels": 0.7,
    }  # fmt: skip
    for rule, floor in floors.items():
        assert number(rf"^{rule} +([\d.]+) +[\d.]+$", said) > floor, rule


def test_several_devices(run) -> None:
    said = run("several_devices.py")
    found = re.findall(r"process\(es\): test accuracy ([\d.]+)", said)
    assert len(found) == 2
    assert found[0] == found[1]
    assert float(found[0]) > 0.85
    assert "two processes end where one does" in said


def test_export(run, tmp_path: Path) -> None:
    said = run("export.py")
    accuracy = number(r"^test accuracy ([\d.]+)", said)
    assert accuracy > 0.93
    assert "the same scores to the bit" in said
    assert number(r"batch norms became (\d+)", said) == 0
    assert number(r"^ +accuracy ([\d.]+), scores", said) == pytest.approx(accuracy, abs=0.01)
    (card_file,) = tmp_path.glob("export-*/published/README.md")
    card = card_file.read_text()
    assert "apache-2.0" in card
    assert f"{accuracy:.4f}"[:5] in card


def test_compare_runs(run, tmp_path: Path) -> None:
    said = run("compare_runs.py")
    for name in ("spikes", "relu"):
        assert number(rf"^{name} +test accuracy ([\d.]+)", said) > 0.93
    (page_file,) = tmp_path.glob("compare-runs-*/report.html")
    page = page_file.read_text()
    assert "neuron" in page
    assert "ReLU" in page


def test_first_spikes(run) -> None:
    said = run("first_spikes.py")
    for name in ("average pooling", "max pooling", "none of the four"):
        assert number(rf"^{name}: test accuracy ([\d.]+)", said) > 0.9
    assert number(r"^average pooling: .* first spike ([\d.]+)", said) > 0.85
    assert 1 <= number(r"([\d.]+) to a first spike", said) < number(r"([\d.]+) until it is safe", said) < 6


def test_dendrites(run) -> None:
    said = run("dendrites.py")
    forgotten = {
        name: number(rf"^{name}: accuracy [\d.]+, forgotten ([\d.]+)", said)
        for name in ("points", "dendrites", "dendrites, gated")
    }
    assert forgotten["dendrites, gated"] < 0.35
    assert min(forgotten["points"], forgotten["dendrites"]) > 0.45
    weights = [int(n.replace(",", "")) for n in re.findall(r"([\d,]+) parameters", said)]
    assert max(weights) < 1.05 * min(weights)


def test_delays(run, tmp_path: Path) -> None:
    said = run("delays.py")
    assert number(r"^6 delay\(s\).* test accuracy ([\d.]+)", said) > 0.95
    assert number(r"^1 delay\(s\).* test accuracy ([\d.]+)", said) < 0.7
    assert number(r"of the whole by ([\d.e+-]+)", said) < 1e-4
    columns = [float(n) for n in re.findall(r"steps before: column ([\d.+-]+)", said)]
    assert len(columns) == 5
    assert max(columns) < -0.5
    assert min(columns[2:]) < columns[0]
    assert number(r"^23 of 2,352 synapses left: test accuracy ([\d.]+)", said) > 0.8
    pictures(tmp_path, "delays.png")


def test_long_sequences(run) -> None:
    said = run("long_sequences.py")
    assert number(r"^of noise, ([\d.]+)% of the steps fire alike", said) > 99
    accuracy = number(r"^test accuracy ([\d.]+)", said)
    assert accuracy > 0.65
    assert number(r"^with the neurons themselves ([\d.]+)", said) > accuracy - 0.05
    assert number(r"those of the whole by ([\d.e+-]+)", said) < 1
    assert number(r"^512 steps: .*, ([\d.]+) times as long", said) > 1


def test_silent_units(run) -> None:
    said = run("silent_units.py")
    assert number(r"^([\d.]+) bits a byte", said) < 3
    assert number(r"^silent: ([\d.]+)", said) > 0.6
    assert "    def " in said
    assert number(r": ([\d.]+) times as long", said) > 1


def test_each_is_small_and_told_of(root: Path) -> None:
    told = (root / "examples" / "README.md").read_text()
    tests = Path(__file__).read_text()
    for path in sorted((root / "examples").glob("*.py")):
        text = path.read_text()
        assert len(text.splitlines()) <= 80, path.name
        assert ast.get_docstring(ast.parse(text))
        assert text.count("# %%") >= 3
        assert f"`{path.name}`" in told
        assert f'run("{path.name}")' in tests
