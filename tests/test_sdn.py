"""Surrogate dynamic networks: what they see, what they tell, and the neuron that fires by them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import spikeloom as sl
from spikeloom.nn import FoldedSDN, SDNSpiking, SurrogateDynamicNetwork, load_sdn, sdn_error, train_sdn
from spikeloom.nn.sdn_training import LeakedMembrane, save_sdn


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def settled(decay: float = 0.2) -> SurrogateDynamicNetwork:
    """Return a network in evaluation, its norms not as they were built."""
    sdn = SurrogateDynamicNetwork(decay)
    for norm in (sdn.norm, sdn.mix_norm):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
    for _ in range(5):
        sdn(torch.randn(4, 40))
    return sdn.eval()


def by_layers(sdn: SurrogateDynamicNetwork, x: Tensor) -> Tensor:
    """Return the membrane by torch's convolutions, as the published architecture is written."""
    h = sdn.filter(sdn.widen(x.unsqueeze(1)))[..., : x.shape[1]]
    h = functional.relu(sdn.norm(h))
    h = functional.relu(sdn.mix_norm(sdn.mix(h)) + h)
    return sdn.read(h).squeeze(1)


def exact(x: Tensor, decay: float) -> tuple[Tensor, Tensor]:
    """Return the leaked membrane and the spikes of inputs `[T, ...]`, step by step."""
    u, ms, ss = torch.zeros_like(x[0]), [], []
    for x_t in x:
        m = decay * u
        s = (m + x_t >= 1).to(x)
        u = (1 - s) * (m + x_t)
        ms.append(m)
        ss.append(s)
    return torch.stack(ms), torch.stack(ss)


def padded(x: Tensor) -> Tensor:
    return torch.cat((x.new_zeros(8, *x.shape[1:]), x))


def test_its_parameters_are_193() -> None:
    sdn = SurrogateDynamicNetwork(0.2)
    assert sum(p.numel() for p in sdn.parameters()) == 193
    own = dict(sdn.folded().named_buffers())
    assert sum(value.numel() for name, value in own.items() if name != "trained_for") == 153
    assert not list(sdn.folded().parameters())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("T", [1, 7, 8, 9, 33])
def test_products_are_the_convolutions(T: int, training: bool) -> None:
    sdn, x = settled().train(training), torch.randn(3, T)
    torch.testing.assert_close(sdn(x), by_layers(sdn, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 3), (70, 2, 3, 4)])
def test_folding_keeps_the_function(shape: tuple[int, ...]) -> None:
    sdn, x = settled().double(), torch.randn(*shape, dtype=torch.float64)
    want = sdn(x.flatten(1).mT).mT.reshape(shape)
    torch.testing.assert_close(sdn.folded()(padded(x)), want)
    apart = padded(x).repeat_interleave(2, 1)[:, ::2]  # not contiguous
    torch.testing.assert_close(sdn.folded()(apart), want)


def test_blocks_of_steps_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    sdn, x = settled().folded(), torch.randn(50, 4)
    whole = sdn(x)
    monkeypatch.setattr("spikeloom.nn.sdn._BLOCK", 100)
    torch.testing.assert_close(sdn(x), whole)


def test_it_sees_the_eight_steps_before_alone() -> None:
    sdn, x = settled().folded(), torch.randn(40, 1)
    before = sdn(padded(x))
    for t in (0, 5, 20):
        changed = x.clone()
        changed[t] += 10
        differs = (sdn(padded(changed)) != before).flatten().nonzero().flatten().tolist()
        assert differs == list(range(t + 1, t + 9))


def test_the_target_is_the_leaked_membrane() -> None:
    """d = 1/2: inputs .75, .75, .5, 0; m: 0, .375 (1.125 fires), 0, .25."""
    x = torch.tensor([0.75, 0.75, 0.5, 0.0]).reshape(4, 1)
    assert LeakedMembrane(0.5)(x).flatten().tolist() == [0, 0.375, 0, 0.25]
    x = torch.randn(30, 5, 2)
    torch.testing.assert_close(LeakedMembrane(0.2)(x), exact(x, 0.2)[0])


