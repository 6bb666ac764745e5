"""A network built again from its name and arguments as JSON has them, and compared with the one at hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from .. import surrogate as surrogates
from ..names import unknown
from .registry import create_model
from .weights import PretrainedError

_SURROGATE = "sl.surrogate"  # marks an argument that is a surrogate, named


def build(name: str, arguments: dict[str, Any]) -> nn.Module:
    """Build a network from arguments as JSON has them; the random generators stay where they are."""
    with torch.random.fork_rng(devices=[]):
        return create_model(name, **{key: decoded(value) for key, value in arguments.items()})


def must_come_back(net: nn.Module, name: str, arguments: dict[str, Any]) -> None:
    """Raise PretrainedError unless the arguments build a network like `net` in all but its weights."""
    again = build(name, json.loads(json.dumps(arguments)))
    mine, theirs = dict(_settings(net)), dict(_settings(again))
    differ = [key for key in [*mine, *(theirs.keys() - mine.keys())] if mine.get(key) != theirs.get(key)]
    if differ:
        key = differ[0]
        more = f" (and {len(differ) - 1} more)" if len(differ) > 1 else ""
        raise PretrainedError(
            f"the network is not what its name and arguments build: {key} is {mine.get(key, 'not there')}, "
            f"but model {name}, built as this one was, has {theirs.get(key, 'nothing there')}{more}; give "
            "what was changed as an argument of sl.create_model, and save a network before sl.fold: fold "
            "after sl.models.from_pretrained"
        )


def _settings(net: nn.Module) -> Iterator[tuple[str, str]]:
    """Go through all that decides a network's outputs and is no tensor's value: types, settings, shapes."""
    for path, module in net.named_modules(remove_duplicate=False):
        yield path or "the network", type(module).__name__
        for name, value in vars(module).items():
            if name.startswith("_") or name == "training":
                continue
            if isinstance(value, surrogates.Surrogate):
                value = (type(value).__name__, sorted(vars(value).items()))
            if _plain(value):
                yield f"{path}.{name}" if path else name, repr(_listed(value))
    for name, tensor in net.state_dict(keep_vars=True).items():
        yield name, f"{'learnable' if isinstance(tensor, nn.Parameter) else 'fixed'} {list(tensor.shape)}"


def _plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, (list, tuple)) else value


def encoded(value: Any, where: str) -> Any:
    """Return an argument as JSON can hold it; a surrogate by its name and its numbers."""
    if isinstance(value, surrogates.Surrogate):
        name = type(value).__name__
        if name in surrogates.__all__ and set(vars(value)) == set(value.parameters):
            return {_SURROGATE: name, **vars(value)}
        raise PretrainedError(
            f"{where}: {value!r} is code, which a file does not hold; use one of sl.surrogate"
        )
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: encoded(item, f"{where}: {key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encoded(item, where) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise PretrainedError(
        f"{where} is a {type(value).__name__}, which config.json cannot hold; build the network with "
        "numbers, strings, lists, dicts and surrogates (a tensor as a list: tensor.tolist())"
    )


def decoded(value: Any) -> Any:
    """Return an argument that `encoded` made fit for JSON."""
    if isinstance(value, dict):
        if isinstance(value.get(_SURROGATE), str):
            kind, numbers = value[_SURROGATE], {k: v for k, v in value.items() if k != _SURROGATE}
            if kind not in surrogates.__all__:
                raise unknown("surrogate", kind, surrogates.__all__)
            return getattr(surrogates, kind)(**numbers)
        return {key: decoded(item) for key, item in value.items()}
    return [decoded(item) for item in value] if isinstance(value, list) else value
