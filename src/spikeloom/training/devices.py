"""The devices of a run: processes, precision and strategy, by Lightning Fabric."""

from __future__ import annotations

import logging
import os
import random
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .config import Config

_PRECISION: dict[str, Any] = {
    "fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed", "fp64": "64-true"
}  # fmt: skip


def launched() -> bool:
    """Tell whether this process is one of several that train together."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def make_fabric(config: Config) -> Any:
    """Return the Fabric of this process, connected to the others.

    Raises:
        ValueError: there is no such device, or it cannot compute in that precision.
    """
    import lightning_fabric
    from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning_fabric")
    # a layer's output that is a view: nothing here writes in place
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
    on_cpu = check_devices(config)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world != config.devices:
        raise ValueError(f"recipe: devices = {config.devices}, but {world} processes run; say the same")
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))
    strategy: Any = "auto"
    precision = _PRECISION[config.precision]
    if world > 1 and config.strategy == "ddp":
        strategy = DDPStrategy()
    elif world > 1:
        strategy = ModelParallelStrategy(_shard, data_parallel_size=world, tensor_parallel_size=1)
        if precision == "64-true":  # the network is of that precision already; Fabric need not know
            precision = "32-true"
    fabric = lightning_fabric.Fabric(
        accelerator="cpu" if on_cpu else config.device,
        devices=local,
        num_nodes=world // local,
        strategy=strategy,
        precision=precision,
    )
    if world > 1:
        fabric.launch()
    return fabric


def check_devices(config: Config) -> bool:
    """Refuse devices that are not here, or cannot compute in that precision; tell whether they are CPUs.

    Raises:
        ValueError: there is no such device, or it cannot compute in that precision.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "recipe: device = 'cuda', but PyTorch sees no GPU; use cpu, or see `spikeloom doctor`"
        )
    if config.device == "mps" and not torch.backends.mps.is_available():
        raise ValueError("recipe: device = 'mps', but PyTorch sees none; use cpu")
    on_cpu = config.device == "cpu" or (config.device == "auto" and not torch.accelerator.is_available())
    if config.precision == "fp16" and on_cpu:
        raise ValueError("recipe: precision = 'fp16' needs a GPU; use bf16 or fp32 on a CPU")
    if config.precision == "fp16" and config.strategy == "fsdp" and config.devices > 1:
        raise ValueError("recipe: strategy = 'fsdp' computes in fp32 or bf16, not in fp16")
    return on_cpu


def _shard(net: nn.Module, mesh: Any) -> nn.Module:
    """Shard the parameters of each block, and what is left, over the devices (FSDP2)."""
    from torch.distributed.fsdp import fully_shard

    whole = set(unsharded(net))
    for block in _blocks(net):
        if any(p not in whole for p in block.parameters()):
            fully_shard(block, mesh=mesh["data_parallel"], ignored_params=whole)
    fully_shard(net, mesh=mesh["data_parallel"], ignored_params=whole)
    return net


def _blocks(net: nn.Module) -> Iterator[nn.Module]:
    """Go through the children of a network, and of those that only hold others, which cannot be sharded."""
    for child in net.children():
        if isinstance(child, (nn.ModuleList, nn.ModuleDict)):
            yield from _blocks(child)
        else:
            yield child


def unsharded(net: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that FSDP2 cannot shard, those of one number: each rank has them whole."""
    return [p for p in net.parameters() if p.ndim == 0]


def draw_from(*entropy: int) -> torch.Generator:
    """Seed all that draws from global generators by these numbers, and return a generator beside them.

    What a batch draws thus depends on seed, epoch, batch and rank alone; a run that goes on draws the same.
    """
    words = [int(n) for n in np.random.SeedSequence(list(entropy)).generate_state(4)]
    random.seed(words[0])
    np.random.seed(words[1])
    torch.manual_seed(words[2])
    return torch.Generator().manual_seed(words[3])


def total(fabric: Any, values: list[float]) -> list[float]:
    """Return the sums of numbers over all ranks."""
    if fabric.world_size == 1:
        return values
    summed: Tensor = fabric.all_reduce(
        torch.tensor(values, dtype=torch.float64, device=fabric.device), reduce_op="sum"
    )
    return [float(value) for value in summed.tolist()]


def highest(fabric: Any, value: int) -> int:
    """Return the highest number of all ranks."""
    found = torch.tensor(value, device=fabric.device)
    torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
    return int(found)


def average_gradients(fabric: Any, parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their means over all ranks, where no backward pass has done so."""
    found = [p.grad for p in parameters if p.grad is not None]
    if fabric.world_size == 1 or not found:
        return
    flat = torch.cat([g.flatten() for g in found])
    flat = fabric.all_reduce(flat, reduce_op="mean")
    for g, mean in zip(found, flat.split([g.numel() for g in found]), strict=True):
        g.copy_(mean.view_as(g))
