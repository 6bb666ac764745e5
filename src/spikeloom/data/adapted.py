"""Data sets of other libraries, as this package's own."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from ..events import Events
from .error import DataError
from .info import Info
from .samples import Stored

_FIELDS = {"t", "x", "y", "p"}


class Adapted(Stored):
    """A map-style data set of another library (torchvision, `tonic`), to be transformed, cached and loaded.

    Structured arrays with the fields t (us), x, y and p, as `tonic` has them, become `Events`.

    Arguments:
        data: `len(data)`, and `data[i]` gives a pair of a sample and a label.
        name: what it is called.
        split: which part it is.
        classes: the name of each label.
        size: columns and rows of the sensor, where samples are events; more numbers are left out.
        version: tells these samples from all others, for `Cached`, which cannot see their files.

    Raises:
        DataError: samples are events and `size` is missing, or `Cached` is asked for and `version` is.
    """

    def __init__(
        self,
        data: Dataset[Any],
        name: str,
        *,
        split: str = "all",
        classes: Sequence[str] = (),
        size: Sequence[int] | None = None,
        version: str | None = None,
    ) -> None:
        assert isinstance(data, Sized)
        self.data, self._size, self._version = data, size, version
        info = Info(
            name=name,
            title=f"{type(data).__module__}.{type(data).__qualname__}",
            kind="adapted",
            splits={split: len(data)},
            classes=tuple(classes),
            licence="unknown",
            citation="unknown",
            homepage="",
        )
        super().__init__(info, split)

    @property
    def identity(self) -> str:
        """The name, split and version that were given."""
        if self._version is None:
            raise DataError(
                f"{self.name}: nothing tells these samples from others, so they cannot be kept; give "
                "Adapted(..., version=...), a text that changes whenever the samples do"
            )
        return repr((self.info.title, self.name, self.split, self._size, self._version))

    def __len__(self) -> int:
        return self.info.splits[self.split] or 0

    def item(self, index: int) -> tuple[Any, Any]:
        """Return a sample and its label; events as `Events`."""
        sample, label = self.data[index]
        if isinstance(sample, np.ndarray) and set(sample.dtype.names or ()) >= _FIELDS:
            if self._size is None:
                raise DataError(
                    f"{self.name}: its samples are events; give Adapted(..., size=(width, height))"
                )
            sample = Events.from_array(sample, width=int(self._size[0]), height=int(self._size[1]))
        return sample, label
