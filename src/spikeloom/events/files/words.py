"""Files that are a header and then words of one size, which a serial kernel decodes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...announce import SpikeloomWarning
from ..compiled import kernel
from ..error import EventsError
from ..events import Bits, Events, Pixels, Times, Triggers
from .format import Source

# The state of a decoder, an int64 array that lives through a file. Its first places are the same for all; the
# decoder's own begin at OWN.
WORDS = 0  # in: where to begin in the words at hand; out: where it stopped
EVENTS = 1  # in and out: how many events are in the buffer
TRIGGERS = 2  # in and out: how many triggers are in the buffer
PROBLEM = 3  # out: 0, or which of the decoder's problems the word at WORDS has
OWN = 4

State = NDArray[np.int64]
ONE = np.uint64(1)  # an index that is never negative needs no test for that: kernels count with it
CHUNK = 1 << 16  # events decoded, then checked while they are in cache
PART = 1 << 19  # bytes of the file at hand


@dataclass
class Buffer:
    """Room for decoded events and triggers."""

    t: Times
    x: Pixels
    y: Pixels
    p: Bits
    trigger_t: Times
    trigger_id: Bits
    trigger_value: Bits

    @classmethod
    def of(cls, events: int, triggers: int) -> Buffer:
        """Return room for so many."""
        return cls(
            np.empty(events, np.int64),
            np.empty(events, np.uint16),
            np.empty(events, np.uint16),
            np.empty(events, np.uint8),
            np.empty(triggers, np.int64),
            np.empty(triggers, np.uint8),
            np.empty(triggers, np.uint8),
        )

    def has_room(self, state: State, most: int) -> bool:
        """Tell whether there is room for what a word may bring: `most` events, or a trigger."""
        return bool(state[EVENTS] + most <= len(self.t) and state[TRIGGERS] < len(self.trigger_t))

    def larger(self, state: State, most: int) -> Buffer:
        """Return a larger one with what is in here."""
        events, triggers = len(self.t), len(self.trigger_t)
        larger = Buffer.of(
            events if state[EVENTS] + most <= events else 2 * events + most,
            triggers if state[TRIGGERS] < triggers else 2 * triggers + 1,
        )
        for name, column in vars(self).items():
            count = state[TRIGGERS if name.startswith("trigger") else EVENTS]
            getattr(larger, name)[:count] = column[:count]
        return larger


# decode(words, state, t, x, y, p, trigger_t, trigger_id, trigger_value): decodes words[state[WORDS]:] until
# they are used up, or len(t) or len(trigger_t) might not hold what the next word brings, or a word is wrong.
Decode = Callable[..., None]


@dataclass(frozen=True)
class Decoder:
    """A kernel that decodes words, and what one must know to call it.

    Attributes:
        word: the type of the file's words.
        decode: the kernel.
        own: how many numbers it keeps between calls, from `state[OWN]` on.
        most: how many events a word may bring.
        problems: what `state[PROBLEM] = i + 1` means, as text with {word} for the word's bytes.
        start: what its own numbers are at first; 0 if not given.
        unfinished: where in the state it says how many words of an event that is not whole it has taken, for
            events of several words; 0 for none.
    """

    word: Any
    decode: Decode
    own: int = 0
    most: int = 1
    problems: tuple[str, ...] = ()
    start: tuple[int, ...] = ()
    unfinished: int = 0

    @property
    def size(self) -> int:
        """The bytes of a word."""
        return int(np.dtype(self.word).itemsize)

    def state(self) -> State:
        """Return the state at a file's start."""
        state = np.zeros(OWN + self.own, np.int64)
        state[OWN : OWN + len(self.start)] = self.start
        return state


@dataclass
class Check:
    """What the events so far were like: that they are on the sensor, and how time ran."""

    where: Path
    width: int
    height: int
    last: int = np.iinfo(np.int64).min
    count: int = 0
    backwards: int = 0
    worst: tuple[int, int, int] = (0, 0, 0)

    def take(self, t: Times, x: Pixels, y: Pixels) -> None:
        """Check further events; EventsError for one outside the sensor."""
        bad, back, first = _check(t, x, y, self.last, self.width, self.height)
        if bad >= 0:
            raise EventsError(
                f"{self.where}: event {self.count + bad} is at x = {x[bad]}, y = {y[bad]}, outside the "
                f"sensor of {self.width}x{self.height}; give the true width= and height=, or another format="
            )
        if back and not self.backwards:
            before = t[first - 1] if first else self.last
            self.worst = (self.count + first, int(before), int(t[first]))
        self.backwards += back
        self.count += len(t)
        if len(t):
            self.last = int(t[-1])

    def report(self) -> None:
        """Warn of time that ran backwards."""
        if self.backwards:
            event, before, after = self.worst
            warnings.warn(
                f"{self.where}: time runs backwards {self.backwards} times, first at event {event}, from "
                f"{before} to {after} us; the events are as in the file: events.ordered() sorts them",
                SpikeloomWarning,
                stacklevel=2,
            )


