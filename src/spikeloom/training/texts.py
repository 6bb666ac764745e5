"""Texts as a recipe's samples: stretches of tokens, bytes or words, each labelled with the one after it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import Dataset, Images, info, load
from ..names import unknown

BYTES = 256
_FIRST_WORD = 2  # 0 pads in other sequences of tokens, 1 stands for all rarer words


@dataclass(frozen=True)
class TextOptions:
    """How a text becomes sequences of tokens, `[N, length, 1]`, and labels `[N, length]`: those that follow.

    Attributes:
        length: tokens of a sequence; those left over at the end of a text are left out.
        words: 0 for bytes, which are 256 tokens; or how many tokens there are of words: the most frequent of
            the text that is learned from, number 2 and on, and number 1 for all others. A word is what white
            space ends; the end of a line is a word, "<eos>".
        train: the split that is learned from.
        test: the split that is measured on; "" for the one of that name, or else "val".
    """

    length: int = 128
    words: int = 0
    train: str = "train"
    test: str = ""

    def __post_init__(self) -> None:
        if self.length < 1 or self.words < 0 or 0 < self.words <= _FIRST_WORD:
            raise ValueError(
                f"data_options: length = {self.length}, words = {self.words}; sequences of at least 1 token, "
                f"and 0 (bytes) or more than {_FIRST_WORD} words are needed"
            )


def load_text(name: str, options: TextOptions) -> Dataset:
    """Return a text's sequences.

    Raises:
        DataError: it is damaged or out of reach.
        UnknownName: no such split.
        ValueError: a split shorter than a sequence; the same split twice.
    """
    splits = info(name).splits
    test = options.test or ("test" if "test" in splits else "val")
    for split in (options.train, test):
        if split not in splits:
            raise unknown(f"split of {name}", split, splits)
    if options.train == test:
        raise ValueError(f"data_options: {name} cannot be learned from {test!r} and measured on it, too")
    texts = [load(name, split).text for split in (options.train, test)]  # type: ignore[attr-defined]
    if options.words:
        words = [text.replace("\n", " <eos> ").split() for text in texts]
        known = [word for word, _ in Counter(words[0]).most_common(options.words - _FIRST_WORD)]
        rank = {word: number for number, word in enumerate(known, _FIRST_WORD)}
        tokens = [torch.tensor([rank.get(word, 1) for word in part], dtype=torch.int32) for part in words]
        classes = ("", "(rare)", *known)
    else:
        tokens = [torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8) for text in texts]
        classes = tuple(f"{byte:02x}" for byte in range(BYTES))
    train, tested = (_stretches(name, part, options.length) for part in tokens)
    return Dataset(name, train, tested, classes, white=1.0, in_time=True)


def _stretches(name: str, tokens: Tensor, length: int) -> Images:
    count = (len(tokens) - 1) // length
    if not count:
        raise ValueError(f"data_options: length = {length}, but a split of {name} has {len(tokens)} tokens")
    now, after = (
        part.reshape(count, length) for part in (tokens[: count * length], tokens[1:][: count * length])
    )
    return Images(now.unsqueeze(-1), after.long())
