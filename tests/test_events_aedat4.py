"""AEDAT 4 against a real recording, and files made with Google's `flatbuffers`."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spikeloom import events
from spikeloom.events import Events, EventsError, Motion, Triggers
from spikeloom.events.files import aedat4_writer, unpacked

flatbuffers = pytest.importorskip("flatbuffers")
lz4 = pytest.importorskip("lz4.frame")
zstandard = pytest.importorskip("zstandard")

DATA = Path(os.environ.get("SPIKELOOM_DATA", "/nowhere")) / "events_aedat" / "dvxplorer_320x240.aedat4"
real = pytest.mark.skipif(not DATA.is_file(), reason="no events_aedat in $SPIKELOOM_DATA")
MAGIC = b"#!AER-DAT4.0\r\n"
ROWS = [(5, 1, 2, 1), (5, 319, 239, 0), (2**50, 7, 8, 1)]


def finished(builder: Any, root: int, letters: bytes) -> bytes:
    builder.FinishSizePrefixed(root, file_identifier=letters)
    return bytes(builder.Output())


def one_vector(builder: Any, vector: int, letters: bytes) -> bytes:
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, vector, 0)
    return finished(builder, builder.EndObject(), letters)


def evts(rows: list[tuple[int, int, int, int]]) -> bytes:
    builder = flatbuffers.Builder(0)
    builder.StartVector(16, len(rows), 8)
    for t, x, y, on in reversed(rows):
        builder.Prep(8, 16)
        builder.Pad(3)
        builder.PrependBool(on)
        builder.PrependInt16(y)
        builder.PrependInt16(x)
        builder.PrependInt64(t)
    return one_vector(builder, builder.EndVector(), b"EVTS")


def tables(letters: bytes, rows: list[tuple[Any, ...]], slots: list[str]) -> bytes:
    """Return a vector of tables; `slots` are methods of the builder."""
    builder = flatbuffers.Builder(0)
    made = []
    for row in rows:
        builder.StartObject(len(slots))
        for k, value in enumerate(row):
            getattr(builder, f"Prepend{slots[k]}Slot")(k, value, 0)
        made.append(builder.EndObject())
    builder.StartVector(4, len(made), 4)
    for table in reversed(made):
        builder.PrependUOffsetTRelative(table)
    return one_vector(builder, builder.EndVector(), letters)


def imus(rows: list[tuple[Any, ...]]) -> bytes:
    return tables(b"IMUS", rows, ["Int64"] + ["Float32"] * 10)


def trig(rows: list[tuple[int, int]]) -> bytes:
    return tables(b"TRIG", rows, ["Int64", "Int8"])


def node(number: int, kind: str, source: str = "camera", size: tuple[int, int] | None = None) -> str:
    sides = zip(("sizeX", "sizeY"), size or (), strict=False)
    info = "".join(f'<attr key="{key}" type="int">{side}</attr>' for key, side in sides)
    info += f'<attr key="source" type="string">{source}</attr>'
    return (
        f'<node name="{number}"><attr key="typeIdentifier" type="string">{kind}</attr>'
        f'<node name="info">{info}</node></node>'
    )


ALL = (node(0, "EVTS", size=(320, 240)), node(1, "FRME"), node(2, "IMUS"), node(3, "TRIG"))


def header(nodes: tuple[str, ...] = ALL, compression: int = 0, place: int = -1, text: str = "") -> bytes:
    builder = flatbuffers.Builder(0)
    xml = text or f'<dv version="2.0"><node name="outInfo">{"".join(nodes)}</node></dv>'
    info = builder.CreateString(xml)
    builder.StartObject(3)
    builder.PrependInt32Slot(0, compression, 0)
    builder.PrependInt64Slot(1, place, -1)
    builder.PrependUOffsetTRelativeSlot(2, info, 0)
    return MAGIC + finished(builder, builder.EndObject(), b"IOHE")


def packet(stream: int, data: bytes) -> bytes:
    return struct.pack("<ii", stream, len(data)) + data


def compressed(data: bytes, compression: int) -> bytes:
    if compression == 0:
        return data
    if compression < 3:
        return bytes(lz4.compress(data, compression_level=0 if compression == 1 else 9))
    return bytes(zstandard.ZstdCompressor(level=3 if compression == 3 else 15).compress(data))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.aedat4"


@pytest.mark.parametrize("compression", range(5))
@pytest.mark.parametrize("place", ["", "table"])
def test_packets_of_all_kinds(path: Path, compression: int, place: str) -> None:
    """Fields of default values are not in the file; frames are left out; the table of packets is optional."""
    samples = [(7, 36.5, 0.5, -1.0, 0.0, 10.0, 0.0, -30.0, 1.0, 2.0, 3.0), (8, *[0.0] * 10)]
    body = b"".join(
        packet(stream, compressed(data, compression))
        for stream, data in (
            (0, evts(ROWS[:2])),
            (2, imus(samples)),
            (1, b"no frame at all"),
            (3, trig([(9, kind) for kind in range(10)])),
            (0, evts([])),
            (0, evts(ROWS[2:])),
        )
    )
    end = len(header(compression=compression, place=1)) + len(body) if place else -1
    path.write_bytes(header(compression=compression, place=end) + body + (b"any table" if place else b""))
    recording = events.open(path)
    found = recording.read()
    assert found.to_array().tolist() == ROWS
    assert (recording.format, found.width, found.height) == ("aedat4", 320, 240)
    assert recording.metadata["streams"] == "0 EVTS, 1 FRME, 2 IMUS, 3 TRIG"
    assert found.motion.t.tolist() == [7, 8]
    assert found.motion.temperature.tolist() == [36.5, 0]
    assert found.motion.acceleration.tolist() == [[0.5, -1, 0], [0, 0, 0]]
    assert found.motion.rotation.tolist() == [[10, 0, -30], [0, 0, 0]]
    assert found.triggers.id.tolist() == [0, 0, 0, 3, 3]
    assert found.triggers.value.tolist() == [1, 0, 1, 1, 0]
    assert events.join(list(recording.chunks())) == found


def test_streams(path: Path) -> None:
    """Of two cameras one is chosen, and the motion beside it."""
    nodes = (
        node(0, "EVTS", "left", (320, 240)),
        node(1, "IMUS", "left"),
        node(2, "EVTS", "right", (346, 260)),
        node(3, "IMUS", "right"),
    )
    body = (
        packet(0, evts(ROWS[:1])) + packet(2, evts(ROWS[1:])) + packet(3, imus([(4,)])) + packet(1, imus([]))
    )
    path.write_bytes(header(nodes) + body)
    with pytest.raises(
        EventsError, match=r"2 streams of events; give stream=, one of 0 \(left\), 2 \(right\)"
    ):
        events.read(path)
    left, right = events.read(path, stream=0), events.read(path, stream=2)
    assert left.to_array().tolist() == ROWS[:1]
    assert right.to_array().tolist() == ROWS[1:]
    assert (left.width, right.width) == (320, 346)
    assert (len(left.motion), right.motion.t.tolist()) == (0, [4])
    with pytest.raises(EventsError, match="stream=1 is none of its streams of events"):
        events.read(path, stream=1)
    path.write_bytes(header(nodes[1::2]))
    with pytest.raises(EventsError, match="no stream of events; it has IMUS"):
        events.read(path)


def test_size(path: Path) -> None:
    path.write_bytes(header((node(0, "EVTS"),)) + packet(0, evts(ROWS)))
    with pytest.raises(EventsError, match="give width= and height="):
        events.read(path)
    assert len(events.read(path, width=320, height=240)) == 3
    path.write_bytes(header((node(0, "EVTS", size=(319, 240)),)) + packet(0, evts(ROWS)))
    with pytest.raises(EventsError, match="x = 319, y = 239, outside the sensor of 319x240"):
        events.read(path)
    path.write_bytes(header() + packet(0, evts([(1, -1, 0, 0)])))
    with pytest.raises(EventsError, match="outside the sensor"):
        events.read(path)


def test_refusals(path: Path) -> None:
    good = packet(0, evts(ROWS))
    for data, text in (
        (b"something else", "does not begin with"),
        (MAGIC + b"\xff\xff\xff\x7f", "header is cut off"),
        (MAGIC + b"\x04\0\0\0abcd", "IOHE is expected"),
        (header(compression=5), "the compression 5"),
        (header(text="no XML"), "header is no XML"),
        (header(text='<!DOCTYPE a [<!ENTITY b "c">]><dv/>'), "XML that defines things"),
        (header(text="<dv/>"), "no stream of events; it has nothing"),
        (header(place=5), "table at byte 5, within itself"),
        (header(place=10**9), "cut off: its header places a table at byte 1000000000"),
        (header((node(0, "EVTS"), '<node name="x"/>')), "a stream of the number 'x'"),
        (header() + packet(9, b""), "of stream 9"),
        (header() + struct.pack("<ii", 0, -1), "of -1 bytes"),
        (header() + packet(0, imus([])), "EVTS is expected, found is b'IMUS'"),
        (header() + packet(0, evts(ROWS)[:-1]), "EVTS message is cut off"),
        (header(compression=1) + packet(0, b"no frame, for sure"), "no LZ4 frame"),
        (header(compression=1) + packet(0, compressed(good, 1)[:-9]), "no LZ4 frame"),
        (header(compression=1) + packet(0, b""), "no LZ4 frame"),
        (header(compression=3) + packet(0, b"no frame, for sure"), "no Zstandard frame"),
        (header() + packet(0, b""), "EVTS is expected"),
    ):
        path.write_bytes(data)
        with pytest.raises(EventsError, match=text):
            events.read(path, format="aedat4")


def test_cut_off(path: Path) -> None:
    """Whatever byte a file ends at, it is refused, or its whole packets are taken."""
    body = [packet(0, evts(ROWS[k : k + 1])) for k in range(3)]
    start = len(header())
    whole = header() + b"".join(body)
    ends = [start + sum(map(len, body[:k])) for k in range(4)]
    for end in (*range(len(MAGIC), start, 50), *range(start, len(whole))):
        path.write_bytes(whole[:end])
        if end < start:
            with pytest.raises(EventsError, match="header is cut off"):
                events.read(path, partial=True)
            continue
        if end not in ends:
            with pytest.raises(EventsError, match="ends within the packet"):
                events.read(path)
        assert len(events.read(path, partial=True)) == sum(end >= e for e in ends[1:])
    path.write_bytes(header(place=10**6) + b"".join(body)[:-1])
    assert len(events.read(path, partial=True)) == 2


@pytest.mark.parametrize("compression", [1, 3])
def test_bombs(path: Path, compression: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A packet that unpacks to more than it may is refused, whether it says so or not."""
    monkeypatch.setattr(unpacked, "PACKET", 1 << 20)
    data = bytes(3 << 20)
    if compression == 1:
        bombs = [lz4.compress(data, store_size=store) for store in (False, True)]
    else:
        packer = zstandard.ZstdCompressor(write_content_size=False)
        bombs = [packer.compress(data), zstandard.ZstdCompressor().compress(data)]
    for bomb in bombs:
        assert len(bomb) < 1 << 14
        path.write_bytes(header(compression=compression) + packet(0, bomb))
        with pytest.raises(EventsError, match="unpacks to more than 1048576 bytes"):
            events.read(path)


