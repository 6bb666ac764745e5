"""The eager truth of every neuron: against numbers worked out here, finite differences, and misuse."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from zoo import NEURONS

import spikeloom as sl
from spikeloom.surrogate import ATan, MultiLevel, Sigmoid, Smooth


@pytest.fixture(autouse=True)
def _eager() -> Iterator[None]:
    with sl.backend("eager"):
        yield


def series(*values: float) -> Tensor:
    """Return values as [T, B = 1], float64."""
    return torch.tensor(values, dtype=torch.float64).unsqueeze(1)


def traces(neuron: sl.Neuron, x: Tensor, *inputs: Tensor) -> tuple[list[float], dict[str, list[float]]]:
    """Return the output and every state's course."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sl.SpikeloomWarning)  # that recording is slower
        out, _, traced = neuron.run(x, *inputs, record=neuron.states)
    return out.flatten().tolist(), {name: value.flatten().tolist() for name, value in traced.items()}


# -- numbers worked out by hand -------------------------------------------------------------------


def test_if_by_hand() -> None:
    x = series(0.5, 0.5, 0.25, 1.5)
    assert traces(sl.IF(), x) == ([0, 1, 0, 1], {"v": [0.5, 0.0, 0.25, 0.0]})
    assert traces(sl.IF(reset="soft"), x) == ([0, 1, 0, 1], {"v": [0.5, 0.0, 0.25, 0.75]})
    # starts at v_reset: -0.5 + 0.5, + 0.5, + 0.25, + 1.5
    assert traces(sl.IF(v_reset=-0.5), x) == ([0, 0, 0, 1], {"v": [0.0, 0.5, 0.75, -0.5]})


def test_lif_by_hand() -> None:
    x = series(1.0, 1.5, 2.0, 1.0)
    # h: 0.5, 1.0, 1.0, 0.5
    assert traces(sl.LIF(2.0), x) == ([0, 1, 1, 0], {"v": [0.5, 0.0, 0.0, 0.5]})
    # h: 1.0, 1.5, 2.0, 1.0
    assert traces(sl.LIF(2.0, decay_input=False), x) == ([1, 1, 1, 1], {"v": [0.0, 0.0, 0.0, 0.0]})
    # h: 0.5, 1.0, 1.0, 0.5
    assert traces(sl.LIF(2.0, reset="soft"), x) == ([0, 1, 1, 0], {"v": [0.5, 0.0, 0.0, 0.5]})
    # h: 1.0, 1.5, 2.25, 1.625
    out = traces(sl.LIF(2.0, decay_input=False, reset="soft"), x)
    assert out == ([1, 1, 1, 1], {"v": [0.0, 0.5, 1.25, 0.625]})
    # from -1, towards -1: h = v + (x - (v + 1)) / 2: -0.5, 0.0, 0.5, 0.25
    assert traces(sl.LIF(2.0, v_reset=-1.0), x) == ([0, 0, 0, 0], {"v": [-0.5, 0.0, 0.5, 0.25]})
    # h = v - (v + 1) / 2 + x: 0.0, 1.0, 1.0, 0.0
    out = traces(sl.LIF(2.0, v_reset=-1.0, decay_input=False), x)
    assert out == ([0, 1, 1, 0], {"v": [0.0, -1.0, -1.0, 0.0]})


def test_li_by_hand() -> None:
    x = series(1.0, 2.0, -4.0)
    assert traces(sl.LI(2.0), x) == ([0.5, 1.25, -1.375], {"v": [0.5, 1.25, -1.375]})
    assert traces(sl.LI(2.0, decay_input=False), x)[0] == [1.0, 2.5, -2.75]


