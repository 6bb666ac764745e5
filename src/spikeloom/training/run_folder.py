"""A run's folder: what is in it, written so that it is whole at any moment, and checked when read."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import filelock
import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from .recipes import Recipe, read_recipe, to_yaml

Tensors = dict[str, Tensor]


class RunError(RuntimeError):
    """A run folder that cannot be used; the message names the file, the reason and the remedy."""


class RunFolder:
    """The folder of a run:

        config.yaml          the recipe, with every value, and its name
        run.json             what ran it: hash, versions, revision, command, machine
        metrics.jsonl        a line an epoch
        checkpoints/         the last few states that a run can go on from
        model.safetensors    the weights as they are now; best.safetensors: those that were best
        result.json          at the end: what the network does on the test set

    Each file is written beside its place, synced and renamed, so that a reader, or a machine that stops, sees
    the old one or the new one. Tensor files carry a sha256 of their content. Nothing is pickled.

    Arguments:
        path: the folder.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @classmethod
    def create(cls, path: Path | str, name: str, recipe: Recipe) -> RunFolder:
        """Make the folder of a new run of the recipe called `name`; RunError if it holds a run already."""
        run = cls(path)
        made = [folder for folder in (run.path, *run.path.parents) if not folder.exists()]
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            if (run.path / "config.yaml").exists():
                raise FileExistsError
            # this cannot be done twice: of two runs that start at once, one is refused
            (run.path / "checkpoints").mkdir()
        except FileExistsError as error:
            raise RunError(
                f"{run.path} exists and is {'a run' if run.path.is_dir() else 'no folder'}; continue it with "
                f"--resume {run.path}, or choose another folder with --run-dir"
            ) from error
        except OSError as error:
            raise _unwritable(run.path, error) from error
        try:
            run.write_json("run.json", provenance(recipe))
            run._write("config.yaml", lambda part: part.write_text(to_yaml(name, recipe), encoding="utf-8"))
        except RunError as error:  # nothing is left, so that the same command can be given again
            (run.path / "run.json").unlink(missing_ok=True)
            with suppress(OSError):
                for folder in (run.path / "checkpoints", *made):
                    folder.rmdir()
            raise _unwritable(run.path, error.__cause__) from error
        return run

    @classmethod
    def create_next(cls, root: Path, name: str, recipe: Recipe) -> RunFolder:
        """Make the first free one of `root/name-1`, `root/name-2`, ..."""
        number = 1
        while True:
            try:
                return cls.create(root / f"{name}-{number}", name, recipe)
            except RunError as error:
                if not isinstance(error.__cause__, FileExistsError):
                    raise
            number += 1

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one training process; RunError if another has it."""
        lock = filelock.FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise RunError(
                f"{self.path}: another process is training in this folder; wait for it, or choose another"
            ) from error
        except OSError as error:
            raise _unwritable(self.path, error) from error
        try:
            self._remove_parts()
            yield
        finally:
            lock.release()

    def _remove_parts(self) -> None:
        """Remove what processes that were killed left half written."""
        for part in (*self.path.glob(".*"), *(self.path / "checkpoints").glob(".*")):
            if part.suffix[1:].isdigit():
                part.unlink(missing_ok=True)

    # -- writing ----------------------------------------------------------------------------------

    def write_json(self, file: str, value: Any) -> None:
        """Write a JSON file."""
        self._write(file, lambda part: part.write_bytes(_json(value, indent=2).encode()))

    def write_metrics(self, epochs: Iterable[Mapping[str, Any]]) -> None:
        """Write metrics.jsonl, a line an epoch."""
        lines = b"".join(_json(line).encode() + b"\n" for line in epochs)
        self._write("metrics.jsonl", lambda part: part.write_bytes(lines))

    def write_tensors(self, file: str, tensors: Tensors, state: Any = None) -> None:
        """Write a safetensors file, with `state` (JSON) in its header."""
        tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        text = json.dumps(state)
        header = {"state": text, "sha256": _digest(tensors, text)}
        self._write(file, lambda part: save_file(tensors, part, header))

    def write_checkpoint(self, step: int, tensors: Tensors, state: Any, keep: int) -> None:
        """Write the state after so many updates; then remove all but the last `keep`."""
        self.write_tensors(f"checkpoints/step-{step:08}.safetensors", tensors, state)
        for file in self.checkpoints()[:-keep]:
            (self.path / file).unlink(missing_ok=True)

    def _write(self, file: str, write: Callable[[Path], Any]) -> None:
        place = self.path / file
        part = place.with_name(f".{place.name}.{os.getpid()}")
        try:
            part.touch()
            mode = part.stat().st_mode
            write(part)
            part.chmod(mode)  # safetensors leaves a file to its owner alone
            with open(part, "rb+") as opened:
                os.fsync(opened.fileno())
            os.replace(part, place)
            _sync(place.parent)
        except (OSError, safetensors.SafetensorError) as error:
            part.unlink(missing_ok=True)
            raise RunError(
                f"{place} cannot be written ({error}); what was there before is whole: free some space or "
                f"mend the disk, then go on with --resume {self.path}"
            ) from error
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def takes(self, recipe: Recipe, step: int) -> bool:
        """Tell whether a run goes on by another recipe than before; run.json keeps since when."""
        about = self.read_json("run.json") or {"hash": recipe.hash}
        changes = about.get("changes", [])
        if recipe.hash == (changes[-1] if changes else about)["hash"]:
            return False
        self.write_json("run.json", {**about, "changes": [*changes, {"step": step, "hash": recipe.hash}]})
        return True

    # -- reading ----------------------------------------------------------------------------------

    def config(self) -> tuple[str, Recipe]:
        """Return the recipe's name and the recipe as it was run."""
        file = self.path / "config.yaml"
        remedy = "this is no folder that `spikeloom train` finished making; train into a new one"
        if not file.exists():
            raise RunError(f"{file} does not exist; {remedy}")
        try:
            return read_recipe(file)
        except ValueError as error:
            raise RunError(f"{file} cannot be used: {error}; {remedy}") from error

    def metrics(self) -> list[dict[str, Any]]:
        """Return the metrics of each epoch so far."""
        file = self.path / "metrics.jsonl"
        try:
            return [json.loads(line) for line in file.read_text().splitlines()]
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise RunError(f"{file} is damaged ({error}); remove it, or train into a new folder") from error

    def read_json(self, file: str) -> Any:
        """Return what a JSON file of the folder holds; None if it is not there."""
        path = self.path / file
        try:
            return json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise RunError(f"{path} is damaged ({error}); remove it, or train into a new folder") from error

    def checkpoints(self) -> list[str]:
        """Return the checkpoints, the oldest first, as names within the folder."""
        found = (self.path / "checkpoints").glob("step-*.safetensors")
        return sorted((f"checkpoints/{path.name}" for path in found), key=lambda name: (len(name), name))

    def has_begun(self) -> bool:
        """Tell whether a state was kept; a run that was ended before that begins where it is resumed."""
        return bool(self.checkpoints()) or (self.path / "model.safetensors").exists()

    def read_tensors(self, file: str, remedy: str) -> tuple[Tensors, Any]:
        """Return the tensors of a file and the state in its header; RunError unless it is whole."""
        path = self.path / file
        try:
            with safetensors.safe_open(path, framework="pt") as opened:
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
                header = opened.metadata() or {}
            text = header["state"]
            found, expected = _digest(tensors, text), header["sha256"]
            if found != expected:
                raise ValueError(f"sha256 of its content is {found}, expected {expected}")
            return tensors, json.loads(text)
        except FileNotFoundError as error:
            raise RunError(f"{path} does not exist; {remedy}") from error
        except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
            raise RunError(f"{path} is damaged ({type(error).__name__}: {error}); {remedy}") from error


