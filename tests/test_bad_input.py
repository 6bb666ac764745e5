"""What a neuron cannot take: an error that says what was given, what is accepted, and the remedy."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import spikeloom as sl

X = torch.ones(3, 2, 4)
ELSEWHERE = torch.device("meta")  # a second device that every machine has


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (X.int(), "LIF takes floating-point input, not torch.int32; convert it: x.float()"),
        (X.bool(), "LIF takes floating-point input, not torch.bool; convert it: x.float()"),
        (X.to(torch.complex64), "LIF takes floating-point input, not torch.complex64; convert it: x.real"),
        ([1.0, 2.0], "LIF takes a tensor [T, B, ...], not list"),
    ],
)
@pytest.mark.parametrize(
    "layer", [sl.LIF(), sl.Recurrent(sl.LIF(), nn.Linear(4, 4))], ids=["neuron", "recurrent"]
)
def test_input_that_is_no_floating_point_tensor(layer: nn.Module, x: Tensor, said: str) -> None:
    with pytest.raises(TypeError, match=re.escape(said)):
        layer(x)


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (X[0].to(ELSEWHERE), ValueError, "is (2, 4) on meta, but one step of x is (2, 4) on cpu"),
        (X[:, 0], ValueError, "is (3, 4) on cpu, but one step of x is (2, 4) on cpu"),
        (X[0].to(torch.complex64), TypeError, "is torch.complex64; real values are needed"),
        (0.0, TypeError, "is a float; a tensor of shape (2, 4) is needed"),
    ],
)
def test_a_state_that_does_not_fit(given: Tensor, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=re.escape(f"LIF: state 'v' {said}")):
        sl.LIF().run(X, state={"v": given})


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (X.to(ELSEWHERE), ValueError, "is (3, 2, 4) on meta, but x is (3, 2, 4) on cpu"),
        (X[:1], ValueError, "is (1, 2, 4) on cpu, but x is (3, 2, 4) on cpu"),
        (X.to(torch.complex64), TypeError, "is torch.complex64; real values are needed"),
        (0.5, TypeError, "is a float; a tensor of shape (3, 2, 4) is needed"),
    ],
)
def test_a_further_input_that_does_not_fit(given: Tensor, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=re.escape(f"NoisyLIF: noise {said}")):
        sl.NoisyLIF()(X, given)


@pytest.mark.parametrize("backend", ["eager", "numba"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: sl.LIF(tau=torch.full((4,), 2.0)),
        lambda: sl.LIF(tau=torch.tensor(2.0)),
        lambda: sl.LIF(tau=2.0, learnable="tau"),
    ],
    ids=["channel", "scalar", "learnable"],
)
def test_a_parameter_on_another_device(make: Callable[[], sl.Neuron], backend: str) -> None:
    said = re.escape('LIF: tau is on meta, but x is on cpu; move one of them: neuron.to("cpu")')
    with sl.backend(backend), pytest.raises(ValueError, match=said):
        make().to(ELSEWHERE)(X)


def test_a_stream_whose_state_is_on_another_device() -> None:
    stream = sl.Stream(nn.Sequential(sl.LIF()))
    stream(X)
    stream.state = {key: value.to(ELSEWHERE) for key, value in stream.state.items()}
    with pytest.raises(
        ValueError, match=r"on meta, but this chunk's steps are \(2, 4\) on cpu; call stream.reset"
    ):
        stream(X)


def test_a_backend_that_the_device_does_not_have() -> None:
    said = r"runs? on CPU, but the data is on meta; move it: x.cpu\(\)"
    with sl.backend("numba"), pytest.raises(RuntimeError, match=said):
        sl.LIF()(X.to(ELSEWHERE))


def test_a_dtype_without_a_kernel_runs_the_truth_announced() -> None:
    x = (2 * torch.rand(5, 2, 4)).to(torch.float8_e4m3fn)
    with pytest.warns(sl.SpikeloomWarning, match="no kernel for torch.float8_e4m3fn; use float32, bfloat16"):
        out = sl.LIF()(x)
    assert out.dtype == x.dtype
    assert torch.equal(out.float(), sl.LIF()(x.float()))


@pytest.mark.parametrize("value", [torch.tensor([True]), torch.tensor([1j]), "2", None, True])
def test_a_parameter_that_is_no_real_number(value: object) -> None:
    with pytest.raises(TypeError, match=r"a parameter is (a number or a tensor of numbers|real), not"):
        sl.param(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["eager", "numba"])
def test_a_synapse_on_another_device_or_of_another_dtype(backend: str) -> None:
    def layer() -> sl.Recurrent:
        return sl.Recurrent(sl.LIF(), nn.Linear(4, 4))

    with sl.backend(backend):
        for moved in (layer().to(ELSEWHERE), layer().double(), layer().to(torch.bfloat16)):
            with pytest.raises(RuntimeError, match=r"device|dtype"):
                moved(X)


@pytest.mark.parametrize("part", ["norm", "neuron"])
def test_a_norm_or_its_neuron_on_another_device(part: str) -> None:
    layer = sl.NormNeuron(nn.BatchNorm1d(4), sl.LIF(tau=torch.full((4,), 2.0)))
    getattr(layer, part).to(ELSEWHERE)
    with pytest.raises(ValueError, match="on meta, but x is on cpu"):
        layer(X)
