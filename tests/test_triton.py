"""GPU kernels equal the eager truth: in Triton's interpreter, and where there is a GPU, on it.

The interpreter computes what a kernel says, not how a GPU would; so the kernels are compiled for two
GPUs, too (`compiled_for.py`), and their code is read.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import DTYPES, LAYOUTS, check, identify
from pairs import all_pairs, product
from torch import Tensor, nn
from truth import assert_same, run
from zoo import NEURONS, SURROGATES

import spikeloom as sl
from spikeloom.kernels.gpu import triton_backend

pytestmark = [
    pytest.mark.skipif(bool(triton_backend.problem()[0]), reason=": ".join(triton_backend.problem())),
    # NumPy's, of a neuron that runs away: the truth overflows, too
    pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero):RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:.*runs Triton's interpreter"),
]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cuda":
    pytestmark.append(pytest.mark.gpu)
STEPS = (1, 2, 4, 11)
AXES: dict[str, Any] = {
    "neuron": tuple(NEURONS),
    "variant": tuple(range(4)),
    "kind": ("number", "scalar", "channel", "neuron"),
    "surrogate": ("ATan",),
    "dtype": DTYPES,
    "layout": LAYOUTS,
    "steps": STEPS,
    "state": (False, True),
}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Few programs, so that each takes several blocks; uninitialised memory full of NaN."""
    if DEVICE == "cpu":
        monkeypatch.setattr(triton_backend, "PROGRAMS", 1)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(before)


@pytest.mark.parametrize("case", all_pairs(AXES), ids=identify)
def test_kernel_equals_truth(case: dict[str, Any]) -> None:
    check(case, "triton", DEVICE)


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_surrogate(surrogate: str, dtype: torch.dtype) -> None:
    case = {"neuron": "LIF", "variant": 0, "kind": "channel", "layout": "contiguous", "steps": 5}
    check({**case, "surrogate": surrogate, "dtype": dtype, "state": False}, "triton", DEVICE)


@pytest.mark.full
@pytest.mark.parametrize("neuron", NEURONS)
def test_every_neuron_in_full(neuron: str) -> None:
    for case in product(AXES | {"neuron": (neuron,), "surrogate": tuple(SURROGATES)}):
        check(case, "triton", DEVICE)