@pytest.mark.parametrize("decay", [0.2, 0.125])
def test_those_that_come_along_tell_the_membrane(decay: float) -> None:
    error = sdn_error(load_sdn(decay), sequences=64)
    assert error.mse < 0.03 * error.variance
    assert error.agreement > 0.995
    assert error.missed < 0.02


def test_training_by_the_recipe() -> None:
    before = torch.random.get_rng_state()
    sdn = train_sdn(0.3, updates=60, length=32, batch_size=32)
    again = train_sdn(0.3, updates=60, length=32, batch_size=32)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(sdn.buffers(), again.buffers(), strict=True))
    assert sdn.decay == 0.3
    error, untrained = sdn_error(sdn, length=100), sdn_error(train_sdn(0.3, updates=1), length=100)
    assert error.mse < 0.5 * min(untrained.mse, error.variance)


def test_errors_by_hand() -> None:
    """A network that says 0: wrong where the membrane lifts an input over the threshold, or below it."""
    zero = FoldedSDN(0.2, *(torch.zeros(s) for s in ((8, 8), (8,), (8, 8), (8,), (1, 8), (1,))))
    error = sdn_error(zero, length=64, sequences=16, seed=3)
    x = torch.randn(64, 16, generator=torch.Generator().manual_seed(3))
    m, s = exact(x, 0.2)
    assert error.mse == pytest.approx(float((m * m).mean()))
    assert error.agreement == pytest.approx(float(((x >= 1) == s.bool()).float().mean()))
    assert error.rate == pytest.approx(float(s.mean()))
    assert error.missed == pytest.approx(float((s.bool() & (x < 1)).sum() / s.sum()))


@pytest.mark.parametrize("shape", [(1, 1, 3), (40, 2, 3), (12, 2, 5, 3)])
def test_spikes_and_gradients_are_the_equations(shape: tuple[int, ...]) -> None:
    sdn, x = settled().double().folded(), 2 * torch.randn(*shape, dtype=torch.float64, requires_grad=True)
    layer = SDNSpiking(3, 0.2, sdn=sdn).double()
    with torch.no_grad():
        layer.ln_v_threshold.copy_(torch.tensor([-0.5, 0.0, 0.7]))
    current = x / torch.exp(layer.ln_v_threshold)
    u = sdn(padded(current.detach())) + current - 1
    s = layer(x)
    assert torch.equal(s, (u >= 0).double())
    # a triangle of the input of the same step alone
    weight = torch.randn(*shape, dtype=torch.float64)
    gx, gw = torch.autograd.grad((s * weight).sum(), (x, layer.ln_v_threshold))
    wx, ww = torch.autograd.grad(
        (current * (weight * (1 - u.abs()).clamp(min=0)).detach()).sum(), (x, layer.ln_v_threshold)
    )
    torch.testing.assert_close(gx, wx)
    torch.testing.assert_close(gw, ww)


@pytest.mark.parametrize("decay", [0.2, 0.125, 0.5])
def test_the_exact_neuron(decay: float) -> None:
    layer, x = SDNSpiking(3, decay, exact=True, v_threshold=0.7), torch.randn(50, 2, 3)
    assert torch.equal(layer(x), exact(x / 0.7, decay)[1])


def test_exact_in_place_of_the_network() -> None:
    layer, x = SDNSpiking(4, 0.2), torch.randn(400, 2, 4)
    told = layer(x)
    layer.exact = True
    assert 0.995 < float((told == layer(x)).float().mean()) < 1


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("cuts", [(30,), (1, 29), (3, 1, 20, 6)])
def test_chunks_are_the_whole(cuts: tuple[int, ...], exact: bool) -> None:
    layer, x = SDNSpiking(3, 0.2, exact=exact), torch.randn(30, 2, 3)
    stream = sl.Stream(layer)
    got = torch.cat([stream(chunk) for chunk in x.split(list(cuts))])
    assert torch.equal(got, layer(x))
    assert set(stream.state) == ({"neuron#0.v"} if exact else {f"#0.input{k}" for k in range(8)})


