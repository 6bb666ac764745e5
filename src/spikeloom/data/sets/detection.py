"""Prophesee's drives with boxes: GEN1 and 1 Megapixel."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import events
from ...events import Events, Recording
from ...events.files.prophesee import read_header
from ..archive import Last
from ..error import DataError
from ..files import Files
from ..info import File, Info
from ..kinds import BOXES
from ..registry import data_set
from ..samples import Stored

_ENDINGS = ("_td.dat", ".dat", "_td.raw", ".raw", "_td.h5", ".h5")
_SENSORS = {"gen1": (304, 240), "1mpx": (1280, 720)}
_ALSO = {"ts": "t", "class_confidence": "confidence"}  # what older files call a field


def _info(name: str, title: str, classes: tuple[str, ...], citation: str, homepage: str) -> Info:
    return Info(
        name=name,
        title=title,
        kind="detection",
        splits={"train": None, "val": None, "test": None},
        classes=classes,
        licence="for research; see its page",
        citation=citation,
        homepage=homepage,
        obtain=f"Prophesee gives it on {homepage}: unpack it, with X_td.dat beside X_bbox.npy",
        files=tuple(File(name=f"{name}/{split}/", splits=(split,)) for split in ("train", "val", "test")),
    )


@data_set(
    _info(
        "gen1",
        "39 hours of driving, 304x240, with 255,000 boxes around cars and pedestrians",
        ("car", "pedestrian"),
        "de Tournemire et al., A large scale event-based detection dataset for automotive, 2020",
        "https://www.prophesee.ai/2020/01/24/prophesee-gen1-automotive-detection-dataset/",
    ),
    _info(
        "1mpx",
        "14 hours of driving, 1280x720, with 25 million boxes",
        ("pedestrian", "two wheeler", "car", "truck", "bus", "traffic sign", "traffic light"),
        "Perot et al., Learning to detect objects with a 1 megapixel event camera, NeurIPS 2020",
        "https://www.prophesee.ai/2020/11/24/automotive-megapixel-event-based-dataset/",
    ),
)
class Detection(Stored):
    """Sample: `Events` of the `window` (us, 50,000 by default) before a time with boxes. Label: these boxes.

    Boxes are an array with the fields of `kinds.BOXES`: t, x, y, w, h, class_id, track_id, confidence. With
    `window=None` a sample is a whole `Recording`, opened, to be iterated, and its label all its boxes.
    """

    def __init__(self, info: Info, split: str, files: Files, *, window: int | None = 50_000) -> None:
        super().__init__(info, split)
        if window is not None and (not isinstance(window, int) or window < 1):
            raise DataError(
                f"{info.name}: window = {window!r}; a whole number of us >= 1, or None, is needed"
            )
        self._window, (self._width, self._height) = window, _SENSORS[info.name]
        self._pairs = _pairs(files.path(f"{info.name}/{split}/"))
        self._boxes = [read_boxes(boxes) for _, boxes in self._pairs]
        self._rows = [
            (i, int(t))
            for i, boxes in enumerate(self._boxes)
            for t in np.unique(boxes["t"])
            if window is not None
        ]
        self._last: Last[Path, Events] = Last(self._read)

    def __len__(self) -> int:
        return len(self._pairs) if self._window is None else len(self._rows)

    def item(self, index: int) -> tuple[Events | Recording, NDArray[Any]]:
        """Return the events before a time with boxes, `t - window <= time < t`, and the boxes."""
        if self._window is None:
            return events.open(self._pairs[index][0], width=self._width, height=self._height), self._boxes[
                index
            ]
        i, t = self._rows[index]
        boxes, path = self._boxes[i], self._pairs[i][0]
        return self._between(path, t - self._window, t), boxes[boxes["t"] == t]

    def _read(self, path: Path) -> Events:
        return events.read(path, width=self._width, height=self._height)

    def _between(self, path: Path, start: int, stop: int) -> Events:
        if path.suffix == ".dat":
            return read_dat_between(path, start, stop, width=self._width, height=self._height)
        return self._last.get(path).between(start, stop)


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Return the recordings of a folder, each with its boxes."""
    pairs = []
    for boxes in sorted(folder.rglob("*_bbox.npy")):
        stem = boxes.name.removesuffix("_bbox.npy")
        found = [boxes.with_name(stem + end) for end in _ENDINGS if boxes.with_name(stem + end).is_file()]
        if not found:
            raise DataError(f"{boxes}: there is no recording beside it, {stem}_td.dat; get it again")
        pairs.append((found[0], boxes))
    if not pairs:
        raise DataError(
            f"{folder}: there are no boxes in it, X_bbox.npy beside X_td.dat; unpack the archives there"
        )
    return pairs


def read_boxes(path: Path) -> NDArray[Any]:
    """Return the boxes of a file as `BOXES`, by time, whichever names and types it has.

    Raises:
        DataError: it is no array of boxes.
    """
    try:
        found = np.load(path, allow_pickle=False)
        names = {_ALSO.get(name, name): name for name in found.dtype.names}
        boxes = np.zeros(len(found), BOXES)
        boxes["confidence"] = 1
        for name in BOXES.names or ():
            if name in names or name in ("t", "x", "y", "w", "h", "class_id"):
                boxes[name] = found[names[name]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: no array of boxes ({error}); get it again") from error
    return boxes[np.argsort(boxes["t"], kind="stable")]


def read_dat_between(path: Path, start: int, stop: int, width: int, height: int) -> Events:
    """Return the events of a DAT file with `start <= t < stop`; only these are read.

    Its events have 8 bytes each, 4 of them time in order, so that a time is found by halving.
    """
    length = read_header(path).length + 2  # after the header a byte each for the events' type and size
    words = np.memmap(path, "<u4", "r", offset=length, shape=((path.stat().st_size - length) // 8, 2))
    first, last = (int(i) for i in np.searchsorted(words[:, 0], [max(start, 0), max(stop, 0)]))
    with tempfile.TemporaryDirectory(prefix="spikeloom-") as folder:
        part = Path(folder) / path.name
        with path.open("rb") as file:
            part.write_bytes(file.read(length) + words[first:last].tobytes())
        return events.read(part, format="dat", width=width, height=height)
