"""A run's folder: what is in it, written so that it is whole at any moment, and checked when read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from .recipes import Recipe

Tensors = dict[str, Tensor]


class RunError(RuntimeError):
    """A run folder that cannot be used; the message names the file, the reason and the remedy."""


class RunFolder:
    """`config.json`, `metrics.jsonl`, `model.safetensors`, `checkpoint.safetensors`, `result.json` of a run.

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
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            # exclusive: of two runs that start at once, one is refused
            with open(run.path / "config.json", "x") as file:
                json.dump({"recipe": name, **dataclasses.asdict(recipe)}, file, indent=2)
        except FileExistsError as error:
            raise RunError(
                f"{run.path} exists and is {'a run' if run.path.is_dir() else 'no folder'}; continue it with "
                f"--resume {run.path}, or choose another folder with --run-dir"
            ) from error
        except OSError as error:
            raise RunError(
                f"{run.path} cannot be written ({error}); choose another folder with --run-dir"
            ) from error
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
            with lock.acquire(timeout=0):
                yield
        except filelock.Timeout as error:
            raise RunError(
                f"{self.path}: another process is training in this folder; wait for it, or choose another"
            ) from error

    # -- writing ----------------------------------------------------------------------------------

    def write_json(self, file: str, value: Any) -> None:
        """Write a JSON file."""
        self._write(file, json.dumps(value, indent=2).encode())

    def write_metrics(self, epochs: Iterable[dict[str, float]]) -> None:
        """Write metrics.jsonl, a line an epoch."""
        self._write("metrics.jsonl", b"".join(json.dumps(line).encode() + b"\n" for line in epochs))

    def write_tensors(self, file: str, tensors: Tensors, state: Any = None) -> None:
        """Write a safetensors file, with `state` (JSON) in its header."""
        tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        text = json.dumps(state)
        self._write(file, save(tensors, {"state": text, "sha256": _digest(tensors, text)}))

    def _write(self, file: str, content: bytes) -> None:
        part = tempfile.NamedTemporaryFile(dir=self.path, prefix=f".{file}.", delete=False)  # noqa: SIM115
        try:
            with part:
                part.write(content)
                part.flush()
                os.fsync(part.fileno())
            os.replace(part.name, self.path / file)
        except BaseException:
            os.unlink(part.name)
            raise

    # -- reading ----------------------------------------------------------------------------------

    def config(self) -> tuple[str, Recipe]:
        """Return the recipe's name and the recipe as it was run."""
        file = self.path / "config.json"
        remedy = "this is no folder that `spikeloom train` finished making; train into a new one"
        try:
            values = json.loads(file.read_bytes())
            name = values.pop("recipe")
            if not isinstance(name, str):
                raise TypeError(f"recipe is {name!r}")
            return name, Recipe(**values)
        except FileNotFoundError as error:
            raise RunError(f"{file} does not exist; {remedy}") from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise RunError(f"{file} cannot be read ({type(error).__name__}: {error}); {remedy}") from error

    def metrics(self) -> list[dict[str, float]]:
        """Return the metrics of each epoch so far."""
        file = self.path / "metrics.jsonl"
        try:
            return [json.loads(line) for line in file.read_text().splitlines()]
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise RunError(f"{file} is damaged ({error}); remove it, or train into a new folder") from error

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


def _digest(tensors: Tensors, text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
