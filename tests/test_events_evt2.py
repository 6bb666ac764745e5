"""EVT2 and EVT2.1 against published byte vectors, a recording's digests, and a decoder of a few lines."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeloom import events
from spikeloom.events import EventsError

DATA = Path(os.environ.get("SPIKELOOM_DATA", "")) / "events_prophesee"
real = pytest.mark.skipif(
    not (os.environ.get("SPIKELOOM_DATA") and DATA.is_dir()), reason="no events_prophesee in $SPIKELOOM_DATA"
)
HEADERS = {
    "evt2": "% evt 2.0\n% geometry 1280x720\n% end\n",
    "little": "% format EVT21;endianness=little;height=720;width=1280\n% end\n",
    "legacy": "% evt 2.1\n% geometry 1280x720\n% endianness legacy\n% end\n",
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evt2") / "vector.raw"


def read(path: Path, kind: str, content: str | bytes) -> events.Events:
    content = bytes.fromhex(content) if isinstance(content, str) else content
    path.write_bytes(HEADERS[kind].encode() + content)
    found = events.read(path)
    assert events.join([events.Events.empty(1280, 720), *events.open(path)]) == found
    return found


def edges_of(found: events.Events) -> list[tuple[int, ...]]:
    edges = found.triggers
    return list(zip(edges.t.tolist(), edges.id.tolist(), edges.value.tolist(), strict=True))


def test_evt2_vector(path: Path) -> None:
    found = read(path, "evt2", "02000080 c8604911 c868c90f 0101c0a1")
    assert found.to_array().tolist() == [(133, 300, 200, 1), (191, 301, 200, 0)]
    assert edges_of(found) == [(135, 1, 1)]


@pytest.mark.parametrize(
    ("order", "content"),
    [
        ("little", "0000000002000080 09000000c8004211 000000800a008301"),
        ("legacy", "0200008000000000 c800421109000000 0a00830100000080"),
    ],
)
def test_evt21_vector(path: Path, order: str, content: str) -> None:
    expected = [(133, 64, 200, 1), (133, 67, 200, 1), (134, 127, 10, 0)]
    assert read(path, order, content).to_array().tolist() == expected
    before = content[17:34]  # events before the first TIME_HIGH
    assert read(path, order, before + content).to_array().tolist() == expected


def test_evt21_trigger(path: Path) -> None:
    assert edges_of(read(path, "little", "0000000002000080 000000000103c0a1")) == [(135, 3, 1)]


@pytest.mark.parametrize("kind", list(HEADERS))
def test_the_clock_turns(path: Path, kind: str) -> None:
    """28 bits of the time are in TIME_HIGH, in units of 64 us: from its last value to its first."""
    words = [0x8FFFFFFF, 0x1FC00001 | 32 << 11, 0x80000000, 0x10400001 | 32 << 11, 0x8FFFFFFF, 0x80000000]
    words.append(0x10000001 | 32 << 11)
    content = b"".join(word.to_bytes(4, "little") for word in words)
    if kind != "evt2":
        pairs = [(word.to_bytes(4, "little"), b"\1\0\0\0") for word in words]
        content = b"".join(a + b if kind == "legacy" else b + a for a, b in pairs)
    turn = 1 << 34
    assert read(path, kind, content).t.tolist() == [turn - 1, turn + 1, 2 * turn]


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("evt2", "02000080 c8604921", "at byte 40: the word c8604921 has a type that is reserved"),
        ("evt2", "02000080 c86049c1", "a type that is reserved"),
        ("little", "0000000002000080 09000000c8004221", "a type that is reserved"),
        ("little", "0000000002000080 09000000c8084211", "no multiple of 32.*evt21-legacy"),
        ("legacy", "0200008000000000 00090000c8004211", "evt21-little"),
        (
            "evt2",
            "02000080 c8604911 c868",
            "ends within an event or a word: 2 of 4 bytes at byte 44.*partial=True",
        ),
        (
            "evt2",
            "02000080 d0000010 d0820210",
            "event 1 is at x = 80, y = 720, outside the sensor of 1280x720",
        ),
    ],
)
def test_wrong_content_is_refused(path: Path, kind: str, content: str, message: str) -> None:
    with pytest.raises(EventsError, match=message):
        read(path, kind, content)


def test_partial_takes_what_is_whole(path: Path) -> None:
    path.write_bytes(HEADERS["evt2"].encode() + bytes.fromhex("02000080 c8604911 c868"))
    assert len(events.read(path, partial=True)) == 1


def naive(highs: np.ndarray, masks: np.ndarray | None) -> tuple[list, list, bool]:
    """Decode words of EVT2, or of EVT2.1 with their masks, by the rules; tell whether all are legal."""
    pixels, edges, clock, turns = [], [], None, 0
    for i, word in enumerate(highs.tolist()):
        kind = word >> 28
        if kind == 8:
            high = (word & 0xFFFFFFF) << 6
            turns += clock is not None and clock - high >= 1 << 33
            clock = high
        if clock is None or kind == 8:
            continue
        now = (turns << 34) + clock + (word >> 22 & 63)
        x, y = word >> 11 & 2047, word & 2047
        if kind in (0, 1):
            if masks is not None and x % 32:
                return pixels, edges, False
            bits = 1 if masks is None else int(masks[i])
            pixels += [(now, x + k, y, kind) for k in range(32) if bits >> k & 1]
        elif kind == 10:
            edges.append((now, word >> 8 & 31, word & 1))
        elif kind not in (13, 14, 15) or (kind == 13 and masks is not None):
            return pixels, edges, False
    return pixels, edges, True


@st.composite
def streams(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    kinds = st.sampled_from([0, 0, 1, 1, 8, 10, 14, 15] + [2, 12, 13] * draw(st.booleans()))
    times = st.one_of(st.integers(0, 5), st.integers(0, 0xFFFFFFF))
    columns = st.one_of(st.integers(0, 39).map(lambda k: 32 * k), st.integers(0, 2047))
    words = []
    for kind in draw(st.lists(kinds, max_size=60)):
        if kind == 8:
            words.append(8 << 28 | draw(times))
        else:
            place = draw(columns) << 11 | draw(st.integers(0, 719))
            words.append(kind << 28 | draw(st.integers(0, 63)) << 22 | place)
    masks = [draw(st.one_of(st.integers(0, 3), st.integers(0, 2**32 - 1))) for _ in words]
    return np.array(words, np.uint32), np.array(masks, np.uint32)


@pytest.mark.parametrize("kind", list(HEADERS))
@given(stream=streams())
@settings(max_examples=150, deadline=None)
@pytest.mark.filterwarnings("ignore::spikeloom.SpikeloomWarning")
def test_any_words(path: Path, kind: str, stream: tuple[np.ndarray, np.ndarray]) -> None:
    highs, masks = stream
    pixels, edges, legal = naive(highs, None if kind == "evt2" else masks)
    inside = all(x < 1280 and y < 720 for _, x, y, _ in pixels)
    halves = {"evt2": [highs], "little": [masks, highs], "legacy": [highs, masks]}[kind]
    try:
        found = read(path, kind, np.stack(halves, 1).astype("<u4").tobytes())
    except EventsError:
        assert not (legal and inside)
        return
    assert legal
    assert inside
    assert found.to_array().tolist() == pixels
    assert edges_of(found) == edges


@real
def test_recording() -> None:
    """The digests are those that another project publishes for this file (neuromorphicsystems/faery)."""
    recording = events.open(DATA / "evt2_gen3_sparklers.raw")
    found = recording.read()
    assert (recording.format, found.width, found.height) == ("evt2", 640, 480)
    assert (len(found), int(found.p.sum()), found.t[0], found.t[-1]) == (521252, 185861, 913716224, 913812095)
    columns = (found.t.astype("<u8"), found.x, found.y, found.p)
    assert [hashlib.sha3_224(column.tobytes()).hexdigest() for column in columns] == [
        "9855ba39c1baea316ae623b72466e420df60a7510248391856eb4eaf",
        "93fc6cff19b483fd48ca53345c6c1cf05123681d7b7272a1717e9303",
        "07cfaef58e5fa71ce9910ed5b88fb7e9fcf71e4a8654cc2c4666f1ae",
        "d2b5e9c4047f4c431937b24cd46c8b504e055372b0ded1df77f0ffa1",
    ]
    assert events.join(list(recording)) == found
