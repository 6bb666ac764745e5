"""What only a GPU can show: `pytest -m gpu` on a machine with one. (test_triton.py runs there, too.)"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from truth import assert_same, run

import spikeloom as sl
from spikeloom.kernels.gpu import triton_backend

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.skipif(triton_backend.interpreted(), reason="TRITON_INTERPRET is set"),
]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        sl.PerStep(nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)),
        sl.LIF(tau=torch.rand(8) + 1.5, learnable="tau"),
        sl.PerStep(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8 * 16, 10)),
        sl.PLIF(),
    ).cuda()


def passed(net: Any, x: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    leaf = x.detach().clone().requires_grad_()
    y = net(leaf)
    return [y.detach(), *torch.autograd.grad(y.float().square().sum(), [leaf, *parameters])]


@pytest.mark.parametrize("steps", [1, 4, 5, 500])
def test_many_neurons(steps: int) -> None:
    neuron = sl.LIF(tau=torch.rand(64) + 1.5, learnable=("tau", "v_threshold")).double().cuda()
    x = torch.randn(steps, 37, 64, 50, device="cuda", dtype=torch.float64)
    g = torch.randn_like(x)
    assert_same(run(neuron, "triton", [x], g), run(neuron, "eager", [x], g), torch.float64)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_recurrent_layer(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net = sl.Recurrent(sl.LIF(tau=2.0, learnable="tau"), nn.Linear(40, 40)).to("cuda", dtype)
    with torch.no_grad():
        net.synapse.weight.mul_(0.3)  # a chaotic net would amplify rounding
    x = (0.6 + torch.randn(12, 9, 40, device="cuda")).to(dtype)
    g = torch.randn(12, 9, 40, device="cuda").to(dtype)
    assert_same(run(net, "triton", [x], g), run(net, "eager", [x], g), dtype)
    assert sl.explain(net, x).rows[0].backend == "triton"


def test_the_kernel_runs_unasked() -> None:
    net, x = network(), torch.randn(4, 2, 2, 8, 8, device="cuda")
    assert {row.backend for row in sl.explain(net, x).rows} == {"triton"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_keeps_the_kernel_and_its_fp32_state(dtype: torch.dtype) -> None:
    neuron, x = sl.LIF(), torch.randn(6, 3, 500, device="cuda").to(dtype)
    with torch.autocast("cuda", dtype=dtype):
        out, state, _ = neuron.run(x)
    assert out.dtype == dtype
    assert state["v"].dtype == torch.float32
    with sl.backend("eager"):
        assert torch.equal(out.float(), neuron(x.float()))


def test_a_training_step_in_a_cuda_graph() -> None:
    net, x = network(), torch.randn(4, 2, 2, 8, 8, device="cuda")
    parameters = [p for p in net.parameters() if p.requires_grad]

    def step() -> Tensor:
        loss = net(x).square().mean()
        gradients = torch.autograd.grad(loss, parameters)
        for kept, found in zip(grads, gradients, strict=True):
            kept.copy_(found)
        return loss

    grads = [torch.zeros_like(p) for p in parameters]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()
    for _ in range(2):
        x.copy_(torch.randn_like(x))
        graph.replay()
        truth = net(x).square().mean()
        torch.testing.assert_close(loss, truth)
        for kept, found in zip(grads, torch.autograd.grad(truth, parameters), strict=True):
            torch.testing.assert_close(kept, found, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled_whole(mode: str) -> None:
    torch._dynamo.reset()
    net, x = network(), torch.randn(4, 2, 2, 8, 8, device="cuda")
    parameters = list(net.parameters())
    truth = passed(net, x, parameters)
    compiled = torch.compile(net, fullgraph=True, mode=mode)
    for _ in range(3):
        for a, b in zip(passed(compiled, x, parameters), truth, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_a_new_length_compiles_nothing() -> None:
    def use(steps: int, tau: float) -> None:
        x = torch.randn(steps, 8, 640, device="cuda", requires_grad=True)
        sl.LIF(tau=tau)(x).sum().backward()

    use(4, 2.0)
    use(5, 2.0)
    kernels = [
        triton_backend.compile_kernel(sl.LIF()._plan.program, backward, "float32", kinds, needs)[1]  # type: ignore[union-attr]
        for backward, kinds, needs in ((False, "nnnnn", ()), (True, "nnnnn", (True, *(False,) * 5)))
    ]
    index = torch.cuda.current_device()
    before = [len(kernel.device_caches[index][0]) for kernel in kernels]
    assert all(count > 0 for count in before)
    for steps, tau in ((1, 2.0), (16, 3.0), (500, 2.5), (5000, 7.0)):
        use(steps, tau)
    assert [len(kernel.device_caches[index][0]) for kernel in kernels] == before


def test_memory_of_forward_and_backward() -> None:
    x = torch.randn(16, 2**20, device="cuda", requires_grad=True).unsqueeze(1)
    sl.LIF()(x).sum().backward()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    out = sl.LIF()(x)
    assert torch.cuda.memory_allocated() - before <= 1.01 * out.nbytes  # x is there already; no more is kept


def test_another_device_than_the_current_one() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    x = torch.randn(4, 3, 100, device="cuda:1")
    with sl.backend("eager"):
        truth = sl.LIF()(x)
    assert torch.equal(sl.LIF()(x), truth)