def test_alif_by_hand() -> None:
    values, alpha, rho = [0.7, 0.9, 0.4, 1.2, 1.0, 0.4], math.exp(-1 / 5), math.exp(-1 / 20)
    v = a = 0.0
    out, membrane, adaptation = [], [], []
    for value in values:
        h = alpha * v + value
        s = 1.0 if h >= 1.0 + 0.4 * a else 0.0
        v, a = h - s, rho * a + s
        out.append(s)
        membrane.append(v)
        adaptation.append(a)
    assert out == [0, 1, 0, 1, 0, 1]  # in the fifth, a threshold of 1.76 holds 1.69 back
    got, states = traces(sl.ALIF(5.0, 20.0, 0.4), series(*values))
    assert got == out
    assert states["v"] == pytest.approx(membrane, rel=1e-14)
    assert states["a"] == pytest.approx(adaptation, rel=1e-14)


def test_izhikevich_by_hand() -> None:
    v, u = -65.0, 0.2 * -65.0
    out, membrane, recovery = [], [], []
    for _ in range(300):
        v += 0.5 * (0.04 * v * v + 5 * v + 140 - u + 10.0)
        v += 0.5 * (0.04 * v * v + 5 * v + 140 - u + 10.0)
        u += 0.02 * (0.2 * v - u)
        s = v >= 30.0
        if s:
            v, u = -65.0, u + 8.0
        out.append(float(s))
        membrane.append(v)
        recovery.append(u)
    got, states = traces(sl.Izhikevich(), torch.full((300, 1), 10.0, dtype=torch.float64))
    assert got == out
    assert states["v"] == pytest.approx(membrane, rel=1e-6)
    assert states["u"] == pytest.approx(recovery, rel=1e-6)
    assert 5 <= sum(out) <= 10  # a regular spiking cell at I = 10 fires some 25 times a second


def test_adlif_is_the_published_recurrence() -> None:
    values, (alpha, beta, a, b) = [3.0, 9.0, 2.0, 14.0, 8.0, -1.0, 12.0], (0.85, 0.97, 0.3, 1.5)
    u = w = s = 0.0
    out = []
    for value in values:  # as the authors write it: w first, from the membrane before the reset
        w = beta * w + a * u + b * s
        u = alpha * (u - s) + (1 - alpha) * (value - w)
        s = 1.0 if u >= 1.0 else 0.0
        out.append(s)
    assert 0 < sum(out) < len(out)
    assert traces(sl.AdLIF(alpha, beta, a, b), series(*values))[0] == out


def test_adex_rests_and_adapts() -> None:
    resting, states = traces(sl.AdEx(), torch.zeros(200, 1, dtype=torch.float64))
    assert sum(resting) == 0
    assert states["v"][-1] == pytest.approx(-70.6, abs=0.01)
    # the rheobase of the paper's cell lies between 0.5 and 1 nA; above it, the intervals grow
    assert sum(traces(sl.AdEx(), torch.full((300, 1), 500.0, dtype=torch.float64))[0]) == 0
    fired = traces(sl.AdEx(), torch.full((300, 1), 1000.0, dtype=torch.float64))[0]
    times = [t for t, s in enumerate(fired) if s]
    assert len(times) >= 3
    assert times[-1] - times[-2] > times[1] - times[0]


def test_eif_threshold_of_the_upswing() -> None:
    # a constant input fires it if and only if it exceeds v_T - v_rest - delta_T = 5.1 - 3.48
    assert sum(traces(sl.EIF(), torch.full((400, 1), 1.55, dtype=torch.float64))[0]) == 0
    assert sum(traces(sl.EIF(), torch.full((400, 1), 1.70, dtype=torch.float64))[0]) > 0


def test_qif_by_hand() -> None:
    # h = v + (x + v (v - 0.8)) / 2: 0.6; 0.6 + (0.6 - 0.12) / 2 = 0.84; 0.84 + (1.2 + 0.0336) / 2 = 1.4568
    out, states = traces(sl.QIF(), series(1.2, 0.6, 1.2))
    assert out == [0, 0, 1]
    assert states["v"] == pytest.approx([0.6, 0.84, 0.0])


def test_cubalif_by_hand() -> None:
    # i: 1, 0.5, 1.25; h: 1, 0.5, 0.375 + 1.25
    out, states = traces(sl.CubaLIF(0.5, 0.75), series(1.0, 0.0, 1.0))
    assert out == [1, 0, 1]
    assert states == {"v": [0.0, 0.5, 0.625], "i": [1.0, 0.5, 1.25]}


