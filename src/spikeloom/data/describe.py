"""What a transform is, in words that change whenever it does something else."""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import torch

from .error import DataError

ROOMS = ("events", "data")  # of this package; their code decides what a cached sample is


def describe(transform: Any) -> str:
    """Return a description of a transform: its class or function, its values, and the code of both.

    Understood are frozen dataclasses, functions of a module, `functools.partial`, classes, and in their
    fields numbers, text, arrays, tensors, enumerations, and tuples, lists and dicts of these.

    Raises:
        DataError: there is something in it whose behaviour cannot be told from its values.
    """
    return _describe(transform, "transform")


def _describe(value: Any, where: str) -> str:
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return repr(value)
    if isinstance(value, (np.generic, torch.dtype, torch.device)):
        return f"{type(value).__name__}({value})"
    if isinstance(value, (np.ndarray, torch.Tensor)):
        array = value
        if isinstance(value, torch.Tensor):
            array = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        content = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        return f"{type(value).__name__}({value.dtype}, {tuple(value.shape)}, sha256 {content})"
    if isinstance(value, enum.Enum):
        return f"{_code(type(value), where)}.{value.name}"
    if isinstance(value, (tuple, list)):
        kind = "" if type(value) in (tuple, list) else _code(type(value), where)
        parts = ", ".join(_describe(part, f"{where}[{i}]") for i, part in enumerate(value))
        return f"{kind}[{parts}]" if isinstance(value, list) else f"{kind}({parts})"
    if isinstance(value, dict):
        pairs = (f"{_describe(k, where)}: {_describe(v, f'{where}[{k!r}]')}" for k, v in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, functools.partial):
        return f"partial({_describe((value.func, value.args, value.keywords), where)})"
    if isinstance(value, type):
        return _code(value, where)
    if isinstance(value, FunctionType):
        if value.__closure__ or "<" in value.__qualname__:
            raise _opaque(value, where)
        return _code(value, where)
    if dataclasses.is_dataclass(value) and type(value).__dataclass_params__.frozen:  # type: ignore[union-attr]
        fields = dataclasses.fields(value)
        parts = ", ".join(
            f"{f.name}={_describe(getattr(value, f.name), f'{where}.{f.name}')}" for f in fields
        )
        return f"{_code(type(value), where)}({parts})"
    raise _opaque(value, where)


def _opaque(value: Any, where: str) -> DataError:
    return DataError(
        f"{where} is {value!r}: what it does cannot be told from its values, so samples made by it cannot be "
        "kept; write it as a frozen dataclass with __call__, or as a function of a module"
    )


def _code(value: Any, where: str) -> str:
    """Return the full name of a class or function, and a checksum of the code that it comes from."""
    kinds = [kind for kind in value.__mro__ if kind is not object] if isinstance(value, type) else [value]
    sources = filter(None, (_source(kind, where) for kind in kinds))
    return " ".join([f"{value.__module__}.{value.__qualname__}", *sources])


def _source(value: Any, where: str) -> str:
    """Return a checksum of the file that a class or function is in; nothing if it is of these rooms."""
    top, _, below = value.__module__.partition(".")
    if top == __package__.partition(".")[0] and below.partition(".")[0] in ROOMS:
        return ""  # the code of the rooms is in every key
    if top in sys.stdlib_module_names or top in ("numpy", "torch"):
        return f"{top} {sys.modules[top].__dict__.get('__version__', sys.version_info[:3])}"
    try:
        source = Path(inspect.getfile(value)).read_bytes()
    except (TypeError, OSError):
        try:  # typed at a prompt
            source = inspect.getsource(value).encode()
        except (TypeError, OSError) as error:
            raise _opaque(value, where) from error
    return hashlib.sha256(source).hexdigest()[:16]


@functools.cache
def code_version() -> str:
    """Return a checksum of the source of this package's rooms that make samples."""
    summed = hashlib.sha256()
    for path in _sources():
        summed.update(path.name.encode() + b"\0" + path.read_bytes())
    return summed.hexdigest()[:32]


def _sources() -> Iterator[Path]:
    package = importlib.util.find_spec(__package__.partition(".")[0])
    for root in (package.submodule_search_locations or []) if package else []:
        for room in ROOMS:
            yield from sorted(Path(root, room).rglob("*.py"))
