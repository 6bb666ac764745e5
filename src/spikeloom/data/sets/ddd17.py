"""DDD17: drives with an event camera, and what the car measured."""

from __future__ import annotations

import struct
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...events import Events
from ..archive import PerProcess
from ..error import DataError
from ..files import Files
from ..info import File, Info
from ..registry import data_set
from ..samples import Stored

WIDTH, HEIGHT = 346, 260
_POLARITY = 1  # the type of a packet of events
_HEADER = struct.Struct("<hhiiiiii")  # type, source, size, offset of time, overflow, capacity, number, valid


@data_set(
    Info(
        name="ddd17",
        title="12 hours of driving, 346x260, with steering, speed and pedals",
        kind="events",
        splits={"all": None},
        licence="see its page",
        citation="Binas et al., DDD17: end-to-end DAVIS driving dataset, arXiv:1711.01458, 2017",
        homepage="https://sensors.ini.ch/databases/ddd17",
        obtain="https://sensors.ini.ch/databases/ddd17 has the links, run1 to run5 with rec*.hdf5 in each",
        files=(File(name="ddd17/"),),
    )
)
class Ddd17(Stored):
    """Sample: `Events` of 346x260 in a `window` (us, 50,000 by default). Label: what the car measured.

    The label is a dict, by `quantities` (steering wheel angle, degrees, and vehicle speed, km/h, by default):
    the last value before the window's end, nan if there is none yet. Windows count by the computer's clock,
    by which camera and car are recorded; the events keep the camera's. The camera hung upside down in some
    drives; the events are as recorded. `drives=("run2/rec1487337800.hdf5",)` takes some files alone. Needs
    `spikeloom[events]`.
    """

    def __init__(
        self,
        info: Info,
        split: str,
        files: Files,
        *,
        window: int = 50_000,
        quantities: tuple[str, ...] = ("steering_wheel_angle", "vehicle_speed"),
        drives: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(info, split)
        if not isinstance(window, int) or window < 1:
            raise DataError(f"ddd17: window = {window!r}; a whole number of us >= 1 is needed")
        root = files.path("ddd17/")
        found = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.hdf5"))
        if not found:
            raise DataError(f"{root}: there is no rec*.hdf5 in it; {info.obtain}")
        if missing := sorted(set(drives or ()) - set(found)):
            raise DataError(f"ddd17: {', '.join(missing)} is not in {root}, which has {', '.join(found)}")
        self._window = window
        chosen = drives or found
        self._drives = [PerProcess(partial(Drive, root / name, quantities)) for name in chosen]
        self._rows: list[tuple[int, int]] = []
        for i, drive in enumerate(self._drives):
            start, stop = drive.get().span
            self._rows += [(i, at) for at in range(start, stop + 1, window)]

    def __len__(self) -> int:
        return len(self._rows)

    def item(self, index: int) -> tuple[Events, dict[str, float]]:
        """Return the events of a window, and the car's measures at its end."""
        i, start = self._rows[index]
        drive = self._drives[i].get()
        stop = start + self._window
        return drive.events(start, stop), drive.measures(stop)


class Drive:
    """An opened recording: packets as libcaer sends them, in the order in which they came.

    Row `i` of `dvs/data` has three strings of bytes: when it came, the packet's header of 28 bytes, and its
    events; `dvs/timestamp[i]` is when it came, us. A quantity has rows of time and value. Rows after the last
    have a time of 0.
    """

    def __init__(self, path: Path, quantities: tuple[str, ...]) -> None:
        try:
            import h5py
        except ImportError as error:
            raise DataError(f"{path}: HDF5 needs h5py: pip install 'spikeloom[events]'") from error
        self.path = path
        try:
            self._file = h5py.File(path, "r")
            self._packets, self._times = self._file["dvs/data"], _until_zero(self._file["dvs/timestamp"][()])
        except (OSError, KeyError) as error:
            raise DataError(f"{path}: no drive of DDD17 ({error}); get it again") from error
        if not len(self._times):
            raise DataError(f"{path}: there is no packet in it; get it again")
        self._measured = {name: self._quantity(name) for name in quantities}

    @property
    def span(self) -> tuple[int, int]:
        """When the first and the last packet came, us."""
        return int(self._times[0]), int(self._times[-1])

    def _quantity(self, name: str) -> NDArray[np.float64]:
        known = sorted(key for key in self._file if key != "dvs")
        if name not in known:
            raise DataError(f"{self.path}: the car measured no {name!r}, but {', '.join(known)}")
        rows = self._file[name]["data"][()]
        return rows[: len(_until_zero(rows[:, 0]))]

    def measures(self, t: int) -> dict[str, float]:
        """Return the last value of each quantity before a time."""
        found = {}
        for name, rows in self._measured.items():
            i = int(np.searchsorted(rows[:, 0], t))
            found[name] = float(rows[i - 1, 1]) if i else float("nan")
        return found

    def events(self, start: int, stop: int) -> Events:
        """Return the events of the packets that came with `start <= time < stop`."""
        first, last = (int(i) for i in np.searchsorted(self._times, (start, stop)))
        parts = [part for row in self._packets[first:last] if (part := self._packet(row)) is not None]
        if not parts:
            return Events.empty(WIDTH, HEIGHT)
        t, x, y, p = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return Events.of(t, x, y, p, width=WIDTH, height=HEIGHT)

    def _packet(self, row: Any) -> tuple[NDArray[Any], ...] | None:
        """Return the columns of a packet of events; None for any other kind."""
        header, body = row[1].tobytes(), row[2].tobytes()
        if len(header) != _HEADER.size:
            raise DataError(f"{self.path}: a packet's header has {len(header)} bytes, not {_HEADER.size}")
        kind, _, size, _, overflow, _, number, _ = _HEADER.unpack(header)
        if kind != _POLARITY:
            return None
        if size != 8 or number < 0 or number * size > len(body):
            raise DataError(f"{self.path}: a packet of {number} events of {size} bytes has {len(body)} bytes")
        words = np.frombuffer(body, "<u4", 2 * number).reshape(-1, 2)
        words = words[words[:, 0] & 1 == 1]  # bit 0: the event is valid
        data, t = words[:, 0].astype(np.int64), words[:, 1].astype(np.int64) + (overflow << 31)
        return t, data >> 17, data >> 2 & 0x7FFF, data >> 1 & 1


def _until_zero(times: NDArray[Any]) -> NDArray[Any]:
    """Return the times before the first 0 that ends them."""
    zeros = np.flatnonzero(times == 0)
    return times[: zeros[0]] if len(zeros) else times
