"""FlatBuffers (Google's wire format), every offset checked before it is followed.

A table points back to its vtable, which tells where in the table each field is; a field that is not there has
its default value. A message begins with its size, the offset of its root table, four letters for its kind.
The library `flatbuffers` reads one value at a time and does not check; packets have thousands.
"""

from __future__ import annotations

import functools
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..compiled import kernel
from ..error import EventsError

_U4 = struct.Struct("<I")
_HEAD = struct.Struct("<II4sHHHHiI")  # size; root; letters; its vtable; the root; where its vector is
_START = _HEAD.size + 4  # of a vector's elements


class Message:
    """One message.

    Arguments:
        data: its bytes, the size before it included.
        letters: what it must be.
        where: what an error begins with.

    Raises:
        EventsError: it is another, or not whole.
    """

    def __init__(self, data: bytes, letters: bytes, where: str) -> None:
        self.data, self.where = data, where
        self.bytes = np.frombuffer(data, np.uint8)
        if len(data) < 12 or data[8:12] != letters:
            raise EventsError(f"{where}: {letters.decode()} is expected, found is {data[8:12]!r}")
        size, root = struct.unpack_from("<II", data)
        if size > len(data) - 4:
            raise EventsError(f"{where}: its {letters.decode()} message is cut off")
        self.root: int = 4 + root

    def _broken(self) -> EventsError:
        return EventsError(f"{self.where}: an offset points out of a message; the file is damaged")

    def number(self, index: int, kind: str, default: int) -> int:
        """Return a number of the root table, of a type that `struct` calls `kind`."""
        place = _place(self.bytes, self.root, index, struct.calcsize(kind))
        if place < 0:
            raise self._broken()
        value: int = struct.unpack_from(kind, self.data, place)[0] if place else default
        return value

    def vector(self, index: int, size: int) -> tuple[int, int]:
        """Return where the elements of a vector of the root table begin, and how many there are."""
        at, count = _vector(self.bytes, self.root, index, size)
        if count < 0:
            raise self._broken()
        return at, count

    def array(self, index: int, kind: np.dtype[Any]) -> NDArray[Any]:
        """Return a vector of structs, as a view."""
        at, count = self.vector(index, kind.itemsize)
        return np.frombuffer(self.data, kind, count, at)

    def tables(self, index: int, kind: np.dtype[Any]) -> NDArray[Any]:
        """Return a vector of tables, their fields in the schema's order; 0 where one is not there."""
        at, count = self.vector(index, 4)
        found = np.zeros(count, kind)
        places, sizes = _layout(kind)
        out = found.view(np.uint8).reshape(count, kind.itemsize)
        if not _tables(self.bytes, at, count, places, sizes, out):
            raise self._broken()
        return found


@functools.cache
def _layout(kind: np.dtype[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where a structure's fields are, and how many bytes they have."""
    fields = [kind.fields[name] for name in kind.names or ()] if kind.fields else []
    places = np.array([field[1] for field in fields], np.int64)
    return places, np.array([field[0].itemsize for field in fields], np.int64)


@kernel
def _place(data: Any, table: int, index: int, size: int) -> Any:
    """Return where a table's field is, 0 if it is not there, -1 if it would not be within the data."""
    end, slot = len(data), 4 + 2 * index
    if table + 4 > end:
        return -1
    back = _little(data, table, 4)
    vtable = table - (back - (back >> 31 << 32))  # signed
    if vtable < 0 or vtable + 2 > end:
        return -1
    if slot + 2 > _little(data, vtable, 2):
        return 0
    if vtable + slot + 2 > end:
        return -1
    offset = _little(data, vtable + slot, 2)
    if offset == 0:
        return 0
    return table + offset if table + offset + size <= end else -1


@kernel
def _vector(data: Any, table: int, index: int, size: int) -> tuple[Any, Any]:
    """Return where a vector's elements begin and how many it has; (0, -1) if it is not within the data."""
    end, place = len(data), _place(data, table, index, 4)
    if place <= 0:
        return 0, place
    at = place + _little(data, place, 4)
    if at + 4 > end:
        return 0, -1
    count = _little(data, at, 4)
    if at + 4 + size * count > end:
        return 0, -1
    return at + 4, count


@kernel
def _tables(data: Any, at: int, count: int, places: Any, sizes: Any, out: Any) -> bool:
    """Copy the fields of tables, the offsets of which begin at `at`; tell whether all are within the data."""
    for i in range(count):
        table = at + 4 * i + _little(data, at + 4 * i, 4)
        for k in range(len(places)):
            place = _place(data, table, k, sizes[k])
            if place < 0:
                return False
            if place:
                for byte in range(sizes[k]):
                    out[i, places[k] + byte] = data[place + byte]
    return True


@kernel
def _little(data: Any, at: int, size: int) -> Any:
    """Return the number in some bytes."""
    number = np.int64(0)
    for k in range(size):
        number |= np.int64(data[at + k]) << 8 * k
    return number


def structs(letters: bytes, elements: NDArray[Any]) -> bytes:
    """Return the message whose root table has one field, a vector of structs."""
    size = _HEAD.size + elements.nbytes
    return _HEAD.pack(size, 16, letters, 0, 6, 8, 4, 6, 4) + _U4.pack(len(elements)) + elements.tobytes()


def tables(letters: bytes, records: NDArray[Any], fields: tuple[int, ...]) -> bytes:
    """Return the message whose root table has one field, a vector of tables.

    Arguments:
        letters: what it is.
        records: the tables as they are to lie in memory; the first four bytes, `vtable`, are filled in here.
        fields: where in a record each field is.
    """
    vtable = struct.pack(f"<{len(fields) + 2}H", 2 * len(fields) + 4, records.itemsize, *fields)
    at = _START + 4 * len(records)
    first = -(-(at + len(vtable)) // 8) * 8
    places = first + records.itemsize * np.arange(len(records))
    records = records.copy()
    records["vtable"] = places - at
    offsets = (places - _START - 4 * np.arange(len(records))).astype("<u4")
    body = offsets.tobytes() + vtable.ljust(first - at, b"\0") + records.tobytes()
    return _HEAD.pack(_HEAD.size + len(body), 16, letters, 0, 6, 8, 4, 6, 4) + _U4.pack(len(records)) + body
