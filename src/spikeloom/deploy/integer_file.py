"""Networks of whole numbers as files: tensors in safetensors, all else as JSON in its header; no code."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import save
from torch import Tensor

from ..whole import whole
from .integer import IntegerNetwork, IntFire, IntJoin, IntPool, IntSynapse
from .lower import Layer, Window

_KINDS: dict[str, type[Layer]] = {kind.__name__: kind for kind in (IntSynapse, IntPool, IntJoin, IntFire)}
_FORMAT = "spikeloom integers 1"


def save_integers(network: IntegerNetwork, path: Path | str) -> Path:
    """Write a network of whole numbers to one file, whole or not at all; return its path.

        small = sl.deploy.quantise(net.eval(), samples)
        sl.deploy.save_integers(small, "small.safetensors")
        small = sl.deploy.load_integers("small.safetensors")

    Raises:
        TypeError: no such network.
        OSError: the file cannot be written.
    """
    if not isinstance(network, IntegerNetwork):
        raise TypeError(
            f"save_integers takes an IntegerNetwork, not {type(network).__name__}: quantise(net, x)"
        )
    path, tensors = Path(path), {}
    about = {field.name: getattr(network, field.name) for field in fields(network)}
    about["peaks"] = dict(network.peaks)
    about["layers"] = []
    for layer in network:
        told: dict[str, Any] = {"kind": type(layer).__name__}
        for field in fields(layer):
            value = getattr(layer, field.name)
            if isinstance(value, Tensor):
                name = f"{layer.name}/{field.name}"
                tensors[name], told[field.name] = value.contiguous(), {"tensor": name}
            elif isinstance(value, Window):
                told[field.name] = {"window": vars(value)}
            else:
                told[field.name] = value
        about["layers"].append(told)
    with whole(path) as part:
        part.write_bytes(save(tensors, {"format": _FORMAT, "network": json.dumps(about)}))
    return path


def load_integers(path: Path | str) -> IntegerNetwork:
    """Return the network of whole numbers in a file that `save_integers` wrote.

    Raises:
        ValueError: the file is damaged, or another's; FileNotFoundError: there is none.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is no file; save_integers(small, {str(path)!r}) writes one")
    try:
        with safetensors.safe_open(str(path), "pt") as file:
            header = file.metadata() or {}
            if header.get("format") != _FORMAT:
                raise ValueError(f"its header does not say {_FORMAT!r}")
            about = json.loads(header["network"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        layers = [_layer(told, tensors) for told in about.pop("layers")]
        about["input"] = tuple(about["input"])
        return IntegerNetwork(layers={layer.name: layer for layer in layers}, **about)
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no network of whole numbers ({error}); write it again") from error


def _layer(told: dict[str, Any], tensors: dict[str, Tensor]) -> Layer:
    kind = _KINDS[told.pop("kind")]
    given: dict[str, Any] = {}
    for name, value in told.items():
        if isinstance(value, dict) and "tensor" in value:
            value = tensors[value["tensor"]]
        elif isinstance(value, dict):
            value = Window(**{key: _tupled(part) for key, part in value["window"].items()})
        given[name] = _tupled(value)
    return kind(**given)


def _tupled(value: Any) -> Any:
    """Return lists, which JSON has in the place of tuples, as tuples."""
    return tuple(value) if isinstance(value, list) else value
