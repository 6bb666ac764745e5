"""What the HDF5 formats share: files opened late and always closed, data sets judged before they are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..error import EventsError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HEAP = b"GCOL\x01\0\0\0"
ENDS = 1 << 22  # bytes of a file's beginning, and of its end
ROWS = 1 << 16  # events read at a time, if the file's chunks are not longer
SMALL = 1 << 12  # bytes of an attribute
LARGEST = 1 << 28  # bytes of a chunk, unpacked

# HDF5's own filters: deflate, shuffle, Fletcher's checksum, szip, n-bit, scale-offset; all others are plugins
_BUILT_IN = range(1, 7)


def is_hdf5(head: bytes) -> bool:
    """Tell by a file's first bytes; the signature may follow a block of the user's of 512, 1024... bytes."""
    return any(head[at : at + 8] == SIGNATURE for at in (0, 512, 1024, 2048))


def library(path: Path) -> Any:
    """Return h5py; EventsError if it is not installed."""
    try:
        import h5py
    except ImportError as error:
        raise EventsError(f"{path}: HDF5 needs h5py: pip install 'spikeloom[events]'") from error
    return h5py


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a file to read; what h5py raises in the block is an EventsError that names the file.

    Raises:
        EventsError: h5py is not installed, or the file is damaged.
    """
    h5py = library(path)
    _must_end(path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except EventsError:
        raise
    except FileNotFoundError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, UnicodeError) as error:
        raise EventsError(f"{path}: the HDF5 file is damaged, cut off or of another kind: {error}") from error


def _must_end(path: Path) -> None:
    """Refuse a damaged heap of texts, on which HDF5 itself would walk in place for ever.

    A heap is `GCOL`, 1, 0, 0, 0, its size, and objects: a number, 6 bytes, a size; number 0 is what is free.
    Looked for where files have them, at both ends.
    """
    with path.open("rb") as file:
        total = file.seek(0, 2)
        for start in sorted({0, max(0, total - ENDS)}):
            file.seek(start)
            data = file.read(ENDS)
            heap = data.find(_HEAP)
            while heap >= 0:
                size = int.from_bytes(data[heap + 8 : heap + 16], "little")
                at, stop = heap + 16, min(heap + size, len(data))
                while at + 16 <= stop:
                    taken = int.from_bytes(data[at + 8 : at + 16], "little")
                    if data[at : at + 2] != b"\0\0":
                        taken = 16 + (taken + 7) // 8 * 8
                    if taken < 16 or at + taken > heap + size:
                        raise EventsError(
                            f"{path}: the HDF5 file is damaged at byte {start + at}: a heap of texts"
                        )
                    at += taken
                heap = data.find(_HEAP, heap + 1)


def has(path: Path, *names: str) -> bool:
    """Tell whether a file has all of these data sets or groups."""
    with opened(path) as file:
        return all(name in file for name in names)


def column(path: Path, file: Any, name: str, length: int | None = None, *, rank: int = 1) -> Any:
    """Return a data set of numbers, or of compounds of numbers, that can be read whole.

    Arguments:
        path: the file, for the error.
        file: the opened file.
        name: the data set's.
        length: how long it must be, if known.
        rank: how many axes it must have.

    Raises:
        EventsError: there is none; it has another shape; it says that it holds more than is stored; its
            filter is not at hand.
    """
    import h5py

    data = file.get(name)
    if not isinstance(data, h5py.Dataset):
        raise EventsError(f"{path}: it has no data set {name}, but {contents(file)}")
    kinds = [data.dtype[i] for i in range(len(data.dtype))] if data.dtype.names else [data.dtype]
    if any(kind.kind not in "iufb" for kind in kinds) or data.dtype.hasobject:
        raise EventsError(f"{path}: {name} holds {data.dtype}, not numbers")
    if data.shape is None or len(data.shape) != rank or (length is not None and data.shape[0] != length):
        wanted = f"{'N' if length is None else length}{', n' * (rank - 1)}"
        raise EventsError(f"{path}: {name} has the shape {data.shape}, not [{wanted}]")
    _must_be_stored(path, data)
    return data


def _must_be_stored(path: Path, data: Any) -> None:
    """Refuse a data set larger than what the file has for it: HDF5 would make up the rest."""
    if not data.size or data.is_virtual:
        return
    if data.chunks is None:
        if data.id.get_storage_size() < data.size * data.dtype.itemsize:
            raise EventsError(
                f"{path}: {data.name} says it has {data.size} entries, which are not in the file"
            )
        return
    size = data.dtype.itemsize
    for extent in data.chunks:
        size *= extent
    if size > LARGEST:
        raise EventsError(f"{path}: {data.name} has chunks of {size} bytes; up to {LARGEST} are read")
    wanted = 1
    for extent, part in zip(data.shape, data.chunks, strict=True):
        wanted *= -(-extent // part)
    stored = data.id.get_num_chunks()
    if stored < wanted:
        raise EventsError(
            f"{path}: {data.name} says it has {data.shape[0]} entries, in {wanted} chunks, but has {stored}"
        )


def filters(data: Any) -> list[int]:
    """Return the numbers of a data set's filters."""
    properties = data.id.get_create_plist()
    return [int(properties.get_filter(i)[0]) for i in range(properties.get_nfilters())]


def must_unpack(path: Path, data: Any) -> None:
    """See to it that h5py can undo a data set's filters.

    Raises:
        EventsError: it cannot.
    """
    import h5py

    for number in filters(data):
        if number not in _BUILT_IN and not h5py.h5z.filter_avail(number):
            try:
                import hdf5plugin  # noqa: F401  (it registers its filters)
            except ImportError as error:
                raise EventsError(
                    f"{path}: {data.name} is packed by filter {number}: pip install 'spikeloom[events]'"
                ) from error
            if not h5py.h5z.filter_avail(number):
                raise EventsError(
                    f"{path}: {data.name} is packed by filter {number}, which neither h5py nor hdf5plugin "
                    "has; repack the file with h5repack where that filter is installed"
                )


def steps(data: Any, rows: int = ROWS) -> Iterator[slice]:
    """Yield the slices by which to read a data set, such that no chunk is unpacked twice."""
    if data.chunks:
        rows = max(1, rows // data.chunks[0]) * data.chunks[0]
    for first in range(0, data.shape[0], rows):
        yield slice(first, min(first + rows, data.shape[0]))


def attribute(place: Any, name: str) -> Any:
    """Return an attribute that is a text or a few numbers; None if there is none, or it is anything else.

    HDF5 crashes on some damaged attributes of other types.
    """
    import h5py

    if name not in place.attrs:
        return None
    found = h5py.h5a.open(place.id, name.encode())
    kind = found.get_type()
    plain = (h5py.h5t.STRING, h5py.h5t.INTEGER, h5py.h5t.FLOAT)
    if kind.get_class() not in plain or found.get_storage_size() > SMALL or len(found.shape) > 1:
        return None
    value = place.attrs[name]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def texts(file: Any) -> dict[str, str]:
    """Return a file's attributes as text."""
    values = {name: attribute(file, name) for name in file.attrs if isinstance(name, str)}
    return {name: str(value) for name, value in values.items() if value is not None}


def contents(file: Any) -> str:
    """Return the names at a file's top, and below its groups, for an error."""
    names = []
    for name in list(file)[:8]:
        below = file.get(name)
        inner = list(below)[:8] if hasattr(below, "keys") else []
        names.append(f"{name}/{{{', '.join(inner)}}}" if inner else name)
    return ", ".join(names) or "nothing"
