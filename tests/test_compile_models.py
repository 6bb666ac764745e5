"""Whole networks under torch.compile and torch.export: one graph, the same numbers, any T and batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from families import one_of_each, small_network
from torch import Tensor, nn
from torch.export import Dim

import spikeloom as sl
from spikeloom.models import example_input

T, B = 5, 7  # unlike each other and unlike any size of the networks: equal sizes share a symbol


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch.manual_seed(0)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(*more: str) -> list[Any]:
    """Return a name of each class of networks; `make test` takes the first ones and `more`."""
    some = {"conv_snn", "dense_snn", *more}
    rest = [name for name in one_of_each() if name not in some]
    return [*sorted(some), *(pytest.param(name, marks=pytest.mark.full) for name in rest)]


def in_time(net: nn.Module, steps: int, batch: int) -> Tensor:
    """Return an input of the network that changes from step to step."""
    return torch.stack([example_input(net, batch) for _ in range(steps)])


def steps_of(net: nn.Module) -> int:
    """Return how many steps an input of the network has, where its weights do not say so, 3."""
    return net.T if getattr(net, "fixed_T", False) else 3


def passed(net: nn.Module, run: Callable[[Tensor], Tensor], x: Tensor) -> list[Tensor]:
    """Return the output, all gradients and all buffers after a pass through `run`: net, or net compiled."""
    leaf = x.clone().requires_grad_()
    y = run(leaf)
    y.float().square().sum().backward()
    grads = [leaf.grad, *(parameter.grad for parameter in net.parameters() if parameter.requires_grad)]
    assert all(grad is not None for grad in grads)
    return [y.detach(), *(grad for grad in grads if grad is not None), *net.buffers()]


def assert_same_passes(net: nn.Module, x: Tensor) -> None:
    other = copy.deepcopy(net)
    whole = torch.compile(other, fullgraph=True, backend="aot_eager")
    for a, b in zip(passed(other, whole, x), passed(net, net, x), strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("static", [True, False], ids=["static", "in time"])
@pytest.mark.parametrize("name", compiled("spikingformer_8_384"))
def test_every_model_compiles_whole(name: str, static: bool) -> None:
    net = small_network(name)
    x = example_input(net, 2) if static else in_time(net, steps_of(net), 2)
    if name in compiled():
        assert_same_passes(net, x)
        return
    for module in net.modules():  # whose masks differ
        if isinstance(module, nn.modules.dropout._DropoutNd) or type(module).__name__ == "SharedDropout":
            module.p = 0.0
    assert_same_passes(net.double(), x.double())  # deep ones amplify rounding


@pytest.mark.parametrize("name", ["conv_snn", "dense_snn"])  # deeper ones amplify the order of bf16's sums
def test_models_compile_whole_under_autocast(name: str) -> None:
    net = small_network(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same_passes(net, in_time(net, 3, 2))


def linear() -> nn.Module:
    return nn.Sequential(
        sl.PerStep(nn.Linear(6, 10)),
        sl.LIF(tau=torch.rand(10) + 1.5, learnable="tau"),
        sl.PerStep(nn.Linear(10, 3), nn.BatchNorm1d(3)),
        sl.ALIF(),
        sl.LI(),
    )


def convolutional() -> nn.Module:
    return nn.Sequential(
        sl.PerStep(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)),
        sl.PLIF(),
        sl.PerStep(nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 10)),
        sl.LIF(),
    )


def graphs_of(net: nn.Module, shape: Sequence[int], sizes: Sequence[tuple[int, int]]) -> int:
    """Return how many graphs it takes to run all `sizes` of (T, batch), forward and backward."""
    graphs: list[Any] = []

    def count(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(net, fullgraph=True, backend=count, dynamic=True)
    for steps, batch in sizes:
        x = torch.rand(steps, batch, *shape, requires_grad=True)
        y = compiled(x)
        y.sum().backward()
        assert y.shape[:2] == (steps, batch)
    return len(graphs)


MANY = [(T, B), (4, 6), (8, 9), (20, 3), (3, 110)]
FEW = [(3, 4), (5, 3), (2, 7)]


def test_steps_and_batch_compile_once() -> None:
    assert graphs_of(linear(), (6,), MANY + FEW) == 1


def test_convolutions_compile_once_on_either_side_of_16_samples() -> None:
    # PyTorch's convolution chooses how to run by whether it is given 16 samples (here T*B) or more, and a
    # graph is guarded on the answer: its own convolution alone takes two graphs as well
    assert graphs_of(convolutional(), (2, 12, 12), MANY) == 1
    torch._dynamo.reset()
    assert graphs_of(convolutional(), (2, 12, 12), FEW) == 1
    torch._dynamo.reset()
    assert graphs_of(convolutional(), (2, 12, 12), MANY + FEW) == 2
    torch._dynamo.reset()
    alone = sl.PerStep(nn.Conv2d(2, 4, 3))
    assert graphs_of(alone, (2, 12, 12), MANY + FEW) == 2


_GUARDED = ("plif_net_n_mnist", "spiking_mlp_t", "ta_snn_dvs_gesture", "ta_snn_shd")


@pytest.mark.parametrize("name", compiled())
def test_every_model_is_exported_for_any_steps_and_batch(name: str) -> None:
    if name in _GUARDED:
        pytest.xfail(
            "a linear layer's strides, min(n, n * B), leave a guard that PyTorch cannot prove for B > 1"
        )
    net = small_network(name).eval()
    fixed = getattr(net, "fixed_T", False)
    example = in_time(net, steps_of(net) if fixed else T, B)
    open_axes = {1: Dim("B", min=2)} if fixed else {0: Dim("T", min=2), 1: Dim("B", min=2)}
    exported = torch.export.export(net, (example,), dynamic_shapes=(open_axes,))
    sizes = ((T, B), (2, 3), (9, 2), (1, 1))
    for steps, batch in [(len(example), b) for b in (B, 3, 1)] if fixed else sizes:
        x = in_time(net, steps, batch)
        torch.testing.assert_close(exported.module()(x), net(x))
