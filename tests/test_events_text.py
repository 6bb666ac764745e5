"""Text: exact numbers however they are written, what stands before the events, errors with their line."""

from __future__ import annotations

import warnings
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spikeloom import SpikeloomWarning, events
from spikeloom.events import Events, EventsError, Motion, Triggers

SIZE = {"width": 40, "height": 30}
GIVEN: dict[str, Any] = {"format": "text", "columns": "t,x,y,p", **SIZE}
ROWS = [(5, 0, 29, 1), (9, 39, 0, 0), (9, 7, 1, 0), (1000, 8, 2, 1)]


def rows(found: Events) -> list[tuple[int, ...]]:
    return [tuple(row) for row in found.to_array().tolist()]


def text(path: Path, content: str) -> Path:
    path.write_bytes(content.encode())
    return path


def made(n: int) -> Events:
    rng = np.random.default_rng(n)
    t = np.cumsum(rng.integers(0, 50, n)) - 1000
    return Events.of(
        t, rng.integers(0, 1280, n), rng.integers(0, 720, n), rng.integers(0, 2, n), width=1280, height=720
    )


@pytest.mark.parametrize("n", [0, 1, 300, 200_000])
def test_there_and_back(tmp_path: Path, n: int) -> None:
    path, wanted = tmp_path / "a.csv", made(n)
    events.write(path, wanted)
    recording = events.open(path)
    assert (recording.format, recording.width, recording.height) == ("text", 1280, 720)
    assert recording.metadata == {"columns": "t,x,y,p", "time_unit": "us"}
    assert recording.read() == wanted
    assert all(len(part) <= 1 << 16 for part in recording)


def test_what_is_written(tmp_path: Path) -> None:
    wanted = Events.of([-5, 0, 1 << 62], [0, 9, 65535], [1, 10, 65535], [0, 1, 1], width=65536, height=65536)
    events.write(tmp_path / "a.csv", wanted)
    assert (tmp_path / "a.csv").read_text() == (
        "# width=65536 height=65536\nt_us,x,y,p\n-5,0,1,0\n0,9,10,1\n4611686018427387904,65535,65535,1\n"
    )
    assert events.read(tmp_path / "a.csv") == wanted


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(-(1 << 62), 1 << 62), max_size=9).map(sorted))
def test_any_times_there_and_back(tmp_path: Path, t: list[int]) -> None:
    n = np.arange(len(t))
    wanted = Events.of(np.array(t, np.int64), n, n, n % 2, width=65536, height=65536)
    events.write(tmp_path / "a.csv", wanted)
    assert events.read(tmp_path / "a.csv") == wanted


def test_what_a_table_cannot_hold(tmp_path: Path) -> None:
    some, none = made(3), np.zeros((1, 3), np.float32)
    for wrong, message in (
        (
            some.replace(triggers=Triggers(np.array([1]), np.ones(1, np.uint8), np.ones(1, np.uint8))),
            "no triggers",
        ),
        (some.replace(motion=Motion(np.array([1]), none, none, none[:, 0])), "no motion"),
        (some.replace(t=np.array([0, 1, (1 << 62) + 1])), r"within \+-2\^62"),
    ):
        with pytest.raises(EventsError, match=message):
            events.write(tmp_path / "a.csv", wrong)


