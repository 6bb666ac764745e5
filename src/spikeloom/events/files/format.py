"""What a file format is: recognised by its content, opened as a source of chunks, perhaps written."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ..error import EventsError
from ..events import Events, join


@dataclass(frozen=True)
class Given:
    """What the caller says of a file, beyond its path; None is not said.

    Attributes:
        width: columns of the sensor.
        height: rows of the sensor.
        partial: accept a file that ends within an event, or a packet, and take what is whole.
        columns: what the columns of a text file are, as "t,x,y,p".
        time_unit: the unit of time where a file does not fix it: "s", "ms", "us" or "ns".
        rate: planes a second of a spike camera.
        stream: which of a file's several streams of events, by its number.
    """

    width: int | None = None
    height: int | None = None
    partial: bool = False
    columns: str | None = None
    time_unit: str | None = None
    rate: float | None = None
    stream: int | None = None


@dataclass(kw_only=True)
class Source(abc.ABC):
    """An opened file: what its header says, and its events in chunks.

    Attributes:
        width: columns of the sensor.
        height: rows of the sensor.
        metadata: what else the header says, as text.
    """

    width: int
    height: int
    metadata: dict[str, str] = field(default_factory=dict)

    @abc.abstractmethod
    def chunks(self) -> Iterator[Events]:
        """Yield the events from the file's start, in its order, some thousands at a time, checked."""

    def read(self) -> Events:
        """Return all events."""
        return join([Events.empty(self.width, self.height), *self.chunks()])


class Format(abc.ABC):
    """One file format; a new one is a class of this kind in a file of this folder, found there.

    Attributes:
        name: what `format=` calls it.
        title: what people call it.
        writes: whether it has a `write`.
        suffix: the ending by which `write` chooses it; "" for none. No two formats share one.
        needs: what a caller must say, for nothing in the file does.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    writes: ClassVar[bool] = False
    suffix: ClassVar[str] = ""
    needs: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def sniff(self, path: Path, head: bytes) -> bool:
        """Tell by a file's first 4 KiB whether it is of this format; one without a signature never is."""

    @abc.abstractmethod
    def open(self, path: Path, given: Given) -> Source:
        """Read the header; EventsError if it is unknown, cut off or contradicts itself or `given`."""

    def write(self, path: Path, events: Events) -> None:
        """Write a file that `open` reads back as the same events; EventsError for what it cannot hold."""
        raise EventsError(f"{path}: {self.title} is read, not written; write evt3, npz or hdf5 instead")


def sensor(path: Path, given: Given, found: tuple[int, int] | None, why: str = "") -> tuple[int, int]:
    """Return (width, height): what the file says or, where it says nothing, what the caller does.

    Arguments:
        path: the file, for the error.
        given: what the caller says.
        found: what the header says, None if nothing.
        why: what the header does say, for the error.

    Raises:
        EventsError: neither says anything, or they contradict each other.
    """
    said = (given.width, given.height)
    if found is not None:
        if any(mine not in (None, theirs) for mine, theirs in zip(said, found, strict=True)):
            raise EventsError(
                f"{path}: its header says {found[0]}x{found[1]} pixels, but width={given.width}, "
                f"height={given.height} was given; leave them out, or open the right file"
            )
        size = found
    elif said[0] is None or said[1] is None:
        raise EventsError(
            f"{path}: its header does not say how large the sensor is{why and f' ({why})'}; "
            "give width= and height=, as read(path, width=640, height=480)"
        )
    else:
        size = (said[0], said[1])
    if not (0 < size[0] <= 1 << 16 and 0 < size[1] <= 1 << 16):
        raise EventsError(f"{path}: a sensor of {size[0]}x{size[1]} pixels; each side is from 1 to 65536")
    return size


def only(
    path: Path,
    events: Events,
    title: str,
    *,
    triggers: bool = False,
    motion: bool = False,
    clock: bool = True,
) -> None:
    """Refuse to write what a format cannot hold, rather than to lose it.

    Arguments:
        path: the file, for the error.
        events: what is to be written.
        title: the format's.
        triggers: whether the format holds triggers.
        motion: whether it holds motion.
        clock: whether its times are a clock's: not negative, and never running backwards.

    Raises:
        EventsError: `events` has what the format has not.
    """
    for name, holds, has in (
        ("triggers", triggers, len(events.triggers)),
        ("motion", motion, len(events.motion)),
    ):
        if has and not holds:
            raise EventsError(
                f"{path}: {title} holds no {name}, of which there are {has}; write aedat4 or npz, "
                f"or leave them out: events.replace({name}={name.capitalize()}())"
            )
    if clock and not events.is_ordered:
        raise EventsError(f"{path}: {title} holds events in order of time; write events.ordered()")
    if clock and len(events) and events.t[0] < 0:
        raise EventsError(
            f"{path}: {title} counts time from 0, and the first event is at {events.t[0]} us; "
            "write events.replace(t=events.t - events.t[0])"
        )
