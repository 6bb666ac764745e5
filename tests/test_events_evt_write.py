"""What is written of Prophesee's formats is read back as the same, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeloom import events
from spikeloom.events import Events, EventsError, Motion, Triggers

TURNS = {"evt2": 1 << 34, "evt21": 1 << 34, "evt21-legacy": 1 << 34, "evt3": 1 << 24, "dat": 1 << 32}
RAW = [name for name in TURNS if name != "dat"]
SIZES = [(1, 1), (33, 7), (1280, 720), (2048, 2048)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("written") / "file.raw"


def same(path: Path, name: str, written: Events) -> None:
    events.write(path, written, format=name)
    recording = events.open(path)
    assert recording.format == name.removesuffix("-legacy")
    assert recording.read() == written
    assert events.join([Events.empty(written.width, written.height), *recording]) == written


@st.composite
def recordings(draw: st.DrawFn, name: str) -> Events:
    """Events that share times, rows and polarities, with pauses about as long as the clock turns."""
    width, height = draw(st.sampled_from(SIZES))
    turn = TURNS[name]
    pauses = [0, 0, 0, 1, 63, 64, 65, 4095, 4096, 4097, turn // 2 - 1]
    if name != "dat":  # whose reader cannot tell longer ones
        pauses += [turn // 2, turn // 2 + 1, turn - 1, turn, turn + 1, 5 * turn + 17]
    n = draw(st.integers(0, 60))
    steps = draw(st.lists(st.sampled_from(pauses), min_size=n, max_size=n))
    start = draw(
        st.sampled_from([0, 1, 4095, 4096, turn // 2, turn - 1] + [turn, 3 * turn + 5] * (name != "dat"))
    )
    column = st.one_of(st.integers(0, min(width - 1, 70)), st.integers(0, width - 1))
    row = st.one_of(st.integers(0, min(height - 1, 1)), st.integers(0, height - 1))
    x = draw(st.lists(column, min_size=n, max_size=n))
    if draw(st.booleans()):
        x = sorted(x)
    y = draw(st.lists(row, min_size=n, max_size=n))
    p = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    if n:
        steps[0] = 0
    found = Events.of(start + np.cumsum(np.array(steps, np.int64)), x, y, p, width=width, height=height)
    if name == "dat" or not draw(st.booleans()):
        return found
    channel = st.integers(0, 15 if name == "evt3" else 31)
    edges = draw(st.lists(st.tuples(st.sampled_from(pauses), channel, st.integers(0, 1)), max_size=10))
    times = draw(st.sampled_from([0, 2 * turn])) + np.cumsum(np.array([e[0] for e in edges], np.int64))
    ids, values = (np.array([e[k] for e in edges], np.uint8) for k in (1, 2))
    return found.replace(triggers=Triggers(times, ids, values))


@pytest.mark.parametrize("name", TURNS)
def test_round_trips(path: Path, name: str) -> None:
    @given(written=recordings(name))
    @settings(max_examples=80, deadline=None)
    def check(written: Events) -> None:
        same(path, name, written)

    check()


@pytest.mark.parametrize("name", TURNS)
def test_long_round_trip(path: Path, name: str) -> None:
    """More than one part of a file, of dense rows, so that vectors are cut at all places."""
    rng = np.random.default_rng(0)
    n = 150_000
    t = np.sort(rng.integers(0, 40_000_000, n // 30).repeat(30)) + 123
    x, y, p = rng.integers(0, 150, n), rng.integers(0, 3, n), rng.integers(0, 2, n)
    order = np.lexsort((x, p, y, t))
    written = Events.of(t, x[order], y[order], p[order], width=346, height=260)
    if name != "dat":
        edges = np.arange(0, 50_000_000, 9999)
        ones = np.ones(len(edges), np.uint8)
        written = written.replace(triggers=Triggers(edges, ones, ones))
    same(path, name, written)


def test_vectors_are_written_where_they_are_shorter(path: Path) -> None:
    """Four words for up to 32 events of a row, and a word for each of up to four."""

    def words(x: list[int]) -> list[str]:
        n = len(x)
        events.write(path, Events.of([5] * n, x, [10] * n, [1] * n, width=640, height=480), format="evt3")
        content = path.read_bytes().partition(b"% end\n")[2]
        return [f"{int(word):04x}" for word in np.frombuffer(content, "<u2")]

    head = ["8000", "6005", "000a"]
    assert words([1, 2, 3, 4]) == [*head, "2801", "2802", "2803", "2804"]
    assert words([1, 2, 3, 4, 32]) == [*head, "3801", "400f", "4000", "5080"]
    assert words([1, 2, 3, 4, 33]) == [*head, "2801", "2802", "2803", "2804", "2821"]
    assert words([7, 6, 5, 4, 3, 2, 1])[3:] == [f"28{x:02x}" for x in range(7, 0, -1)]


def test_the_other_formats_words(path: Path) -> None:
    """The published vectors, written."""
    found = Events.of([133, 191], [300, 301], [200, 200], [1, 0], width=640, height=480)
    edges = Triggers(np.array([135]), np.array([1], np.uint8), np.array([1], np.uint8))
    events.write(path, found[:1].replace(triggers=edges), format="evt2")
    # 0101c0a1 has further bits, of no meaning, in the published vector
    assert path.read_bytes().partition(b"% end\n")[2].hex(" ", 4) == "02000080 c8604911 0101c0a1"
    found = Events.of([133, 133, 134], [64, 67, 127], [200, 200, 10], [1, 1, 0], width=640, height=480)
    for name, content in (
        ("evt21", "0000000002000080 09000000c8004211 000000800a008301"),
        ("evt21-legacy", "0200008000000000 c800421109000000 0a00830100000080"),
    ):
        events.write(path, found, format=name)
        assert path.read_bytes().partition(b"% end\n")[2].hex(" ", 8) == content
    events.write(path, Events.of([123456], [300], [200], [1], width=640, height=480), format="dat")
    assert path.read_bytes().endswith(b"% Height 480\n\x0c\x08" + bytes.fromhex("40e201002c013210"))


def some(**changes: object) -> Events:
    return Events.of([1, 2], [0, 1], [0, 1], [0, 1], width=8, height=8).replace(**changes)


def edges(t: list[int], channel: int = 0, value: int = 0) -> Triggers:
    n = len(t)
    return Triggers(np.array(t), np.full(n, channel, np.uint8), np.full(n, value, np.uint8))


@pytest.mark.parametrize("name", TURNS)
@pytest.mark.parametrize(
    ("written", "message"),
    [
        (some(x=np.array([0, 9], np.uint16)), "x = 9 of event 1 is not below 8, on a sensor of 8x8"),
        (some(y=np.array([8, 1], np.uint16)), "y = 8 of event 0"),
        (some(p=np.array([0, 2], np.uint8)), "p = 2 of event 1 is not below 2"),
        (some(t=np.array([2, 1])), "in order of time; write events.ordered()"),
        (some(t=np.array([-1, 1])), "the first event is at -1 us"),
        (some(t=np.array([1, 1 << 60])), "write events.replace"),
        (some(width=1 << 15), "2048; dat and npz|up to 16384x16384"),
        (
            some(
                motion=Motion(
                    np.zeros(1, np.int64), *np.zeros((2, 1, 3), np.float32), np.zeros(1, np.float32)
                )
            ),
            "holds no motion",
        ),
    ],
    ids=["x", "y", "p", "unordered", "negative", "late", "wide", "motion"],
)
def test_limits(path: Path, name: str, written: Events, message: str) -> None:
    path.unlink(missing_ok=True)
    with pytest.raises(EventsError, match=f"^{path}: .*({message})"):
        events.write(path, written, format=name)
    assert not path.exists()


def test_limits_of_triggers(path: Path) -> None:
    with pytest.raises(EventsError, match="Prophesee DAT holds no triggers, of which there are 1"):
        events.write(path, some(triggers=edges([1])), format="dat")
    for name in RAW:
        with pytest.raises(EventsError, match="triggers in order of time"):
            events.write(path, some(triggers=edges([2, 1])), format=name)
        with pytest.raises(EventsError, match="triggers in order of time, from 0 on"):
            events.write(path, some(triggers=edges([-2, 1])), format=name)
        with pytest.raises(EventsError, match="of value 2"):
            events.write(path, some(triggers=edges([1], value=2)), format=name)
        with pytest.raises(EventsError, match="of channel 32"):
            events.write(path, some(triggers=edges([1], channel=32)), format=name)
    with pytest.raises(EventsError, match="channels up to 15"):
        events.write(path, some(triggers=edges([1], channel=16)), format="evt3")


def test_dat_refuses_a_pause_that_its_reader_could_not_tell(path: Path) -> None:
    """A turn of the clock is seen if the time falls by more than half a turn."""
    half = 1 << 31
    same(path, "dat", some(t=np.array([half + 1, 2 * half])))
    same(path, "dat", some(t=np.array([5, 2 * half - 1])))
    for t in ([half, 2 * half], [5, 2 * half + 5], [2 * half, 2 * half + 1]):
        with pytest.raises(EventsError, match=r"cannot tell the \d+ us before event"):
            events.write(path, some(t=np.array(t)), format="dat")


def test_endings(tmp_path: Path) -> None:
    for ending, name in ((".raw", "evt3"), (".dat", "dat")):
        events.write(tmp_path / f"file{ending}", some())
        assert events.open(tmp_path / f"file{ending}").format == name
