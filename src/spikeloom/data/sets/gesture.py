"""DVS128 Gesture: people's arm gestures, whole as published, and ten clips of it."""

from __future__ import annotations

import csv
from pathlib import Path

from ... import events
from ...events import Events
from ..archive import Last
from ..error import DataError
from ..files import Files
from ..info import File, Info
from ..registry import data_set
from ..samples import Stored

SIZE = {"width": 128, "height": 128}
CLASSES = (
    "hand clapping",
    "right hand wave",
    "left hand wave",
    "right arm clockwise",
    "right arm counter clockwise",
    "left arm clockwise",
    "left arm counter clockwise",
    "arm roll",
    "air drums",
    "air guitar",
    "other gestures",
)
_CITATION = "Amir et al., A low power, fully event-based gesture recognition system, CVPR 2017"
_ARCHIVE = "dvs128_gesture/DvsGesture.tar.gz"
_COLUMNS = ["class", "startTime_usec", "endTime_usec"]


@data_set(
    Info(
        name="dvs128-gesture",
        title="1,176 + 288 arm gestures of 29 people under three lights, 128x128",
        kind="events",
        splits={"train": 1176, "test": 288},
        classes=CLASSES,
        licence="CC BY 4.0",
        citation=_CITATION,
        homepage="https://research.ibm.com/interactive/dvsgesture/",
        obtain="IBM gives it to browsers alone: https://ibm.ent.box.com/s/3hiq58ww1pbbjrinh367ykfdf60xsfm8",
        files=(File(name=_ARCHIVE, md5="8a5c71fb11e24e5ca5b11866ca6c00a1", unpacked="DvsGesture"),),
    )
)
class Gesture(Stored):
    """Sample: `Events` of 128x128, one gesture. Label: the class, 0 to 10 (the files count from 1).

    A file holds a person's gestures under one light. The one read last is kept, so samples in order are quick
    and shuffled ones are not: `cached=True` cuts each out once.
    """

    def __init__(self, info: Info, split: str, files: Files) -> None:
        super().__init__(info, split)
        self._root = files.folder(_ARCHIVE) / "DvsGesture"
        listed = self._root / f"trials_to_{split}.txt"
        if not listed.is_file():
            raise DataError(f"{listed} is missing; the data set is not whole: get it again")
        trials = [line.strip() for line in listed.read_text().splitlines() if line.strip()]
        self._rows = [(trial, *row) for trial in trials for row in _labels(self._root, trial)]
        self._last: Last[str, Events] = Last(self._read)

    def __len__(self) -> int:
        return len(self._rows)

    def _read(self, trial: str) -> Events:
        return events.read(self._root / trial, format="aedat3", **SIZE)

    def item(self, index: int) -> tuple[Events, int]:
        """Return the events of a gesture, `start <= t < end`, and its class."""
        trial, label, start, end = self._rows[index]
        return self._last.get(trial).between(start, end), label


def _labels(root: Path, trial: str) -> list[tuple[int, int, int]]:
    """Return the class, begin and end (us) of each gesture in a trial."""
    path = root / f"{Path(trial).stem}_labels.csv"
    try:
        with path.open(newline="") as file:
            rows = csv.DictReader(file)
            found = [tuple(int(row[column]) for column in _COLUMNS) for row in rows]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"{path}: no table of {', '.join(_COLUMNS)} in whole numbers ({error}); get it again"
        ) from error
    for label, start, end in found:
        if not (1 <= label <= len(CLASSES) and start < end):
            raise DataError(f"{path}: class {label} from {start} to {end} us is none; get it again")
    return [(label - 1, start, end) for label, start, end in found]


_SUMS = (
    "adb41d4a19c2f0815b67fc80ef72d0b58ff9d86a558f905730eb0c2639766214",
    "c96b1793ccccc3e737406a1a3a3b37cb917361038306a55e87577770c2405c3e",
    "d4855c3e1ae24365c37adf28c9284a414834af80a1c6df2231b8c777e484d874",
    "07c48e79ddac14dd561988629402bf60e6db4a0cf221d99f8ffd36cb284895f1",
    "c4da3051067361edb373145ceadb0df4a54fecee03f46cd36bcb3c97834789f7",
    "c0ce031709a03cd22bc8db540730431061f6a10514bc6a41469d1d2f3c23e959",
    "69af2762cc5884f0dd8a66c020813423de7a1d0a80560dcf05ed3cd559d87a34",
    "6148ca549a7be5b1e91234fd3040849d117a225dd3f69b5e180e467dff7f3951",
    "5e9c874ce7c76ba3ee5995b3dfc5cc2eff86306c0e3f97a2519a5211282fb690",
    "1d4050500bf39882d7b9b2174cc1810baaff6afb411e83284dc9613b296bcbcf",
)


@data_set(
    Info(
        name="dvs128-gesture-clips",
        title="ten clips of DVS128 Gesture of 1.45 s, one a class but the last",
        kind="events",
        splits={"all": 10},
        classes=CLASSES,
        licence="CC BY 4.0",
        citation=_CITATION,
        homepage="https://github.com/bamsumit/slayerPytorch",
        obtain="they are in test_files/binarySpikeTestFiles of github.com/bamsumit/slayerPytorch",
        files=tuple(
            File(name=f"dvs128_1p45s_clips/{i}.bs2", sha256=sha256) for i, sha256 in enumerate(_SUMS, start=1)
        ),
    )
)
class GestureClips(Stored):
    """Sample: `Events` of 128x128, 1.45 s. Label: the class; clip k shows class k (judged by eye)."""

    def __init__(self, info: Info, split: str, files: Files) -> None:
        super().__init__(info, split)
        self._paths = [files.path(file.name) for file in info.files]

    def __len__(self) -> int:
        return len(self._paths)

    def item(self, index: int) -> tuple[Events, int]:
        """Return a clip and its class."""
        return events.read(self._paths[index], format="nmnist", **SIZE), index
