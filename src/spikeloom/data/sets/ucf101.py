"""UCF101: films of what people do."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from ..error import DataError
from ..files import Files
from ..info import File, Info
from ..registry import data_set
from ..samples import Stored

_FILMS, _LISTS = "ucf101/UCF101.rar", "ucf101/UCF101TrainTestSplits-RecognitionTask.zip"
_HOME = "https://www.crcv.ucf.edu/data/UCF101"


@data_set(
    Info(
        name="ucf101",
        title="13,320 films of 101 actions, 320x240, in three ways to split them",
        kind="video",
        splits={"train": None, "test": None},
        licence="for research; see its page",
        citation="Soomro, Zamir & Shah, UCF101: a dataset of 101 human actions classes, CRCV-TR-12-01, 2012",
        homepage=f"{_HOME}.php",
        obtain=f"it is published at {_HOME}/UCF101.rar (7 GB): unpack it with unrar",
        files=(
            File(name=_FILMS, unpacked="UCF-101"),
            File(
                name=_LISTS,
                addresses=(
                    f"{_HOME}/UCF101TrainTestSplits-RecognitionTask.zip",
                    "https://www.crcv.ucf.edu/wp-content/uploads/2019/03/UCF101TrainTestSplits-RecognitionTask.zip",
                ),
                unpacked="ucfTrainTestlist",
            ),
        ),
    )
)
class Ucf101(Stored):
    """Sample: uint8 `[T, 3, H, W]`, red, green, blue. Label: the class, 0 to 100, in the order of `.classes`.

    `fold=1`, 2 or 3 says which of the three splits. Needs `spikeloom[images]`.
    """

    def __init__(self, info: Info, split: str, files: Files, *, fold: int = 1) -> None:
        super().__init__(info, split)
        if fold not in (1, 2, 3):
            raise DataError(f"ucf101: fold = {fold!r}; there are 1, 2 and 3")
        lists = files.tree(_LISTS)
        names = [
            line.split()[1]
            for line in lists.read("ucfTrainTestlist/classInd.txt").decode().splitlines()
            if line
        ]
        self.classes = tuple(names)
        labels = {name: label for label, name in enumerate(names)}
        self._root = files.folder(_FILMS) / "UCF-101"
        listed = f"ucfTrainTestlist/{split}list{fold:02d}.txt"
        lines = [line.split()[0] for line in lists.read(listed).decode().splitlines() if line.strip()]
        try:
            self._rows = [(line, labels[PurePosixPath(line).parent.name]) for line in lines]
        except KeyError as error:
            raise DataError(f"{listed}: {error} is no class of classInd.txt; get the lists again") from error

    def __len__(self) -> int:
        return len(self._rows)

    def item(self, index: int) -> tuple[Tensor, int]:
        """Return a film, and what it shows."""
        name, label = self._rows[index]
        return read_film(self._root / name), label


def read_film(path: Path) -> Tensor:
    """Return a film as uint8 `[T, 3, H, W]`.

    Raises:
        DataError: it is absent or cannot be decoded.
    """
    try:
        import cv2
    except ImportError as error:
        raise DataError("films need opencv-python-headless: pip install 'spikeloom[images]'") from error
    if not path.is_file():
        raise DataError(f"{path} is missing; the data set is not whole: get it again")
    film = cv2.VideoCapture(str(path))
    frames = []
    try:
        while (read := film.read())[0]:
            frames.append(read[1][:, :, ::-1].transpose(2, 0, 1))
    finally:
        film.release()
    if not frames:
        raise DataError(f"{path}: no frame of it can be decoded; get it again")
    return torch.from_numpy(np.ascontiguousarray(np.stack(frames)))
