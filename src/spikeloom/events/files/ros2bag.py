"""ROS 2 bags whose messages hold EVT3, as the drivers of the ros-event-camera project record them."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...announce import SpikeloomWarning
from ..error import EventsError
from .evt3 import DECODER
from .format import Format, Given, Source, sensor
from .prophesee import RESERVED, check_side
from .words import WordSource

TYPE = "event_camera_msgs/msg/EventPacket"
# of the package event_camera_msgs, which is not among the types that every ROS 2 has
DEFINITION = """
std_msgs/Header header
uint32 height
uint32 width
uint64 seq
uint64 time_base
string encoding
bool is_bigendian
uint8[] events
"""
METADATA = "metadata.yaml"
MAGIC = {b"SQLite format 3\0": ".db3", b"\x89MCAP0\r\n": ".mcap"}
SECOND = "the word {word} is of a second camera (its bit 11 is set), of which a bag has a topic of its own"


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """Make one error of the many kinds that a damaged bag causes in the library."""
    try:
        yield
    except Exception as error:
        said = f"{type(error).__name__}: {error}".rstrip(": ")
        raise EventsError(
            f"{path}: the bag is damaged, or of a kind that rosbags does not read ({said})"
        ) from error


@functools.lru_cache(maxsize=8)
def _store(form: str, definition: str) -> Any:
    """Return the types by which messages are read: as the bag defines them, if it does."""
    from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

    store = get_typestore(Stores.LATEST)
    if form == "IDL":
        store.register(get_types_from_idl(definition))
    else:
        store.register(get_types_from_msg(definition if form == "MSG" else DEFINITION, TYPE))
    known = dict(get_types_from_msg(DEFINITION, TYPE)[TYPE][1])
    found = dict(store.fielddefs[TYPE][1])
    if other := [name for name, kind in known.items() if found.get(name) != kind]:
        raise ValueError(f"it defines {TYPE} with no, or another, {', '.join(other)}")
    return store


class _Bag:
    """An open bag: its topics of events, and their messages."""

    def __init__(self, path: Path) -> None:
        try:
            from rosbags.rosbag2 import Reader
        except ImportError as error:
            raise EventsError(f"{path}: ROS 2 bags need rosbags: pip install 'spikeloom[events]'") from error
        self.path = path
        with _guarded(path):
            self._reader = Reader(path)

    def __enter__(self) -> _Bag:
        with _guarded(self.path):
            self._reader.open()
            self.topics = sorted({c.topic for c in self._reader.connections if c.msgtype == TYPE})
            self.others = sorted({str(c.msgtype) for c in self._reader.connections if c.msgtype != TYPE})
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def messages(self, topic: str) -> Iterator[Any]:
        """Yield a topic's messages in the order in which they were recorded."""
        with _guarded(self.path):
            chosen = [c for c in self._reader.connections if (c.topic, c.msgtype) == (topic, TYPE)]
            stores = {c.id: _store(c.msgdef.format.name, c.msgdef.data) for c in chosen}
            messages = self._reader.messages(chosen)
        while True:
            with _guarded(self.path):
                found = next(messages, None)
                if found is None:
                    return
                connection, _, content = found
                message = stores[connection.id].deserialize_cdr(content, TYPE)
            yield message


@dataclass(kw_only=True)
class _Messages(WordSource):
    """The words of a topic's messages, through which the decoder keeps its state.

    Attributes:
        topic: its name.
    """

    topic: str

    def length(self) -> int:
        """Return how many bytes the bag takes on disk."""
        files = self.path.iterdir() if self.path.is_dir() else (self.path,)
        return sum(file.stat().st_size for file in files if file.is_file())

    def parts(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield a message's words at a time."""
        at, last, gaps = 0, None, 0
        with _Bag(self.path) as bag:
            for message in bag.messages(self.topic):
                _check(self.path, self.topic, message, (self.width, self.height))
                gaps += last is not None and message.seq not in (last, last + 1)
                last = message.seq
                words = np.empty(len(message.events) // 2, "<u2")
                words.view(np.uint8)[:] = message.events  # a copy, and so aligned
                yield at, words
                at += words.nbytes
        if gaps:
            warnings.warn(
                f"{self.path}: {self.topic} lacks messages in {gaps} places (seq jumps); events behind a gap "
                "may have the time and the row of before it",
                SpikeloomWarning,
                stacklevel=2,
            )


def _check(path: Path, topic: str, message: Any, size: tuple[int, int]) -> None:
    where = f"{path}: {topic}: message {message.seq}"
    if message.encoding != "evt3" or message.is_bigendian:
        order = " in big-endian order" if message.is_bigendian else ""
        raise EventsError(f"{where} is encoded as {message.encoding!r}{order}; 'evt3' is read")
    if (message.width, message.height) != size:
        raise EventsError(
            f"{where} is of a sensor of {message.width}x{message.height} pixels, those before it of "
            f"{size[0]}x{size[1]}"
        )
    if len(message.events) % 2:
        raise EventsError(f"{where} ends within a word, after {len(message.events)} bytes")


class Ros2Bag(Format):
    """A ROS 2 bag (sqlite3 or MCAP) with messages event_camera_msgs/msg/EventPacket in EVT3.

    The path is the bag's folder, or its .db3 or .mcap file. Of several topics `stream=` chooses one, by its
    place in the order of their names. Times are the sensor's own, not those of ROS.
    """

    name = "ros2bag"
    title = "ROS 2 bag of EVT3 packets"

    def sniff(self, path: Path, head: bytes) -> bool:
        """Tell by a folder's metadata.yaml, and by the magic bytes of sqlite3 and MCAP."""
        if path.is_dir():
            return (path / METADATA).is_file()
        return head.startswith(tuple(MAGIC))

    def open(self, path: Path, given: Given) -> Source:
        """Look at the topics and at the first message of the one that is read."""
        _check_name(path)
        with _Bag(path) as bag:
            topic = _choose(path, bag, given.stream)
            first = next(bag.messages(topic), None)
        if first is None:
            size = None
        else:
            size = (first.width, first.height)
            _check(path, topic, first, size)
        width, height = sensor(path, given, size, f"{topic} has no messages")
        check_side(path, width, height)
        return _Messages(
            path=path,
            offset=0,
            decoder=replace(DECODER, problems=(RESERVED, SECOND)),
            width=width,
            height=height,
            metadata={"topic": topic},
            topic=topic,
        )


def _check_name(path: Path) -> None:
    """Refuse a file that the library would take for another, for it goes by the name."""
    if path.is_dir():
        return
    with path.open("rb") as file:
        head = file.read(16)
    suffix = next((suffix for magic, suffix in MAGIC.items() if head.startswith(magic)), None)
    if suffix is None:
        raise EventsError(
            f"{path}: this is neither a bag's folder nor its sqlite3 (.db3) or MCAP (.mcap) file"
        )
    if path.suffix != suffix:
        raise EventsError(f"{path}: by its content this file of a bag is to be named *{suffix}; rename it")


def _choose(path: Path, bag: _Bag, stream: int | None) -> str:
    topics = bag.topics
    if not topics:
        raise EventsError(
            f"{path}: the bag has no topic of the type {TYPE}, but of {', '.join(bag.others) or 'none'}"
        )
    if stream is None and len(topics) == 1:
        return topics[0]
    if stream is None or not 0 <= stream < len(topics):
        listed = ", ".join(f"stream={i} for {topic}" for i, topic in enumerate(topics))
        raise EventsError(f"{path}: the bag has {len(topics)} topics of events; give {listed}")
    return topics[stream]
