"""EVT3 against published byte vectors, a recording, and a decoder of a few plain lines."""

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
from spikeloom.events.files.words import CHUNK, PART

HEADER = b"% evt 3.0\n% geometry 1280x720\n% end\n"
DATA = Path(os.environ.get("SPIKELOOM_DATA", "")) / "events_prophesee"
real = pytest.mark.skipif(
    not (os.environ.get("SPIKELOOM_DATA") and DATA.is_dir()), reason="no events_prophesee in $SPIKELOOM_DATA"
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evt3") / "vector.raw"


def read(path: Path, words: str | np.ndarray, **more: int) -> events.Events:
    content = bytes.fromhex(words) if isinstance(words, str) else words.astype("<u2").tobytes()
    path.write_bytes(HEADER + content)
    found = events.read(path, **more)
    assert events.join([events.Events.empty(1280, 720), *events.open(path, **more)]) == found
    return found


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "0180 0560 0a00 6428 6520 c838 0540 0140 8050",
            [(4101, x, 10, p) for x, p in ((100, 1), (101, 0), (200, 1), (202, 1), (212, 1), (231, 1))],
        ),
        (
            "0180 0560 0a00 c838 6420 0540 0040 0050",
            [(4101, 100, 10, 0), (4101, 200, 10, 1), (4101, 202, 10, 1)],
        ),
        (
            "ff8f ff6f 0100 0128 0080 0360 0100 0228 0180 0060 0320",
            [(16777215, 1, 1, 1), (16777219, 2, 1, 1), (16781312, 3, 1, 0)],
        ),
        ("0180 0560 0a00 0128 14e0 23f1 56f4 0170 0228", [(4101, 1, 10, 1), (4101, 2, 10, 1)]),
        # 200 + 0, and, behind two vectors and a pixel in between, 220 + 0
        (
            "0180 0560 0a00 c838 0140 6428 0050 0140",
            [(4101, 200, 10, 1), (4101, 100, 10, 1), (4101, 220, 10, 1)],
        ),
        ("0180 0560 0a00 0128 0280 0228 0180 0328", [(4101, 1, 10, 1), (8192, 2, 10, 1), (4096, 3, 10, 1)]),
        ("0180 0560 0a00 0128 0180 0228", [(4101, 1, 10, 1), (4096, 2, 10, 1)]),
        ("0a00 c838 0560 0128 0140 0180 0b00 0128", [(4096, 1, 11, 1)]),
        ("0180 0560 0128 0140 0a00 0228 0140 c838 0140", [(4101, 2, 10, 1), (4101, 200, 10, 1)]),
        ("0180 0560 0a00 0128 01a1 0228 00a1", [(4101, 1, 10, 1), (4101, 2, 10, 1)]),
    ],
    ids=[
        "basic",
        "vectors keep their polarity",
        "wrap",
        "skipped words",
        "a pixel does not move the vector's base",
        "TIME_HIGH resets the low part, backwards, too",
        "TIME_HIGH resets the low part if it says nothing new",
        "nothing before the first TIME_HIGH counts",
        "no row, no base: passed over",
        "triggers change nothing",
    ],
)
@pytest.mark.filterwarnings("ignore::spikeloom.SpikeloomWarning")
def test_vectors(path: Path, words: str, expected: list[tuple[int, ...]]) -> None:
    assert read(path, words).to_array().tolist() == expected


def test_triggers(path: Path) -> None:
    found = read(path, "0180 0560 0a00 0128 01a1 0228 0660 00af").triggers
    assert (found.t.tolist(), found.id.tolist(), found.value.tolist()) == ([4101, 4102], [1, 15], [1, 0])


def test_clock_turns_often(path: Path) -> None:
    """TIME_HIGH of 0xFFF and 0 in turn: each pair is a turn of 2^24 us, not a step back."""
    found = read(path, "ff8f 0080 0a00 " * 5 + "0128")
    assert found.t.tolist() == [5 << 24]


def test_a_second_camera_is_asked_for(path: Path) -> None:
    words = "0180 0560 0a00 0128 0b08 0228 c838 0140 0c00 0328 0140"
    with pytest.raises(EventsError, match=r"second camera.*stream=0"):
        read(path, words)
    assert read(path, words, stream=0).x.tolist() == [1, 3, 212]
    assert read(path, words, stream=1).to_array().tolist() == [(4101, 2, 11, 1), (4101, 200, 11, 1)]
    with pytest.raises(EventsError, match="stream=2"):
        read(path, words, stream=2)


@pytest.mark.parametrize("word", ["0110", "0190", "01b0", "01c0"])
def test_reserved_types_are_refused(path: Path, word: str) -> None:
    with pytest.raises(
        EventsError, match=f"at byte {len(HEADER) + 6}: the word {word} has a type that is rese"
    ):
        read(path, f"0180 0560 0a00 {word}")


@pytest.mark.parametrize(
    ("words", "where"),
    [
        ("0180 0560 0a00 002d", "x = 1280, y = 10"),
        ("0180 0560 d002 0128", "x = 1, y = 720"),
        ("0180 0560 0a00 fe3f ff4f ff4f 0128", "x = 2046"),
        # vectors without end: the column does not begin anew at 0
        ("0180 0560 0a00 ff3f" + "0040" * 6000 + "0140", "x = 2048"),
    ],
)
def test_pixels_outside_are_refused(path: Path, words: str, where: str) -> None:
    with pytest.raises(EventsError, match=f"{where}.*outside the sensor of 1280x720"):
        read(path, words)


