"""Functions that a forward calls, written as nodes of NIR: sums, scales, means over space, reshapes."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from ..graph import Node, Ref
from .layers import Refused, Shape

_FUNCTIONS = {
    "mul": "it multiplies signals, which no node of NIR does; AND of spikes is a sum and a threshold of 1.5",
    "matmul": "it multiplies signals, as attention does; NIR's nodes have constant weights",
    "bmm": "it multiplies signals, as attention does; NIR's nodes have constant weights",
    "scaled_dot_product_attention": "NIR has no attention; nets of convolutions have a graph",
    "softmax": "NIR has no attention; a network of convolutions or linear layers has a graph",
    "rsub": "it takes from a constant; NIR has no constant signals",
    "cat": "NIR's nodes have one input and concatenate nothing; a sum of two linear layers is the same",
    "max_pool2d": "NIR has no max pooling; of spikes, SumPool2d and a threshold of 0.5 is the same",
}


def write_function(node: Node, name: str, to: Any) -> list[str]:
    """Write a function that a forward calls; return the names of what adds up to its output.

    Arguments:
        node: the call.
        name: of the node to write.
        to: the writer.

    Raises:
        Refused: NIR has no such node.
    """
    refs = [a for a in node.args if isinstance(a, Ref)]
    numbers = [a for a in node.args if isinstance(a, (int, float, Tensor)) and not isinstance(a, bool)]
    made = [to.made[ref.node] for ref in refs]
    if any(ref.item is not None for ref in refs):
        raise Refused("it takes a part of another's outputs; NIR's nodes have one output")
    kind, shape, plain = node.kind, node.shape, not node.kwargs
    kind = kind.removeprefix("i") if kind in ("iadd", "isub", "imul") else kind
    same = all(to.graph[ref.node].shape == shape for ref in refs)
    if kind in ("add", "radd", "sub", "rsub") and len(refs) == 2 and plain and same:
        first, second = made if kind != "rsub" else made[::-1]
        if kind in ("sub", "rsub"):
            second = [to.scale(name, second, shape, -1.0)]
        return first + second
    if kind in ("mul", "rmul") and len(refs) == 1 and len(numbers) == 1 and plain and same:
        return [to.scale(name, made[0], shape, _factor(node, numbers[0], to))]
    if kind == "neg" and same:
        return [to.scale(name, made[0], shape, -1.0)]
    if kind in ("flatten", "reshape", "view", "unsqueeze", "squeeze") and len(refs) == 1:
        taken = to.graph[refs[0].node].shape
        return to.flatten(name, made[0], taken, shape)
    if kind == "mean" and len(refs) == 1:
        return _mean(node, name, made[0], to.graph[refs[0].node].shape, to)
    raise Refused(_FUNCTIONS.get(kind, "it is none of NIR's operations (sums, scales, flattening)"))


def _mean(node: Node, name: str, sources: list[str], taken: Shape, to: Any) -> list[str]:
    """Write a mean over all of space."""
    dims = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    whole = len(node.taken[0])
    dims = {d % whole for d in ((dims,) if isinstance(dims, int) else dims or ())}
    if len(taken) != 3 or dims != {whole - 2, whole - 1}:
        raise Refused("it is a mean over other than the last two axes of [channels, height, width]")
    kernel, few = np.array(taken[1:]), (taken[0], 1, 1)
    fields = {"kernel_size": kernel, "stride": kernel.copy(), "padding": np.zeros(2, int)}
    pooled = [to.add(name, "AvgPool2d", sources, taken, few, **fields)]
    return to.flatten(f"{name}_flatten", pooled, few, node.shape)


def _factor(node: Node, number: Any, to: Any) -> Any:
    """Return a constant factor as it meets one sample."""
    if not isinstance(number, Tensor) or number.ndim == 0:
        return float(number)
    lead = 1 if node.folded else 2
    spare = number.ndim - len(node.shape)
    if spare > 0 and (spare > lead or any(n != 1 for n in number.shape[:spare])):
        raise Refused("it scales steps or samples differently")
    return to.array(number.reshape(number.shape[max(spare, 0) :]), "its factor")


def safe(name: str) -> str:
    """Return a name that is one for HDF5 and for modules, too."""
    return name.replace(".", "_").replace("#", "_").replace("/", "_") or "net"
