"""How small runtimes lay a network out: images channels last, weights by what they are scattered from."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .integer import IntegerNetwork, IntFire, IntJoin, IntPool, IntSynapse
from .lower import Fire, Join, Layer, Lowered, Pool, Shape, Synapse, Unsupported

Array = np.ndarray[Any, Any]
Net = Lowered | IntegerNetwork


class Machine:
    """A network whose values lie in flat memory; `order[name][i]` is where element i lies in `[C, H, W]`.

    Raises:
        Unsupported: two ways that are laid out differently are added.
    """

    def __init__(self, net: Net) -> None:
        self.net = net
        self.names = ["input", *net.layers]
        self.order: dict[str, Array] = {"input": _channels_last(net.input)}
        for layer in net:
            if isinstance(layer, (Synapse, IntSynapse)):
                whole = layer.window is not None
                order = _channels_last(layer.shape) if whole else np.arange(prod(layer.shape))
                beside = layer.inputs[1:]
            elif isinstance(layer, (Pool, IntPool)):
                order, beside = _channels_last(layer.shape), ()
            else:
                order, beside = self.order[layer.inputs[0]], layer.inputs[1:]
            for name in beside:
                if not np.array_equal(self.order[name], order):
                    raise Unsupported(
                        f"layer {layer.name!r} joins a flattened image and a vector; put a layer between"
                    )
            self.order[layer.name] = order

    def number(self, name: str) -> int:
        """Return a value's number: 0 is the input."""
        return self.names.index(name)

    def size(self, name: str) -> int:
        """Return how many elements a value has."""
        return prod(self.net.shape(name))

    def weight(self, layer: Any) -> Array:
        """Return a synapse's weights as an event scatters them: `[in, rows, columns, out of its group]`."""
        weight = layer.weight.numpy()
        if layer.window is None:
            return np.ascontiguousarray(weight[:, self.order[layer.inputs[0]]].T)
        groups = layer.window.groups
        parts = weight.reshape(groups, -1, *weight.shape[1:])  # group, out, in, rows, columns
        return np.ascontiguousarray(parts.transpose(0, 2, 3, 4, 1)).reshape(
            -1, *weight.shape[2:], parts.shape[1]
        )

    def along(self, layer: Layer, value: Any) -> float | int | Array:
        """Return a parameter as a number, or an array whose element i % len(array) is element i's."""
        if not isinstance(value, Tensor):
            return float(value)
        full = value.detach().cpu().expand(layer.shape).reshape(-1).numpy()[self.order[layer.name]]
        if (full == full[0]).all():
            return full[0].item()
        channels = layer.shape[0]
        rows = full.reshape(-1, channels) if len(layer.shape) == 3 else full[None]
        return rows[0] if (rows == rows[0]).all() else full


def slots(layer: Fire) -> list[Any]:
    """Return the values of a float neuron's slots: numbers, or tensors that broadcast against its shape."""
    neuron: Any = layer.neuron
    like = torch.zeros(1, 1, *layer.shape)
    with torch.no_grad():
        values = neuron._plan.slots([neuron._value(name, like, torch.float32) for name in neuron._names()])
    for value in values:
        if not bool(torch.isfinite(torch.as_tensor(value)).all()):
            raise ValueError(
                f"layer {layer.name!r}: {type(neuron).__name__}'s parameters make NaN or infinity"
            )
    return [value.float() if isinstance(value, Tensor) else value for value in values]


def is_fire(layer: Layer) -> bool:
    """Whether a layer has neurons."""
    return isinstance(layer, (Fire, IntFire))


def is_join(layer: Layer) -> bool:
    """Whether a layer is elementwise."""
    return isinstance(layer, (Join, IntJoin))


def _channels_last(shape: Shape) -> Array:
    places = np.arange(prod(shape)).reshape(shape)
    return (places.transpose(1, 2, 0) if len(shape) == 3 else places).ravel()
