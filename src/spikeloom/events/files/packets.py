"""Files of packets, each of which may bring events, triggers or motion."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..events import Bits, Events, Motion, Pixels, Times, Triggers, join_columns
from .format import Source
from .words import CHUNK, Check

LEAST = 4  # bytes of an event in a file; if they are fewer, what was read is copied


@dataclass
class Packet:
    """What a packet brings; its columns may be views, strided ones too.

    Attributes:
        t: of its events, us.
        x: column.
        y: row.
        p: 0 or 1.
        triggers: its triggers.
        motion: its motion.
    """

    t: Times = field(default_factory=lambda: np.empty(0, np.int64))
    x: Pixels = field(default_factory=lambda: np.empty(0, np.uint16))
    y: Pixels = field(default_factory=lambda: np.empty(0, np.uint16))
    p: Bits = field(default_factory=lambda: np.empty(0, np.uint8))
    triggers: Triggers | None = None
    motion: Motion | None = None


def triggers_of(t: Times, types: NDArray[Any], edges: dict[int, tuple[int, int]]) -> Triggers:
    """Return those of a camera's marks that are edges of its inputs and outputs.

    Arguments:
        t: when they were made, us.
        types: what they are, 0 to 255.
        edges: which types are edges: (channel, value).
    """
    table = np.full((256, 2), -1, np.int16)
    table[list(edges)] = list(edges.values())
    found = table[types]
    kept = found[:, 0] >= 0
    channel, value = found[kept].astype(np.uint8).T.copy()
    return Triggers(t[kept], channel, value)


class _Room:
    """Where packets are put one after the other."""

    def __init__(self, count: int) -> None:
        self.columns: list[NDArray[Any]] = [
            np.empty(count, kind) for kind in (np.int64, np.uint16, np.uint16, np.uint8)
        ]
        self.count = 0
        self.triggers: list[Triggers] = []
        self.motion: list[Motion] = []

    def add(self, packet: Packet, check: Check) -> None:
        """Take what a packet brings, and check it."""
        start, self.count = self.count, self.count + len(packet.t)
        if self.count > len(self.columns[0]):
            for k, column in enumerate(self.columns):
                self.columns[k] = np.empty(2 * self.count, column.dtype)
                self.columns[k][:start] = column[:start]
        if len(packet.t):
            new = slice(start, self.count)
            for column, values in zip(self.columns, (packet.t, packet.x, packet.y, packet.p), strict=True):
                column[new] = values
            t, x, y, _ = self.columns
            check.take(t[new], x[new], y[new])
        if packet.triggers is not None:
            self.triggers.append(packet.triggers)
        if packet.motion is not None:
            self.motion.append(packet.motion)

    def events(self, width: int, height: int) -> Events:
        """Return all of it."""
        t, x, y, p = (column[: self.count] for column in self.columns)
        triggers, motion = join_columns(Triggers, self.triggers), join_columns(Motion, self.motion)
        return Events(t, x, y, p, width, height, triggers, motion)


@dataclass(kw_only=True)
class PacketSource(Source):
    """The events of a file of packets.

    Attributes:
        path: the file.
    """

    path: Path

    @abc.abstractmethod
    def packets(self) -> Iterator[Packet]:
        """Yield the packets in the file's order."""

    def chunks(self) -> Iterator[Events]:
        """Yield packets put together until there are some thousands of events."""
        check = Check(self.path, self.width, self.height)
        room, held = _Room(CHUNK), 0
        for packet in self.packets():
            room.add(packet, check)
            held += len(packet.t) + len(packet.triggers or ()) + len(packet.motion or ())
            if held >= CHUNK:
                yield room.events(self.width, self.height)
                room, held = _Room(CHUNK), 0
        yield room.events(self.width, self.height)
        check.report()

    def read(self) -> Events:
        """Return all events, put into place."""
        check = Check(self.path, self.width, self.height)
        room = _Room(self.path.stat().st_size // LEAST)
        for packet in self.packets():
            room.add(packet, check)
        check.report()
        return room.events(self.width, self.height)
