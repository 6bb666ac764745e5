"""Kernels equal the eager truth: outputs, final states, and every gradient."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from typing import Any

import pytest
import torch
from cases import AXES, DTYPES, check, identify
from hypothesis import given, settings
from hypothesis import strategies as st
from pairs import all_pairs, product
from torch import Tensor, nn
from truth import assert_same, run
from zoo import NEURONS, SURROGATES

import spikeloom as sl
from spikeloom.kernels.cpu import numba_backend, pool

pytestmark = pytest.mark.usefixtures("poison")


@pytest.mark.parametrize("case", all_pairs(AXES), ids=identify)
def test_kernel_equals_truth(case: dict[str, Any]) -> None:
    check(case, "numba")


def full(neuron: str, **fewer: Any) -> None:
    """Check the product of all options of a neuron, or of `fewer` of some."""
    count = len(list(NEURONS[neuron].variants()))
    axes = AXES | {"neuron": (neuron,), "variant": range(count), "steps": (1, 63), **fewer}
    for case in product(axes):
        check(case, "numba")


@pytest.mark.full
@pytest.mark.parametrize("neuron", NEURONS)
def test_every_neuron_in_full(neuron: str) -> None:
    full(neuron, surrogate=("ATan", "MultiLevel"))


@pytest.mark.full
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_every_surrogate_in_full(surrogate: str) -> None:
    full("LIF", surrogate=(surrogate,))


sizes = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(
    steps=st.integers(1, 40),
    size=sizes,
    tau=st.floats(1.0, 100.0),
    v_threshold=st.floats(0.1, 3.0),
    v_reset=st.floats(-1.0, 0.05),
    seed=st.integers(0, 2**31),
)
def test_any_shape_and_constants(
    steps: int, size: list[int], tau: float, v_threshold: float, v_reset: float, seed: int
) -> None:
    neuron = sl.LIF(tau=tau, v_threshold=v_threshold, v_reset=v_reset, learnable=("tau", "v_reset"))
    draw = torch.Generator().manual_seed(seed)
    x = 2 * torch.randn(steps, *size, generator=draw, dtype=torch.float64)
    g = torch.randn(steps, *size, generator=draw, dtype=torch.float64)
    assert_same(run(neuron, "numba", [x], g), run(neuron, "eager", [x], g), torch.float64)


@pytest.mark.parametrize("shape", [(3, 0, 4), (1, 1), (4, 1, 1, 1, 1, 2)])
def test_empty_and_single(shape: tuple[int, ...]) -> None:
    x, g = torch.randn(shape), torch.randn(shape)
    neuron = sl.LIF(learnable="tau")
    assert_same(run(neuron, "numba", [x], g), run(neuron, "eager", [x], g), torch.float32)


class Echo(sl.Neuron):
    """The gradient of its input is the spike that the backward pass recomputes."""

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        h = v + (x - v) / 2.0
        s = self.spike(h - 0.3).detach()
        return s * x, h * (1 - s)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("steps", [7, 2048, 5003])
def test_recomputed_spikes_are_the_forward_ones(dtype: torch.dtype, steps: int) -> None:
    x = torch.randn(steps, 3, 11).to(dtype).requires_grad_()

    class Spikes(Echo):
        def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
            _, new = super().step(x, v)
            return self.spike(v + (x - v) / 2.0 - 0.3), new

    Echo()(x).backward(torch.ones_like(x))
    spikes = Spikes()(x.detach())
    assert x.grad is not None
    # the membrane's own path to x is cut, so the gradient is the spike, plus nothing
    assert torch.equal(x.grad, spikes)
    assert 0.05 < spikes.double().mean() < 0.95


@pytest.mark.parametrize("steps", [3000, 10_001])
def test_long_sequences_from_checkpoints(steps: int) -> None:
    neuron = sl.LIF(tau=5.0, learnable=("tau", "v_threshold"))
    x, g = torch.randn(steps, 2, 3, dtype=torch.float64), torch.randn(steps, 2, 3, dtype=torch.float64)
    state = {"v": torch.randn(2, 3, dtype=torch.float64)}
    assert_same(run(neuron, "numba", [x], g, state), run(neuron, "eager", [x], g, state), torch.float64)


def test_no_value_compiles_anew() -> None:
    def use(steps: int, batch: int, tau: float) -> None:
        x = torch.randn(steps, batch, 4, requires_grad=True)
        sl.LIF(tau=tau)(x).sum().backward()

    use(3, 2, 2.0)
    before = numba_backend.compile_kernel.cache_info().misses
    for steps, batch, tau in ((4, 2, 2.0), (500, 3, 2.5), (3000, 1, 7.0)):
        use(steps, batch, tau)
    assert numba_backend.compile_kernel.cache_info().misses == before


def test_bytes_kept_for_backward() -> None:
    kept: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    x = torch.randn(10, 3, 100, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        sl.LIF()(x)
    assert sum(kept.values()) == 4 * x.numel()


def test_gradients_are_deterministic() -> None:
    neuron = sl.LIF(tau=torch.rand(5) + 2, learnable=("tau", "v_threshold"))
    x, g = torch.randn(20, 50, 5, 40, requires_grad=True), torch.randn(20, 50, 5, 40)
    first = run(neuron, "numba", [x], g)
    for _ in range(5):
        again = run(neuron, "numba", [x], g)
        assert torch.equal(first.of_inputs[0], again.of_inputs[0])
        assert all(torch.equal(first.of_params[k], again.of_params[k]) for k in first.of_params)


def test_two_threads_in_backward() -> None:
    neuron = sl.LIF(learnable="tau")
    x, g = torch.randn(20, 64, 500), torch.randn(20, 64, 500)
    truth = run(neuron, "numba", [x], g)
    results: list[Tensor] = []

    def work() -> None:
        for _ in range(5):
            leaf = x.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(neuron(leaf), leaf, g)
            results.append(gradient)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 10
    assert all(torch.equal(r, truth.of_inputs[0]) for r in results)


class Woven(torch.utils.data.Dataset[Tensor]):
    """Runs a kernel, large enough for the pool, in a data-loader worker."""

    def __init__(self) -> None:
        self.x = torch.randn(4, 16, 64, 500)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        pool.threads = lambda: 2  # the pool alone: PyTorch's OpenMP does not survive a fork
        return sl.LIF()(self.x[index])


def test_forked_workers_after_a_backward_pass() -> None:
    x = torch.randn(16, 64, 500, requires_grad=True)
    sl.LIF()(x).sum().backward()  # the pool's threads, and OpenMP's, exist
    data = Woven()
    loader = torch.utils.data.DataLoader(
        data, batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60
    )
    for index, spikes in enumerate(loader):
        assert torch.equal(spikes, sl.LIF()(data.x[index]))


VECTORS = """
import sys, torch, spikeloom as sl
from spikeloom.kernels.cpu import numba_backend as nb
class All(sl.Neuron):
    def step(self, x, v):
        y = torch.exp(-x * x) + torch.tanh(x) + torch.sigmoid(v) + torch.log(x * x + 1) + torch.erf(x)
        y = y + torch.sin(x) + torch.cos(v) + torch.sqrt(x * x) + torch.floor(x) + torch.round(v) + abs(x)
        h = v + (torch.where((y > 1) & (x < 2), y, x) - torch.clamp(v, -1, 1)) / 2
        s = self.spike(torch.maximum(h, x) - 1)
        return s, h * (1 - s)
