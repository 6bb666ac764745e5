"""Files of NIR: written whole or not at all, read with errors that say what is wrong."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

from ...whole import whole
from .units import NirError, nir_module


def write_nir(path: str | os.PathLike[str], graph: Any) -> None:
    """Write a graph to a file, which is there whole or, after an error, as it was before.

    Arguments:
        path: the file, usually "*.nir".
        graph: a `nir.NIRGraph`.

    Raises:
        NirError: it cannot be written; the reason.
    """
    nir, path = nir_module(), Path(path)
    try:
        with whole(path) as part:
            nir.write(part, graph)
    except (OSError, TypeError, ValueError) as error:
        raise NirError(f"{path} cannot be written: {error}") from error


def read_nir(path: str | os.PathLike[str]) -> tuple[Any, bool]:
    """Return the graph of a file, and whether all of its neurons that fire say what they are reset to.

    Raises:
        NirError: no such file, a damaged one, a node that this version of nir does not know.
    """
    nir, path = nir_module(), Path(path)
    if not path.is_file():
        raise NirError(f"{path} is no file")
    resets = _look(nir, path)
    options = {"type_check": False} if "type_check" in inspect.signature(nir.read).parameters else {}
    try:
        graph = nir.read(path, **options)
    except Exception as error:  # whatever the reader stumbles on
        raise NirError(
            f"{path} is no graph that nir {nir.version} reads ({type(error).__name__}: {error}); it is "
            "damaged, or was written by another version"
        ) from error
    if not isinstance(graph, nir.NIRGraph):
        raise NirError(f"{path} holds one node, {type(graph).__name__}, not a graph")
    return graph, resets


def _look(nir: Any, path: Path) -> bool:
    """Go through a file's nodes before nir does, which tells less of what is wrong."""
    import h5py

    resets = True

    def visit(name: str, item: Any) -> None:
        nonlocal resets
        if not isinstance(item, h5py.Group) or not isinstance(item.get("type"), h5py.Dataset):
            return
        kind = item["type"][()]
        kind = kind.decode(errors="replace") if isinstance(kind, bytes) else str(kind)
        label = name.removeprefix("node/nodes/").replace("/nodes/", ".")
        if not isinstance(getattr(nir, kind, None), type) or not issubclass(getattr(nir, kind), nir.NIRNode):
            raise NirError(
                f"{path}: node {label!r} is a {kind!r}, which nir {nir.version} does not have; a newer one "
                "may: pip install -U nir"
            )
        if "v_threshold" in item and "v_reset" not in item and "reset" not in item.get("metadata", {}):
            resets = False

    try:
        with h5py.File(path, "r") as file:
            if not isinstance(file.get("node"), h5py.Group):
                raise NirError(f"{path} is HDF5, but no graph of NIR: it has no group 'node'")
            visit("node", file["node"])
            file["node"].visititems(lambda name, item: visit(f"node/{name}", item))
    except NirError:
        raise
    except Exception as error:  # HDF5's own, of many kinds
        raise NirError(f"{path} cannot be read: {error}; it is no HDF5 file, or a damaged one") from error
    return resets