def _json(value: Any, indent: int | None = None) -> str:
    """Return JSON as all can read it, with null for what is no finite number."""

    def plain(part: Any) -> Any:
        if isinstance(part, Mapping):
            return {name: plain(inner) for name, inner in part.items()}
        if isinstance(part, (list, tuple)):
            return [plain(inner) for inner in part]
        return None if isinstance(part, float) and not math.isfinite(part) else part

    return json.dumps(plain(value), indent=indent)


def _unwritable(path: Path, error: BaseException | None) -> RunError:
    return RunError(
        f"{path} cannot be written ({error}); free some space, mend its rights, or choose another folder "
        "with --run-dir"
    )


def provenance(recipe: Recipe) -> dict[str, Any]:
    """Return what a run is run by, so that it can be repeated."""
    versions = {name: metadata.version(name) for name in ("torch", "numpy", "numba", "lightning-fabric")}
    return {
        "hash": recipe.hash,
        "seed": recipe.seed,
        "command": sys.argv,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "python": platform.python_version(),
            "spikeloom": metadata.version("spikeloom"),
            **versions,
        },
        "revision": _revision(),
        "machine": {
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }


def _revision() -> str | None:
    """Return the git revision of the working folder, with "+" if it has changes; None outside of one."""
    try:
        run = partial(subprocess.run, capture_output=True, text=True, timeout=10, check=True)
        revision = run(["git", "rev-parse", "HEAD"]).stdout.strip()
        return revision + ("+" if run(["git", "status", "--porcelain", "-uno"]).stdout.strip() else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _sync(folder: Path) -> None:
    """Make a renaming last."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(tensors: Tensors, text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
