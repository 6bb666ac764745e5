"""The Spiking Heidelberg Digits and Speech Commands: speech through a model of the inner ear."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...events import Events
from ..archive import PerProcess
from ..error import DataError
from ..files import Files
from ..info import File, Info
from ..registry import data_set
from ..samples import Stored

CHANNELS = 700
_MIRRORS = ("https://zenkelab.org/datasets/", "https://compneuro.net/datasets/")
_DIGITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"),
)


def _info(
    name: str, title: str, splits: dict[str, int], sums: dict[str, str], classes: tuple[str, ...]
) -> Info:
    return Info(
        name=name,
        title=title,
        kind="events",
        splits=splits,
        classes=classes,
        licence="CC BY 4.0",
        citation="Cramer, Stradmann, Schemmel & Zenke, The Heidelberg spiking data sets for the systematic "
        "evaluation of spiking neural networks, IEEE TNNLS 2020",
        homepage="https://zenkelab.org/resources/spiking-heidelberg-datasets-shd/",
        files=tuple(
            File(
                name=f"{name}/{name}_{split}.h5.zip",
                addresses=tuple(f"{mirror}{name}_{split}.h5.zip" for mirror in _MIRRORS),
                md5=md5,
                splits=(split,),
                unpacked=f"{name}_{split}.h5",
            )
            for split, md5 in sums.items()
        ),
    )


@data_set(
    _info(
        "shd",
        "8,156 + 2,264 spoken digits, English and German, as spikes of 700 channels",
        {"train": 8156, "test": 2264},
        {"train": "f3252aeb598ac776c1b526422d90eecb", "test": "1503a5064faa34311c398fb0a1ed0a6f"},
        _DIGITS,
    ),
    _info(
        "ssc",
        "75,466 + 9,981 + 20,382 spoken commands as spikes of 700 channels",
        {"train": 75466, "valid": 9981, "test": 20382},
        {
            "train": "d102be95e7144fcc0553d1f45ba94170",
            "valid": "b4eee3516a4a90dd0c71a6ac23a8ae43",
            "test": "a35ff1e9cffdd02a20eb850c17c37748",
        },
        (),
    ),
)
class Heidelberg(Stored):
    """Sample: `Events` of 700x1, about 1 s: x is the channel, t is rounded to us, p is 1. Label: the class.

    `.classes` are the words as the file has them. Needs `spikeloom[events]`.
    """

    def __init__(self, info: Info, split: str, files: Files) -> None:
        super().__init__(info, split)
        name = f"{info.name}/{info.name}_{split}.h5.zip"
        self._file = PerProcess(partial(_open, files.folder(name) / f"{info.name}_{split}.h5"))
        file = self._file.get()
        try:
            self._labels = file["labels"][()].astype(np.int64)
            counts = {len(self._labels), len(file["spikes/times"]), len(file["spikes/units"])}
            words = file["extra/keys"][()] if "extra/keys" in file else ()
        except (KeyError, ValueError) as error:
            raise DataError(
                f"{file.filename}: no spikes and labels of Heidelberg ({error}); get it again"
            ) from error
        if len(counts) > 1:
            raise DataError(f"{file.filename}: as many times as units as labels are needed; get it again")
        if len(words):
            self.classes = tuple(word.decode() if isinstance(word, bytes) else str(word) for word in words)

    def __len__(self) -> int:
        return len(self._labels)

    def item(self, index: int) -> tuple[Events, int]:
        """Return the spikes of a word, and which it is."""
        spikes = self._file.get()["spikes"]
        seconds, units = spikes["times"][index].astype(np.float64), spikes["units"][index]
        t = np.rint(seconds * 1e6).astype(np.int64)
        y = np.zeros(len(t), np.uint16)
        return Events.of(t, units, y, y + 1, width=CHANNELS, height=1), int(self._labels[index])


def _open(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise DataError(f"{path}: HDF5 needs h5py: pip install 'spikeloom[events]'") from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path}: it cannot be opened ({error}); get it again") from error
