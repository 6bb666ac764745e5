"""Published networks in SpikingJelly: of its neurons and layers, or its own classes; weights shared."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformer import Tokens

import spikeloom as sl
from spikeloom.nn import PerToken

_SYNAPSES = (nn.Linear, nn.Conv1d, nn.Conv2d)


def reset(net: nn.Module) -> None:
    """Reset SpikingJelly's neurons, as its users must before each sequence."""
    from spikingjelly.activation_based import functional

    functional.reset_net(net)


def twin(net: nn.Module) -> nn.Module:
    """Return a copy of a network of which neurons and layers over time are SpikingJelly's.

    What has neither parameters nor time of its own (sums, products of spikes) is torch's in both.
    """
    from spikingjelly.activation_based import layer

    if isinstance(net, sl.NormNeuron):
        fold = Tokens if net.channel_axis == -1 else layer.SeqToANNContainer
        return nn.Sequential(fold(copy.deepcopy(net.norm)), node(net.neuron))
    if isinstance(net, PerToken):
        return Tokens(*copy.deepcopy(list(net)))
    if isinstance(net, sl.PerStep):
        return layer.SeqToANNContainer(*copy.deepcopy(list(net)))
    if isinstance(net, sl.Neuron):
        return node(net)
    made = copy.copy(net)
    made._parameters = copy.deepcopy(net._parameters)
    made._buffers = copy.deepcopy(net._buffers)
    made._modules = {name: child and twin(child) for name, child in net._modules.items()}
    return made


def node(neuron: sl.Neuron) -> nn.Module:
    """Return SpikingJelly's neuron with the same equations and surrogate."""
    from spikingjelly.activation_based import neuron as nodes
    from spikingjelly.activation_based import surrogate

    spikes: dict[type, Callable[[Any], Any]] = {
        sl.surrogate.ATan: lambda s: surrogate.ATan(s.alpha),
        sl.surrogate.Sigmoid: lambda s: surrogate.Sigmoid(s.alpha),
        sl.surrogate.Rect: lambda s: surrogate.Rect(1 / (2 * s.a)),
    }
    options = {
        "v_threshold": neuron.v_threshold,
        "v_reset": None if neuron.reset == "soft" else neuron.v_reset,
        "detach_reset": neuron.detach_reset,
        "surrogate_function": spikes[type(neuron.surrogate)](neuron.surrogate),
        "step_mode": "m",
    }
    if type(neuron) is sl.IF:
        return nodes.IFNode(**options)
    if type(neuron) is sl.LIF:
        return nodes.LIFNode(tau=neuron.tau, decay_input=neuron.decay_input, **options)
    raise TypeError(f"no neuron of SpikingJelly's is known that is {neuron}")


# -- its own classes ------------------------------------------------------------------------------


def spikformer(given: Mapping[str, Any]) -> nn.Module:
    from spikingjelly.activation_based.model.spikformer import Spikformer

    size = given["image_size"]
    net = Spikformer(
        in_channels=given["in_channels"],
        img_size_h=size,
        img_size_w=size,
        patch_size=2 ** sum(given["pools"]),
        num_classes=given["num_classes"],
        embed_dims=given["dim"],
        num_heads=given["heads"],
        mlp_ratio=given["mlp_ratio"],
        depths=given["depth"],
    )
    return _Mean(net)


def qkformer(given: Mapping[str, Any]) -> nn.Module:
    from spikingjelly.activation_based.model.qkformer import QKFormer

    return QKFormer(
        in_channels=given["in_channels"],
        num_classes=given["num_classes"],
        embed_dims=given["dim"],
        num_heads=(given["heads"],) * 3,
        depths=given["depths"],
        mlp_ratio=given["mlp_ratio"],
        detach_reset=True,
    )


def spike_driven_transformer(given: Mapping[str, Any]) -> nn.Module:
    from spikingjelly.activation_based.model.spike_driven_transformer import SpikeDrivenTransformer

    return SpikeDrivenTransformer(
        in_channels=given["in_channels"],
        num_classes=given["num_classes"],
        embed_dims=given["dim"],
        num_heads=given["heads"],
        depths=given["depth"],
        mlp_ratio=given["mlp_ratio"],
        pooling_stat=given["pools"],
        detach_reset=True,
    )


class _Mean(nn.Module):
    """Scores of each step, and their mean."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).mean(0)


def share(source: nn.Module, target: nn.Module, x: Tensor) -> None:
    """Copy the weights of a twin to a network in which the same layers run in the same order.

    One layer of the source may be several of the target, as q, k and v are. A bias that the source does not
    have is 0; one that the target does not have must be.
    """
    sources, targets = in_order(source, x), in_order(target, x)
    for of, into in zip(sources, targets, strict=True):
        rest = iter(into)
        for layer in of:
            begin = 0
            while begin < len(layer.weight):
                piece = next(rest)
                end = begin + len(piece.weight)
                _fill(piece.weight, layer.weight[begin:end])
                bias = torch.zeros_like(layer.weight[:, 0]) if layer.bias is None else layer.bias
                if piece.bias is not None:
                    _fill(piece.bias, bias.flatten()[begin:end])
                elif bias.any():
                    raise RuntimeError(f"{type(target).__name__} has no bias where the network has one")
                begin = end
        if next(rest, None) is not None:
            raise RuntimeError(f"{type(target).__name__} has more layers than the network")


def in_order(net: nn.Module, x: Tensor) -> tuple[list[Any], list[Any]]:
    """Return a network's layers with weights, and its batch norms, as they are called."""
    found: tuple[list[Any], list[Any]] = [], []
    hooks = []
    for module in net.modules():
        for kinds, calls in zip((_SYNAPSES, nn.modules.batchnorm._BatchNorm), found, strict=True):
            if isinstance(module, kinds):
                hooks.append(module.register_forward_pre_hook(lambda m, _, calls=calls: calls.append(m)))
    with torch.no_grad():
        reset(net)
        net.eval()(x)
        net.train()
    for hook in hooks:
        hook.remove()
    return found


def _fill(parameter: Tensor, value: Tensor) -> None:
    with torch.no_grad():
        parameter.copy_(value.reshape(parameter.shape))
