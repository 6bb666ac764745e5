"""DSEC: drives with two event cameras, and the disparity between them."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...events import Events
from ..archive import PerProcess
from ..error import DataError
from ..files import Files
from ..info import File, Info
from ..kinds import Stereo
from ..registry import data_set
from ..samples import Stored

WIDTH, HEIGHT = 640, 480
_SIDES = ("left", "right")
_TIMES = "dsec/test_disparity_timestamps.zip"


@data_set(
    Info(
        name="dsec",
        title="53 drives with two event cameras of 640x480, and the disparity between them from LiDAR",
        kind="events",
        splits={"train": None, "test": None},
        licence="CC BY-SA 4.0",
        citation="Gehrig et al., DSEC: a stereo event camera dataset for driving scenarios, RA-L 2021",
        homepage="https://dsec.ifi.uzh.ch",
        obtain="it is at https://download.ifi.uzh.ch/rpg/DSEC/, a zip a drive and camera: unpack each "
        "to <drive>/events/left and right (events.h5, rectify_map.h5), <drive>/disparity/event/*.png and "
        "<drive>/disparity/timestamps.txt",
        files=(
            File(name="dsec/train/", splits=("train",)),
            File(name="dsec/test/", splits=("test",)),
            File(
                name=_TIMES,
                addresses=("https://download.ifi.uzh.ch/rpg/DSEC/test_disparity_timestamps.zip",),
                splits=("test",),
                unpacked="test_disparity_timestamps",
            ),
        ),
    )
)
class Dsec(Stored):
    """Sample: `Stereo`, the events of both cameras in the `window` (us, 50,000 by default) before a time.

    Label: the disparity then, float32 `[480, 640]` in pixels, 0 where it is not known; None in the test set.
    The first time of a drive is left out, for there are no events before it. `drives=("zurich_city_00_a",)`
    takes some drives alone, `rectify_map(drive, side)` tells where a rectified camera would see a pixel.
    Needs `spikeloom[events]`, and `[images]` for the disparity.
    """

    def __init__(
        self,
        info: Info,
        split: str,
        files: Files,
        *,
        window: int = 50_000,
        drives: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(info, split)
        if not isinstance(window, int) or window < 1:
            raise DataError(f"dsec: window = {window!r}; a whole number of us >= 1 is needed")
        self._window, self._root = window, files.path(f"dsec/{split}/")
        found = sorted(path.name for path in self._root.iterdir() if (path / "events").is_dir())
        if missing := sorted(set(drives or ()) - set(found)):
            raise DataError(
                f"dsec: {', '.join(missing)} is not in {self._root}, which has {', '.join(found)}"
            )
        self.drives = tuple(drives or found)
        self._rows: list[tuple[str, int, Path | None]] = []
        for drive in self.drives:
            if split == "train":
                self._rows += _labelled(self._root / drive)
            else:
                self._rows += _asked(files.folder(_TIMES) / "test_disparity_timestamps" / f"{drive}.csv")
        self._open = {
            (drive, side): PerProcess(partial(_open, self._root / drive / "events" / side / "events.h5"))
            for drive in self.drives
            for side in _SIDES
        }

    def __len__(self) -> int:
        return len(self._rows)

    def item(self, index: int) -> tuple[Stereo, Tensor | None]:
        """Return the events before a time, `t - window <= time < t`, and the disparity."""
        drive, t, picture = self._rows[index]
        left, right = (
            read_between(self._open[drive, side].get(), t - self._window, t, drive) for side in _SIDES
        )
        return Stereo(left, right, t, drive), None if picture is None else _disparity(picture)

    def rectify_map(self, drive: str, side: str) -> Tensor:
        """Return where a rectified camera would see each pixel: float32 `[480, 640, 2]`, x and y."""
        with _open(self._root / drive / "events" / side / "rectify_map.h5") as file:
            return torch.from_numpy(file["rectify_map"][()])


def _open(path: Path) -> Any:
    try:
        import h5py
        import hdf5plugin  # noqa: F401 - its filters unpack the columns
    except ImportError as error:
        raise DataError(f"{path}: HDF5 needs h5py and hdf5plugin: pip install 'spikeloom[events]'") from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path}: it cannot be opened ({error}); get it again") from error


def read_between(file: Any, start: int, stop: int, name: str) -> Events:
    """Return the events of an opened file with `start <= t < stop`, us; only these are read.

    Times in the file count from `t_offset`, and `ms_to_idx[k]` is the first event at or after `k` ms.
    """
    try:
        offset, steps, columns = int(file["t_offset"][()]), file["ms_to_idx"], file["events"]
        low, high = max(start - offset, 0), max(stop - offset, 0)
        first = int(steps[min(low // 1000, len(steps) - 1)])
        last = int(steps[-(-high // 1000)]) if -(-high // 1000) < len(steps) else len(columns["t"])
        t: NDArray[np.int64] = columns["t"][first:last].astype(np.int64)
        inside = slice(*(int(i) for i in np.searchsorted(t, (low, high))))
        x, y, p = (columns[column][first:last][inside] for column in "xyp")
        return Events.of(t[inside] + offset, x, y, p, width=WIDTH, height=HEIGHT)
    except (KeyError, OSError, ValueError) as error:
        raise DataError(f"{name}: no events of DSEC ({error}); get it again") from error


def _labelled(drive: Path) -> list[tuple[str, int, Path | None]]:
    """Return the times of a drive that have a disparity, each with its picture."""
    listed = drive / "disparity" / "timestamps.txt"
    pictures = sorted((drive / "disparity" / "event").glob("*.png"))
    try:
        times = [int(line) for line in listed.read_text().split()]
    except (OSError, ValueError) as error:
        raise DataError(f"{listed}: no list of times ({error}); get it again") from error
    if len(times) != len(pictures):
        raise DataError(f"{listed}: {len(times)} times for {len(pictures)} pictures; get both again")
    return [(drive.name, t, picture) for t, picture in zip(times[1:], pictures[1:], strict=True)]


def _asked(path: Path) -> list[tuple[str, int, Path | None]]:
    """Return the times of a test drive for which a disparity is to be told; none if it has no list."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = [row for row in csv.reader(file) if row and not row[0].lstrip().startswith("#")]
    return [(path.stem, int(row[0]), None) for row in rows]


def _disparity(path: Path) -> Tensor:
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError("the disparity of dsec needs Pillow: pip install 'spikeloom[images]'") from error
    found = np.asarray(Image.open(path))
    if found.shape != (HEIGHT, WIDTH) or found.dtype.kind not in "ui":
        raise DataError(
            f"{path}: {found.dtype}{list(found.shape)} is no disparity of {WIDTH}x{HEIGHT}; get it again"
        )
    return torch.from_numpy(found.astype(np.float32) / 256)
