"""The Free Spoken Digit Dataset."""

from __future__ import annotations

import io
import wave
from pathlib import PurePosixPath

import numpy as np
import torch

from ..error import DataError
from ..files import Files
from ..info import File, Info
from ..kinds import Audio
from ..registry import data_set
from ..samples import Stored

_TEST = range(5)  # the recordings of each speaker and digit that are the test set
_SUBSET, _ARCHIVE = "fsdd/fsdd_wav.zip", "fsdd/free-spoken-digit-dataset-1.0.10.tar.gz"


@data_set(
    Info(
        name="fsdd",
        title="spoken digits: 3,000 recordings of six people, 8 kHz",
        kind="audio",
        splits={"train": 2700, "test": 300},
        classes=tuple("0123456789"),
        licence="CC BY-SA 4.0",
        citation="Jackson et al., Free Spoken Digit Dataset, doi:10.5281/zenodo.1342401, 2018",
        homepage="https://github.com/Jakobovski/free-spoken-digit-dataset",
        files=(
            File(
                name=_ARCHIVE,
                addresses=(
                    "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz",
                    "https://codeload.github.com/Jakobovski/free-spoken-digit-dataset/tar.gz/refs/tags/v1.0.10",
                ),
                unpacked="free-spoken-digit-dataset-1.0.10",
            ),
            File(
                name=_SUBSET,
                size=16161380,
                sha256="4c01f6a1ba9852e4ca0d365970f3008760fec1c3a1c1ebbd5323871f5c31dfc8",
                optional=True,
                unpacked="recordings",
            ),
        ),
    )
)
class SpokenDigits(Stored):
    """Sample: `Audio`, 0.1 to 2.3 s at 8 kHz. Label: the digit.

    The recordings 0 to 4 of each speaker and digit are the test set, as its authors have it.
    """

    def __init__(self, info: Info, split: str, files: Files) -> None:
        super().__init__(info, split)
        packed = files.has(_SUBSET) and not files.has(_ARCHIVE)
        self._tree = files.tree(_SUBSET if packed else _ARCHIVE)
        self._rows = []
        for name in self._tree.below("", ".wav"):
            digit, _, number = PurePosixPath(name).stem.split("_")
            if (int(number) in _TEST) == (split == "test"):
                self._rows.append((name, int(digit)))

    def __len__(self) -> int:
        return len(self._rows)

    def item(self, index: int) -> tuple[Audio, int]:
        """Return a recording and its digit."""
        name, digit = self._rows[index]
        with wave.open(io.BytesIO(self._tree.read(name))) as file:
            if (file.getnchannels(), file.getsampwidth()) != (1, 2):
                raise DataError(f"{name}: not one channel of 16 bits; get it again")
            raw, rate = file.readframes(file.getnframes()), file.getframerate()
        return Audio(torch.from_numpy(np.frombuffer(raw, "<i2").astype(np.float32) / 32768), rate), digit
