"""Surrogates: each derivative is its primitive's, each forward a step, each parameter checked."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from zoo import SURROGATES

import spikeloom as sl
from spikeloom import surrogate

# off every kink that a default has: 0, +-0.5, +-1 and the integers and halves
POINTS = torch.linspace(-3.03, 3.04, 59, dtype=torch.float64)


@pytest.mark.parametrize("name", SURROGATES)
def test_derivative_is_the_primitives(name: str) -> None:
    function, step = SURROGATES[name](), 1e-6
    measured = (function.primitive(POINTS + step) - function.primitive(POINTS - step)) / (2 * step)
    torch.testing.assert_close(function.derivative(POINTS), measured, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", SURROGATES)
def test_backward_is_the_derivative_in_any_dtype(name: str) -> None:
    function = SURROGATES[name]()
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        u = POINTS.to(dtype).requires_grad_()
        spikes = function(u)
        (gradient,) = torch.autograd.grad(spikes.sum(), u)
        assert spikes.dtype == gradient.dtype == dtype
        torch.testing.assert_close(gradient, function.derivative(u.detach()).to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("name", [name for name in SURROGATES if name not in ("MultiLevel", "Smooth")])
def test_forward_is_a_step(name: str) -> None:
    u = torch.tensor([-math.inf, -1.0, -1e-30, -0.0, 0.0, 1e-30, 1.0, math.inf])
    expected = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    assert torch.equal(SURROGATES[name]()(u), expected)


# the value at 0 and at 0.25, from the formulas, by hand
BY_HAND = {
    "ATan": (1.0, 1 / (1 + (math.pi / 4) ** 2)),
    "Sigmoid": (1.0, 4 * math.e / (1 + math.e) ** 2),
    "FastSigmoid": (1.0, 1 / 3.5**2),
    "SoftSign": (1.0, 1 / 1.5**2),
    "Triangle": (1.0, 0.75),
    "PiecewiseExp": (0.5, 0.5 * math.exp(-0.25)),
    "Rect": (1.0, 1.0),
    "Gaussian": (math.sqrt(2 / math.pi), math.sqrt(2 / math.pi) * math.exp(-0.125)),
    "Erf": (2 / math.sqrt(math.pi), 2 / math.sqrt(math.pi) * math.exp(-0.25)),
    "DSpike": (1.5 / math.tanh(1.5), 1.5 / math.tanh(1.5) * (1 - math.tanh(0.75) ** 2)),
    "LeakyReLU": (1.0, 1.0),
    "MultiLevel": (1.0, 1.0),
    "Custom": (1.0, math.exp(-0.0625)),
    "Smooth": (0.5, 2 * math.exp(-0.5) / (1 + math.exp(-0.5)) ** 2),
}


@pytest.mark.parametrize("name", SURROGATES)
def test_values_by_hand(name: str) -> None:
    values = SURROGATES[name]().derivative(torch.tensor([0.0, 0.25], dtype=torch.float64))
    torch.testing.assert_close(values, torch.tensor(BY_HAND[name], dtype=torch.float64), rtol=1e-12, atol=0)


def test_multilevel_rounds_clips_and_passes_straight_through() -> None:
    u = torch.tensor([-0.7, -0.2, 0.4, 0.6, 2.5, 3.5, 4.4, 9.0], requires_grad=True)
    spikes = surrogate.MultiLevel(4)(u)
    assert spikes.tolist() == [0, 0, 0, 1, 2, 4, 4, 4]  # halves go to the even number, as torch.round does
    spikes.sum().backward()
    assert u.grad is not None
    assert u.grad.tolist() == [0, 0, 1, 1, 1, 1, 0, 0]


def test_custom_forward() -> None:
    sign = surrogate.Custom(lambda u: torch.ones_like(u), forward=torch.sign)
    assert sign(torch.tensor([-2.0, 0.0, 3.0])).tolist() == [-1, 0, 1]


def test_smooth_follows_its_parameters() -> None:
    smooth = surrogate.Smooth(surrogate.Sigmoid(2.0))
    smooth.alpha = 3.0
    u = torch.tensor([0.3])
    assert torch.equal(smooth(u), torch.sigmoid(3.0 * u))
    assert repr(smooth) == "Smooth(Sigmoid(alpha=3.0))"
    assert torch.equal(copy.deepcopy(smooth)(u), smooth(u))


def test_one_thing_under_two_names() -> None:
    assert surrogate.SuperSpike is surrogate.FastSigmoid
    assert surrogate.PiecewiseQuadratic is surrogate.Triangle


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, True])
@pytest.mark.parametrize("name", [n for n in surrogate.__all__ if n not in ("Surrogate", "Custom", "Smooth")])
def test_bad_parameters_raise(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=r"positive finite number is needed, as in"):
        getattr(surrogate, name)(value)


def test_messages() -> None:
    with pytest.raises(TypeError, match=r"alpha is a tensor of shape \(3,\)"):
        surrogate.ATan(torch.ones(3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"levels = 2\.5; a whole number"):
        surrogate.MultiLevel(2.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"derivative is a float; a function of u is needed"):
        surrogate.Custom(2.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Custom has no primitive"):
        surrogate.Smooth(surrogate.Custom(torch.ones_like))(torch.zeros(1))
    with pytest.raises(TypeError, match=r"surrogate is a type; pass an instance"):
        sl.LIF(surrogate=surrogate.ATan)
    with pytest.raises(TypeError, match=r"Custom"):
        sl.LIF(surrogate=lambda u: u)


@pytest.mark.parametrize("name", SURROGATES)
def test_every_neuron_takes_it(name: str) -> None:
    x = torch.full((3, 2, 4), 0.9, requires_grad=True)
    with sl.backend("eager"):
        out = sl.LIF(tau=1.5, surrogate=SURROGATES[name]())(x)
    out.sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
