"""A sample as bytes, and back: arrays in safetensors, the structure around them as JSON; no pickle."""

from __future__ import annotations

import dataclasses
import importlib
import json
import zlib
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
import torch
from numpy.typing import NDArray

from .error import DataError

Arrays = dict[str, NDArray[Any]]


class Damaged(ValueError):  # noqa: N818
    """These bytes are no packed sample, or not all of one."""


def pack(value: Any) -> bytes:
    """Return a value as bytes.

    It may be None, a number, text, an array (structured ones, too), a tensor, a dataclass of this package
    (as `Events`), or a tuple, list or dict of these.

    Raises:
        DataError: there is something else in it.
    """
    arrays: Arrays = {}
    structure = json.dumps(_take_apart(value, arrays))
    note = {"structure": structure, "crc32": str(_sum(structure, arrays))}
    return safetensors.numpy.save(arrays or {"nothing": np.empty(0, np.uint8)}, note)


def unpack(content: bytes) -> Any:
    """Return the value that `pack` was given.

    Raises:
        Damaged: the bytes are not what `pack` returned.
    """
    try:
        size = int.from_bytes(content[:8], "little")
        note = json.loads(content[8 : 8 + size])["__metadata__"]
        arrays = safetensors.numpy.load(content)
        structure = json.loads(note["structure"])
        arrays.pop("nothing", None)
        if str(_sum(note["structure"], arrays)) != note["crc32"]:
            raise Damaged("its checksum differs")
        return _put_together(structure, arrays)
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        ImportError,
        safetensors.SafetensorError,
    ) as error:
        raise Damaged(str(error)) from error


def _sum(structure: str, arrays: Arrays) -> int:
    total = zlib.crc32(structure.encode())
    for name in sorted(arrays, key=int):
        total = zlib.crc32(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data, total)
    return total


def _take_apart(value: Any, arrays: Arrays) -> Any:
    """Return the value's structure, as JSON can hold it; its arrays go to `arrays`, by number."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"value": value}
    if isinstance(value, torch.Tensor) and value.layout is torch.strided and not value.is_complex():
        held = value.detach().cpu().contiguous()
        if held.dtype == torch.bfloat16:
            return {"bfloat16": _keep(held.view(torch.int16).numpy(), arrays)}
        return {"tensor": _keep(held.numpy(), arrays)}
    if isinstance(value, np.ndarray) and value.dtype.names:
        raw = np.frombuffer(value.tobytes(), np.uint8)
        return {"records": _keep(raw, arrays), "type": value.dtype.descr, "shape": list(value.shape)}
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biuf":
        return {"array" if isinstance(value, np.ndarray) else "scalar": _keep(np.asarray(value), arrays)}
    if type(value) in (tuple, list):
        return {type(value).__name__: [_take_apart(part, arrays) for part in value]}
    if type(value) is dict:
        pairs = [[_take_apart(k, arrays), _take_apart(v, arrays)] for k, v in value.items()]
        return {"dict": pairs}
    kind = type(value)
    if dataclasses.is_dataclass(kind) and kind.__module__.startswith(f"{_package()}."):
        fields = {
            f.name: _take_apart(getattr(value, f.name), arrays) for f in dataclasses.fields(kind) if f.init
        }
        return {"dataclass": f"{kind.__module__}:{kind.__qualname__}", "fields": fields}
    raise DataError(
        f"a {kind.__module__}.{kind.__qualname__} cannot be kept in the cache; let the transform return "
        "tensors, arrays, numbers, text, Events, or tuples, lists and dicts of these"
    )


def _keep(array: NDArray[Any], arrays: Arrays) -> int:
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    arrays[str(len(arrays))] = np.ascontiguousarray(array).reshape(array.shape)
    return len(arrays) - 1


def _put_together(node: dict[str, Any], arrays: Arrays) -> Any:
    kind, content = next(iter(node.items()))
    if kind == "value":
        return content
    if kind in ("tuple", "list"):
        parts = [_put_together(part, arrays) for part in content]
        return tuple(parts) if kind == "tuple" else parts
    if kind == "dict":
        return {_put_together(k, arrays): _put_together(v, arrays) for k, v in content}
    if kind == "dataclass":
        module, _, name = content.partition(":")
        if not module.startswith(f"{_package()}."):
            raise Damaged(f"it holds a {content}")
        made = getattr(importlib.import_module(module), name)
        return made(**{name: _put_together(part, arrays) for name, part in node["fields"].items()})
    array = arrays[str(content)].copy()  # writable, as a fresh sample is
    if kind == "tensor":
        return torch.from_numpy(array)
    if kind == "bfloat16":
        return torch.from_numpy(array).view(torch.bfloat16)
    if kind == "records":
        return array.view([tuple(field) for field in _tuples(node["type"])]).reshape(node["shape"])
    if kind in ("array", "scalar"):
        return array if kind == "array" else array[()]
    raise Damaged(f"it holds a {kind}")


def _tuples(fields: list[list[Any]]) -> list[tuple[Any, ...]]:
    return [(name, kind, *(tuple(shape) for shape in rest)) for name, kind, *rest in fields]


def _package() -> str:
    return __package__.partition(".")[0]