def test_klif_by_hand() -> None:
    # charged 0.5, -0.75 (rectified), 0.6; times 2
    out, states = traces(sl.KLIF(2.0, k=2.0), series(1.0, -1.5, 1.2))
    assert out == [1, 0, 1]
    assert states["v"] == pytest.approx([0.0, 0.0, 0.0])


def test_glif_gates_at_their_ends_are_lifs() -> None:
    x = NEURONS["GLIF"].input(20, 3, dtype=torch.float64)
    on, off = 1 - 1e-9, 1e-9
    hard = sl.GLIF(alpha=on, beta=off, gamma=on, tau=0.75, theta=0.9).double()
    soft = sl.GLIF(alpha=on, beta=off, gamma=off, tau=0.75, theta=0.9, drop=0.6).double()
    out = hard(x)
    assert 0 < out.mean() < 1
    assert torch.equal(out, sl.LIF(4.0, decay_input=False, v_threshold=0.9)(x))
    v, s, expected = torch.zeros(3), torch.zeros(3), []
    for x_t in x:  # the soft reset is not scaled by the leak
        v = 0.75 * v + x_t - 0.6 * s
        s = (v >= 0.9).double()
        expected.append(s)
    assert torch.equal(soft(x), torch.stack(expected))


def test_clif_by_hand() -> None:
    values, v, m, out = [1.2, 0.9, 1.6, 0.2, 1.9], 0.0, 0.0, []
    for value in values:
        h = 0.5 * v + value
        s = 1.0 if h >= 1 else 0.0
        m = m / (1 + math.exp(-h / 2)) + s
        v = h - s * (1 + 1 / (1 + math.exp(-m)))
        out.append(v)
    assert traces(sl.CLIF(2.0), series(*values))[1]["v"] == pytest.approx(out)


def test_liaf_fires_values() -> None:
    x = series(1.0, 1.5, 2.0, -1.0)  # h as LIF's: 0.5, 1.0, 1.0, -0.5
    assert traces(sl.LIAF(2.0), x)[0] == [0.5, 1.0, 1.0, 0.0]
    assert traces(sl.LIAF(2.0, activation=torch.tanh), x)[0] == pytest.approx(
        [math.tanh(h) for h in (0.5, 1.0, 1.0, -0.5)]
    )
    assert traces(sl.LIAF(2.0, threshold_related=True), series(3.0, 1.0))[0] == [0.5, 0.0]


def test_ternary_fires_both_ways() -> None:
    x = series(3.0, -2.5, 0.5, -3.0)
    hard, states = traces(sl.TernaryLIF(2.0), x)
    assert (hard, states["v"]) == ([1, -1, 0, -1], [0.0, 0.0, 0.25, 0.0])  # h: 1.5, -1.25, 0.25, -1.375
    soft, states = traces(sl.TernaryLIF(2.0, reset="soft"), x)
    assert (soft, states["v"]) == ([1, -1, 0, -1], [0.5, 0.0, 0.25, -0.375])  # h: 1.5, -1.0, 0.25, -1.375


def test_ilif_fires_integers() -> None:
    # h: 2.6; -0.1 + 0.2; 0.025 + 7; 0.75625 - 3
    out, states = traces(sl.ILIF(), series(2.6, 0.2, 7.0, -3.0))
    assert out == [3, 0, 4, 0]
    assert states["v"] == pytest.approx([-0.4, 0.1, 3.025, -2.24375])
    assert traces(sl.ILIF(levels=8, v_threshold=0.5), series(2.6, 7.0))[0] == [5, 8]