@pytest.mark.parametrize(
    "content",
    [
        "t_us,x,y,p\n5,0,29,1\n9,39,0,0\n9,7,1,0\n1000,8,2,1\n",
        "t_us,x,y,p\r\n5,0,29,1\r\n9,39,0,0\r\n9,7,1,0\r\n1000,8,2,1",
        "\ufeffx;y;polarity;timestamp [us]\n0;29;1;5\n39;0;0;9\n7;1;0;9\n8;2;1;1000\n",
        "# made by hand\n\n# t[s] x y p\n0.000005 0 29 1\n\n"
        "9e-6 39 0 -1\n# pause\n  .000009\t7 1\t 0  \n1E-3 8 2 1\n",
        '"id","x","y","t_ms","on"\na-b,0,29,0.005,1\n,39,0,.009,0\n-,7,1,9e-3,0\n?,8,2,1,1\n',
        "time(ns) , x , y , pol\n5000, 0, 29, 1\n"
        "9000, 39, 0, -1\n9000, 7.0, 1, -1\n1000000, 8e0, 20e-1, +1\n",
        "% t_us\tx\ty\tp\n5.000\t0\t29\t1\n9\t39\t0\t0\n9\t7\t1\t0\n1000.\t8\t2\t1.0\n",
    ],
)
def test_lines_of_names(tmp_path: Path, content: str) -> None:
    path = text(tmp_path / "a.txt", content)
    with pytest.raises(EventsError, match="give width= and height="):
        events.read(path)
    assert rows(events.read(path, **SIZE)) == ROWS


def test_without_names_all_is_to_be_given(tmp_path: Path) -> None:
    path = text(tmp_path / "events.txt", "0.003811000 0 29 1\n0.003820 39 0 0\n")
    with pytest.raises(EventsError, match=r"no format of events is recognised .* text \(text"):
        events.read(path)
    with pytest.raises(
        EventsError, match=r"no line says what the columns are; it begins with '0.003811000 0 29 1'"
    ):
        events.read(path, format="text", **SIZE)
    with pytest.raises(EventsError, match="in which unit its times are"):
        events.read(path, **GIVEN)
    with pytest.raises(EventsError, match="give width= and height="):
        events.read(path, format="text", columns="t,x,y,p", time_unit="s")
    assert rows(events.read(path, **GIVEN, time_unit="s")) == [(3811, 0, 29, 1), (3820, 39, 0, 0)]
    # names that mean nothing to anyone else
    text(path, "a,b,c,d\n29,7,5,1\n")
    assert rows(events.read(path, **{**GIVEN, "columns": "y,x,t_us,p"})) == [(5, 7, 29, 1)]


@pytest.mark.parametrize(
    "content",
    [
        "# width=40 height=30\n",
        "# Width: 40, Height: 30\n",
        "40 30\n",
        "40,30\n",
        "# width = 40\n% height=30\n",
    ],
)
def test_the_size(tmp_path: Path, content: str) -> None:
    path = text(tmp_path / "a.txt", content + "5 0 29 1\n9 39 0 0\n")
    found = events.read(path, format="text", columns="t,x,y,p", time_unit="us")
    assert (found.width, found.height, rows(found)) == (40, 30, ROWS[:2])
    with pytest.raises(EventsError, match="says 40x30 pixels, but width=41"):
        events.read(path, **{**GIVEN, "width": 41}, time_unit="us")
    text(path, content + "# width=41\n5 0 29 1\n")
    with pytest.raises(EventsError, match="width is 40 and 41"):
        events.read(path, **GIVEN, time_unit="us")


def test_two_columns_are_no_size_before_two_columns(tmp_path: Path) -> None:
    path = text(tmp_path / "a.txt", "40 30\n5 6\n")
    with pytest.raises(EventsError, match="line 1: '40 30', column 3: the line has fewer columns"):
        events.read(path, **GIVEN, time_unit="us")


