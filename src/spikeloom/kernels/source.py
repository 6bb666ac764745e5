"""Kernels' sources as modules on disk: what compilers want that keep machine code beside a file."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType


def cache_folder() -> Path:
    """Return where kernels are kept: `$SPIKELOOM_CACHE`, or the user's cache folder."""
    given = os.environ.get("SPIKELOOM_CACHE")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "spikeloom" / "kernels"


@functools.cache
def _writable_cache() -> Path:
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        from ..announce import announce

        announce(f"kernels are compiled anew in each process: {folder} cannot be written ({error}); "
                 "set SPIKELOOM_CACHE to a folder that can")  # fmt: skip
        return Path(tempfile.mkdtemp(prefix="spikeloom-"))


def load(name: str, text: str) -> ModuleType:
    """Return the module `name` with the source `text`; a name stands for one text, for ever."""
    path = _writable_cache() / f"{name}.py"
    if not path.exists():
        # a compiler drops its machine code when the file changes: write it once, whole
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as file:
            file.write(text)
        os.replace(file.name, path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
