"""What modules do between steps of training: keep their parameters in bounds, follow the course of a run."""

from __future__ import annotations

from torch import nn


def settle(net: nn.Module) -> None:
    """Call `settle()` of every module of `net` that has one; after each update of the parameters.

    `sl.train` does; a loop of one's own calls it behind `optimizer.step()`.
    """
    for module in net.modules():
        own = getattr(module, "settle", None)
        if callable(own):
            own()


def follow(net: nn.Module, done: float) -> None:
    """Call `follow(done)` of every module of `net` that has one; at the beginning of each epoch.

    Arguments:
        net: the network.
        done: the share of the run's epochs that lie behind, in [0, 1].
    """
    if not 0 <= done <= 1:
        raise ValueError(f"follow: done = {done}; the share of the epochs that are done is in [0, 1]")
    for module in net.modules():
        own = getattr(module, "follow", None)
        if callable(own):
            own(done)