def test_dtypes_and_layouts() -> None:
    layer, x = SDNSpiking(3, 0.2), torch.randn(20, 2, 5, 3)
    want = layer(x)
    assert torch.equal(layer(x.transpose(1, 2)).transpose(1, 2), want)
    assert layer(x.double()).dtype == torch.float64
    for dtype in (torch.bfloat16, torch.float16):
        low = x.to(dtype)
        assert layer(low).dtype == dtype
        assert torch.equal(layer(low).float(), layer(low.float()))


def test_it_compiles_whole() -> None:
    torch._dynamo.reset()
    layer, x = SDNSpiking(3, 0.2), torch.randn(11, 2, 3)
    assert torch.equal(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), layer(x))


def test_only_thresholds_learn() -> None:
    layer = SDNSpiking(3, 0.2)
    assert [name for name, _ in layer.named_parameters()] == ["ln_v_threshold"]
    assert torch.equal(layer.ln_v_threshold, torch.zeros(3))
    fixed = SDNSpiking(3, 0.2, learnable=False, v_threshold=2.0)
    assert not list(fixed.parameters())
    assert float(fixed.ln_v_threshold[0]) == pytest.approx(math.log(2))


def test_a_network_of_another_decay_is_refused() -> None:
    other = settled(0.3)
    both = r"trained for a decay of 0\.3, but the neuron's is 0\.2"
    with pytest.raises(ValueError, match=both):
        SDNSpiking(3, 0.2, sdn=other)
    with pytest.raises(ValueError, match=both):
        SDNSpiking(3, 0.2, sdn=other.folded())
    with pytest.raises(ValueError, match=both):
        SDNSpiking(3, 0.2).load_state_dict(SDNSpiking(3, 0.3, sdn=other).state_dict())


def test_saved_with_its_errors(tmp_path: object) -> None:
    from safetensors import safe_open

    path = f"{tmp_path}/sdn.safetensors"
    save_sdn(settled(0.3).folded(), path)
    with safe_open(path, "pt") as file:
        assert '"decay": 0.3' in file.metadata()["sdn"]
        assert len(list(file.keys())) == 6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SDNSpiking(3, 0.3), r"a decay of 0.3 comes along \(there is 0.125 and 0.2\); train one"),
        (lambda: SDNSpiking(3, 0.3, exact=True), None),
        (lambda: SDNSpiking(3, 1.0), "decay = 1.0; a number between 0 and 1"),
        (lambda: SurrogateDynamicNetwork(0), "decay = 0"),
        (lambda: SDNSpiking(0), "channels = 0"),
        (lambda: SDNSpiking(3, v_threshold=0.0), "v_threshold = 0.0"),
        (lambda: SDNSpiking(3)(torch.rand(4, 2, 2)), r"takes \[T, B, ..., 3\]"),
        (lambda: SurrogateDynamicNetwork(0.2)(torch.rand(4, 2, 2)), r"sequences \[N, T\]"),
        (lambda: SurrogateDynamicNetwork(0.2).folded()(torch.rand(8, 2)), "8 steps before the first"),
        (lambda: train_sdn(0.2, updates=0), "updates = 0"),
    ],
)
def test_what_does_not_fit(make: Callable[[], object], message: str | None) -> None:
    if message is None:
        layer = make()
        assert isinstance(layer, SDNSpiking)
        layer.exact = False
        with pytest.raises(ValueError, match=r"has no network for its decay of 0.3"):
            layer(torch.rand(4, 2, 3))
        return
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_no_network() -> None:
    with pytest.raises(TypeError, match="sdn is a Linear"):
        SDNSpiking(3, 0.2, sdn=nn.Linear(1, 1))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="floating-point"):
        SDNSpiking(3, 0.2)(torch.ones(3, 1, 3, dtype=torch.int64))