numbers = st.builds(
    lambda sign, digits, point, exponent: (
        sign
        + (
            digits
            if point is None
            else digits[: point % (len(digits) + 1)] + "." + digits[point % (len(digits) + 1) :]
        )
        + exponent
    ),
    st.sampled_from(["", "-", "+"]),
    st.text("0123456789", min_size=1, max_size=24),
    st.none() | st.integers(0, 30),
    st.sampled_from(["", "", "e0", "e3", "E-3", "e+06", "e-6", "e-30", "e9"]),
)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example("1.605537493718344927e+09", "s")
@example("0.0000005", "s")
@example("-0.0000005", "s")
@example("4611686018427387904", "us")
@example("4611686018427387905", "us")
@example("9999999999999999999999", "us")
@example("000000000000000000000000000001.5", "us")
@example("1000000000000000000.51", "us")
@example("0.0000004999999999999999999999", "s")
@given(numbers, st.sampled_from(["s", "ms", "us", "ns"]))
def test_any_way_to_write_a_time(tmp_path: Path, number: str, unit: str) -> None:
    """The nearest us, by Python's decimals; ties go away from 0."""
    path = text(tmp_path / "a.txt", f"{number},1,2,1\n")
    exact = Decimal(number) * Decimal({"s": "1e6", "ms": "1e3", "us": "1", "ns": "1e-3"}[unit])
    wanted = (
        int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP)) if abs(exact) < Decimal(1 << 70) else None
    )
    if wanted is None or abs(wanted) > 1 << 62:
        with pytest.raises(EventsError, match="a time is within"):
            events.read(path, **GIVEN, time_unit=unit)
        return
    off = abs(exact - wanted)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = events.read(path, **GIVEN, time_unit=unit)
    digits = number.strip("+-").replace(".", "").lower().partition("e")[0].lstrip("0")
    if len(digits) <= 18:  # beyond, digits that cannot move a time that is whole are not looked at
        assert found.t.tolist() == [wanted]
        if abs(off - Decimal("0.125")) > Decimal("0.002"):
            assert bool(told) == (off > Decimal("0.125"))
    else:
        near = Decimal("0.5") if abs(exact) < 10**17 else Decimal(1)  # 3,000 years: a part of a us is lost
        assert abs(int(found.t[0]) - exact) <= near


def test_times_finer_than_us_are_told(tmp_path: Path) -> None:
    path = text(tmp_path / "a.txt", "0.0000014,1,2,1\n0.0000026,1,2,1\n")
    with pytest.warns(SpikeloomWarning, match=r"finer than 1 us, by up to 0.4"):
        assert events.read(path, **GIVEN, time_unit="s").t.tolist() == [1, 3]


def test_numpys_way_to_write(tmp_path: Path) -> None:
    wanted = made(500)
    wanted = wanted.replace(t=wanted.t + 1_605_537_493_718_345)
    table = np.stack([wanted.t / 1e6, wanted.x, wanted.y, wanted.p], 1)
    np.savetxt(tmp_path / "a.txt", table)
    given_here = {"format": "text", "columns": "t,x,y,p", "time_unit": "s", "width": 1280, "height": 720}
    assert events.read(tmp_path / "a.txt", **given_here) == wanted


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("5,1,2", "column 4: the line has fewer columns"),
        ("5,1,2,", "column 4: the line has fewer columns"),
        ("5,1,2,1,1", "column 5: the line has more columns"),
        ("5,1,2,1 x", "more columns"),
        ("5,,2,1", "column 2: this is no number"),
        ("5,1 ,,2,1", "column 3: this is no number"),
        ("5,a,2,1", "column 2: this is no number"),
        ("5,0x1,2,1", "column 2: this is no number"),
        ("nan,1,2,1", "column 1: this is no number"),
        ("5,1,2,-", "column 4: this is no number"),
        ("5,1.5,2,1", "column 2: this is no whole number"),
        ("5,-1,2,1", "column 2: a pixel has places from 0 to 65535"),
        ("5,1,65536,1", "column 3: a pixel has places"),
        ("5,1,99999999999999999999999,1", "column 3: a pixel has places"),
        ("5,1,2,2", "column 4: a polarity is 0 or 1"),
        ("1e,1,2,1", "column 1: this is no number"),
        (".,1,2,1", "column 1: this is no number"),
        ("1e20,1,2,1", "column 1: a time is within"),
        ("1e999999999999999999999,1,2,1", "column 1: a time is within"),
        ("5;1|2;1", "column 2: this is no number"),
        ("t,x,y,p", "column 1: this is no number"),
        ("5,1,2,\u0663", "column 4: this is no number"),
    ],
)
def test_wrong_lines(tmp_path: Path, line: str, message: str) -> None:
    """The line is told by its number, in a first chunk and in a later one."""
    for before in (1, 100_000):
        path = text(tmp_path / "a.csv", "t_us,x,y,p\n" + "5,1,2,0\n" * before + line + "\n7,1,2,0\n")
        with pytest.raises(EventsError, match=f"a.csv: line {before + 2}: ") as error:
            events.read(path, **SIZE)
        assert message in str(error.value)
        assert repr(line) in str(error.value)


