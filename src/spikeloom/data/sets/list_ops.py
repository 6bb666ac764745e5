"""ListOps: nested lists of digits and operators, and the digit that they come to; made here, not read."""

from __future__ import annotations

import functools
from typing import ClassVar

import numpy as np
import torch

from ..base import Images
from ..error import DataError
from ..files import Files
from ..in_memory import InMemory
from ..info import Info
from ..registry import data_set

SYMBOLS = ("", *"0123456789", "[MAX", "[MIN", "[MED", "[SM", "]")
"""What a token's number stands for; number 0 pads."""

_DIGIT, _OPERATOR, _CLOSE = 1, 11, 15
_NESTED = 0.4  # the share of arguments that are lists themselves, as far as the depth allows
_TRIES = 1000  # a sample, before its sizes are said to be out of reach


@data_set(
    Info(
        name="list-ops",
        title="nested lists of digits under MAX, MIN, MED and SM, and the digit that they come to",
        kind="tokens",
        splits={"train": None, "test": None},
        classes=tuple("0123456789"),
        licence="none: numbers drawn by this program",
        citation="Nangia & Bowman, ListOps, NAACL 2018; long ones: Tay et al., Long Range Arena, 2021",
        homepage="https://arxiv.org/abs/1804.06028",
        bundled="made when asked for",
    )
)
class ListOps(InMemory):
    """Sample: uint8 `[length, 1]`, tokens, 0 at the end of shorter ones. Label: the digit it comes to.

    A list is `[OP a b ... ]`: its arguments are digits or lists; MAX, MIN, MED (the median, rounded down) and
    SM (the sum modulo 10). Options: `length=128`, the most tokens; `shortest=16`, the fewest; `depth=4`, of
    lists in lists; `arguments=5`, the most of a list, of at least 2; `samples=10000`, to train, and a tenth
    of it to test; `seed=0`. All sequences differ. (Long Range Arena's are drawn alike, with 500 to 2,000
    tokens, depth 10 and 10 arguments; its files are not needed, nor are these its samples.)
    """

    white: ClassVar[float] = 1.0

    def __init__(
        self,
        info: Info,
        split: str,
        files: Files,
        *,
        length: int = 128,
        shortest: int = 16,
        depth: int = 4,
        arguments: int = 5,
        samples: int = 10_000,
        seed: int = 0,
    ) -> None:
        super().__init__(info, split)
        if not (4 <= shortest <= length and depth >= 1 and arguments >= 2 and samples >= 10):
            raise DataError(
                f"list-ops: shortest = {shortest}, length = {length}, depth = {depth}, "
                f"arguments = {arguments}, samples = {samples}; 4 <= shortest <= length, "
                "depth >= 1, arguments >= 2 and samples >= 10 are needed"
            )
        self.images = _made(length, shortest, depth, arguments, samples, seed)[split == "test"]


@functools.lru_cache(maxsize=2)
def _made(
    length: int, shortest: int, depth: int, arguments: int, samples: int, seed: int
) -> tuple[Images, Images]:
    """Return the training and the test samples."""
    rng = np.random.default_rng(seed)
    count = samples + samples // 10
    tokens, labels = np.zeros((count, length, 1), np.uint8), np.zeros(count, np.int64)
    seen: set[bytes] = set()
    tries = 0
    while len(seen) < count:
        tries += 1
        if tries > _TRIES * count or (tries > _TRIES and not seen):
            raise DataError(
                f"list-ops: after {tries} lists of depth {depth} with up to {arguments} arguments there "
                f"are {len(seen)} different ones of {shortest} to {length} tokens, and {count} are "
                "wanted; ask for fewer samples, other lengths, or another depth"
            )
        found: list[int] = []
        value = _grow(rng, depth, arguments, length, found)
        key = bytes(found)
        if shortest <= len(found) <= length and key not in seen:
            tokens[len(seen), : len(found), 0], labels[len(seen)] = found, value
            seen.add(key)
    pixels, classes = torch.from_numpy(tokens), torch.from_numpy(labels)
    return Images(pixels[:samples], classes[:samples]), Images(pixels[samples:], classes[samples:])


def _grow(rng: np.random.Generator, depth: int, arguments: int, most: int, found: list[int]) -> int:
    """Append a random list's tokens; return what it comes to. It is cut short beyond `most` tokens."""
    operator = int(rng.integers(4))
    found.append(_OPERATOR + operator)
    values = []
    for nested in rng.random(int(rng.integers(2, arguments + 1))) < _NESTED:
        if len(found) > most:
            break
        if nested and depth > 1:
            values.append(_grow(rng, depth - 1, arguments, most, found))
        else:
            values.append(int(rng.integers(10)))
            found.append(_DIGIT + values[-1])
    found.append(_CLOSE)
    return apply(operator, values) if values else 0


def apply(operator: int, values: list[int]) -> int:
    """Return what the operator of that number, MAX, MIN, MED or SM, makes of digits."""
    if operator == 0:
        return max(values)
    if operator == 1:
        return min(values)
    if operator == 2:
        ordered, half = sorted(values), len(values) // 2
        return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) // 2
    return sum(values) % 10
