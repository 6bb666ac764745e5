"""CIFAR10-DVS: photographs moved before a camera."""

from __future__ import annotations

from pathlib import PurePosixPath

from ... import events
from ...events import Events
from ..archive import Tree
from ..files import Files
from ..info import File, Info
from ..registry import data_set
from ..samples import Stored
from .cifar10 import CLASSES

_TRAIN = range(900)  # the recordings of each class that are the training set
_FIGSHARE = {
    "airplane": ("7712788", "0afd5c4bf9ae06af762a77b180354fdd"),
    "automobile": ("7712791", "8438dfeba3bc970c94962d995b1b9bdd"),
    "bird": ("7712794", "a9c207c91c55b9dc2002dc21c684d785"),
    "cat": ("7712812", "52c63c677c2b15fa5146a8daf4d56687"),
    "deer": ("7712815", "b6bf21f6c04d21ba4e23fc3e36c8a4a3"),
    "dog": ("7712818", "f379ebdf6703d16e0a690782e62639c3"),
    "frog": ("7712842", "cad6ed91214b1c7388a5f6ee56d08803"),
    "horse": ("7712851", "e7cbbf77bec584ffbf913f00e682782a"),
    "ship": ("7712836", "41c7bd7d6b251be82557c6cce9a7d5c9"),
    "truck": ("7712839", "89f3922fd147d9aeff89e76a2b0b70a7"),
}


@data_set(
    Info(
        name="cifar10-dvs",
        title="10,000 recordings of CIFAR-10's photographs, moved before a camera, 128x128",
        kind="events",
        splits={"train": 9000, "test": 1000, "all": 10000},
        classes=CLASSES,
        licence="CC BY 4.0",
        citation="Li et al., CIFAR10-DVS: an event-stream dataset for object classification, 2017",
        homepage="https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671",
        files=tuple(
            File(
                name=f"cifar10_dvs/{name}.zip",
                addresses=(
                    f"https://ndownloader.figshare.com/files/{number}",
                    f"https://figshare.com/ndownloader/files/{number}",
                ),
                md5=md5,
                unpacked=name,
            )
            for name, (number, md5) in _FIGSHARE.items()
        ),
    )
)
class Cifar10Dvs(Stored):
    """Sample: `Events` of 128x128, about 1.3 s. Label: the class, 0 to 9.

    x, y and p are the camera's own, as jAER shows them; SpikingJelly exchanges x and y in this data set.
    Its authors publish no split: "train" has the recordings 0 to 899 of each class, "test" 900 to 999.
    """

    def __init__(self, info: Info, split: str, files: Files) -> None:
        super().__init__(info, split)
        self._rows: list[tuple[Tree, str, int]] = []
        for label, name in enumerate(CLASSES):
            tree = files.tree(f"cifar10_dvs/{name}.zip")
            numbers = {_number(path): path for path in tree.below(f"{name}/", ".aedat")}
            self._rows += [
                (tree, path, label)
                for number, path in sorted(numbers.items())
                if split == "all" or (number in _TRAIN) == (split == "train")
            ]

    def __len__(self) -> int:
        return len(self._rows)

    def item(self, index: int) -> tuple[Events, int]:
        """Return a recording and its class, which is the folder that it is in."""
        tree, name, label = self._rows[index]
        with tree.path(name) as path:
            return events.read(path, format="aedat2-dvs128"), label


def _number(name: str) -> int:
    return int(PurePosixPath(name).stem.rpartition("_")[2])
