"""Optimisers, the learning rate of each layer, and its course over a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ..neurons import Neuron
from .config import Config

_NO_WEIGHTS = (Neuron, nn.LayerNorm, nn.RMSNorm)
"""Modules whose parameters are no weights, though they may have an axis for each of a neuron's."""


def make_optimizer(net: nn.Module, config: Config) -> Optimizer:
    r"""Return the optimiser of a configuration, for the parameters of `net` that learn.

    Weights decay; biases, norms and neurons' parameters do not: a time constant that decays would end at 0.
    With `layer_decay` d, the layer that is k layers before the last learns with the rate $d^k$ (Clark et al.
    2020, ELECTRA, arXiv:2003.10555); a layer is a module with a weight, and the norm or neuron after it, in
    the order of `net.modules()`, belongs to it. `lr_factors` scales the rate of parameters by their names.
    What a module names in `undecayed` is no weight, whatever its axes.

    Raises:
        ValueError: nothing learns, a pattern of `lr_factors` fits no parameter, or what a library is
            needed for is not installed.
    """
    groups = _groups(net, config)
    if not groups:
        raise ValueError(
            f"{type(net).__name__} has no parameter with requires_grad=True; nothing would learn"
        )
    if config.optimizer == "sgd":
        nesterov = config.momentum > 0
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov)
    if config.optimizer == "lamb":
        # steps are of the paper's length, lr times that of the weights, from the first on; so the library's
        # own count of them, which no checkpoint has, plays no part
        return _lamb()(groups, lr=config.lr, adam_debias=True)
    return torch.optim.AdamW(groups, lr=config.lr)


def set_rate(optimizer: Optimizer, config: Config, done: float) -> float:
    """Give each group its learning rate, `done` of all epochs into the run; return that of the last layer."""
    rate = config.lr * factor(config, done)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
    return rate


def factor(config: Config, done: float) -> float:
    r"""Return the learning rate as a factor of the highest, after a share `done` of the run.

    With e the epochs done, E all and W those of warm-up, it rises as e / W, then

    * cosine: falls as $r + (1 - r)\,(1 + \cos \pi u) / 2$, $u = (e - W) / (E - W)$, $r$ the end's share
      (Loshchilov & Hutter 2017, arXiv:1608.03983);
    * one-cycle: the same, and rises along half a cosine from 1/25 of the highest (Smith & Topin 2019,
      arXiv:1708.07120), for 0.3 of all epochs if W is 0;
    * step: is $q^{\lfloor e / S \rfloor}$ with S epochs a step and q the factor;
    * constant: is 1.
    """
    epoch = done * config.epochs
    warm = config.warmup_epochs
    if config.schedule == "one-cycle":
        warm = warm or 0.3 * config.epochs
        if epoch < warm:
            return 1 - (1 - 1 / 25) * (1 + math.cos(math.pi * epoch / warm)) / 2
    elif epoch < warm:
        return epoch / warm
    if config.schedule == "step":
        # 15 / 22 * 22 is a little less than 15
        return config.step_factor ** int((epoch + 1e-9) // config.step_epochs)
    if config.schedule == "constant":
        return 1.0
    end = config.lr_end / config.lr if config.lr else 0.0
    left = max(config.epochs - warm, 1e-9)
    return end + (1 - end) * (1 + math.cos(math.pi * min((epoch - warm) / left, 1.0))) / 2


def _groups(net: nn.Module, config: Config) -> list[dict[str, Any]]:
    """Return groups of parameters with one decay and one scale of the learning rate each."""
    layer, layers = 0, 0
    found: list[tuple[nn.Parameter, int, bool]] = []
    seen: set[nn.Parameter] = set()
    for module in net.modules():
        own = [p for p in module.parameters(recurse=False) if p not in seen]
        seen.update(own)
        spared = {getattr(module, name, None) for name in getattr(module, "undecayed", ())}
        weights = {p for p in own if p.ndim > 1 and not isinstance(module, _NO_WEIGHTS)} - spared
        if weights:
            layer, layers = layers, layers + 1
        found += [(p, layer, p in weights) for p in own if p.requires_grad]
    times = _factors(net, config.lr_factors)
    # those at a factor of their own first: the last group is the last layer's
    found.sort(key=lambda one: times.get(one[0], 1.0) == 1.0)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for p, depth, decays in found:
        scale = config.layer_decay ** max(layers - 1 - depth, 0) * times.get(p, 1.0)
        groups.setdefault((scale, decays), []).append(p)
    return [
        {"params": some, "scale": scale, "weight_decay": config.weight_decay if decays else 0.0}
        for (scale, decays), some in groups.items()
    ]


def _factors(net: nn.Module, factors: Mapping[str, float]) -> dict[nn.Parameter, float]:
    """Return the factor of each parameter whose name one of the patterns fits."""
    found: dict[nn.Parameter, float] = {}
    fitting = set()
    for name, p in net.named_parameters():
        for pattern in (one for one in factors if fnmatchcase(name, one)):
            fitting.add(pattern)
            found.setdefault(p, factors[pattern])
    for pattern in factors:
        if pattern not in fitting:
            names = ", ".join(name for name, _ in list(net.named_parameters())[:6])
            raise ValueError(
                f"recipe: lr_factors names {pattern!r}, which fits no parameter of {type(net).__name__}; its "
                f"parameters are {names} ..."
            )
    return found


def _lamb() -> Any:
    try:
        from pytorch_optimizer import Lamb
    except ImportError as error:
        raise ValueError(
            "optimizer = 'lamb' needs pytorch-optimizer: pip install 'spikeloom[optim]', or choose adamw"
        ) from error
    return Lamb
