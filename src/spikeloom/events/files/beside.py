"""Triggers and motion that a file keeps apart from its events, brought together with them by time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Generic, TypeVar

import numpy as np

from ..events import Events, Motion, Triggers

Beside = TypeVar("Beside", Triggers, Motion)


class _Waiting(Generic[Beside]):
    """What of one kind has been read and not yet been given away."""

    def __init__(self, blocks: Iterator[Beside], none: Beside) -> None:
        self._blocks: Iterator[Beside] = blocks
        self._none: Beside = none
        self._block: Beside = none
        self._at = 0

    def until(self, time: int) -> Beside:
        """Return what comes before the first that is later than a time."""
        parts = []
        while True:
            later = self._block.t[self._at :] > time
            stop = self._at + (int(np.argmax(later)) if later.any() else len(later))
            if stop > self._at:
                parts.append(_cut(self._block, self._at, stop))
            self._at = stop
            if stop < len(self._block) or not self._next():
                return _joined(parts, self._none)

    def rest(self) -> Iterator[Beside]:
        """Yield all that is left."""
        while True:
            if self._at < len(self._block):
                yield _cut(self._block, self._at, len(self._block))
            if not self._next():
                return

    def _next(self) -> bool:
        self._block, self._at = next(self._blocks, self._none), 0
        return len(self._block) > 0


def _cut(block: Beside, first: int, stop: int) -> Beside:
    return type(block)(*(getattr(block, field.name)[first:stop] for field in fields(block)))


def _joined(parts: list[Beside], none: Beside) -> Beside:
    if len(parts) <= 1:
        return parts[0] if parts else none
    return type(none)(
        *(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(none))
    )


def with_beside(
    chunks: Iterator[Events],
    triggers: Iterator[Triggers],
    motion: Iterator[Motion],
    width: int,
    height: int,
) -> Iterator[Events]:
    """Yield chunks of events with the triggers and motion up to the time of a chunk's last event.

    What is later than all events follows in chunks without any. None of these iterators yields an empty block
    of triggers or motion before it ends.
    """
    edges, moves = _Waiting(triggers, Triggers()), _Waiting(motion, Motion())
    for chunk in chunks:
        if len(chunk):
            until = int(chunk.t[-1])
            chunk = chunk.replace(triggers=edges.until(until), motion=moves.until(until))
        yield chunk
    nothing = Events.empty(width, height)
    for block in edges.rest():
        yield nothing.replace(triggers=block)
    for moved in moves.rest():
        yield nothing.replace(motion=moved)