def test_pixels_outside(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "t_us,x,y,p\n5,1,2,0\n5,40,2,0\n")
    with pytest.raises(EventsError, match="event 1 is at x = 40, y = 2, outside the sensor of 40x30"):
        events.read(path, **SIZE)


def test_time_that_runs_backwards(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "t_us,x,y,p\n5,1,2,0\n4,1,2,0\n")
    with pytest.warns(SpikeloomWarning, match="time runs backwards"):
        assert events.read(path, **SIZE).t.tolist() == [5, 4]


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        ("t_us,x,y,p\n", "x,y,t,p", "but columns='x,y,t,p' was given; leave it out"),
        ("t_us,x,y,p\n", "t_s,x,y,p", "was given; leave it out"),
        ("t_us,x,y,p\nt,x,y,p\n", None, "line 2: 't,x,y,p', column 1: this is no number"),
        ("t,ts,x,y,p\n", None, "2 of them is t"),
        ("", "t,x,y", "none of them is p"),
    ],
)
def test_contradictions(tmp_path: Path, content: str, columns: str | None, message: str) -> None:
    path = text(tmp_path / "a.csv", content + "1,2,3,1\n")
    with pytest.raises(EventsError, match=message):
        events.read(path, format="text", columns=columns, time_unit="us", **SIZE)


def test_columns_that_agree_may_be_given(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "t_us,x,y,p\n1,2,3,1\n")
    assert rows(events.read(path, **GIVEN, time_unit="us")) == [(1, 2, 3, 1)]
    with pytest.raises(EventsError, match="its times are in us, but time_unit='ms' was given"):
        events.read(path, **GIVEN, time_unit="ms")


def test_a_line_without_an_end(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", "t_us,x,y,p\n1,2,3,1\n2,2,3,1")
    assert len(events.read(path, **SIZE)) == 2
    assert len(events.read(path, **SIZE, partial=True)) == 1  # it might be cut off
    text(path, "t_us,x,y,p\n1,2,3,1\n2,2")
    with pytest.raises(EventsError, match="fewer columns"):
        events.read(path, **SIZE)
    assert len(events.read(path, **SIZE, partial=True)) == 1
    path.write_bytes(b"t_us,x,y,p\n1,2,3,1\n" + b"7" * 3_000_000)
    with pytest.raises(EventsError, match="begins a line of more than 65536 bytes"):
        events.read(path, **SIZE)


def test_lines_across_what_is_read_at_a_time(tmp_path: Path) -> None:
    wanted = made(150_000)
    content = "".join(f"{t},{x},{y},{p}\n" + "#" * (t % 90) + "\n" for t, x, y, p in rows(wanted))
    path = text(tmp_path / "a.csv", "t_us,x,y,p\n" + content)
    assert events.read(path, width=1280, height=720) == wanted


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text("0123456789.,;+-eE \t\n\r#%tx", max_size=60)
    | st.binary(max_size=60).map(lambda b: b.decode("latin-1"))
)
def test_any_text_is_events_or_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.txt").write_bytes(content.encode("latin-1"))
    try:
        found = events.read(tmp_path / "a.txt", **GIVEN, time_unit="us")
    except (EventsError, SpikeloomWarning):
        return
    assert len(found) <= content.count("\n") + 1


def test_other_files_are_not_taken_for_text(tmp_path: Path) -> None:
    for content in (b"% evt 3.0\n% geometry 4x4\n% end\n\x00\x80", b"t,x,y,p\n\x00", b"", b"hello, world\n"):
        (tmp_path / "a").write_bytes(content)
        try:
            recording = events.open(tmp_path / "a")
        except EventsError:
            continue
        assert recording.format != "text"
