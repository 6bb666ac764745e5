"""What a network does on the test set: scores, mistakes, and which neurons fire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..nn.time import spiking_layers
from .record import plain, significant

MOST_CLASSES = 64  # of a matrix on the page
Batches = Callable[[Tensor], Tensor]  # indices of test samples -> what the network takes


@dataclass(frozen=True)
class Behaviour:
    """What a network answered.

    Attributes:
        which: `[N]`, the test samples that it was shown.
        labels: `[N]`, their classes.
        scores: `[N, K]`, the network's.
        layers: by layer, each neuron's spikes a step, `[neurons]`.
    """

    which: Tensor
    labels: Tensor
    scores: Tensor
    layers: dict[str, Tensor]

    @property
    def losses(self) -> Tensor:
        """`[N]`: cross-entropy of each sample, in nats."""
        return functional.cross_entropy(self.scores.double(), self.labels, reduction="none")

    def confusion(self) -> Tensor:
        """Return `[K, K]`: how many samples of class i (row) were taken for class j (column)."""
        classes = self.scores.shape[1]
        pairs = self.labels * classes + self.scores.argmax(1)
        return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)

    def hardest(self, most: int) -> list[int]:
        """Return the places in `which` of the samples with the highest loss, hardest first."""
        return torch.argsort(self.losses, descending=True, stable=True)[:most].tolist()


def behave(
    net: nn.Module,
    batches: Batches,
    labels: Tensor,
    which: Tensor,
    readout: Callable[[Tensor], Tensor],
    batch_size: int,
) -> Behaviour:
    """Show a network the test samples `which`.

    A neuron that fired in no step is silent, one that fired in each step of each sample saturated.

    Arguments:
        net: the network, which is put into eval.
        batches: what it takes for given indices.
        labels: `[all]`, the classes of all test samples.
        which: indices of the samples to show.
        readout: from scores by step `[T, B, K]` to `[B, K]`, for a network that gives those.
        batch_size: samples at once.
    """
    net.eval()
    fired: dict[str, Tensor] = {}
    chances: dict[str, int] = {}
    hooks = []

    def counter(name: str) -> Any:
        def count(module: nn.Module, given: Any, out: Tensor) -> None:
            spikes = (out.detach() != 0).sum((0, 1)).flatten().cpu()
            fired[name] = fired[name] + spikes if name in fired else spikes
            chances[name] = chances.get(name, 0) + out.shape[0] * out.shape[1]

        return count

    for name, module, _ in spiking_layers(net):
        hooks.append(module.register_forward_hook(counter(name)))
    try:
        with torch.inference_mode():
            scores = []
            for some in which.split(batch_size):
                out = net(batches(some))
                scores.append((readout(out) if out.ndim == 3 else out).float().cpu())
    finally:
        for hook in hooks:
            hook.remove()
    layers = {name: spikes.double() / chances[name] for name, spikes in fired.items()}
    return Behaviour(which, labels[which].cpu(), torch.cat(scores).clone(), layers)


def told(found: Behaviour, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return what the page has of a behaviour, but for pictures, as JSON."""
    matrix = found.confusion()
    right = matrix.diagonal()
    wrong = matrix.clone().fill_diagonal_(0)
    order = torch.argsort(wrong.flatten(), descending=True, stable=True)[:12].tolist()
    pairs = [(i // len(matrix), i % len(matrix)) for i in order if wrong.flatten()[i] > 0]
    small = len(matrix) <= MOST_CLASSES
    return {
        "samples": len(found.labels),
        "accuracy": float((found.scores.argmax(1) == found.labels).double().mean()),
        "loss": plain(float(found.losses.mean())),
        "classes": [str(c) for c in classes],
        "confusion": matrix.tolist() if small else None,
        "confused": [[classes[i], classes[j], int(wrong[i, j])] for i, j in pairs],
        "recall": [[str(classes[i]), int(right[i]), int(matrix[i].sum())] for i in range(len(matrix))],
        "layers": [
            {
                "name": name,
                "neurons": len(rates),
                "rate": significant(float(rates.mean())),
                "silent": significant(float((rates == 0).double().mean())),
                "saturated": significant(float((rates == 1).double().mean())),
                "histogram": torch.histc(rates, 20, 0, 1).to(torch.int64).tolist(),
            }
            for name, rates in found.layers.items()
        ],
    }