def test_many_small_bombs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What all packets of a file become is bounded, too."""
    monkeypatch.setattr(unpacked, "FREE", 1 << 20)
    rows = evts([(1, 1, 1, 1)] * 60_000)
    small = zstandard.ZstdCompressor(level=19).compress(rows)
    assert len(rows) / len(small) > 2 * unpacked.FACTOR
    path.write_bytes(header(compression=3) + packet(0, small) * 20)
    with pytest.raises(EventsError, match="which no recording reaches"):
        events.read(path)


def test_any_damage_is_an_error_or_events(path: Path) -> None:
    """Bytes changed in each place of a file, and numbers that point far away."""
    good = (
        header() + packet(0, evts(ROWS)) + packet(2, imus([(7, 1.0), (8, 2.0)])) + packet(3, trig([(9, 1)]))
    )
    text = range(len(MAGIC) + 48, len(header()))
    for at in set(range(len(MAGIC), len(good))) - set(text) | set(text[::40]):
        for value in (b"\0", b"\x80", b"\xff\xff\xff\x7f"):
            path.write_bytes(good[:at] + value + good[at + len(value) :])
            try:
                found = events.read(path)
            except (EventsError, UserWarning):
                continue
            assert (len(found) <= 3) & (len(found.motion) <= 4) & (len(found.triggers) <= 4)


numbers = st.floats(width=32, allow_nan=False)
times = st.integers(-(2**62), 2**62)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(times, st.integers(0, 345), st.integers(0, 259), st.integers(0, 1)), max_size=12),
    st.lists(st.tuples(times, *[numbers] * 7), max_size=8),
    st.lists(st.tuples(times, st.sampled_from([0, 3]), st.integers(0, 1)), max_size=8),
    st.integers(1, 5),
)
def test_round_trip(
    path: Path, rows: list[Any], samples: list[Any], edges: list[Any], packet_size: int
) -> None:
    """Events, triggers and motion, of any times, in packets of any size."""
    t, x, y, p = np.array(sorted(rows), np.int64).reshape(-1, 4).T
    values = np.array([sample[1:] for sample in samples], np.float32).reshape(-1, 7)
    moments = np.array([sample[0] for sample in samples], np.int64)
    te, channel, value = np.array(edges, np.int64).reshape(-1, 3).T
    made = Events.of(t, x, y, p, width=346, height=260).replace(
        motion=Motion(moments, values[:, :3].copy(), values[:, 3:6].copy(), values[:, 6].copy()),
        triggers=Triggers(te.copy(), channel.astype(np.uint8), value.astype(np.uint8)),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aedat4_writer, "PACKET", packet_size)
        events.write(path, made)
    assert events.read(path) == made
    assert events.join([Events.empty(346, 260), *events.open(path).chunks()]) == made


def test_written_files_are_what_flatbuffers_reads(path: Path) -> None:
    """The header, and the table at its end, field by field with Google's library."""
    made = Events.of(range(9), range(9), range(9), [0, 1] * 4 + [1], width=346, height=260).replace(
        motion=Motion(np.arange(2), *(np.ones((2, 3), np.float32),) * 2, np.ones(2, np.float32))
    )
    events.write(path, made)
    data = path.read_bytes()
    start = len(MAGIC) + 4

    def root(message: bytes, letters: bytes) -> Any:
        assert flatbuffers.util.BufferHasIdentifier(message, 0, letters)
        return flatbuffers.table.Table(
            message, flatbuffers.encode.Get(flatbuffers.packer.uoffset, message, 0)
        )

    head = root(data[start:], b"IOHE")
    number = flatbuffers.number_types
    assert head.Get(number.Int32Flags, head.Pos + head.Offset(4)) == 1
    end = head.Get(number.Int64Flags, head.Pos + head.Offset(6))
    assert b"sizeX" in head.String(head.Pos + head.Offset(8))
    table = root(lz4.decompress(data[end:])[4:], b"FTAB")
    assert table.VectorLen(table.Offset(4)) == 2
    entries = [table.Indirect(table.Vector(table.Offset(4)) + 4 * k) for k in range(2)]
    places = []
    for entry in (flatbuffers.table.Table(table.Bytes, place) for place in entries):
        place = entry.Get(number.Int64Flags, entry.Pos + entry.Offset(4))
        pair = [entry.Get(number.Int32Flags, entry.Pos + entry.Offset(6) + 4 * k) for k in range(2)]
        rest = [entry.Get(number.Int64Flags, entry.Pos + entry.Offset(slot)) for slot in (8, 10, 12)]
        assert struct.unpack("<ii", data[place - 8 : place]) == tuple(pair)
        places.append((pair[0], *rest))
    assert places == [(2, 2, 0, 1), (0, 9, 0, 8)]


