"""A network's weights in a safetensors file: written whole or not at all, checked when read."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from ..names import nearest

SHOWN = 4  # of the tensors that do not fit, so many are named


class PretrainedError(ValueError):
    """A network that cannot be saved, or a folder that cannot be loaded: why, and the remedy."""


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files of a folder: all beside their places first, synced, and then renamed, in their order.

    What goes wrong in writing, as a full disk, leaves the folder as it was. What a killed process left beside
    the places is removed.
    """
    mark = secrets.token_hex(4)
    parts = {name: folder / f".{name}.{mark}.part" for name in files}
    try:
        for name, content in files.items():
            with open(parts[name], "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for name, part in parts.items():
            os.replace(part, folder / name)
        for left in (path for name in files for path in folder.glob(f".{name}.*.part")):
            left.unlink(missing_ok=True)
    except BaseException:
        for part in parts.values():
            part.unlink(missing_ok=True)
        raise


def pack(net: nn.Module) -> bytes:
    """Return the bytes of a safetensors file with the network's state; what is shared is held once."""
    seen: set[int] = set()
    tensors = {}
    for name, value in net.state_dict(keep_vars=True).items():
        if not isinstance(value, Tensor):
            raise PretrainedError(
                f"{name!r} of the network's state is a {type(value).__name__}; safetensors hold tensors "
                "alone: keep it in a buffer or in an argument of the model"
            )
        if id(value) not in seen:
            seen.add(id(value))
            # a clone, as views of one storage are refused by the format
            tensors[name] = value.detach().cpu().contiguous().clone()
    return save(tensors, {"format": "pt"})


def digest(content: bytes) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def read(path: Path, expected: str | None) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Arguments:
        path: the file.
        expected: its sha256; None if it is not known.

    Raises:
        PretrainedError: no such file, not a safetensors file, cut short, or not the one expected.
    """
    if not path.exists():
        raise PretrainedError(f"{path} does not exist; {_instead(path.parent)}")
    try:
        content = path.read_bytes()
        tensors = load(content)
    except (OSError, safetensors.SafetensorError, ValueError, KeyError) as error:
        raise PretrainedError(
            f"{path} is no whole safetensors file ({error}); save the network again, or download it again"
        ) from error
    if expected is not None and digest(content) != expected:
        raise PretrainedError(
            f"{path}: its sha256 is {digest(content)}, but config.json expects {expected}: it is "
            "damaged, or of another network; save the network again, or download it again"
        )
    return tensors


PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".tar")


def refuse_pickle(path: Path) -> None:
    """Raise PretrainedError if the name of a file says that reading it would mean unpickling."""
    if path.suffix.lower() in PICKLES:
        raise PretrainedError(f"{path} is a pickle, and {_WHY}")


_WHY = (
    "unpickling runs whatever code its author put there, so it is never read; where you trust it, load it "
    "yourself, net.load_state_dict(torch.load(file, weights_only=True)), and then call "
    "sl.models.save_pretrained(net, folder)"
)


def _instead(folder: Path) -> str:
    """Say what to do about a folder without model.safetensors."""
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES) if folder.is_dir() else []
    if pickles:
        return f"there is {', '.join(pickles)}, a pickle, but {_WHY}"
    return "give a folder that sl.models.save_pretrained wrote; a pickle, as pytorch_model.bin, is never read"


def fill(net: nn.Module, tensors: Mapping[str, Tensor], path: Path | str, built: str) -> None:
    """Put the tensors into the network, each in the dtype that it was saved in.

    Arguments:
        net: a network, changed in place.
        tensors: its state by name; of names that share a parameter, one is enough.
        path: where they come from, for messages.
        built: what the network is, for messages.

    Raises:
        PretrainedError: missing, unexpected or misshapen tensors, or values out of a parameter's bounds.
    """
    wanted = net.state_dict(keep_vars=True)
    held = {id(wanted[name]) for name in tensors if name in wanted}
    missing = [name for name, value in wanted.items() if name not in tensors and id(value) not in held]
    unexpected = [name for name in tensors if name not in wanted]
    both = [name for name in wanted if name in tensors]
    wrong = [
        f"{name} is {_like(tensors[name])} in the file, but {_like(wanted[name])} in the network"
        for name in both
        if tensors[name].shape != wanted[name].shape or _kind(tensors[name]) != _kind(wanted[name])
    ]
    faults = [
        _listed("missing in the file", [_near(name, unexpected) for name in missing]),
        _listed("not of this network", [_near(name, missing) for name in unexpected]),
        _listed("other than they should be", wrong),
    ]
    if any(faults):
        raise PretrainedError(
            f"{path} does not fit {built}: {'; '.join(filter(None, faults))}. Give the arguments with which "
            "the network was built, or the file that belongs to it"
        )
    for name in both:
        _cast(net, name, tensors[name].dtype)
    try:
        net.load_state_dict(dict(tensors), strict=False)  # all names have been compared; shared ones may lack
    except (ValueError, RuntimeError) as error:
        raise PretrainedError(f"{path} does not fit {built}: {error}") from error


def _cast(net: nn.Module, name: str, dtype: torch.dtype) -> None:
    where, _, leaf = name.rpartition(".")
    module = net.get_submodule(where)
    old = module._parameters.get(leaf)
    if old is not None:
        old.data = old.data.to(dtype)
    else:
        buffer = module._buffers[leaf]
        module._buffers[leaf] = None if buffer is None else buffer.to(dtype)


def _kind(value: Tensor) -> str:
    return "complex" if value.is_complex() else "floating" if value.is_floating_point() else "whole"


def _like(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def _near(name: str, others: Iterable[str]) -> str:
    near = nearest(name, others)
    return f"{name} (like {near}?)" if near else name


def _listed(what: str, found: list[str]) -> str:
    more = f", and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"{len(found)} {what}: {', '.join(found[:SHOWN])}{more}" if found else ""
