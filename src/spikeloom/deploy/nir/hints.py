"""What a node's metadata keeps of a neuron, so that reading makes the very same one: class, options, numbers.

A hint is believed only where the neuron that it makes would be written as the node is now.
"""

from __future__ import annotations

import inspect
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ... import neurons, surrogate
from ...neurons import Neuron
from ...surrogate import Surrogate
from . import neurons as nir_neurons

_OURS: dict[str, type[Neuron]] = {
    cls.__name__: cls
    for cls in (
        neurons.IF,
        neurons.LIF,
        neurons.PLIF,
        neurons.LI,
        neurons.CubaLIF,
        neurons.ClampedLIF,
        nir_neurons.NirIF,
        nir_neurons.NirLIF,
        nir_neurons.NirCubaLIF,
        nir_neurons.NirI,
        nir_neurons.NirLI,
        nir_neurons.NirCubaLI,
        nir_neurons.NirThreshold,
    )
}
_OPTIONS = ("reset", "decay_input", "detach_reset", "channel_axis", "output")


def hint_of(neuron: Neuron) -> dict[str, Any]:
    """Return metadata for a neuron's node; none for a class of the user's own."""
    name = type(neuron).__name__
    if _OURS.get(name) is not type(neuron):
        return {}
    accepted = _accepted(type(neuron))
    values = {key: getattr(neuron, key) for key in neuron._params}
    about = {
        "class": name,
        "options": {
            key: getattr(neuron, key) for key in _OPTIONS if key in accepted and hasattr(neuron, key)
        },
        "numbers": {key: value for key, value in values.items() if not isinstance(value, Tensor)},
        "shapes": {key: list(value.shape) for key, value in values.items() if isinstance(value, Tensor)},
        "learnable": [key for key, value in values.items() if isinstance(value, nn.Parameter)],
        "surrogate": _surrogate(neuron.surrogate),
    }
    tensors = {
        key: value.detach().to("cpu", torch.float64).reshape(-1).numpy()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }
    return {"neuron": json.dumps(about), **({"values": tensors} if tensors else {})}


def _accepted(cls: type[Neuron]) -> set[str]:
    found: set[str] = set()
    for base in cls.__mro__:
        if "__init__" in base.__dict__ and issubclass(base, Neuron):
            found |= set(inspect.signature(base.__init__).parameters)
    return found


def _surrogate(spike: Surrogate) -> dict[str, Any] | None:
    name = type(spike).__name__
    if getattr(surrogate, name, None) is not type(spike):
        return None
    if set(inspect.signature(type(spike)).parameters) != set(spike.parameters):
        return None
    return {"class": name, **{key: getattr(spike, key) for key in spike.parameters}}


def neuron_of(metadata: Any, dtype: torch.dtype) -> Neuron | None:
    """Return the neuron that a node's metadata describes; None where they describe none.

    Arguments:
        metadata: the node's, as nir read it.
        dtype: of the neuron's tensors.
    """
    try:
        return _make(dict(metadata), dtype)
    except Exception:  # another's metadata, or a damaged one: the node itself says enough
        return None


def _make(metadata: dict[str, Any], dtype: torch.dtype) -> Neuron | None:
    if "neuron" not in metadata:
        return None
    about = json.loads(_text(metadata["neuron"]))
    cls = _OURS[about["class"]]
    values: dict[str, Any] = {key: float(value) for key, value in about["numbers"].items()}
    for key, shape in about["shapes"].items():
        flat = np.asarray(metadata["values"][key], np.float64)
        values[key] = torch.from_numpy(flat.copy()).to(dtype).reshape(shape)
    options = {key: value for key, value in about["options"].items() if key in _OPTIONS}
    if about["surrogate"] is not None:
        named = dict(about["surrogate"])
        options["surrogate"] = getattr(surrogate, named.pop("class"))(**named)
    if options.get("reset") == "soft":
        values.pop("v_reset", None)
    if cls is neurons.PLIF:
        w = values.pop("w")
        learnable = tuple(key for key in about["learnable"] if key != "w")
        found = neurons.PLIF(torch.full_like(w, 2.0), learnable=learnable, **values, **options)
        with torch.no_grad():
            found.w.copy_(w)
        return found
    return cls(**values, learnable=tuple(about["learnable"]), **options)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
