"""ROS 2 bags of EVT3 packets, written by rosbags in both storages, against the same words in a RAW file."""

from __future__ import annotations

import sqlite3
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikeloom import events
from spikeloom.events import Events, EventsError, Triggers
from spikeloom.events.files.ros2bag import DEFINITION, TYPE

pytest.importorskip("rosbags", reason="rosbags is not installed")

from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

STORE = get_typestore(Stores.ROS2_HUMBLE)
STORE.register(get_types_from_msg(DEFINITION, TYPE))
SIZE = (346, 260)


def packet(content: bytes, seq: int, **changes: Any) -> Any:
    header = STORE.types["std_msgs/msg/Header"](
        stamp=STORE.types["builtin_interfaces/msg/Time"](sec=seq, nanosec=0), frame_id="camera"
    )
    fields = {
        "header": header,
        "height": SIZE[1],
        "width": SIZE[0],
        "seq": seq,
        "time_base": 0,
        "encoding": "evt3",
        "is_bigendian": False,
        "events": np.frombuffer(content, np.uint8),
    }
    return STORE.types[TYPE](**{**fields, **changes})


def write(
    path: Path, topics: dict[str, list[Any]], storage: StoragePlugin, *, compress: bool = False
) -> Path:
    writer = Writer(path, version=9, storage_plugin=storage)
    if compress:
        writer.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
    with writer:
        for topic, messages in topics.items():
            connection = writer.add_connection(topic, TYPE, typestore=STORE)
            for i, message in enumerate(messages):
                writer.write(connection, i * 1000, STORE.serialize_cdr(message, TYPE))
    return path


@pytest.fixture(scope="module")
def recorded() -> Events:
    rng = np.random.default_rng(0)
    n = 100_000
    t = np.sort(rng.integers(0, 40_000_000, n // 10).repeat(10))
    x, y, p = (rng.integers(0, m, n) for m in (*SIZE, 2))
    edges = np.arange(5, 40_000_000, 99_999)
    ones = np.ones(len(edges), np.uint8)
    return Events.of(t, x, y, p, width=SIZE[0], height=SIZE[1]).replace(triggers=Triggers(edges, ones, ones))


@pytest.fixture(scope="module")
def content(recorded: Events, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("raw") / "file.raw"
    events.write(path, recorded)
    return path.read_bytes().partition(b"% end\n")[2]


def cut(content: bytes) -> list[Any]:
    """Messages of any length, the first without words."""
    ends = np.sort(np.random.default_rng(1).integers(0, len(content) // 2, 200)) * 2
    bounds = [0, 0, *ends.tolist(), len(content)]
    return [packet(content[a:b], i) for i, (a, b) in enumerate(pairwise(bounds))]


@pytest.mark.parametrize("storage", list(StoragePlugin), ids=lambda s: s.name)
@pytest.mark.parametrize("compress", [False, True])
def test_both_storages(
    tmp_path: Path, recorded: Events, content: bytes, storage: StoragePlugin, compress: bool
) -> None:
    """The time, the row and the vectors go on from message to message; the clock turns in between."""
    path = write(tmp_path / "bag", {"/camera/events": cut(content)}, storage, compress=compress)
    recording = events.open(path)
    assert (recording.format, recording.metadata) == ("ros2bag", {"topic": "/camera/events"})
    assert recording.read() == recorded
    chunks = list(recording)
    assert events.join(chunks) == recorded
    assert len(chunks) < 5
    if not compress:
        [file] = (*path.glob("*.db3"), *path.glob("*.mcap"))
        assert events.read(file) == recorded
        with pytest.raises(EventsError, match=rf"is to be named \*{file.suffix}; rename it"):
            events.read(file.rename(tmp_path / "file.bin"))


def test_several_topics_are_asked_for(tmp_path: Path, content: bytes) -> None:
    one, two = [packet(content[:2000], 0)], [packet(content[:3000], 0)]
    path = write(tmp_path / "bag", {"/right": two, "/left": one}, StoragePlugin.SQLITE3)
    with pytest.raises(EventsError, match="2 topics of events; give stream=0 for /left, stream=1 for /right"):
        events.open(path)
    assert len(events.read(path, stream=0)) < len(events.read(path, stream=1))
    with pytest.raises(EventsError, match="stream=1 for /right"):
        events.open(path, stream=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoding": "mono"}, "encoded as 'mono'; 'evt3' is read"),
        ({"is_bigendian": True}, "big-endian"),
        ({"width": 1280}, "message 1 is of a sensor of 1280x260 pixels, those before it of 346x260"),
        ({"events": np.zeros(3, np.uint8)}, "ends within a word, after 3 bytes"),
        ({"events": np.array([0x05, 0x08], np.uint8)}, "the word 0508 is of a second camera"),
        ({"events": np.array([0x00, 0x90], np.uint8)}, "the word 0090 has a type that is reserved"),
    ],
)
def test_wrong_messages_are_refused(
    tmp_path: Path, content: bytes, changes: dict[str, Any], message: str
) -> None:
    messages = [packet(content[:2000], 0), packet(content[2000:4000], 1, **changes)]
    path = write(tmp_path / "bag", {"/events": messages}, StoragePlugin.SQLITE3)
    with pytest.raises(EventsError, match=message):
        events.read(path)


def test_messages_that_are_missing_are_told(tmp_path: Path, content: bytes) -> None:
    messages = [packet(content[i * 2000 : (i + 1) * 2000], i) for i in range(9)]
    path = write(tmp_path / "bag", {"/events": messages[:3] + messages[5:]}, StoragePlugin.MCAP)
    with pytest.warns(match="lacks messages in 1 places"):
        events.read(path)


def test_bags_without_events(tmp_path: Path) -> None:
    path = write(tmp_path / "none", {"/events": []}, StoragePlugin.SQLITE3)
    with pytest.raises(EventsError, match=r"does not say how large the sensor is .*no messages"):
        events.read(path)
    assert len(events.read(path, width=9, height=9)) == 0
    with Writer(tmp_path / "other", version=9) as writer:
        writer.add_connection("/text", "std_msgs/msg/String", typestore=STORE)
    with pytest.raises(EventsError, match=r"no topic of the type .*EventPacket, but of std_msgs/msg/String"):
        events.read(tmp_path / "other")


def test_damaged_bags_are_refused(tmp_path: Path, content: bytes) -> None:
    folder = write(tmp_path / "bag", {"/events": cut(content)[:9]}, StoragePlugin.MCAP)
    [file] = folder.glob("*.mcap")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    for path in (file, folder):
        with pytest.raises(EventsError, match="the bag is damaged"):
            events.read(path)
    (folder / "metadata.yaml").write_text("nothing: here\n")
    with pytest.raises(EventsError, match="the bag is damaged"):
        events.read(folder)
    other = tmp_path / "other.db3"
    sqlite3.connect(other).execute("CREATE TABLE a(b)").connection.close()
    with pytest.raises(EventsError, match="the bag is damaged, or of a kind"):
        events.read(other)
    (tmp_path / "empty").mkdir()
    with pytest.raises(EventsError, match="no format of events is recognised"):
        events.read(tmp_path / "empty")