x = torch.randn(3, 2, 8, requires_grad=True)
All()(x).sum().backward()
text = All()._plan.program
slots = nb.program_of(text).slots
for backward, needs in ((False, ()), (True, (True,) + (False,) * slots)):
    _, kernel = nb.compile_kernel(text, backward, "float32", "s" * slots, needs, "", 0)
    print(kernel._library.get_asm_str())
"""


def test_kernels_are_vectorised(tmp_path: Any) -> None:
    import os
    import platform

    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("reads x86 assembly")
    env = os.environ | {"SPIKELOOM_CACHE": str(tmp_path)}
    asm = subprocess.run([sys.executable, "-c", VECTORS], env=env, check=True, capture_output=True, text=True)
    text = asm.stdout
    for operation in ("mul", "add", "div", "sqrt", "min|max|cmp"):
        assert re.search(rf"v({operation})ps\s+.*%[yz]mm", text) or re.search(
            rf"v({operation})\w*ps\s.*%[yz]mm", text
        ), f"no vector {operation}"
    called = set(re.findall(r"(?:callq?\s+\*?|movabsq\s+\$)(\w+)", text))
    libm = {"expf", "tanhf", "logf", "erff", "sinf", "cosf", "exp", "tanh", "log", "erf", "floorf", "rintf"}
    assert not called & libm, f"calls {called & libm} of libm"


def test_backend_is_forced_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    x = torch.randn(3, 2, 4)
    with (
        pytest.raises(ValueError, match="no backend 'cuda'; one of eager, numba, triton"),
        sl.backend("cuda"),
    ):
        pass
    with sl.backend("triton"), pytest.raises(RuntimeError, match="triton"):
        sl.LIF()(x)
    seen: list[Any] = []
    with sl.backend("eager"):
        thread = threading.Thread(target=lambda: seen.append(sl.kernels.forced()))
        thread.start()
        thread.join()
    assert seen == [None]


def test_environment_forces_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKELOOM_BACKEND", "eager")
    assert sl.kernels.forced() == "eager"
    monkeypatch.setenv("SPIKELOOM_BACKEND", "nonsense")
    with pytest.raises(ValueError, match="SPIKELOOM_BACKEND: no backend 'nonsense'"):
        sl.LIF()(torch.randn(2, 2, 2))


@pytest.mark.filterwarnings("ignore:a double backward")
@pytest.mark.parametrize("state", [False, True])
def test_double_backward_runs_the_truth(state: bool) -> None:
    neuron = sl.LIF(tau=torch.tensor([2.0, 3.0]), learnable=("tau", "v_reset")).double()
    x = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    start = {"v": torch.randn(4, 2, dtype=torch.float64, requires_grad=True)} if state else None
    leaves = [x, *neuron.parameters(), *(start or {}).values()]
    results = []
    for backend in ("numba", "eager"):
        with sl.backend(backend):
            out, final, _ = neuron.run(x, state=start)
            loss = (out * x).sum() + final["v"].square().sum()
            first = torch.autograd.grad(loss, leaves, create_graph=True)
            second = torch.autograd.grad(sum(f.square().sum() for f in first), leaves)
            results.append([*first, *second])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_net_of_layers_equals_truth_channels_last() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        sl.PerStep(nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8)),
        sl.LIF(tau=torch.rand(8) + 1.5, learnable="tau"),
        sl.PerStep(nn.AvgPool2d(2), nn.Conv2d(8, 4, 3)),
        sl.IF(),
    ).to(memory_format=torch.channels_last)
    x = torch.randn(12, 2, 8, 8).to(memory_format=torch.channels_last).unflatten(0, (4, 3))
    grads = []
    for backend in ("numba", "eager"):
        net.zero_grad()
        with sl.backend(backend):
            y = net(x)
        y.square().sum().backward()
        grads.append([y.detach(), *(p.grad.clone() for p in net.parameters() if p.grad is not None)])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
