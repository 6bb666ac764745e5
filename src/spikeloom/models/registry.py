"""The registry of models: every file of this folder is one network, found by the name that it registers."""

from __future__ import annotations

import copy
import fnmatch
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from ..names import unknown


@runtime_checkable
class HasInputs(Protocol):
    """What a registered network offers besides `forward`: the shape of one sample of its input."""

    input_shape: tuple[int, ...]


@dataclass(frozen=True)
class Origin:
    """What `create_model` was asked for: enough to build the same network again.

    Attributes:
        model: the registered name.
        arguments: all arguments of its class, the defaults included, as a later version may change those.
    """

    model: str
    arguments: dict[str, Any]


Net = TypeVar("Net", bound=type[nn.Module])
_models: dict[str, type[nn.Module]] = {}


def model(name: str) -> Callable[[Net], Net]:
    """Register the class below under `name`: `@model("conv_snn")`."""

    def register(cls: Net) -> Net:
        _models[name] = cls
        return cls

    return register


def _known() -> dict[str, type[nn.Module]]:
    folder = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f"{__package__}.{module.name}")
    return _models


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of the models that match a shell pattern, as `"*former*"`."""
    return sorted(fnmatch.filter(_known(), pattern))


def create_model(name: str, **overrides: Any) -> nn.Module:
    """Build the network of that name; it remembers its name and arguments, so that it can be saved with them.

    Arguments:
        name: one of `list_models()`.
        overrides: arguments of its class, in place of the defaults.

    Raises:
        UnknownName: no such model, or no such argument; the message gives the nearest.
    """
    known = _known()
    if name not in known:
        raise unknown("model", name, known)
    arguments = list(inspect.signature(known[name]).parameters)
    for given in overrides:
        if given not in arguments:
            raise unknown(f"argument of model {name}", given, arguments)
    bound = inspect.signature(known[name]).bind(**overrides)
    bound.apply_defaults()
    remembered = Origin(name, copy.deepcopy(dict(bound.arguments)))
    net = known[name](**overrides)
    net._origin = remembered  # type: ignore[assignment]  # an attribute: copies of the network keep it
    return net


def origin(net: nn.Module) -> Origin | None:
    """Return what `create_model` was asked for when it built this network; None if it did not."""
    found = vars(net).get("_origin")
    return found if isinstance(found, Origin) else None


def example_input(net: nn.Module, batch: int = 1) -> Tensor:
    """Return a random input in [0, 1) for a registered network: `[batch, *net.input_shape]`."""
    if not isinstance(net, HasInputs):
        raise TypeError(f"{type(net).__name__} has no input_shape; give the input yourself")
    return torch.rand(batch, *net.input_shape)