def test_resonator_prefers_its_rhythm() -> None:
    steps = torch.arange(200, dtype=torch.float64).unsqueeze(1)
    neuron = sl.ResonateFire(b=-0.1, omega=0.5)
    rates = {w: neuron(0.3 * torch.cos(w * steps)).mean().item() for w in (0.1, 0.5, 1.5)}
    assert rates[0.5] > 0
    assert rates[0.1] == rates[1.5] == 0
    # one kick, ringing: v = e^{bt} sin(omega t)
    _, states = traces(sl.ResonateFire(b=-0.1, omega=0.5), series(0.9, *[0.0] * 9))
    ringing = [0.9 * math.exp(-0.1 * t) * math.sin(0.5 * t) for t in range(10)]
    assert states["v"] == pytest.approx(ringing, abs=1e-15)


def test_refractory_pauses() -> None:
    out, states = traces(sl.RefractoryLIF(2.0, period=2.0), torch.full((7, 1), 2.5, dtype=torch.float64))
    assert out == [1, 0, 0, 1, 0, 0, 1]
    assert states["r"] == [2, 1, 0, 2, 1, 0, 2]
    assert states["v"] == [0.0] * 7
    free = sl.RefractoryLIF(3.0, period=0.0)
    x = NEURONS["LIF"].input(30, 4)
    assert torch.equal(free(x), sl.LIF(3.0)(x))


