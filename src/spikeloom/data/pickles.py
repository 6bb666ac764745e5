"""Old pickles of arrays, read without running what is in them."""

from __future__ import annotations

import io
import pickle
import pickletools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .error import DataError


@dataclass
class _Type:
    """Stands for `numpy.dtype` while a pickle is read."""

    code: str
    order: str = "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def resolve(self) -> np.dtype[Any]:
        dtype = np.dtype(self.code)
        if dtype.kind not in "biufSU":
            raise ValueError(f"arrays of type {self.code}")
        return dtype.newbyteorder("<" if self.order == "<" else ">") if self.order in "<>" else dtype


class _Array:
    """Stands for `numpy.ndarray` while a pickle is read."""

    value: NDArray[Any]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, content = state
        raw = content.encode("latin1") if isinstance(content, str) else bytes(content)
        self.value = np.frombuffer(raw, kind.resolve()).reshape(shape, order="F" if fortran else "C")


class Sparse:
    """A sparse matrix by rows, as `scipy.sparse.csr_matrix` has it.

    Attributes:
        shape: rows and columns.
        values: of what is not zero.
        columns: of each of these.
        rows: `[rows + 1]`, where each row begins.
    """

    shape: tuple[int, int]
    values: NDArray[Any]
    columns: NDArray[Any]
    rows: NDArray[Any]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.shape = (int(state["_shape"][0]), int(state["_shape"][1]))
        self.values, self.columns, self.rows = (state[key].value for key in ("data", "indices", "indptr"))

    def dense(self) -> NDArray[np.float32]:
        """Return the whole matrix; DataError if its parts do not fit together."""
        rows = self.rows.astype(np.int64)
        counts: NDArray[np.int64] = rows[1:] - rows[:-1]
        fits = len(self.rows) == self.shape[0] + 1 and len(self.values) == len(self.columns) == counts.sum()
        if (
            not fits
            or counts.min(initial=0) < 0
            or np.any((self.columns < 0) | (self.columns >= self.shape[1]))
        ):
            raise DataError(
                f"a sparse matrix of {self.shape} whose parts do not fit together; get the file again"
            )
        if self.shape[0] * self.shape[1] > 1 << 28:
            raise DataError(f"a sparse matrix of {self.shape} is too large to be written out")
        matrix = np.zeros(self.shape, np.float32)
        np.add.at(matrix, (np.repeat(np.arange(self.shape[0]), counts), self.columns), self.values)
        return matrix


def _encode(text: str, coding: str) -> bytes:
    """Stand for `_codecs.encode`, by which Python 3 writes bytes for Python 2."""
    if coding != "latin1":
        raise ValueError(f"bytes as {coding}")
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): lambda code, *_: _Type(code),
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("scipy.sparse.csr", "csr_matrix"): Sparse,
    ("scipy.sparse._csr", "csr_matrix"): Sparse,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): lambda: b"",  # of nothing alone: bytes(n) would take n bytes
    ("collections", "defaultdict"): defaultdict,
    ("__builtin__", "list"): list,
    ("builtins", "list"): list,
}


class _Reader(pickle.Unpickler):
    """Admits what describes arrays, and makes none of it before it is checked."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _KNOWN[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to something outside")


def read_pickle(content: bytes, name: str) -> Any:
    """Return what a pickle of arrays, sparse matrices, lists and dicts holds; nothing in it is called.

    Arrays are NumPy's; sparse matrices are `Sparse`. Text of Python 2 is read as Latin-1.

    Raises:
        DataError: there is anything else in it, or it is damaged.
    """
    try:
        _check(content)
        return _plain(_Reader(io.BytesIO(content), encoding="latin1").load())
    except Exception as error:  # whatever a hostile file brings about
        raise DataError(
            f"{name}: refused as a pickle of arrays ({type(error).__name__}: {error}); it is damaged, or not "
            "what it should be: get it again from where it is published"
        ) from error


def _check(content: bytes) -> None:
    """Walk through the instructions; raise ValueError for one that takes far more memory than they do."""
    for instruction, value, _ in pickletools.genops(content):  # which reads what each says it brings
        if "PUT" in instruction.name and int(value or 0) > len(content):
            raise ValueError(f"it remembers {value} things")


def _plain(value: Any) -> Any:
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value
