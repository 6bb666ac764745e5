"""All tensors of a run by name, whole on one rank whatever the strategy; and back into place, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict as distributed
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

Tensors = dict[str, Tensor]


def gather_model(net: nn.Module) -> Tensors:
    """Return the parameters and buffers of a network by name; all ranks call it, rank 0 gets the whole."""
    options = distributed.StateDictOptions(full_state_dict=True, cpu_offload=True)
    found: Any = distributed.get_model_state_dict(net, options=options)
    return {**found}


def gather(net: nn.Module, optimizer: Optimizer, more: Mapping[str, nn.Module]) -> tuple[Tensors, Any]:
    """Return the state of a run as tensors by name, and what of the optimiser's is no tensor.

    All ranks call it; rank 0 gets the whole, of shards, too.

    Arguments:
        net: the network.
        optimizer: its optimiser.
        more: other modules with state by name, as the moving average.
    """
    options = distributed.StateDictOptions(full_state_dict=True, cpu_offload=True)
    found = {f"model/{name}": value for name, value in gather_model(net).items()}
    plain: dict[str, dict[str, Any]] = {}
    if optimizer.state:  # before the first update there is none, and torch would make one
        states: Any = distributed.get_optimizer_state_dict(net, optimizer, options=options)
        for path, values in states.get("state", {}).items():
            for name, value in values.items():
                if isinstance(value, Tensor):
                    found[f"optimizer/{path}/{name}"] = value
                elif value is not None:
                    plain.setdefault(path, {})[name] = value
    for prefix, module in more.items():
        found.update({f"{prefix}/{name}": value for name, value in module.state_dict().items()})
    return found, plain


def restore(
    tensors: Tensors, plain: Any, net: nn.Module, optimizer: Optimizer, more: Mapping[str, nn.Module]
) -> None:
    """Put the state that `gather` gave into place; all ranks call it.

    Raises:
        RuntimeError, KeyError: the state does not fit.
    """
    options = distributed.StateDictOptions(full_state_dict=True, strict=True)
    states: dict[str, dict[str, Any]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer/"):
            _, path, key = name.split("/")
            states.setdefault(path, {})[key] = value
    for path, values in plain.items():
        states.setdefault(path, {}).update(values)
    if states:
        # the groups are made from the configuration; their values are set anew at each update
        like = distributed.get_optimizer_state_dict(net, optimizer, options=options)
        like["state"] = states  # type: ignore[assignment]
        distributed.set_optimizer_state_dict(net, optimizer, like, options=options)
        for p, values in optimizer.state.items():
            for (
                key,
                value,
            ) in values.items():  # in the parameter's memory format, as before
                if isinstance(value, Tensor) and value.shape == p.shape and not isinstance(value, DTensor):
                    values[key] = torch.empty_like(p, dtype=value.dtype).copy_(value)
    model: dict[str, Any] = {**part(tensors, "model")}
    distributed.set_model_state_dict(net, model, options=options)
    for prefix, module in more.items():
        module.load_state_dict(part(tensors, prefix))


def is_finite(net: nn.Module) -> bool:
    """Tell whether all parameters, of shards those of this rank, are finite numbers."""
    own = [p.to_local() if isinstance(p, DTensor) else p.detach() for p in net.parameters()]
    return not own or bool(torch.stack([p.isfinite().all() for p in own]).all())


def part(tensors: Tensors, prefix: str) -> Tensors:
    """Return the tensors below a name, by the rest of their names."""
    return {name[len(prefix) + 1 :]: v for name, v in tensors.items() if name.startswith(f"{prefix}/")}