def test_what_is_not_written(path: Path) -> None:
    few = Events.of([5, 6], [1, 2], [3, 4], [0, 1], width=34, height=34)
    for edge in ((1, 0), (0, 2)):
        triggers = Triggers(np.zeros(1, np.int64), *(np.array([k], np.uint8) for k in edge))
        with pytest.raises(EventsError, match=f"not channel {edge[0]}, value {edge[1]}, of trigger 0"):
            events.write(path, few.replace(triggers=triggers))
    with pytest.raises(EventsError, match="columns and rows up to 32767"):
        events.write(path, Events.empty(40_000, 4))
    assert not path.exists()


@real
def test_recording(path: Path) -> None:
    """Counts and times of the index of recordings; gravity is 1 g; it is written and read again."""
    recording = events.open(DATA)
    found = recording.read()
    assert (len(found), found.width, found.height) == (111954, 320, 240)
    assert np.bincount(found.p).tolist() == [56931, 55023]
    assert (found.t[0], found.t[-1]) == (1605537493718345, 1605537494308262)
    assert found.is_ordered
    assert recording.metadata["source"] == "DVXplorer_DXB00010"
    assert len(found.motion) == 475
    assert abs(np.linalg.norm(found.motion.acceleration, axis=1).mean() - 1.08) < 0.02
    assert (found.motion.temperature > 35).all()
    assert events.join(list(recording.chunks())) == found
    events.write(path, found)
    assert events.read(path) == found