def test_noise_is_an_input() -> None:
    entry = NEURONS["NoisyLIF"]
    x, noise = entry.inputs(30, 4, 5)
    neuron = sl.NoisyLIF(2.0, sigma=0.5)
    assert torch.equal(neuron(x, noise), neuron(x, noise))
    assert not torch.equal(neuron(x, noise), neuron(x, -noise))
    assert torch.equal(neuron(x, 0 * noise), sl.LIF(2.0)(x))
    draws = [neuron(x, generator=torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


# -- equivalences ---------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.25, 0.2, 0.5])
def test_membrane_times_decay_is_lif(decay: float) -> None:
    x = NEURONS["LIF"].input(50, 8, dtype=torch.float64)
    u, s, expected = torch.zeros(8), torch.zeros(8), []
    for x_t in x:
        u = decay * u * (1 - s) + x_t
        s = (u > 1.0).double()
        expected.append(s)
    assert torch.equal(sl.LIF(tau=1 / (1 - decay), decay_input=False)(x), torch.stack(expected))


@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("tau", [1.25, 2.0, 7.0])
def test_plif_is_lif_at_the_same_tau(tau: float, decay_input: bool) -> None:
    x = NEURONS["LIF"].input(40, 8, dtype=torch.float64)
    plif, lif = sl.PLIF(tau, decay_input=decay_input).double(), sl.LIF(tau, decay_input=decay_input)
    assert plif.w.item() == pytest.approx(-math.log(tau - 1), abs=1e-7)
    assert torch.equal(plif(x), lif(x))


def test_ternary_of_positive_input_is_lif() -> None:
    x = NEURONS["LIF"].input(40, 8).abs()
    assert torch.equal(sl.TernaryLIF(3.0)(x), sl.LIF(3.0)(x))


# -- gradients ------------------------------------------------------------------------------------

# where finite differences can follow: few steps, and inputs that keep upswings short of overflow
GENTLE: dict[str, dict[str, Any]] = {
    "AdEx": {"v_threshold": -45.0},
    "EIF": {"v_threshold": -55.0},
    "Izhikevich": {"v_threshold": -50.0},
}
CALM = {"AdEx": 0.2, "EIF": 0.2, "Izhikevich": 0.3}


def smooth(neuron: sl.Neuron) -> sl.Neuron:
    """Give the neuron a forward whose true derivative the surrogate is."""
    if isinstance(neuron.surrogate, MultiLevel):
        neuron.surrogate = Smooth(neuron.surrogate)
    else:
        neuron.surrogate = Smooth(Sigmoid(0.3 if neuron.surrogate.alpha < 1 else 2.0))  # type: ignore[attr-defined]
    return neuron.double()


def check(name: str, options: dict[str, Any], given_state: bool = True, twice: bool = False) -> None:
    """Compare gradients of outputs and final states by inputs, initial states and parameters."""
    entry, shape = NEURONS[name], (3, 2, 2)
    options = {**GENTLE.get(name, {}), **options}
    tensors = entry.tensors("channel", shape[1:], **options)
    run = _Run(smooth(entry.make(**tensors, learnable=entry.params(**options))))
    xs = [x * CALM.get(name, 1.0) for x in entry.inputs(*shape, dtype=torch.float64)]
    start = [value.detach() for value in run.neuron._state(xs[0], None)] if given_state else []
    start = [value + 0.05 * torch.rand_like(value) for value in start]
    names = [n for n, _ in run.named_parameters()]

    def function(*leaves: Tensor) -> tuple[Tensor, ...]:
        first, states = leaves[: len(xs)], leaves[len(xs) : len(xs) + len(start)]
        parameters = dict(zip(names, leaves[len(xs) + len(start) :], strict=True))
        return torch.func.functional_call(run, parameters, (first, states))  # type: ignore[no-any-return]

    leaves = [leaf.detach().clone().requires_grad_() for leaf in (*xs, *start, *run.parameters())]
    checker = torch.autograd.gradgradcheck if twice else torch.autograd.gradcheck
    assert checker(function, leaves, atol=1e-6, rtol=1e-4)


class _Run(torch.nn.Module):
    """A neuron's run as a module, for `functional_call`."""

    def __init__(self, neuron: sl.Neuron) -> None:
        super().__init__()
        self.neuron = neuron

    def forward(self, xs: tuple[Tensor, ...], states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        given = dict(zip(self.neuron.states, states, strict=True)) if states else None
        out, final, _ = self.neuron.run(*xs, state=given)
        return (out, *final.values())


@pytest.mark.parametrize("name", NEURONS)
def test_gradients_by_finite_differences(name: str) -> None:
    torch.manual_seed(0)
    for options in NEURONS[name].variants():
        if not options.get("detach_reset"):  # which is no true gradient, on purpose
            check(name, options)


@pytest.mark.parametrize("name", NEURONS)
def test_gradients_through_the_initial_state(name: str) -> None:
    check(name, {}, given_state=False)


@pytest.mark.parametrize("options", [{}, {"reset": "soft", "decay_input": False}])
def test_second_derivatives(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    check("LIF", options, twice=True)


@pytest.mark.parametrize("name", [n for n, e in NEURONS.items() if "detach_reset" in e.axes])
def test_detach_reset_stops_the_gradient_there(name: str) -> None:
    entry = NEURONS[name]
    for options in entry.variants():
        if options["detach_reset"]:
            continue
        gradients, outputs = [], []
        for detach in (False, True):
            x, *rest = entry.inputs(12, 4, 3, dtype=torch.float64)
            x.requires_grad_()
            out = entry.make(**{**options, "detach_reset": detach}).double()(x, *rest)
            out.sum().backward()
            assert x.grad is not None
            gradients.append(x.grad)
            outputs.append(out)
        assert torch.equal(*outputs)
        assert not torch.equal(*gradients)
        assert torch.equal(gradients[0][-1], gradients[1][-1])  # nothing comes after the last step's reset


def test_detach_reset_by_hand() -> None:
    # IF, two steps, soft: h2 = h1 - s1 + x2, so ds2/dx1 = g(h2 - 1) (1 - g(h1 - 1)), or g(h2 - 1) detached
    def g(u: float) -> float:
        return 1 / (1 + (math.pi * u) ** 2)

    for detach in (False, True):
        x = series(1.2, 0.6).requires_grad_()
        sl.IF(reset="soft", detach_reset=detach, surrogate=ATan(2.0))(x)[1].sum().backward()
        assert x.grad is not None
        expected = g(-0.2) * (1.0 if detach else 1 - g(0.2))
        assert x.grad[0].item() == pytest.approx(expected, rel=1e-12)
        assert x.grad[1].item() == pytest.approx(g(-0.2), rel=1e-12)


# -- modules --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NEURONS)
def test_every_option_and_parameter_shape_runs(name: str) -> None:
    entry, shape = NEURONS[name], (6, 2, 3, 4)
    xs = entry.inputs(*shape)
    for options in entry.variants():
        for kind in ("scalar", "channel", "neuron"):
            tensors = entry.tensors(kind, shape[1:], **options)
            out = entry.make(**tensors, learnable=entry.params(**options))(*xs)
            assert out.shape == shape
            assert torch.isfinite(out).all()


@pytest.mark.parametrize("name", NEURONS)
def test_fires_now_and_then(name: str) -> None:
    if name != "LI":
        out = NEURONS[name].make()(*NEURONS[name].inputs(64, 2, 3))
        assert 0.01 < (out != 0).float().mean() < 0.9  # once in 64 steps at the least


@pytest.mark.parametrize("name", NEURONS)
def test_state_dict_and_deepcopy(name: str) -> None:
    entry, shape = NEURONS[name], (6, 2, 3, 4)
    xs = entry.inputs(*shape)
    first = entry.make(**entry.tensors("channel", shape[1:], seed=1), learnable=entry.params())
    second = entry.make(**entry.tensors("channel", shape[1:], seed=2), learnable=entry.params())
    second.load_state_dict(first.state_dict())
    assert torch.equal(second(*xs), first(*xs))
    assert torch.equal(copy.deepcopy(first)(*xs), first(*xs))
    assert set(first.state_dict()) == set(first._params)


def test_load_refuses_what_construction_refuses() -> None:
    neuron = sl.LIF(torch.tensor([2.0, 3.0]))
    with pytest.raises(ValueError, match=r"LIF: tau in \[0\.5, 2\]; it must be >= 1 time steps"):
        neuron.load_state_dict({"tau": torch.tensor([2.0, 0.5])})
    with pytest.raises(ValueError, match=r"tau = nan; a finite number is needed"):
        torch.nn.Sequential(neuron).load_state_dict({"0.tau": torch.tensor([math.nan, math.nan])})
    assert neuron.tau.tolist() == [2.0, 3.0]


# -- misuse ---------------------------------------------------------------------------------------

TAU = ("LIF", "LI", "KLIF", "LIAF", "TernaryLIF", "ILIF", "RefractoryLIF", "NoisyLIF", "CLIF", "QIF", "EIF")


@pytest.mark.parametrize("value", [0.0, -1.0, 0.99, math.nan, math.inf, torch.tensor([2.0, 0.5])])
@pytest.mark.parametrize("name", TAU)
def test_tau_below_one_raises(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{name}: tau .*(it must be >= 1|a finite number is needed)"):
        NEURONS[name].make(tau=value)


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("PLIF", {"init_tau": 1.0}, r"PLIF: init_tau = 1; it must be > 1 time steps"),
        ("PLIF", {"init_tau": math.nan}, r"PLIF: init_tau = nan"),
        ("ALIF", {"tau": 0.0}, r"ALIF: tau = 0; it must be > 0"),
        ("ALIF", {"tau_adapt": -3.0}, r"tau_adapt = -3; it must be > 0"),
        ("AdLIF", {"alpha": 1.0}, r"alpha = 1; it must be >= 0 and < 1"),
        ("CubaLIF", {"beta": -0.1}, r"beta = -0.1; it must be >= 0 and < 1"),
        ("AdEx", {"C": 0.0}, r"C = 0; it must be > 0 pF"),
        ("AdEx", {"reset": "soft"}, r"AdEx: reset = 'soft', but this neuron runs away"),
        ("KLIF", {"k": 0.0}, r"k = 0; it must be > 0"),
        ("GLIF", {"gamma": 1.0}, r"GLIF: gamma = 1; it must be > 0 and < 1"),
        ("TernaryLIF", {"v_threshold": -1.0}, r"v_threshold = -1; it must be > 0"),
        ("ILIF", {"v_threshold": 0.0}, r"v_threshold = 0; it must be > 0"),
        ("ILIF", {"levels": 0}, r"MultiLevel: levels = 0"),
        ("ResonateFire", {"b": 0.1}, r"b = 0.1; it must be < 0"),
        ("RefractoryLIF", {"period": -1.0}, r"period = -1; it must be >= 0"),
        ("RefractoryLIF", {"learnable": ("period",)}, r"period counts steps and has no gradient"),
        ("NoisyLIF", {"sigma": -0.1}, r"sigma = -0.1; it must be >= 0"),
        ("IF", {"v_threshold": math.nan}, r"v_threshold = nan; a finite number is needed"),
        ("LIF", {"v_reset": -math.inf}, r"v_reset = -inf; a finite number is needed"),
        ("LIF", {"reset": "none"}, r"LIF: reset = 'none'; 'hard' or 'soft'"),
        ("LIF", {"reset": None}, r"for v_reset=None of other libraries, write reset='soft'"),
        ("LIF", {"reset": "soft", "v_reset": -0.5}, r"v_reset = -0.5 with a soft reset"),
        ("LIF", {"learnable": ("taau",)}, r"no parameter 'taau' to learn; learnable may name: v_threshold"),
        ("LIF", {"channel_axis": 1}, r"channel_axis 0 is time and 1 the batch"),
    ],
)
def test_bad_options_raise(name: str, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        NEURONS[name].make(**options)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"v_reset": None}, r"v_reset is None; a soft reset is reset='soft'"),
        ({"tau": "2"}, r"a parameter is a number or a tensor of numbers, not str"),
        ({"tau": torch.tensor(2j)}, r"a parameter is real, not torch.complex64"),
    ],
)
def test_bad_types_raise(options: dict[str, Any], match: str) -> None:
    with pytest.raises(TypeError, match=match):
        sl.LIF(**options)


