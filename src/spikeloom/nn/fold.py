"""Batch norms folded into the layers in front of them, for evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ..announce import announce
from .norm_neuron import NormNeuron, has_hooks
from .norms import BatchNorm, affine, is_known
from .per_step import PerStep
from .per_token import PerToken
from .quantise import settle_weights
from .temporal_norms import StepNorm

# each with the norm over its output's channels
_LAYERS: dict[type[nn.Module], type[BatchNorm]] = {
    nn.Linear: nn.BatchNorm1d,
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
    nn.ConvTranspose1d: nn.BatchNorm1d,
    nn.ConvTranspose2d: nn.BatchNorm2d,
    nn.ConvTranspose3d: nn.BatchNorm3d,
}
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def fold(net: nn.Module) -> nn.Module:
    r"""Return a copy of a network, for evaluation, with its batch norms folded into the layers before them.

    $$W' = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}}\,W, \qquad
    b' = \beta + \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}}\,(b - \mu)$$

    with the running mean and variance: the same outputs, to rounding. `net` is left as it is. In the copy an
    `nn.Identity` stands where a norm was, and the neuron alone where a `NormNeuron` was: other modules keep
    their paths.

    Folded is what is certain to be computed one right after the other: a convolution (transposed ones, too)
    or a linear layer, and then a batch norm, tdBN or NormNeuron, within `nn.Sequential` and `sl.PerStep`,
    nested or side by side. What is used twice, or has hooks or parametrisations, stays as it is, as does what
    another class's forward calls. Each norm that stays is announced, with its path and why. Weights that were
    rounded while they learned (`sl.deploy.quantise_weights`) are plain ones in the copy.

    Arguments:
        net: a network in evaluation mode.

    Raises:
        TypeError: not a module.
        RuntimeError: a network in training mode, whose norms take their statistics from the batch.
        ValueError: by the copy, an input with more or fewer axes than the norm was folded for: a linear layer
            acts on the last axis, but `BatchNorm1d` on the second.
    """
    net = evaluation_copy(net, "sl.fold")
    uses = Counter(module for _, module in net.named_modules(remove_duplicate=False))
    uncertain = (
        "what comes before it is certain within nn.Sequential and sl.PerStep alone, not in a forward's code"
    )
    of_steps = "it has weights of each step, but a layer has the same at all steps"
    left = {
        name: of_steps if isinstance(module, StepNorm) else uncertain
        for name, module in net.named_modules()
        if isinstance(module, (BatchNorm, StepNorm))
    }
    for chain in _chains(net, ""):
        before: _Link | None = None
        for link in chain:
            norm = link.norm
            if norm is not None and link.parent is not None:
                left[link.norm_path] = _why_not(before, link, norm, uses)
                if before is not None and not left[link.norm_path]:
                    _fold(before, link, norm)
                    del left[link.norm_path]
                    if link.module is norm:
                        continue  # another norm behind it can be folded, too
            if type(link.module) is not nn.Identity or has_hooks(link.module):
                before = link
    for path, why in left.items():
        announce(f"fold leaves {type(net.get_submodule(path)).__name__} {path!r} as it is: {why}")
    return net


def evaluation_copy(net: nn.Module, call: str) -> nn.Module:
    """Return a copy, to be changed, of a network in evaluation mode, its rounded weights plain ones.

    Arguments:
        net: the network.
        call: what asks for it, as "sl.fold", for messages.

    Raises:
        TypeError: not a module.
        RuntimeError: a network in training mode.
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"{call} takes a network, not {type(net).__name__}: {call}(net)")
    net = settle_weights(net)
    training = next((f"{type(m).__name__} {name!r}" for name, m in net.named_modules() if m.training), None)
    if training is not None:
        raise RuntimeError(
            f"{call}: {training} is in training mode, in which norms take their statistics from the batch; "
            "call net.eval() first"
        )
    return net


