"""Files of packets, each of which may bring events, triggers or motion."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..events import Bits, Events, Motion, Pixels, Times, Triggers, join_columns
from .format import Source
from .words import CHUNK, Check


@dataclass
class Packet:
    """What a packet brings.

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
        return self._together(CHUNK)

    def read(self) -> Events:
        """Return all events."""
        return next(self._together(None), Events.empty(self.width, self.height))

    def _together(self, enough: int | None) -> Iterator[Events]:
        check = Check(self.path, self.width, self.height)
        held: list[Packet] = []
        count = 0
        for packet in self.packets():
            if len(packet.t):
                check.take(packet.t, packet.x, packet.y)
            held.append(packet)
            count += len(packet.t) + len(packet.triggers or ()) + len(packet.motion or ())
            if enough is not None and count >= enough:
                yield self._joined(held)
                held, count = [], 0
        check.report()
        if held:
            yield self._joined(held)

    def _joined(self, held: list[Packet]) -> Events:
        t, x, y, p = (np.concatenate([getattr(packet, name) for packet in held]) for name in "txyp")
        triggers = join_columns(Triggers, [packet.triggers for packet in held if packet.triggers is not None])
        motion = join_columns(Motion, [packet.motion for packet in held if packet.motion is not None])
        return Events(t, x, y, p, self.width, self.height, triggers, motion)
