"""ES-ImageNet: ImageNet as events of an omnidirectional discrete gradient."""

from __future__ import annotations

import zipfile
from pathlib import PurePosixPath

import numpy as np
import torch
from torch import Tensor

from ..error import DataError
from ..files import Files
from ..info import File, Info
from ..registry import data_set
from ..samples import Stored

_STEPS, _SIDE, _FULL = 8, 256, 254
_MARGIN = slice(16, 240)  # what is kept of each axis
_FOLDERS = {"train": "train", "test": "val"}


@data_set(
    Info(
        name="es-imagenet",
        title="1.3 million pictures of ImageNet as events in 8 steps, 224x224, 1,000 classes",
        kind="events",
        splits={"train": None, "test": None},
        classes=(),
        licence="of ImageNet: for research",
        citation="Lin, Ding, Qiang, Deng & Li, ES-ImageNet, Frontiers in Neuroscience 15, 2021",
        homepage="https://github.com/lyh983012/ES-imagenet-master",
        obtain="https://github.com/lyh983012/ES-imagenet-master has the links to its archives (100 GB): "
        "unpack them, so that there are train, val, trainlabel.txt and vallabel.txt",
        files=(File(name="es_imagenet/"),),
    )
)
class EsImageNet(Stored):
    """Sample: uint8 `[8, 2, 224, 224]`: step, OFF and ON (0 and 1), row, column. Label: the class, 0 to 999.

    A picture is centred in 256x256, of which the middle is kept, as its authors do it.
    """

    def __init__(self, info: Info, split: str, files: Files) -> None:
        super().__init__(info, split)
        root, part = files.path("es_imagenet/"), _FOLDERS[split]
        inner = root / "ES-imagenet-0.18"
        self._root = inner if inner.is_dir() else root
        listed = self._root / f"{part}label.txt"
        if not listed.is_file():
            raise DataError(f"{listed} is missing; the data set is not whole: get it again")
        self._rows: list[tuple[str, int, int, int]] = []
        for line in listed.read_text().splitlines():
            words = line.split()
            if len(words) != 4 or not all(word.isdigit() for word in words[1:]):
                raise DataError(f"{listed}: it has {line!r}, not a file, a class, a height and a width")
            name = PurePosixPath(part) / PurePosixPath(words[0]).with_suffix(".npz")
            label, height, width = (int(word) for word in words[1:])
            self._rows.append((name.as_posix(), label, height, width))

    def __len__(self) -> int:
        return len(self._rows)

    def item(self, index: int) -> tuple[Tensor, int]:
        """Return a picture's events by step, and its class."""
        name, label, height, width = self._rows[index]
        frames = np.zeros((_STEPS, 2, _SIDE, _SIDE), np.uint8)
        try:
            with np.load(self._root / name, allow_pickle=False) as found:
                for channel, key in enumerate(("neg", "pos")):
                    row, column, step = found[key].astype(np.int64).reshape(-1, 3).T
                    if step.size and (step.min() < 1 or step.max() > _STEPS):
                        raise DataError(f"{name}: steps {step.min()} to {step.max()}, not 1 to {_STEPS}")
                    row, column = row + (_FULL - height) // 2, column + (_FULL - width) // 2
                    frames[step - 1, channel, row, column] = 1
        except (OSError, KeyError, ValueError, IndexError, zipfile.BadZipFile) as error:
            raise DataError(f"{name}: no picture of ES-ImageNet ({error}); get it again") from error
        return torch.from_numpy(frames[:, :, _MARGIN, _MARGIN].copy()), label
