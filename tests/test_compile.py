"""torch.compile, torch.export and the custom operator see the same kernels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from zoo import NEURONS

import spikeloom as sl


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch._dynamo.reset()


def gradients(net: Any, params: list[nn.Parameter], x: Tensor) -> list[Tensor]:
    leaf = x.clone().requires_grad_()
    y = net(leaf)
    grads = torch.autograd.grad(y.square().sum(), [leaf, *params], allow_unused=True)
    return [y.detach(), *(g for g in grads if g is not None)]


@pytest.mark.parametrize("name", NEURONS)
def test_every_neuron_compiles_whole(name: str) -> None:
    entry = NEURONS[name]
    neuron = entry.make(learnable=entry.params())
    x, *further = entry.inputs(4, 2, 3, 5)
    params = list(neuron.parameters())

    def call(x: Tensor) -> Tensor:
        return neuron(x, *further)

    whole = torch.compile(call, fullgraph=True, backend="aot_eager")
    for a, b in zip(gradients(whole, params, x), gradients(call, params, x), strict=True):
        torch.testing.assert_close(a, b)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        sl.PerStep(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)),
        sl.LIF(tau=torch.rand(4) + 1.5, learnable="tau"),
        sl.PerStep(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4 * 16, 10)),
        sl.PLIF(),
    )


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_network_compiles_whole(backend: str) -> None:
    if backend == "inductor":
        from torch._inductor.cpp_builder import get_cpp_compiler

        try:
            get_cpp_compiler()
        except Exception as error:
            pytest.skip(f"inductor needs a C++ compiler: {error}")
    net, x = network(), torch.randn(3, 2, 2, 8, 8)
    params = list(net.parameters())
    compiled = torch.compile(net, fullgraph=True, backend=backend)
    for a, b in zip(gradients(compiled, params, x), gradients(net, params, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_steps_and_batch_compile_once() -> None:
    graphs: list[Any] = []

    def count(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    # no convolution: PyTorch's own guards on the sizes that its fast paths are for
    net = nn.Sequential(
        sl.PerStep(nn.Linear(6, 5)), sl.LIF(tau=torch.rand(5) + 1.5, learnable="tau"), sl.ALIF(), sl.PLIF()
    )
    compiled = torch.compile(net, fullgraph=True, backend=count, dynamic=True)
    for steps, batch in ((3, 2), (4, 2), (7, 9), (20, 3)):
        x = torch.randn(steps, batch, 6)
        assert torch.equal(compiled(x), net(x))
    assert len(graphs) == 1


def test_the_operator_passes_opcheck() -> None:
    x = torch.randn(3, 2, 4, 5, 5)
    neuron = sl.LIF(tau=torch.rand(4) + 2, learnable="tau")
    plan = neuron._plan
    assert plan is not None
    slots = plan.slots([neuron._value(name, x, torch.float32) for name in neuron._names()])
    tensors = [slot.detach().requires_grad_() for slot in slots if isinstance(slot, Tensor)]
    numbers = [slot for slot in slots if not isinstance(slot, Tensor)]
    kinds = "".join("t" if isinstance(slot, Tensor) else "n" for slot in slots)
    state = torch.randn(2, 4, 5, 5)
    last = x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    weave, back = torch.ops.spikeloom.weave.default, torch.ops.spikeloom.weave_backward.default
    for data in (x, last, x.transpose(0, 1).contiguous().transpose(0, 1)):
        for states in ([], [state.clone().requires_grad_()]):
            given = [data.detach().requires_grad_()]
            torch.library.opcheck(weave, (plan.program, given, tensors, states, kinds, numbers, True))
            torch.library.opcheck(weave, (plan.program, given, tensors, states, kinds, numbers, False))
        flat = [tensor.detach() for tensor in tensors]
        grads = [torch.randn_like(data), torch.randn_like(data[0])]
        needs = [True] * (1 + len(flat))
        torch.library.opcheck(back, (plan.program, grads, [data], flat, [], kinds, numbers, needs))


LOAD = """
import sys, torch, spikeloom as sl
sl.IF(); sl.ALIF(); sl.LIF(tau=9.0)(torch.randn(2, 1, 3))  # other neurons, in another order
program = torch.export.load(sys.argv[1])
x, y = torch.load(sys.argv[2], weights_only=True)
assert torch.equal(program.module()(x), y)
print("equal")
"""


def test_an_exported_network_runs_in_a_fresh_process(tmp_path: Path) -> None:
    net, x = nn.Sequential(sl.LIF(tau=3.0), sl.QIF(), sl.LIF(tau=1.5)), 2 * torch.rand(6, 2, 5)
    exported = torch.export.export(net, (x,))
    torch.export.save(exported, tmp_path / "net.pt2")
    torch.save((x, net(x)), tmp_path / "data.pt")
    files = [str(tmp_path / "net.pt2"), str(tmp_path / "data.pt")]
    done = subprocess.run([sys.executable, "-c", LOAD, *files], capture_output=True, text=True)
    assert done.stdout.strip() == "equal", done.stderr


def test_a_forced_backend_is_not_ignored_by_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    net, x = sl.LIF(), torch.randn(4, 2, 3)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    compiled(x)
    with sl.backend("triton"), pytest.raises(RuntimeError, match="triton"):
        compiled(x)
    assert torch.equal(compiled(x), net(x))
