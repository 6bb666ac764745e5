"""N-CARS: is it a car?"""

from __future__ import annotations

from ... import events
from ...events import Events
from ..files import Files
from ..info import File, Info
from ..registry import data_set
from ..samples import Stored

_SUMS = {"train": "976d126a651b95d81800b05a3093337b", "test": "3b5e8e9a5bffeb95614b8c0a2ba4e511"}
_FOLDERS = {"background": 0, "cars": 1}


@data_set(
    Info(
        name="n-cars",
        title="15,422 + 8,607 clips of 100 ms from a driving car: a car, or background, up to 120x100",
        kind="events",
        splits={"train": 15422, "test": 8607},
        classes=("background", "car"),
        licence="for research; see its page",
        citation="Sironi et al., HATS: histograms of averaged time surfaces, CVPR 2018",
        homepage="https://www.prophesee.ai/2018/03/13/dataset-n-cars/",
        obtain="Prophesee gives it on https://www.prophesee.ai/2018/03/13/dataset-n-cars/ as one zip of two",
        files=tuple(
            File(name=f"n_cars/n-cars_{split}.zip", md5=md5, splits=(split,), unpacked=f"n-cars_{split}")
            for split, md5 in _SUMS.items()
        ),
    )
)
class NCars(Stored):
    """Sample: `Events` of 120x100, 100 ms. Label: 1 for a car, 0 for background.

    The clips have many sizes, which their files do not tell, and lie in the upper left.
    """

    def __init__(self, info: Info, split: str, files: Files) -> None:
        super().__init__(info, split)
        self._tree = files.tree(f"n_cars/n-cars_{split}.zip")
        self._rows = [
            (name, label)
            for folder, label in _FOLDERS.items()
            for name in self._tree.below(f"n-cars_{split}/{folder}/", ".dat")
        ]

    def __len__(self) -> int:
        return len(self._rows)

    def item(self, index: int) -> tuple[Events, int]:
        """Return a clip, and whether it shows a car."""
        name, label = self._rows[index]
        with self._tree.path(name) as path:
            return events.read(path, format="dat", width=120, height=100), label