@kernel
def _check(t: Times, x: Pixels, y: Pixels, last: int, width: int, height: int) -> tuple[int, int, int]:
    """Return (index of an event outside or -1, how often time falls, index where it first does)."""
    outside = 0
    back = 0
    for i in range(len(t)):  # without a branch: vectorised
        outside |= (x[i] >= width) | (y[i] >= height)
    for i in range(1, len(t)):
        back += t[i] < t[i - 1]
    if len(t) and t[0] < last:
        back += 1
    bad, first = -1, 0
    if outside:
        for i in range(len(t)):
            if x[i] >= width or y[i] >= height:
                bad = i
                break
    if back and not (len(t) and t[0] < last):
        for i in range(1, len(t)):
            if t[i] < t[i - 1]:
                first = i
                break
    return bad, back, first


def parts(path: Path, offset: int, word: Any, partial: bool) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield a file's words in parts that fit in cache, each with its place in the file, in bytes.

    Arguments:
        path: the file.
        offset: where the words begin, in bytes.
        word: their type.
        partial: accept bytes at the end that are no whole word.

    Raises:
        EventsError: there are such, and `partial` is false.
    """
    size, at = np.dtype(word).itemsize, offset
    held = np.empty(PART // size, word)
    with open(path, "rb") as file:
        file.seek(offset)
        while got := file.readinto(held.data.cast("B")):
            whole, rest = divmod(got, size)
            if rest and not partial:
                raise EventsError(
                    f"{path}: it ends within an event or a word: {rest} of {size} bytes at byte "
                    f"{at + got - rest}; partial=True takes what is whole"
                )
            yield at, held[:whole]
            at += got


@dataclass(kw_only=True)
class WordSource(Source):
    """The events of a file of words.

    Attributes:
        path: the file.
        offset: where the words begin, in bytes.
        decoder: what decodes them.
        partial: accept bytes at the end that are no whole word.
    """

    path: Path
    offset: int
    decoder: Decoder
    partial: bool = False

    def chunks(self) -> Iterator[Events]:
        """Yield the events some thousands at a time; what memory it takes does not grow with the file."""
        check = Check(self.path, self.width, self.height)
        state, most = self.decoder.state(), self.decoder.most
        buffer = Buffer.of(CHUNK, CHUNK)
        for start, words in self.parts():
            state[WORDS] = 0
            while state[WORDS] < len(words):
                self._decode(words, start, state, buffer, check)
                if not buffer.has_room(state, most):
                    yield self._events(buffer, state)
                    buffer = Buffer.of(CHUNK, CHUNK)
                    state[EVENTS] = state[TRIGGERS] = 0
        self._end(state)
        if state[EVENTS] or state[TRIGGERS]:
            yield self._events(buffer, state)
        check.report()

    def read(self) -> Events:
        """Return all events, decoded into place."""
        check = Check(self.path, self.width, self.height)
        state, most = self.decoder.state(), self.decoder.most
        words_in_all = self.length() // self.decoder.size
        # memory that is not written to is not taken from the machine
        buffer = Buffer.of(words_in_all + most, min(words_in_all, CHUNK) + 1)
        for start, words in self.parts():
            state[WORDS] = 0
            while state[WORDS] < len(words):
                if not buffer.has_room(state, most):
                    buffer = buffer.larger(state, most)
                self._decode(words, start, state, buffer, check)
        self._end(state)
        check.report()
        return self._events(buffer, state)

    def length(self) -> int:
        """Return how many bytes of words there are, about."""
        return max(0, self.path.stat().st_size - self.offset)

    def parts(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield the words in parts that fit in cache, each with its place in the file, in bytes."""
        return parts(self.path, self.offset, self.decoder.word, self.partial)

    def _decode(self, words: NDArray[Any], start: int, state: State, to: Buffer, check: Check) -> None:
        """Decode a chunk, or less where words or room are used up; check what came."""
        done = int(state[EVENTS])
        stop = done + CHUNK
        t, x, y, p = to.t[:stop], to.x[:stop], to.y[:stop], to.p[:stop]
        self.decoder.decode(words, state, t, x, y, p, to.trigger_t, to.trigger_id, to.trigger_value)
        new = slice(done, int(state[EVENTS]))
        check.take(t[new], x[new], y[new])
        if state[PROBLEM]:
            i, size = int(state[WORDS]), self.decoder.size
            text = self.decoder.problems[state[PROBLEM] - 1].format(word=words[i : i + 1].tobytes().hex())
            raise EventsError(f"{self.path}: at byte {start + i * size}: {text}")

    def _end(self, state: State) -> None:
        """Refuse a file that ends within an event of several words."""
        words = int(state[self.decoder.unfinished]) if self.decoder.unfinished else 0
        if words and not self.partial:
            raise EventsError(
                f"{self.path}: it ends within an event, {words * self.decoder.size} bytes after where that "
                "begins; partial=True takes what is whole"
            )

    def _events(self, buffer: Buffer, state: State) -> Events:
        n, m = int(state[EVENTS]), int(state[TRIGGERS])
        edges = Triggers(buffer.trigger_t[:m], buffer.trigger_id[:m], buffer.trigger_value[:m])
        columns = buffer.t[:n], buffer.x[:n], buffer.y[:n], buffer.p[:n]
        return Events(*columns, self.width, self.height, edges)