def test_bad_assignment_raises() -> None:
    neuron = sl.LIF(2.0)
    with pytest.raises(ValueError, match=r"tau = 0.5; it must be >= 1"):
        neuron.tau = 0.5
    assert neuron.tau == 2.0
    with pytest.raises(TypeError, match=r"tau is a tensor; write into it"):
        sl.LIF(2.0, learnable="tau").tau = 3.0


@pytest.mark.parametrize(
    ("x", "error", "match"),
    [
        (
            torch.ones(3, 2, dtype=torch.int64),
            TypeError,
            r"takes floating-point input, not torch.int64.*x.float",
        ),
        (
            torch.ones(3, 2, dtype=torch.complex64),
            TypeError,
            r"takes floating-point input, not torch.complex64",
        ),
        (torch.ones(3, 2, dtype=torch.bool), TypeError, r"takes floating-point input, not torch.bool"),
        (torch.ones(3), ValueError, r"takes \[T, B, \.\.\.\].*given shape \(3,\); add the missing axis"),
        (torch.ones(0, 2), ValueError, r"T = 0 steps, shape \(0, 2\); at least one is needed"),
        ([1.0], TypeError, r"takes a tensor \[T, B, \.\.\.\], not list"),
    ],
)
@pytest.mark.parametrize("name", NEURONS)
def test_bad_input_raises(name: str, x: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        NEURONS[name].make()(x)


def test_parameter_that_does_not_fit_raises() -> None:
    per_channel = sl.LIF(torch.tensor([2.0, 3.0, 4.0]))
    with pytest.raises(ValueError, match=r"tau has 3 values, but axis 2 of x, shape \(4, 2, 5, 6\), has 5"):
        per_channel(torch.ones(4, 2, 5, 6))
    with pytest.raises(ValueError, match=r"tau has shape \(3, 6\), which does not broadcast"):
        sl.LIF(torch.full((3, 6), 2.0))(torch.ones(4, 2, 5, 6))
    tokens = sl.LIF(torch.tensor([2.0, 3.0, 4.0]), channel_axis=-1)
    assert tokens(torch.ones(4, 2, 5, 3)).shape == (4, 2, 5, 3)


def test_noise_of_another_shape_raises() -> None:
    with pytest.raises(ValueError, match=r"noise is \(3, 4\).*but x is \(3, 2\)"):
        sl.NoisyLIF()(torch.ones(3, 2), torch.ones(3, 4))
    with pytest.raises(TypeError, match=r"LIF takes \(x\), but was given 2 inputs"):
        sl.LIF()(torch.ones(3, 2), torch.ones(3, 2))
