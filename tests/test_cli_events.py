"""spikeloom events info, convert and view."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikeloom import events
from spikeloom.cli import main
from spikeloom.cli.reading import printable
from spikeloom.events import Events, Motion, Triggers

HEADER = b"% evt 3.0\n% geometry 1280x720\n% note a & b\n% end\n"
# three events at 4101 us
WORDS = bytes.fromhex("0180 0560 0a00 c838 6420 0540 0040 0050")


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.raw"
    path.write_bytes(HEADER + WORDS)
    return path


@pytest.fixture
def long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file with 2,000 events in a second, triggers and motion."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(1_000, 1_001_000, 2000))
    e = Events.of(t, rng.integers(0, 40, 2000), rng.integers(0, 30, 2000), t % 2, width=40, height=30)
    beside = np.array([2_000, 500_000])
    e = e.replace(
        triggers=Triggers(beside, np.array([3, 3], np.uint8), np.array([1, 0], np.uint8)),
        motion=Motion(beside, *(np.ones((2, 3), np.float32),) * 2, np.ones(2, np.float32)),
    )
    events.write(tmp_path / "long.npz", e)
    return tmp_path / "long.npz"


def rows(text: str) -> dict[str, str]:
    return {line[:20].strip(): line[21:] for line in text.splitlines()}


def test_info_tells_what_is_known(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["events", "info", "small.raw"]) == 0
    found = rows(capsys.readouterr().out)
    assert found["File"] == f"small.raw ({len(HEADER) + len(WORDS)} bytes)"
    assert found["Format"] == "Prophesee RAW EVT3"
    assert found["Sensor"] == "1280 x 720"
    assert found["Events"] == "3"
    assert found["ON"] == "2 (66.7 %)"
    assert found["First"] == found["Last"] == "4,101 us"
    assert found["Order"] == "by time"
    assert found["header evt"] == "3.0"
    assert found["header note"] == "a & b"
    assert printable("a\x1b[31mb\u202ec") == "a\ufffd[31mb\ufffdc"  # what would steer a terminal


def test_info_as_json(long: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["events", "info", "long.npz", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    e = events.read(long)
    assert (found["format"], found["width"], found["height"]) == ("npz", 40, 30)
    assert (found["events"], found["on"]) == (2000, int(e.p.sum()))
    assert (found["start"], found["stop"]) == (int(e.t[0]), int(e.t[-1]))
    assert (found["triggers"], found["trigger_channels"], found["motion"]) == (2, [3], 2)
    assert found["peak_rate"] * found["peak_bin"] / 1e6 == max(np.bincount((e.t - e.t[0]) // 1000))
    assert main(["events", "info", "long.npz", "--json", "--start", "+100_000", "--stop", "200000"]) == 0
    part = json.loads(capsys.readouterr().out)
    inside = (e.t >= e.t[0] + 100_000) & (e.t < 200_000)
    assert part["events"] == inside.sum() > 0
    assert part["triggers"] == 0


def test_info_takes_constant_memory(tmp_path: Path) -> None:
    """Ten times the file, the same memory."""
    import tracemalloc

    peaks = []
    for times in (20, 200):
        path = tmp_path / f"{times}.raw"
        words = np.frombuffer(WORDS[4:], "<u2")
        path.write_bytes(HEADER + WORDS[:4] + np.tile(words, 2000 * times).tobytes())
        assert main(["events", "info", str(path)]) == 0
        tracemalloc.start()
        main(["events", "info", str(path)])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_convert_keeps_all_or_says_what_it_would_lose(long: Path, capsys: pytest.CaptureFixture[str]) -> None:
    e = events.read(long)
    assert main(["events", "convert", "long.npz", "out.es"]) == 1
    said = capsys.readouterr().err
    assert "triggers" in said
    assert "--drop triggers motion" in said
    assert sorted(os.listdir()) == ["long.npz"]
    assert main(["events", "convert", "long.npz", "out.es", "--drop", "triggers", "motion"]) == 0
    told = capsys.readouterr().out
    assert "left out, as asked: 2 triggers, 2 motion" in told
    assert "read again, it is equal" in told
    assert events.read("out.es") == e.replace(triggers=Triggers(), motion=Motion())
    assert main(["events", "convert", "long.npz", "copy.npz"]) == 0
    assert events.read("copy.npz") == e


def test_convert_a_part_of_time_and_sensor(long: Path, capsys: pytest.CaptureFixture[str]) -> None:
    e = events.read(long)
    argv = ["events", "convert", "long.npz", "part.npz", "--start", "300000", "--stop", "+600000"]
    assert main([*argv, "--crop", "5", "6", "20", "10"]) == 0
    found = events.read("part.npz")
    keep = (e.t >= 300_000) & (e.t < e.t[0] + 600_000) & (e.x >= 5) & (e.x < 25) & (e.y >= 6) & (e.y < 16)
    assert (found.width, found.height) == (20, 10)
    assert found.to_array().tolist() == [(t, x - 5, y - 6, p) for t, x, y, p in e[keep].to_array().tolist()]
    assert found.triggers.t.tolist() == [500_000]


def test_convert_from_zero(long: Path, capsys: pytest.CaptureFixture[str]) -> None:
    e = events.read(long)
    assert main(["events", "convert", "long.npz", "out.npz", "--from-zero"]) == 0
    assert f"time counts from {e.t[0]:,} us" in capsys.readouterr().out
    found = events.read("out.npz")
    for mine, theirs in ((found, e), (found.triggers, e.triggers), (found.motion, e.motion)):
        assert np.array_equal(mine.t, theirs.t - e.t[0])
    late = e.replace(t=e.t + 10**15, triggers=Triggers(), motion=Motion())
    events.write("late.npz", late)
    assert main(["events", "convert", "late.npz", "late.raw"]) == 1
    said = capsys.readouterr().err
    assert "--from-zero" in said
    assert "spikeloom: late.raw: " in said
    assert main(["events", "convert", "late.npz", "late.raw", "--from-zero"]) == 0
    assert events.read("late.raw", width=40, height=30) == late.replace(t=late.t - late.t[0])


def test_convert_names_the_header_entries_that_stay_behind(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["events", "convert", "small.raw", "small.npz"]) == 0
    assert re.search(r"stay behind: .*evt", capsys.readouterr().out)
    assert events.read("small.npz") == events.read(raw)


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["convert", "long.npz", "long.npz", "--overwrite"], 2, "is the recording itself"),
        (["convert", "long.npz", "there.npz"], 2, "--overwrite replaces it"),
        (["convert", "long.npz", "a.npz", "--crop", "30", "0", "20", "10"], 1, "beyond the sensor of 40x30"),
        (["convert", "long.npz", "a.nowhere"], 1, "which format?"),
        (["convert", "long.npz", "a.npz", "--to-format", "npy"], 2, "did you mean 'npz'?"),
        (["convert", "long.npz", "nowhere/a.npz"], 1, "No such file or directory"),
        (["info", "nothing.raw"], 1, "nothing.raw: No such file or directory"),
        (["info", "there.npz"], 1, "there.npz"),
        (["info", "long.npz", "--start", "soon"], 2, "not 'soon'"),
        (["view", "long.npz", "--out", "a.jpeg"], 2, "it ends in .html, .png, .gif, .mp4"),
        (["view", "long.npz", "--fps", "10"], 2, "--fps is for .gif, .mp4, not for .html"),
        (["view", "long.npz", "--out", "a.gif", "--at", "3"], 2, "--at is for .png, not for .gif"),
        (["view", "long.npz", "--out", "a.png", "--mode", "count"], 2, "did you mean 'counts'?"),
        (["view", "long.npz", "--out", "a.gif", "--stop", "5"], 1, "no events to draw"),
        (["veiw", "long.npz"], 2, "did you mean 'view'?"),
        ([], 2, "one of info, convert, view"),
    ],
)
def test_misuse_is_answered_and_leaves_nothing(
    long: Path, argv: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("there.npz").write_bytes(b"")
    assert main(["events", *argv]) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
    assert sorted(os.listdir()) == ["long.npz", "there.npz"]


def test_view_draws_a_page_a_picture_and_movies(long: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    e = events.read(long)
    assert main(["events", "view", "long.npz"]) == 0
    assert "long.html: 2,000 of 2,000 events" in capsys.readouterr().out
    assert "long.npz</title>" in Path("long.html").read_text()
    options = ["--mode", "decay", "--theme", "light", "--scale", "3", "--colours", "green-purple"]
    argv = ["events", "view", "long.npz", "--out", "a.png", "--at", "+500000", "--window", "40000"]
    assert main([*argv, *options]) == 0
    wanted: Any = events.picture(
        e,
        at=int(e.t[0]) + 500_000,
        window=40_000,
        mode="decay",
        theme="light",
        scale=3,
        colours="green-purple",
    )
    with Image.open("a.png") as image:
        assert np.array_equal(np.array(image), wanted)
    for name in ("a.gif", "a.mp4"):
        assert main(["events", "view", "long.npz", "--out", name, "--fps", "10", "--speed", "0.5"]) == 0
        assert f"{name}: 20 frames of 50 ms, 10 a second, at speed 0.5" in capsys.readouterr().out
    with Image.open("a.gif") as image:
        assert getattr(image, "n_frames", 1) == 20


def test_view_opens_the_page(long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert main(["events", "view", "long.npz", "--open", "--out", "a b.html"]) == 0
    assert opened == [(long.parent / "a b.html").as_uri()]


def test_view_says_when_it_leaves_out_events(long: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["events", "view", "long.npz", "--most", "100", "--title", "few"]) == 0
    captured = capsys.readouterr()
    assert "100 of 2,000 events" in captured.out
    assert "note: This page has 100 of 2,000 events" in captured.err
    assert "This page has 100 of 2,000 events" in Path("long.html").read_text()


def test_what_the_reader_warns_of_is_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "back.raw"
    path.write_bytes(HEADER + WORDS + bytes.fromhex("0460 0028"))
    assert main(["events", "info", str(path)]) == 0
    captured = capsys.readouterr()
    assert rows(captured.out)["Order"] == "backwards 1 times"
    assert captured.err.count("note: ") == 1
    assert "time runs backwards" in captured.err
