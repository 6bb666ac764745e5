"""The registry's networks for tests: one of each class, as variants differ in numbers alone, built small."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import spikeloom as sl
from spikeloom.models import Backbone, find_model


def one_of_each() -> list[str]:
    """Return a name of each class."""
    return sorted({find_model(name).cls: name for name in sl.list_models()}.values())


def small_network(name: str, **more: Any) -> nn.Module:
    """Return a network with the arguments by which its class says it is small."""
    return sl.create_model(name, **{**getattr(find_model(name).cls, "small", {}), **more})


def lively(name: str, **more: Any) -> Backbone:
    """Return a small transformer of two blocks in evaluation, all of whose neurons spike now and then."""
    torch.manual_seed(0)
    net = small_network(name, **{"depth": 2, **more})
    assert isinstance(net, Backbone)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.constant_(module.bias, 1.5)
    for _ in range(20):
        net(3 * torch.rand(4, *net.input_shape))
    return net.eval()
