"""MNIST and what has come in its four files since: gzipped IDX."""

from __future__ import annotations

import gzip
import math

import torch
from torch import Tensor

from ..base import Images
from ..error import DataError
from ..files import Files
from ..in_memory import InMemory
from ..info import File, Info
from ..registry import data_set

_PARTS = {"train": "train", "test": "t10k"}
_WHAT = ("images-idx3", "labels-idx1")


def read_idx(content: bytes, name: str) -> Tensor:
    """Return the uint8 tensor in an IDX file.

    The layout: two zero bytes, the type (8: uint8), the number of axes, each axis's length as a big-endian
    uint32, then the values.

    Raises:
        DataError: anything else.
    """
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise DataError(f"{name}: no IDX file of bytes; it starts with {content[:4].hex(' ')}, not 00 00 08")
    start = 4 + 4 * content[3]
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4)]
    if len(content) != start + math.prod(shape):
        raise DataError(
            f"{name}: its header promises {shape}, {math.prod(shape)} values, but {len(content) - start} "
            "bytes follow; the file is cut or damaged: fetch it again"
        )
    return torch.frombuffer(bytearray(content[start:]), dtype=torch.uint8).reshape(shape)


def _files(folder: str, addresses: tuple[str, ...], sums: tuple[str, ...]) -> tuple[File, ...]:
    names = [(split, f"{part}-{what}-ubyte.gz") for split, part in _PARTS.items() for what in _WHAT]
    return tuple(
        File(
            name=f"{folder}/{name}",
            addresses=tuple(address + name for address in addresses),
            sha256=sha256,
            gzipped=True,
            splits=(split,),
        )
        for (split, name), sha256 in zip(names, sums, strict=True)
    )


@data_set(
    Info(
        name="mnist",
        title="60,000 + 10,000 handwritten digits, 28x28",
        kind="images",
        splits={"train": 60000, "test": 10000},
        classes=tuple("0123456789"),
        licence="CC BY-SA 3.0",
        citation="LeCun et al., Gradient-based learning applied to document recognition, Proc. IEEE 86, 1998",
        homepage="http://yann.lecun.com/exdb/mnist",
        files=_files(
            "mnist",
            (
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
                "https://storage.googleapis.com/cvdf-datasets/mnist/",
            ),
            (
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        ),
    ),
    Info(
        name="fashion-mnist",
        title="60,000 + 10,000 articles of clothing, 28x28",
        kind="images",
        splits={"train": 60000, "test": 10000},
        classes=(
            "T-shirt",
            "trouser",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankle boot",
        ),
        licence="MIT",
        citation="Xiao, Rasul & Vollgraf, Fashion-MNIST, arXiv:1708.07747, 2017",
        homepage="https://github.com/zalandoresearch/fashion-mnist",
        files=_files(
            "fashion_mnist",
            (
                "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            ),
            (
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
        ),
    ),
)
class Mnist(InMemory):
    """Sample: uint8 `[1, 28, 28]`. Label: the class, 0 to 9."""

    def __init__(self, info: Info, split: str, files: Files) -> None:
        super().__init__(info, split)
        pixels, labels = (
            read_idx(gzip.decompress(files.path(file.name).read_bytes()), file.name)
            for file in info.needed(split)
        )
        if pixels.dim() != 3 or labels.dim() != 1 or len(pixels) != len(labels):
            raise DataError(
                f"{info.name}: images of shape {list(pixels.shape)} and labels of shape {list(labels.shape)} "
                "do not belong together; remove the files, and they will be fetched again"
            )
        self.images = Images(pixels.unsqueeze(1), labels.long())
