"""N-MNIST: MNIST on a screen, seen by a moving camera."""

from __future__ import annotations

from ... import events
from ...events import Events
from ..error import DataError
from ..files import Files
from ..info import File, Info
from ..registry import data_set
from ..samples import Stored

WIDTH, HEIGHT = 34, 34
_CITATION = (
    "Orchard, Jayawant, Cohen & Thakor, Converting static image datasets to spiking neuromorphic datasets "
    "using saccades, Frontiers in Neuroscience 9, 2015"
)
_HOME = "https://www.garrickorchard.com/datasets/n-mnist"
_MENDELEY = "https://data.mendeley.com/public-files/datasets/468j46mzdv/files/"
_ZIPS = {"train": "n_mnist/Train.zip", "test": "n_mnist/Test.zip"}
_SUBSET = "nmnist_small/nmnist_small_bs2.zip"
_LABELS = {"train": "nmnist_small/train1K.txt", "test": "nmnist_small/test100.txt"}


@data_set(
    Info(
        name="n-mnist",
        title="60,000 + 10,000 recordings of MNIST's digits by a camera in three saccades, 34x34",
        kind="events",
        splits={"train": 60000, "test": 10000},
        classes=tuple("0123456789"),
        licence="CC BY-SA 4.0",
        citation=_CITATION,
        homepage=_HOME,
        files=(
            File(
                name=_ZIPS["train"],
                addresses=(f"{_MENDELEY}39c25547-014b-4137-a934-9d29fa53c7a0/file_downloaded",),
                md5="20959b8e626244a1b502305a9e6e2031",
                splits=("train",),
                unpacked="Train",
            ),
            File(
                name=_ZIPS["test"],
                addresses=(f"{_MENDELEY}05a4d654-7e03-4c15-bdfa-9bb2bcbea494/file_downloaded",),
                md5="69ca8762b2fe404d9b9bad1103e97832",
                splits=("test",),
                unpacked="Test",
            ),
        ),
    )
)
class NMnist(Stored):
    """Sample: `Events` of 34x34, about 310 ms. Label: the digit."""

    def __init__(self, info: Info, split: str, files: Files) -> None:
        super().__init__(info, split)
        self._tree = files.tree(_ZIPS[split])
        self._names = self._tree.below(f"{split.capitalize()}/", ".bin")

    def __len__(self) -> int:
        return len(self._names)

    def item(self, index: int) -> tuple[Events, int]:
        """Return a recording and its digit, which is the folder that it is in."""
        name = self._names[index]
        with self._tree.path(name) as path:
            return events.read(path, format="nmnist", width=WIDTH, height=HEIGHT), int(name.split("/")[-2])


@data_set(
    Info(
        name="n-mnist-1100",
        title="the first 1,000 training and 100 test recordings of N-MNIST",
        kind="events",
        splits={"train": 1000, "test": 100},
        classes=tuple("0123456789"),
        licence="CC BY-SA 4.0",
        citation=_CITATION,
        homepage="https://github.com/bamsumit/slayerPytorch",
        obtain="it is made from NMNISTsmall.zip of github.com/bamsumit/slayerPytorch",
        files=(
            File(
                name=_SUBSET,
                size=18253033,
                sha256="3c4c015043a1ec25f4222198dca4008dc1f0133508f6ccae0fe00991c4ea59d2",
            ),
            File(
                name=_LABELS["train"],
                size=6909,
                sha256="0c9a71729b400e9e24c1d7d4852f86dbf9bf931877bb9257a18af3780f6dc02d",
                splits=("train",),
            ),
            File(
                name=_LABELS["test"],
                size=916,
                sha256="21d53e374a5ef29d5634083b3131f420539ad86cef7bf032fdc3b281dcb41357",
                splits=("test",),
            ),
        ),
    )
)
class NMnist1100(Stored):
    """Sample: `Events` of 34x34, about 310 ms. Label: the digit."""

    def __init__(self, info: Info, split: str, files: Files) -> None:
        super().__init__(info, split)
        self._tree = files.tree(_SUBSET)
        path = files.path(_LABELS[split])
        rows = [line.split() for line in path.read_text().splitlines() if not line.startswith("#")]
        if not all(len(row) == 2 and row[0].isdigit() and row[1] in self.classes for row in rows):
            raise DataError(f"{path}: its lines are not a number and a digit each; get it again")
        self._rows = [(f"{number}.bs2", int(digit)) for number, digit in rows]

    def __len__(self) -> int:
        return len(self._rows)

    def item(self, index: int) -> tuple[Events, int]:
        """Return a recording and its digit."""
        name, digit = self._rows[index]
        with self._tree.path(name) as path:
            return events.read(path, format="nmnist", width=WIDTH, height=HEIGHT), digit
