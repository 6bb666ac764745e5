"""What a run shows: lines where nobody looks, a bar where somebody does, nothing where another one does."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from spikeloom.training import progress
from spikeloom.training.progress import Reporter, fitted

METRICS: dict[str, Any] = {
    "epoch": 2,
    "loss": 0.12345,
    "accuracy": 0.98765,
    "firing_rate": 0.0625,
    "samples_per_second": 12345.6,
    "layers": {"0": {"firing_rate": 0.0625}},
    "test": {"loss": 0.2, "accuracy": 0.9123},
    "warnings": ["silent layers: 0 (100% of [its] neurons never fired); lower v_threshold"],
}


def test_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter(12, 3) as reporter:
        reporter.note("on [bold]two[/bold] devices")
        for _ in range(3):
            reporter.batch(METRICS)
        reporter.epoch(2, METRICS)
    assert capsys.readouterr().out.splitlines() == [
        "on [bold]two[/bold] devices",
        "epoch  2/12  loss 0.1235  accuracy 0.9877  firing rate 0.0625  12,346 samples/s"
        "  test accuracy 0.9123",
        "warning: silent layers: 0 (100% of [its] neurons never fired); lower v_threshold",
    ]


def test_what_was_not_measured_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter(1, 1) as reporter:
        reporter.epoch(1, {"loss": 1.0, "accuracy": 0.5})
        reporter.epoch(1, {"loss": 1.0, "accuracy": 0.5, "firing_rate": 0.0, "layers": {}})
        reporter.epoch(1, {"loss": 1.0, "accuracy": 0.5, "validation": {"loss": 1.0, "accuracy": 0.25}})
    assert capsys.readouterr().out.splitlines() == [
        "epoch 1/1  loss 1.0000  accuracy 0.5000",
        "epoch 1/1  loss 1.0000  accuracy 0.5000",
        "epoch 1/1  loss 1.0000  accuracy 0.5000  validation accuracy 0.2500",
    ]


def test_other_processes_are_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter(2, 1, quiet=True) as reporter:
        reporter.note("nothing")
        reporter.batch(METRICS)
        reporter.epoch(1, METRICS)
    assert capsys.readouterr().out == ""


def test_what_matters_least_goes_first() -> None:
    parts = [(3, "1/2"), (0, "loss 1"), (1, "0:01"), (3, "5/s")]
    assert fitted(parts, 19) == "1/2 loss 1 0:01 5/s"
    assert fitted(parts, 18) == "loss 1 0:01 5/s"
    assert fitted(parts, 14) == "loss 1 0:01"
    assert fitted(parts, 3) == "loss 1"


def test_what_is_left_counts_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    clock = progress._Clock()
    clock.start()
    assert clock.left(10, 5) == 0  # nothing is known yet
    for _ in range(4):
        now += 0.5
        clock.batch()
    assert clock.left(16, 5) == 8
    now += 3.0
    clock.epoch()
    assert clock.left(16, 4) == 16 * 0.5 + 4 * 3


SCRIPT = """
import runpy, time

Reporter = runpy.run_path({file!r})["Reporter"]  # alone, since the package takes seconds to import
metrics = {metrics!r}
with Reporter(2, 3) as reporter:
    reporter.note("a note")
    for number in (1, 2):
        for _ in range(3):
            reporter.batch({{"loss": 0.5, "accuracy": 0.25, "samples_per_second": 1000.0}})
        time.sleep(0.6)  # the bar is drawn four times a second
        reporter.epoch(number, metrics if number == 1 else {{**metrics, "warnings": []}})
        print("from elsewhere", number)
"""

SHOWN = SCRIPT.format(metrics=METRICS, file=progress.__file__)


def _on_a_terminal(width: int, script: str, term: str) -> str:
    """Return what a script writes to a terminal of so many columns."""
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    import struct

    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        kept = {
            k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
        }
        os.execve(sys.executable, [sys.executable, "-c", script], {**kept, "TERM": term})
    written = b""
    while True:
        try:
            some = os.read(terminal, 4096)
        except OSError:  # on Linux, a terminal that nobody writes to any more
            break
        if not some:
            break
        written += some
    os.close(terminal)
    assert os.waitpid(child, 0)[1] == 0, written.decode()
    return written.decode()


@pytest.mark.parametrize("width", [80, 40])
def test_terminal(width: int) -> None:
    written = _on_a_terminal(width, SHOWN, "xterm-256color")
    assert re.search(r"\x1b\[33mwarning: silent layers: 0", written)  # in yellow
    lines = [
        line for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)) if line.strip()
    ]
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "a note" in text
    assert "from elsewhere 2" in text
    assert re.search(r"1/2 loss 0\.500 acc 0\.250 .*00:0\d left", text)  # the bar, in the first epoch
    assert text.count("━━━━") > 0 if width == 80 else "━" not in text
    if width == 80:
        # the second epoch has the first one's firing rate
        assert re.search(r"2/2 loss 0\.500 acc 0\.250 firing 0\.062 1,000/s 00:0\d left", text)
        assert "epoch 1/2 loss 0.123 acc 0.988 test 0.912 firing 0.062 12,346/s" in lines
    else:
        assert "epoch 1/2 loss 0.123 test 0.912" in lines


def test_dumb_terminal_gets_plain_lines() -> None:
    written = _on_a_terminal(80, SHOWN, "dumb")
    assert "\x1b" not in written
    assert "epoch 1/2  loss 0.1235  accuracy 0.9877" in written
    assert " left" not in written


def test_output_into_a_file_has_no_control_codes(tmp_path: Path) -> None:
    import subprocess

    out = tmp_path / "out.txt"
    with open(out, "wb") as file:
        subprocess.run([sys.executable, "-c", SHOWN], stdout=file, check=True)
    assert out.read_text().splitlines()[0] == "a note"
    assert "\x1b" not in out.read_text()