@dataclass(frozen=True)
class _Link:
    """One module of a chain: attribute `name` of `parent`; `per_step` tells that time is folded there."""

    parent: nn.Module | None
    name: str
    path: str
    module: nn.Module
    per_step: bool

    @property
    def norm(self) -> BatchNorm | None:
        """The batch norm that it is or, a NormNeuron, begins with."""
        norm = self.module.norm if isinstance(self.module, NormNeuron) else self.module
        return norm if isinstance(norm, BatchNorm) else None

    @property
    def norm_path(self) -> str:
        return _join(self.path, "norm") if isinstance(self.module, NormNeuron) else self.path

    def inner(self) -> Iterator[_Link]:
        """Go through the chain that it is, itself alone if it is none."""
        if not isinstance(self.module, nn.Sequential) or type(self.module).forward not in _CHAINS:
            yield self
            return
        # a hook looks at what goes in or comes out, or changes it: nothing is folded across
        barrier = [_Link(None, "", self.path, nn.Module(), False)] if has_hooks(self.module) else []
        yield from barrier
        per_step = self.per_step or isinstance(self.module, PerStep)
        for name, child in self.module._modules.items():  # one that occurs twice, twice
            if child is not None:
                yield from _Link(self.module, name, _join(self.path, name), child, per_step).inner()
        yield from barrier


_CHAINS = (nn.Sequential.forward, PerStep.forward, PerToken.forward)


def _chains(module: nn.Module, path: str) -> Iterator[list[_Link]]:
    """Go through all runs of modules that are computed one after the other, each as long as it can be."""
    chain = list(_Link(None, "", path, module, False).inner())
    yield chain
    for link in chain:
        if not isinstance(link.module, NormNeuron):
            for name, child in link.module.named_children():
                yield from _chains(child, _join(link.path, name))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _why_not(before: _Link | None, link: _Link, norm: BatchNorm, uses: Counter[nn.Module]) -> str:
    """Return why a norm cannot be folded into what comes before it, or an empty string."""
    if not is_known(norm):
        return "its equation is not known to be batch norm's"
    if norm.running_mean is None or norm.running_var is None:
        return "it keeps no running statistics"
    layer: Any = None if before is None else before.module
    wanted = _LAYERS.get(type(layer))
    if before is None or wanted is None:
        found = "nothing" if layer is None or type(layer) is nn.Module else type(layer).__name__
        return f"right before it comes {found}, no plain convolution or linear layer"
    for module in (norm, layer, link.module):
        if uses[module] > 1:
            return f"{type(module).__name__} is used more than once"
        if has_hooks(module):
            return f"{type(module).__name__} has hooks"
    fused = isinstance(link.module, NormNeuron)
    linear = isinstance(layer, nn.Linear)
    last = fused and link.module.channel_axis == -1
    if not isinstance(norm, wanted) or (last and not linear):
        return f"it works on other axes than {type(layer).__name__}"
    if not (before.per_step == link.per_step or fused) or (fused and not linear and not before.per_step):
        return f"it works on other axes than {type(layer).__name__}, one inside of PerStep, one outside"
    if type(layer) in _TRANSPOSED and layer.groups > 1:
        return "a transposed convolution with groups is not folded"
    if norm.num_features != (layer.out_features if linear else layer.out_channels):
        return f"it has {norm.num_features} features, other than {type(layer).__name__}'s outputs"
    return ""


def _fold(before: _Link, link: _Link, norm: BatchNorm) -> None:
    """Fold a norm into the layer before it, and take the norm away."""
    layer: Any = before.module
    assert link.parent is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weight, bias = affine(norm, layer.weight)
    with torch.no_grad():
        layer.weight, layer.bias = fuse_conv_bn_weights(
            layer.weight,
            layer.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            weight,
            bias,
            transpose=type(layer) in _TRANSPOSED,
        )
    fused = isinstance(link.module, NormNeuron)
    setattr(link.parent, link.name, link.module.neuron if fused else nn.Identity().eval())
    if isinstance(layer, nn.Linear):
        if not (fused and link.module.channel_axis == -1):
            layer.register_forward_hook(_Axes(3 if fused and not before.per_step else 2))
    elif isinstance(norm, nn.BatchNorm1d):
        layer.register_forward_hook(_Axes(3))


@dataclass(frozen=True)
class _Axes:
    """A hook that holds a folded layer to the axes for which the norm's channels were its own."""

    count: int

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if output.ndim != self.count:
            raise ValueError(
                f"{type(module).__name__} holds a batch norm that sl.fold folded in, for outputs of "
                f"{self.count} axes, but this one has shape {tuple(output.shape)}, on which the norm would "
                "have worked along another axis; use the network that was not folded"
            )
