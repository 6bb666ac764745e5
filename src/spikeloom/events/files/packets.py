"""Files of packets, each of which may bring events, triggers or motion."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..events import Bits, Events, Motion, Pixels, Times, Triggers, join
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
    triggers: Triggers = field(default_factory=Triggers)
    motion: Motion = field(default_factory=Motion)


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
        held: list[Events] = []
        count = 0
        for packet in self.packets():
            check.take(packet.t, packet.x, packet.y)
            held.append(
                Events(
                    packet.t,
                    packet.x,
                    packet.y,
                    packet.p,
                    self.width,
                    self.height,
                    packet.triggers,
                    packet.motion,
                )
            )
            count += len(packet.t) + len(packet.triggers) + len(packet.motion)
            if count >= CHUNK:
                yield join(held)
                held, count = [], 0
        if held:
            yield join(held)
        check.report()
