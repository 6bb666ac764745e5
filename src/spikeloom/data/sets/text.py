"""Texts, as bytes of which the next is to be told."""

from __future__ import annotations

import torch
from torch import Tensor

from ..error import DataError
from ..files import Files
from ..info import File, Info
from ..registry import data_set
from ..samples import Stored

_WIKI = "word_language_model/data/wikitext-2"


class _Text(Stored):
    """Stretches of a text.

    Attributes:
        text: the whole split.
    """

    text: str

    def _cut(self, text: str, length: int) -> None:
        if not isinstance(length, int) or length < 1:
            raise DataError(f"{self.name}: length = {length!r}; a whole number of bytes >= 1 is needed")
        self.text, self.length = text, length
        self._bytes = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)

    def __len__(self) -> int:
        return (len(self._bytes) - 1) // self.length

    def item(self, index: int) -> tuple[Tensor, Tensor]:
        """Return a stretch, and the byte that follows each of its bytes."""
        start = index * self.length
        return self._bytes[start : start + self.length], self._bytes[
            start + 1 : start + 1 + self.length
        ].long()


@data_set(
    Info(
        name="tinyshakespeare",
        title="40,000 lines of Shakespeare, 1.1 MB",
        kind="text",
        splits={"train": None, "val": None, "all": None},
        licence="MIT (char-rnn); the text is in the public domain",
        citation="Karpathy, char-rnn, 2015",
        homepage="https://github.com/karpathy/char-rnn",
        files=(
            File(
                name="text/tinyshakespeare.txt",
                addresses=(
                    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
                    "https://cdn.jsdelivr.net/gh/karpathy/char-rnn@master/data/tinyshakespeare/input.txt",
                ),
                size=1115394,
                sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            ),
        ),
    )
)
class TinyShakespeare(_Text):
    """Sample: uint8 `[length]`, bytes of the text. Label: int64 `[length]`, the byte after each.

    `length=256` is an option. "train" is the first 90 % of the characters, "val" the rest (nobody has
    published a split; this one is in common use). `.text` is the split as text.
    """

    def __init__(self, info: Info, split: str, files: Files, *, length: int = 256) -> None:
        super().__init__(info, split)
        text = files.path(info.files[0].name).read_text()
        cut = len(text) * 9 // 10
        self._cut({"train": text[:cut], "val": text[cut:], "all": text}[split], length)


def _wiki(split: str, size: int | None, sha256: str | None) -> File:
    return File(
        name=f"text/wikitext2_{split}.txt",
        addresses=(
            f"https://raw.githubusercontent.com/pytorch/examples/main/{_WIKI}/{split}.txt",
            f"https://cdn.jsdelivr.net/gh/pytorch/examples@main/{_WIKI}/{split}.txt",
        ),
        size=size,
        sha256=sha256,
        splits=(split,),
    )


@data_set(
    Info(
        name="wikitext-2",
        title="good articles of Wikipedia, 2 million words, rare ones replaced by <unk>",
        kind="text",
        splits={"train": None, "valid": None, "test": None},
        licence="CC BY-SA 3.0",
        citation="Merity, Xiong, Bradbury & Socher, Pointer sentinel mixture models, ICLR 2017",
        homepage="https://huggingface.co/datasets/Salesforce/wikitext",
        files=(
            _wiki("train", None, None),
            _wiki("valid", 1121681, "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8"),
            _wiki("test", 1256449, "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0"),
        ),
    )
)
class WikiText2(_Text):
    """Sample: uint8 `[length]`, bytes of the text. Label: int64 `[length]`, the byte after each.

    `length=256` is an option. `.text` is the split as text, `.text.split()` its words.
    """

    def __init__(self, info: Info, split: str, files: Files, *, length: int = 256) -> None:
        super().__init__(info, split)
        self._cut(files.path(info.needed(split)[0].name).read_text(encoding="utf-8"), length)
