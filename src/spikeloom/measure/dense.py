"""Operations counted from shapes alone, so that no weights are needed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..announce import SpikeloomWarning
from ..uncompiled import uncompiled
from .flow import Flow, Weights, plain_attention
from .products import find_product


def dense_operations(net: nn.Module, x: Tensor) -> int:
    r"""Return the multiply-accumulates of one call of a network, zeros and padding included.

    They are the sum of `dense_total` over the rows that `profile` finds, but need no values: network and
    input may be on the device "meta", where a network of any size takes neither memory nor time to run.

        with torch.device("meta"):
            net = sl.create_model("sew_resnet152").eval()
            sl.measure.dense_operations(net, sl.models.example_input(net))

    Arguments:
        net: a network.
        x: its input.

    Raises:
        ValueError: an operation of torch's own whose products cannot be seen, with a remedy.
    """
    found = 0

    def met(name: str, args: Sequence[Any], weights: Weights) -> None:
        nonlocal found
        product = find_product(name, args, weights.has)
        found += 0 if product is None else product.dense

    with (
        torch.no_grad(),
        warnings.catch_warnings(),
        uncompiled("dense_operations"),
        plain_attention(),
        Flow(met, Weights(net)),
    ):
        warnings.simplefilter("ignore", SpikeloomWarning)  # no kernels for meta, nor are any needed
        net(x)
    return found
