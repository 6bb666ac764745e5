"""Neurons that fire once: numbers by hand, naive loops, gradients through the gate, streams, the kernel."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import spikeloom as sl
from spikeloom.surrogate import ATan, Sigmoid, Smooth
from spikeloom.training import first_spike_time


def series(*values: float) -> Tensor:
    """Return values as [T, B = 1], float64."""
    return torch.tensor(values, dtype=torch.float64).unsqueeze(1)


def g(u: float) -> float:
    """Return the derivative of ATan(2.0)."""
    return 1 / (1 + (math.pi * u) ** 2)


def once(x: Tensor, leak: float = 0.0, threshold: float = 1.0) -> Tensor:
    """Return the spikes of each neuron by itself, in loops over plain numbers."""
    out = torch.zeros_like(x)
    rows = x.reshape(len(x), -1).tolist()
    for i in range(len(rows[0])):
        v = 0.0
        for t, row in enumerate(rows):
            v = (1 - leak) * v + row[i]
            if v >= threshold:
                out.view(len(x), -1)[t, i] = 1
                break
    return out


@pytest.mark.filterwarnings("ignore::spikeloom.SpikeloomWarning")
def test_by_hand() -> None:
    x = series(0.5, 0.25, 0.25, -1.0, 2.0)
    out, final, traced = sl.SingleSpike().run(x, record=("v", "a"))
    assert out.flatten().tolist() == [0, 0, 1, 0, 0]  # at the threshold; not again at the end
    assert traced["v"].flatten().tolist() == [0.5, 0.75, 1.0, 0.0, 2.0]
    assert traced["a"].flatten().tolist() == [1, 1, 0, 0, 0]
    assert final["a"].item() == 0
    # h: 0.5, 0.5, 0.5, -0.75, 1.625
    assert sl.SingleSpike(leak=0.5)(x).flatten().tolist() == [0, 0, 0, 0, 1]
    assert sl.SingleSpike(v_threshold=0.6)(x).flatten().tolist() == [0, 1, 0, 0, 0]


@pytest.mark.parametrize("backend", ["numba", "eager"])
@pytest.mark.parametrize("leak", [0.0, 0.25])
@pytest.mark.parametrize("T", [1, 2, 7, 65])
def test_it_fires_once_at_its_first_crossing(T: int, leak: float, backend: str) -> None:
    x = 0.1 + 0.4 * torch.randn(T, 3, 5, 7, generator=torch.Generator().manual_seed(T), dtype=torch.float64)
    with sl.backend(backend):
        out = sl.SingleSpike(leak=leak)(x)
        assert torch.equal(out, once(x, leak))
        assert torch.equal(sl.SingleSpike(leak=leak)(x.transpose(1, 3)), once(x, leak).transpose(1, 3))
    assert set(out.sum(0).unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(first_spike_time(out), first_spike_time(once(x, leak)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    x = (torch.randint(-2, 4, (9, 2, 33), generator=torch.Generator().manual_seed(0)) / 4).to(dtype)
    assert torch.equal(sl.SingleSpike()(x), once(x))


def test_never_again_in_a_stream() -> None:
    x = 0.2 + 0.4 * torch.randn(23, 2, 9, generator=torch.Generator().manual_seed(1))
    neuron = sl.SingleSpike(leak=0.1)
    whole = neuron(x)
    for sizes in ([1] * 23, [5, 18], [11, 1, 11]):
        stream = sl.Stream(neuron)
        assert torch.equal(torch.cat([stream(chunk) for chunk in x.split(sizes)]), whole)
        assert torch.equal(stream.state["#0.a"], 1 - whole.sum(0))
    stream.reset()
    assert torch.equal(stream(x), whole)


def gradient(detach: bool, weights: Tensor, *values: float) -> list[float]:
    x = series(*values).requires_grad_()
    out = sl.SingleSpike(detach_reset=detach, surrogate=ATan(2.0))(x).flatten()
    (found,) = torch.autograd.grad((weights * out).sum(), x)
    return [float(v) for v in found.flatten()]


@pytest.mark.parametrize("backend", ["numba", "eager"])
def test_gradients_through_the_gate_by_hand(backend: str) -> None:
    w = torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=torch.float64)
    with sl.backend(backend):
        # h = 0.5, 0.75, 1.25, 0.25: the only crossing is at 2
        # d(score)/dz: an earlier crossing gives w_u - w_2; without that at 2 there is none: w_2 - 0
        z = [(8 - 2) * g(-0.5), (4 - 2) * g(-0.25), 2 * g(0.25), 0.0]
        expected = [sum(z[t:]) for t in range(4)]  # h_u sums x_t up to u
        assert gradient(False, w, 0.5, 0.25, 0.5, -1.0) == pytest.approx(expected, rel=1e-12)
        z = [8 * g(-0.5), 4 * g(-0.25), 2 * g(0.25), 0.0]
        expected = [sum(z[t:]) for t in range(4)]
        assert gradient(True, w, 0.5, 0.25, 0.5, -1.0) == pytest.approx(expected, rel=1e-12)
        # h = 0.5, 1.25, 0.5, 1.5: crossings at 1 and 3; without the first, the spike is at 3
        z = [(8 - 4) * g(-0.5), (4 - 1) * g(0.25), 0.0, 0.0]
        expected = [sum(z[t:]) for t in range(4)]
        assert gradient(False, w, 0.5, 0.75, -0.75, 1.0) == pytest.approx(expected, rel=1e-12)


def test_a_silent_neuron_has_a_gradient_at_every_step() -> None:
    w = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)
    z = [3 * g(-0.75), 2 * g(-0.5), 1 * g(-0.25)]
    for detach in (False, True):
        found = gradient(detach, w, 0.25, 0.25, 0.25)
        assert found == pytest.approx([sum(z[t:]) for t in range(3)], rel=1e-12)


def test_the_relaxed_neuron_is_a_survival() -> None:
    """A smooth spike is a probability z; the spike's is z times that of no spike before."""
    x = 0.3 * torch.randn(6, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    z = torch.sigmoid(3 * (x.cumsum(0) - 1))
    left, expected = torch.ones_like(x[0]), []
    for z_t in z:
        expected.append(left * z_t)
        left = left * (1 - z_t)
    neuron = sl.SingleSpike(surrogate=Smooth(Sigmoid(3.0)))
    out, final, _ = neuron.run(x)
    torch.testing.assert_close(out, torch.stack(expected))
    torch.testing.assert_close(final["a"], left)
    torch.testing.assert_close(out.sum(0) + final["a"], torch.ones_like(left))
    assert torch.autograd.gradcheck(neuron, x.requires_grad_())


def test_spikes_are_bits_for_packing() -> None:
    net = sl.SingleSpike()
    assert net._plan is not None
    assert net._plan.fires


@pytest.mark.parametrize("leak", [-0.1, 1.0])
def test_a_leak_out_of_range(leak: float) -> None:
    with pytest.raises(ValueError, match="SingleSpike: leak"):
        sl.SingleSpike(leak=leak)
