"""PSN, masked and sliding PSN: against sums written out, by hand, in streams, in networks."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
import torch
from families import small_network
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.nn import PSN, MaskedPSN, SlidingPSN

T = 5
SMOOTH = sl.surrogate.Smooth(sl.surrogate.Sigmoid(2.0))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def made(kind: str, **options: Any) -> Any:
    """Return a layer whose weights and thresholds are all different, in float64."""
    make = {"PSN": PSN, "masked": functools.partial(MaskedPSN, k=3), "sliding": SlidingPSN}[kind]
    layer = make(**({"k": 3} if kind == "sliding" else {"T": T}), **options).double()
    for value in layer.parameters():
        value.data.uniform_(0.1, 0.9)
    return layer


def potentials(layer: Any, x: Tensor) -> Tensor:
    """Return H - B, one product after the other."""
    steps = []
    for t in range(len(x)):
        u = torch.zeros_like(x[0])
        for i in range(len(x)):
            if isinstance(layer, SlidingPSN):
                at = i - t + layer.k - 1
                if 0 <= at < layer.k:
                    u = u + layer.weight[at] * x[i]
            elif isinstance(layer, MaskedPSN):
                kept = 1.0 if i <= t <= i + layer.k - 1 else 1 - layer.lambda_
                u = u + kept * layer.weight[t, i] * x[i]
            else:
                u = u + layer.weight[t, i] * x[i]
        steps.append(u - (layer.neuron.threshold if isinstance(layer, SlidingPSN) else layer.threshold[t]))
    return torch.stack(steps)


def test_by_hand() -> None:
    x = torch.tensor([1.0, 0.0, 2.0]).reshape(3, 1, 1)
    psn = PSN(3)
    psn.weight.data = torch.tensor([[0.0, 0.0, 0.5], [1.0, 5.0, 0.0], [0.5, 0.0, 0.2]])
    assert psn(x).flatten().tolist() == [1, 1, 0]  # H = 1, 1, 0.9; the first step sees the last
    masked = MaskedPSN(3, k=2)
    masked.load_state_dict(psn.state_dict(), strict=False)
    assert masked(x).flatten().tolist() == [0, 1, 0]  # H = 0, 1, 0.4
    masked.lambda_ = 0.0
    assert masked(x).flatten().tolist() == [1, 1, 0]
    sliding = SlidingPSN(3)
    assert sliding.weight.tolist() == [0.25, 0.5, 1.0]
    assert sliding(x).flatten().tolist() == [1, 0, 1]  # H = 1, 0.5, 2.25
    assert sliding(torch.tensor([0.0, 0.0, 0.9, 0.9]).reshape(4, 1, 1)).flatten().tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("surrogate", [None, SMOOTH, sl.surrogate.Triangle()])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PSN", {}),
        ("masked", {}),
        ("masked", {"lambda_": 0.4}),
        ("masked", {"lambda_": 0.0}),
        ("sliding", {}),
    ],
)
def test_the_equation_and_its_gradients(kind: str, options: dict[str, Any], surrogate: Any) -> None:
    layer = made(kind, surrogate=surrogate, **options)
    x = torch.randn(3, 4, T, dtype=torch.float64).permute(2, 1, 0).requires_grad_()  # not contiguous
    leaves = [x, *layer.parameters()]
    g = torch.randn(x.shape, dtype=torch.float64)
    s, want = layer(x), layer.neuron.surrogate(potentials(layer, x))
    torch.testing.assert_close(s, want)
    for mine, truth in zip(
        torch.autograd.grad(s, leaves, g), torch.autograd.grad(want, leaves, g), strict=True
    ):
        torch.testing.assert_close(mine, truth)


@pytest.mark.parametrize("kind", ["PSN", "masked", "sliding"])
def test_gradients_by_differences(kind: str) -> None:
    layer = made(kind, surrogate=SMOOTH)
    x = torch.randn(T, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x, *layer.parameters()))


@pytest.mark.parametrize("steps", [1, 2, 63])
def test_any_number_of_steps(steps: int) -> None:
    for k in (1, 2, 8):
        sliding = SlidingPSN(k).double()
        x = torch.randn(steps, 2, 3, dtype=torch.float64)
        u = potentials(sliding, x)
        assert torch.equal(sliding(x), (u >= 0).double())
    psn = PSN(steps).double()
    assert torch.equal(psn(x), (potentials(psn, x) >= 0).double())
    assert psn(x[:, :, 0]).shape == (steps, 2)


def test_what_they_start_from() -> None:
    for layer in (PSN(16), MaskedPSN(16, 4), SlidingPSN(16, halving=False)):
        assert layer.weight.abs().max() <= 1 / 4 + 1e-6 < 4 * layer.weight.abs().max()
    sizes = [sum(p.numel() for p in m.parameters()) for m in (PSN(16), MaskedPSN(16, 4), SlidingPSN(4))]
    assert sizes == [16 * 17, 16 * 17, 5]
    assert torch.equal(PSN(4).threshold, torch.ones(4))
    # halves each step: a sliding PSN of all steps is a leaky membrane without a reset
    x = torch.randn(6, 2, 3)
    membrane = sl.nn.LeakyIntegrator(0.5)(x)
    assert torch.equal(SlidingPSN(6)(x), (membrane >= 1).float())


@pytest.mark.parametrize("kind", ["PSN", "masked", "sliding"])
def test_half_precision_sums_in_single(kind: str) -> None:
    layer = made(kind).float()
    x = torch.randn(T, 6, 7).bfloat16()
    s = layer(x)
    assert s.dtype == torch.bfloat16
    assert torch.equal(s.float(), layer(x.float()))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x.float()), layer(x.float().clone()))
        assert torch.equal(layer(x.float()), s.float())


@pytest.mark.parametrize("cuts", [(1, 1, 1, 1, 1), (3, 2), (1, 4), (5,)])
@pytest.mark.parametrize("k", [1, 2, 4, 5])
@pytest.mark.parametrize("kind", ["masked", "sliding"])
def test_a_stream_carries_the_inputs_before(kind: str, k: int, cuts: tuple[int, ...]) -> None:
    layer = MaskedPSN(T, k) if kind == "masked" else SlidingPSN(k)
    for value in layer.parameters():
        value.data.uniform_(0.1, 0.9)
    net = nn.Sequential(layer, sl.LIF()).eval()
    x, stream = torch.randn(T, 2, 3), sl.Stream(net)
    assert torch.equal(torch.cat([stream(part) for part in x.split(cuts)]), net(x))
    past = {name.split(".")[1] for name in stream.state if name.startswith("0#")} - {"step"}
    assert past == {f"x{i}" for i in range(1, k)}
    if k > 1:
        assert torch.equal(stream.state["0#0.x1"], x[-1])
    if kind == "masked":
        with pytest.raises(ValueError, match=r"of T = 5 steps, of which the stream has seen 5"):
            stream(x[:1])
        stream.reset()
        assert torch.equal(stream(x), net(x))


def test_a_stream_refuses_what_looks_ahead() -> None:
    x = torch.randn(T, 2, 3)
    with pytest.raises(RuntimeError, match="PSN looks ahead"):
        sl.Stream(PSN(T))(x)
    with pytest.raises(RuntimeError, match=r"lambda_ = 0.5 below 1 looks ahead"):
        sl.Stream(MaskedPSN(T, lambda_=0.5))(x)


def test_bad_input() -> None:
    for make in (PSN, MaskedPSN):
        with pytest.raises(ValueError, match=r"T = 5 steps, but was given 4 steps.*build it with T=4, or"):
            make(T)(torch.randn(4, 2, 3))
        with pytest.raises(ValueError, match="T = 0"):
            make(0)
    for k in (0, 6):
        with pytest.raises(ValueError, match=f"k = {k} of T = 5"):
            MaskedPSN(T, k)
    with pytest.raises(ValueError, match="k = 0"):
        SlidingPSN(0)
    for amount in (-0.1, 1.5):
        with pytest.raises(ValueError, match="from 0, a PSN, to 1"):
            MaskedPSN(T).lambda_ = amount
    for layer in (PSN(T), MaskedPSN(T), SlidingPSN()):
        with pytest.raises(TypeError, match="floating-point"):
            layer(torch.ones(T, 2, 3, dtype=torch.int64))
        with pytest.raises(ValueError, match="at least one step"):
            layer(torch.randn(0, 2, 3))
        with pytest.raises(TypeError, match="sees time"):
            sl.PerStep(layer)


def test_the_mask_is_kept_with_the_weights() -> None:
    layer = MaskedPSN(T, lambda_=0.25)
    other = MaskedPSN(T)
    other.load_state_dict(layer.state_dict())
    assert copy.deepcopy(other).lambda_ == 0.25
    assert torch.equal(other(torch.ones(T, 1, 1)), layer(torch.ones(T, 1, 1)))


@pytest.mark.parametrize("make", [functools.partial(PSN, T=2), functools.partial(MaskedPSN, T=2), SlidingPSN])
@pytest.mark.parametrize("name", ["spiking_vgg11", "sew_resnet18"])
def test_in_a_network(name: str, make: Any) -> None:
    net = small_network(name, T=2, neuron=make)
    x = torch.randn(2, *net.input_shape)
    assert torch.equal(net(x), net(x.expand(2, *x.shape)))
    net(x).sum().backward()
    found = [m for m in net.modules() if isinstance(m, (PSN, MaskedPSN, SlidingPSN))]
    assert found
    assert all(m.weight.grad is not None and m.weight.grad.isfinite().all() for m in found)
    if not isinstance(found[0], SlidingPSN):
        with pytest.raises(ValueError, match="build it with T=3"):
            net(x.expand(3, *x.shape))


@pytest.mark.parametrize(
    ("name", "options"), [("PSN", {"T": 2}), ("MaskedPSN", {"T": 2}), ("SlidingPSN", {})]
)
def test_by_name(name: str, options: dict[str, Any]) -> None:
    """By its name, with the surrogate and what else of the network's it has."""
    net = small_network("spiking_vgg11", T=2, neuron=name, neuron_options=options)
    found = [m for m in net.modules() if type(m).__name__ == name]
    assert found
    assert isinstance(found[0].neuron.surrogate, sl.surrogate.ATan)
    assert net(torch.randn(2, *net.input_shape)).isfinite().all()
    if options:
        with pytest.raises(ValueError, match=r"must know how many .* neuron_options=.\"T\": 4"):
            small_network("spiking_vgg11", neuron=name)


def test_their_spikes_are_counted() -> None:
    net = nn.Sequential(sl.PerStep(nn.Linear(4, 6)), SlidingPSN(), sl.PerStep(nn.Linear(6, 2)))
    x = 3 * torch.randn(T, 2, 4)
    found = sl.measure.profile(net, x)
    assert found.firing_rate == pytest.approx(net[:2](x).mean().item())
    assert found.rows[1].kind == "SlidingPSN(_Fire)"
    assert "SlidingPSN" in str(sl.explain(net, x))


@pytest.mark.parametrize("kind", ["PSN", "masked", "sliding"])
def test_compiled(kind: str) -> None:
    layer, x = made(kind), torch.randn(T, 2, 3, dtype=torch.float64)
    assert torch.equal(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), layer(x))
