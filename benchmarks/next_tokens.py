"""Language models on real text: SpikingSSM on the bytes of tinyshakespeare, or on the words of WikiText-2.

    python benchmarks/next_tokens.py [--data tinyshakespeare|wikitext-2] [--words] [--vocabulary 10000]
            [--length 256] [--epochs 10] [--features 256] [--depth 4] [--part 1.0] [--seed 0]

Prints the loss on held-out text after each epoch, and at the end bits per character, or the perplexity of
words. With --words, the most frequent words are tokens; all others are one, and its share is told. Of
WikiText-2, "valid" is learned from and "test" is held out, unless --train names the training part, which has
no published checksum: perplexities are comparable among our own runs alone. The loop is `sl.train` with a
loss of its own, as targets are of each step, [B, T]; a recipe would need the same loss by name, texts in
load_samples, and the loss in place of an accuracy.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

import spikeloom as sl

SPLITS = {"tinyshakespeare": ("train", "val"), "wikitext-2": ("valid", "test")}
"""What is learned from, and what is held out."""


class Stretches(Sequence[tuple[Tensor, Tensor]]):
    """Stretches of a text: tokens `[T, 1]` as numbers, and the tokens after each, `[T]`."""

    in_time = True

    def __init__(self, tokens: Tensor, length: int) -> None:
        self.tokens, self.length = tokens, length

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        some = self.tokens[index * self.length : (index + 1) * self.length + 1]
        return some[:-1].float().unsqueeze(-1), some[1:]


def numbered(texts: list[str], vocabulary: int) -> tuple[list[Tensor], float]:
    """Return words by their rank in the first text, from 2 on, 1 for the rest; and the rest's share."""
    counts = Counter(texts[0].split())
    rank = {word: 2 + i for i, (word, _) in enumerate(counts.most_common(vocabulary - 2))}
    tokens = [torch.tensor([rank.get(word, 1) for word in text.split()]) for text in texts]
    return tokens, float((tokens[0] == 1).float().mean())


def next_token(outputs: Tensor, y: Tensor) -> Tensor:
    """Return the cross-entropy of scores `[T, B, K]` and the tokens that came, `[B, T]`."""
    return functional.cross_entropy(outputs.permute(1, 2, 0), y)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=list(SPLITS), default="tinyshakespeare")
    parser.add_argument("--train", default="", help="the split that is learned from")
    parser.add_argument("--words", action="store_true")
    parser.add_argument("--vocabulary", type=int, default=10_000)
    parser.add_argument("--part", type=float, default=1.0, help="of the text, from its beginning")
    for name, value in (("length", 256), ("epochs", 10), ("features", 256), ("depth", 4), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    learned, held_out = SPLITS[given.data]
    parts = (given.train or learned, held_out)
    texts = [
        sl.data.load(given.data, part, verify=(given.data, part) != ("wikitext-2", "train")).text
        for part in parts
    ]  # type: ignore[attr-defined]
    texts = [text[: int(len(text) * given.part)] for text in texts]
    if given.words:
        tokens, rest = numbered(texts, given.vocabulary)
        print(f"{given.vocabulary} tokens; {rest:.2%} of the words are none of them")
    else:
        tokens = [torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).long() for text in texts]
    size = given.vocabulary if given.words else 256
    torch.manual_seed(given.seed)
    net = sl.create_model(
        "spiking_ssm_characters",
        vocabulary=size,
        num_classes=size,
        features=given.features,
        depth=given.depth,
    )
    config = sl.training.Config(
        epochs=given.epochs, batch_size=32, lr=3e-3, schedule="one-cycle", T=given.length, seed=given.seed
    )
    data = tuple(Stretches(part, given.length) for part in tokens)
    result = sl.train(net, data, config, objective=next_token)  # type: ignore[arg-type]
    loss = result.test_loss
    print(
        f"perplexity {math.exp(loss):.2f}" if given.words else f"{loss / math.log(2):.3f} bits per character"
    )


if __name__ == "__main__":
    main()
