"""The registry of models: every file of this folder is one network, found by the name that it registers."""

from __future__ import annotations

import copy
import fnmatch
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
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


@dataclass(frozen=True)
class Published:
    """A result that others published for a network, as they state it.

    Attributes:
        data: the data set.
        accuracy: on its test set, in per cent.
        T: steps.
        source: where it is stated, as "QKFormer, table 2"; what was only remembered is said to be.
    """

    data: str
    accuracy: float
    T: int
    source: str


@dataclass(frozen=True)
class Entry:
    """A registered network.

    Attributes:
        name: its name.
        cls: its class.
        preset: the arguments by which this variant differs from the class's defaults.
        paper: authors, year, where.
        published: what it is known to reach.
    """

    name: str
    cls: type[nn.Module]
    preset: dict[str, Any]
    paper: str = ""
    published: tuple[Published, ...] = ()

    @property
    def arguments(self) -> dict[str, Any]:
        """All its arguments and their defaults, the preset's in place of the class's."""
        own = {name: p.default for name, p in inspect.signature(self.cls).parameters.items()}
        return {**own, **self.preset}


Net = TypeVar("Net", bound=type[nn.Module])
_entries: dict[str, Entry] = {}


def model(name: str, *published: Published, paper: str = "", **preset: Any) -> Callable[[Net], Net]:
    """Register the class below under `name`; of several variants, one line each:

        @model("sew_resnet34", Published("ImageNet", 67.04, 4, "the authors' log"), depth=34)
        @model("sew_resnet18", paper="Fang et al., NeurIPS 2021, arXiv:2102.04159", depth=18)
        class SEWResNet(Backbone): ...

    Arguments:
        name: the variant's name, lower case, as timm's.
        published: what others reached with it.
        paper: where it is described.
        preset: arguments of the class by which the variant differs from the defaults.
    """

    def register(cls: Net) -> Net:
        _entries[name] = Entry(name, cls, preset, paper, published)
        return cls

    return register


def _known() -> dict[str, Entry]:
    folder = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f"{__package__}.{module.name}")
    return _entries


def find_model(name: str) -> Entry:
    """Return what is registered under a name; UnknownName, with the nearest, if there is nothing."""
    known = _known()
    if name not in known:
        raise unknown("model", name, known)
    return known[name]


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of the models that match a shell pattern, as `"*former*"`."""
    return sorted(fnmatch.filter(_known(), pattern))


def create_model(name: str, *, pretrained: Path | str | None = None, **overrides: Any) -> nn.Module:
    """Build the network of that name; it remembers its name and arguments, so that it can be saved with them.

        sl.create_model("sew_resnet18", num_classes=10, T=6)
        sl.create_model("sew_resnet18", pretrained="sew18.safetensors", T=6)

    Arguments:
        name: one of `list_models()`.
        pretrained: where its weights are: a folder that `save_pretrained` wrote, whose arguments are then the
            defaults; a `.safetensors` file, under its own names or the reference's; or a repository on the
            hub. None for new weights.
        overrides: arguments of its class, in place of the defaults.

    Raises:
        UnknownName: no such model, or no such argument; the message gives the nearest.
        PretrainedError: weights that are not there, or that do not fit.
    """
    entry = find_model(name)
    if pretrained is not None:
        from .reference import pretrained_model  # which builds networks by this function

        return pretrained_model(name, pretrained, overrides)
    arguments = entry.arguments
    for argument in overrides:
        if argument not in arguments:
            raise unknown(f"argument of model {name}", argument, arguments)
    given = {**entry.preset, **overrides}
    bound = inspect.signature(entry.cls).bind(**given)
    bound.apply_defaults()
    remembered = Origin(name, copy.deepcopy(dict(bound.arguments)))
    net = entry.cls(**given)
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