def naive(words: np.ndarray) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]], bool]:
    """Decode by the rules, a word at a time; also tell whether all words are of known types."""
    pixels, edges = [], []
    turns = high = low = 0
    timed = False
    row = base = None
    polarity = 0
    for word in words.tolist():
        kind, content = word >> 12, word & 4095
        if kind == 8:
            turns += timed and high - content >= 2048
            high, low, timed = content, 0, True
        if not timed:
            continue
        now = turns << 24 | high << 12 | low
        if kind == 0:
            row = content & 2047
            if content >> 11:
                return pixels, edges, False
        elif kind == 2 and row is not None:
            pixels.append((now, content & 2047, row, content >> 11))
        elif kind == 3:
            base, polarity = content & 2047, content >> 11
        elif kind in (4, 5) and base is not None:
            for bit in range(12 if kind == 4 else 8):
                if content >> bit & 1 and row is not None:
                    pixels.append((now, base + bit, row, polarity))
            base += 12 if kind == 4 else 8
        elif kind == 6:
            low = content
        elif kind == 10:
            edges.append((now, content >> 8, content & 1))
        elif kind in (1, 9, 11, 12):
            return pixels, edges, False
    return pixels, edges, True


@st.composite
def streams(draw: st.DrawFn) -> np.ndarray:
    """Words of all types, mostly of those that mean something, with small contents."""
    kinds = st.sampled_from(
        [0, 0, 2, 2, 2, 3, 4, 4, 5, 6, 6, 7, 8, 8, 10, 13, 14, 15] + [1, 9, 0] * draw(st.booleans())
    )
    contents = st.one_of(st.integers(0, 719), st.integers(2048, 2048 + 719), st.integers(0, 4095))
    words = draw(st.lists(st.tuples(kinds, contents), max_size=80))
    return np.array([kind << 12 | content for kind, content in words], np.uint16)


@given(words=streams())
@settings(max_examples=400, deadline=None)
@pytest.mark.filterwarnings("ignore::spikeloom.SpikeloomWarning")
def test_any_words(path: Path, words: np.ndarray) -> None:
    pixels, edges, known = naive(words)
    inside = all(x < 1280 and y < 720 for _, x, y, _ in pixels)
    try:
        found = read(path, words)
    except EventsError:
        assert not (known and inside)
        return
    assert known
    assert inside
    assert found.to_array().tolist() == pixels
    assert list(zip(found.triggers.t, found.triggers.id, found.triggers.value, strict=True)) == edges


@pytest.mark.filterwarnings("ignore::spikeloom.SpikeloomWarning")
def test_state_is_carried_across_parts_and_chunks(path: Path) -> None:
    """More words than a part of the file has, and, at first, far more events than words: the room grows."""
    rng = np.random.default_rng(0)
    head = np.array([0x8001, 0x6005, 0x000A], np.uint16)
    dense = np.stack([0x3000 | rng.integers(0, 600, 8000), *[np.full(8000, 0x4FFF)] * 9], 1).ravel()
    kinds = rng.choice([0x0000, 0x2000, 0x2800, 0x3800, 0x6000, 0x6000, 0xA000], 60_000)
    mixed = np.stack([0x3000 | rng.integers(0, 600, 60_000), kinds | rng.integers(0, 700, 60_000)] * 2, 1)
    mixed[:, 2] = 0x4000 | (mixed[:, 2] & 511)
    words = np.concatenate([head, dense, mixed.ravel()]).astype(np.uint16)
    assert words.nbytes > PART
    pixels, edges, known = naive(words)
    assert known
    assert len(pixels) > 2 * len(words)
    found = read(path, words)
    assert np.array_equal(np.stack([found.t, found.x, found.y, found.p], 1), np.array(pixels))
    assert len(found.triggers) == len(edges) > CHUNK // 10


@real
@pytest.mark.parametrize(
    ("name", "count", "first", "last", "digests"),
    [
        # x, y and p are also those of the array published beside the file; its t is not (steps of 4096 us)
        (
            "evt3_gen41_sample.raw",
            219596,
            (11718656, 874, 200, 0),
            (11727457,),
            ["40fc435b407b3a72", "c88bf5a9cd91ad9d", "2581d0ac206d0b7d", "9966c54546959e2c"],
        ),
        ("evt3_gen41_pedestrians_5000ev.raw", 5000, (5840504, 707, 297, 0), (5885714, 598, 260, 0), None),
    ],
)
def test_recordings(
    name: str, count: int, first: tuple[int, ...], last: tuple[int, ...], digests: list[str] | None
) -> None:
    recording = events.open(DATA / name)
    found = recording.read()
    assert (recording.format, found.width, found.height, len(found)) == ("evt3", 1280, 720, count)
    assert found.to_array()[0].tolist() == first
    assert found.to_array()[-1].tolist()[: len(last)] == last
    assert found.is_ordered
    columns = (found.t.astype("<u8"), found.x, found.y, found.p)
    if digests:
        assert [hashlib.sha3_224(c.tobytes()).hexdigest()[:16] for c in columns] == digests
    assert events.join(list(recording)) == found