@pytest.mark.parametrize("steps", [7, 63, 64])
def test_long_sequences_from_checkpoints_of_checkpoints(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    monkeypatch.setattr(triton_backend, "SPAN", 8)
    neuron = sl.ALIF(tau=5.0, learnable=("tau", "v_threshold")).to(DEVICE)
    draw = {"dtype": torch.float64, "device": DEVICE}
    x, g = torch.randn(steps, 3, 60, **draw), torch.randn(steps, 3, 60, **draw)
    state = {name: torch.rand(3, 60, **draw) for name in neuron.states}
    assert_same(run(neuron, "triton", [x], g, state), run(neuron, "eager", [x], g, state), torch.float64)


@pytest.mark.parametrize("shape", [(3, 0, 4), (1, 1), (4, 1, 1, 1, 1, 2), (2, 3, 160)])
def test_empty_single_and_aligned(shape: tuple[int, ...]) -> None:
    x, g = torch.randn(shape, device=DEVICE), torch.randn(shape, device=DEVICE)
    neuron = sl.LIF(tau=torch.full(shape[2:3], 2.5), learnable=("tau", "v_threshold")).to(DEVICE)
    assert_same(run(neuron, "triton", [x], g), run(neuron, "eager", [x], g), torch.float32)


class Spikes(sl.Neuron):
    """Gives its spike."""

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        h = v + (x - v) / 3.0
        s = self.spike(h - 0.3)
        return s, h * (1 - s)


class Echo(Spikes):
    """The gradient of its input is the spike that the backward pass recomputes."""

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        s, v = super().step(x, v)
        return s.detach() * x, v


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("steps", [3, 30])
def test_recomputed_spikes_are_the_forward_ones(dtype: torch.dtype, steps: int) -> None:
    x = torch.randn(steps, 3, 70, device=DEVICE).to(dtype).requires_grad_()
    with sl.backend("triton"):
        Echo()(x).backward(torch.ones_like(x))
        spikes = Spikes()(x.detach())
    assert x.grad is not None
    assert torch.equal(x.grad, spikes)
    assert 0.05 < spikes.double().mean() < 0.95


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_function(dtype: torch.dtype) -> None:
    from compiled_for import Everything

    neuron = Everything(torch.rand(90) + 1.0).to(DEVICE)
    x = 2 * torch.randn(5, 4, 90, dtype=dtype, device=DEVICE)
    g = torch.randn_like(x)
    assert_same(run(neuron, "triton", [x], g), run(neuron, "eager", [x], g), dtype)


def test_bf16_is_rounded_to_nearest_even() -> None:
    # LI with tau = 1 gives its input; halves, ties, subnormals, infinities and NaN come back as they went
    x = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(torch.bfloat16)[None, None].to(DEVICE)

    class Scale(sl.Neuron):
        states = ()

        def step(self, x: Tensor) -> tuple[Tensor, ...]:
            return (x * 1.001953125,)

    with sl.backend("triton"):
        found = Scale()(x)
    torch.testing.assert_close(found, (x.float() * 1.001953125).bfloat16(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_batch_norm_in_the_kernel(dtype: torch.dtype) -> None:
    layer = sl.NormNeuron(nn.BatchNorm2d(3), sl.LIF(tau=torch.rand(3) + 2.0, learnable="tau")).to(DEVICE)
    layer = layer.double() if dtype == torch.float64 else layer
    x = (2 * torch.randn(4, 2, 3, 5, 5, device=DEVICE)).to(dtype)
    g = torch.randn(4, 2, 3, 5, 5, device=DEVICE).to(dtype)
    found = []
    for backend in ("triton", "eager"):
        net, leaf = copy.deepcopy(layer), x.clone().requires_grad_()
        with sl.backend(backend):
            out = net(leaf)
            out.backward(g)
        found.append([out.detach(), leaf.grad, *(p.grad for p in net.parameters()), *net.buffers()])
    if dtype == torch.float64:
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    else:  # the two apart round what the neuron is given: some spikes differ
        assert (found[0][0] != found[1][0]).double().mean() <= 0.02


def test_gradients_are_deterministic() -> None:
    neuron = sl.LIF(tau=torch.rand(5) + 2, learnable=("tau", "v_threshold")).to(DEVICE)
    x, g = torch.randn(6, 5, 5, 40, device=DEVICE), torch.randn(6, 5, 5, 40, device=DEVICE)
    first, again = run(neuron, "triton", [x], g), run(neuron, "triton", [x], g)
    assert torch.equal(first.of_inputs[0], again.of_inputs[0])
    assert all(torch.equal(first.of_params[k], again.of_params[k]) for k in first.of_params)


def test_what_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(3, 2, 4)
    for problem, said in (
        (("Triton is not installed", "pip install 'spikeloom[gpu]'"), r"not installed; pip install"),
        (
            ("Triton 2.1 is too old", "pip install 'triton>=3.6'"),
            r"2.1 is too old; pip install 'triton>=3.6'",
        ),
    ):
        monkeypatch.setattr(triton_backend, "problem", lambda problem=problem: problem)
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        with sl.backend("triton"), pytest.raises(RuntimeError, match=said):
            sl.LIF()(x)
        choice = sl.kernels.decide(torch.device("cuda"), torch.float32)
        assert choice.backend == "eager"
        assert problem[0] in choice.why
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with (
        sl.backend("triton"),
        pytest.raises(RuntimeError, match=r"data is on cpu; .* set TRITON_INTERPRET=1"),
    ):
        sl.LIF()(x)
    choice = sl.kernels.decide(torch.device("mps"), torch.float32)
    assert (choice.backend, choice.why) == ("eager", "no kernel for mps")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Compile kernels for two GPUs; return what `compiled_for.py` found in their code."""
    folder = tmp_path_factory.mktemp("compiled")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"SPIKELOOM_CACHE": str(folder), "TRITON_CACHE_DIR": str(folder / "triton")}
    script = Path(__file__).with_name("compiled_for.py")
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("target", ["sm_90", "gfx942"])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
def test_kernels_compile_for_gpus(
    compiled: dict[str, Any], target: str, backward: bool, storage: str
) -> None:
    found = compiled[f"{target} {storage} {'backward' if backward else 'forward'}"]
    assert len({kernel["hash"] for kernel in found}) == 1, "a new T compiles anew"
    assert found[0]["binary"] > 1000
    assert found[0]["fused"] == 0, "recomputed spikes would differ"
    wide = ("ld.global.v4.b32", "st.global.v4.b32") if target == "sm_90" else ("load_dwordx", "store_dwordx")
    for access in wide:
        assert any(access in name for name in found[0]["memory"]), found[0]["memory"]


def test_every_function_compiles_for_gpus(compiled: dict[str, Any]) -> None:
    found = [kernels for name, kernels in compiled.items() if name.endswith("everything")]
    assert [len(kernels) for kernels in found] == [2, 2, 2]
    assert all(kernel["binary"] > 1000 for kernels in found for kernel in kernels)
