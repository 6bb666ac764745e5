"""ImageNet-1k (ILSVRC 2012), as folders of JPEG files."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from torch import Tensor

from ..error import DataError
from ..files import Files
from ..info import File, Info
from ..registry import data_set
from ..samples import Stored

_SUFFIXES = (".jpeg", ".jpg", ".png")


@data_set(
    Info(
        name="imagenet",
        title="1,281,167 + 50,000 photographs of 1,000 things",
        kind="images",
        splits={"train": None, "test": None},
        licence="for research; see its page",
        citation="Russakovsky et al., ImageNet large scale visual recognition challenge, IJCV 2015",
        homepage="https://image-net.org",
        obtain=(
            "it is given to researchers at https://image-net.org: unpack it as imagenet/train/CLASS/*.JPEG "
            "and imagenet/val/CLASS/*.JPEG, a folder a class"
        ),
        files=(
            File(name="imagenet/train/", splits=("train",)),
            File(name="imagenet/val/", splits=("test",)),
        ),
    )
)
class ImageNet(Stored):
    """Sample: uint8 `[3, H, W]`, of any size. Label: the class, in the order of the folders' names.

    Any pictures in folders, one a class, do. Needs `spikeloom[images]`.
    """

    def __init__(self, info: Info, split: str, files: Files) -> None:
        super().__init__(info, split)
        root = files.path("imagenet/train/" if split == "train" else "imagenet/val/")
        self.classes = tuple(sorted(path.name for path in root.iterdir() if path.is_dir()))
        self._paths = [
            path
            for name in self.classes
            for path in sorted((root / name).iterdir())
            if path.suffix.lower() in _SUFFIXES
        ]
        if not self._paths:
            raise DataError(f"{root}: no folder in it holds pictures; {info.obtain}")
        counts = Counter(path.parent.name for path in self._paths)
        self.labels = torch.from_numpy(
            np.repeat(np.arange(len(self.classes)), [counts[name] for name in self.classes])
        )

    def __len__(self) -> int:
        return len(self._paths)

    def item(self, index: int) -> tuple[Tensor, int]:
        """Return a picture, and its class."""
        try:
            from PIL import Image
        except ImportError as error:
            raise DataError("imagenet needs Pillow: pip install 'spikeloom[images]'") from error
        path = self._paths[index]
        try:
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"{path} cannot be decoded ({error}); replace it, or remove it") from error
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy()), int(self.labels[index])
