"""Delays a synapse and an axon: against loops over steps, in streams, between neurons, learned."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.nn import AxonalDelays, SynapticDelays

T, B, L = 9, 2, 4


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def naive(layer: SynapticDelays | AxonalDelays, x: Tensor) -> Tensor:
    """Return y for x [T, B, C], a kernel's tap at a time: tap i hears L - 1 - i steps ago."""
    kernel, L, group = layer.kernel(), layer.max_delay, layer.in_channels // layer.groups
    y = torch.zeros(*x.shape[:2], layer.out_channels, *x.shape[3:], dtype=x.dtype)
    for t in range(len(x)):
        for o in range(layer.out_channels):
            first = o // (layer.out_channels // layer.groups) * group
            for c in range(group):
                for i in range(L):
                    if t - (L - 1 - i) >= 0:
                        y[t, :, o] += kernel[o, c, i] * x[t - (L - 1 - i), :, first + c]
    return y if layer.bias is None else y + layer.bias.reshape(-1, *[1] * (x.ndim - 3))


def layers() -> dict[str, Any]:
    return {
        "synaptic": SynapticDelays(4, 6, L).double(),
        "two a pair": SynapticDelays(4, 6, L, kernel_count=2, groups=2, bias=True, version="max").double(),
        "axonal": AxonalDelays(4, L).double(),
        "one step": SynapticDelays(4, 6, 1).double(),
    }


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("space", [(), (3,), (2, 3)])
@pytest.mark.parametrize("kind", ["synaptic", "two a pair", "axonal", "one step"])
def test_the_equation_and_its_gradients(kind: str, space: tuple[int, ...], training: bool) -> None:
    layer = layers()[kind].train(training)
    # neither contiguous
    x = torch.randn(B, T, 4, *space, dtype=torch.float64).transpose(0, 1).requires_grad_()
    leaves = [x, *(p for p in layer.parameters() if training or p is not layer.positions)]
    y = layer(x)
    want = naive(layer, x)
    torch.testing.assert_close(y, want, rtol=1e-6, atol=1e-6)
    g = torch.randn_like(want)
    found = torch.autograd.grad(y, leaves, g)
    for a, b in zip(found, torch.autograd.grad(want, leaves, g), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("space", [(), (2,)])
def test_gradients_are_true(space: tuple[int, ...]) -> None:
    layer = SynapticDelays(2, 3, 3).double()
    x = torch.randn(4, 2, 2, *space, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, *parameters: Tensor) -> Any:
        named = dict(zip(dict(layer.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(layer, named, (x,))

    assert torch.autograd.gradcheck(run, (x, *layer.parameters()))


def test_whole_delays_by_hand() -> None:
    layer = SynapticDelays(2, 1, 4).eval()
    layer.set_delays(torch.tensor([[[0.0], [3.0]]]))
    assert layer.delays().flatten().tolist() == [0, 3]
    layer.weight.data = torch.tensor([[[1.0], [10.0]]])
    x = torch.tensor([[1.0, 1], [2, 2], [3, 3], [4, 4], [5, 5]]).unsqueeze(1)
    assert layer(x).flatten().tolist() == pytest.approx([1, 2, 3, 14, 25], rel=1e-6)
    axons = AxonalDelays(2, 4, torch.tensor([1.0, 2.4])).eval()
    assert axons.delays().flatten().tolist() == [1, 2]
    assert axons(x).squeeze(1).tolist() == [[0, 0], [1, 0], [2, 1], [3, 2], [4, 3]]


def test_spikes_stay_spikes_behind_axons_at_evaluation() -> None:
    x = (torch.rand(30, 3, 8) < 0.3).float()
    axons = AxonalDelays(8, 7).eval()
    y = axons(x)
    assert set(y.unique().tolist()) <= {0.0, 1.0}
    for c, d in enumerate(axons.delays().flatten().tolist()):
        assert torch.equal(y[d:, :, c], x[: 30 - d, :, c])
        assert not y[:d, :, c].any()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("cuts", [(T,), (1,) * T, (2, 6, 1), (5, 4)])
@pytest.mark.parametrize("kind", ["synaptic", "two a pair", "axonal", "one step"])
def test_a_stream_of_chunks_is_the_whole(kind: str, cuts: tuple[int, ...], training: bool) -> None:
    layer = layers()[kind].train(training)
    net = nn.Sequential(layer, sl.LI())
    x = torch.randn(T, B, 4, 3, dtype=torch.float64)
    flow = sl.Stream(net)
    found = torch.cat([flow(part) for part in x.split(list(cuts))])
    torch.testing.assert_close(found, net(x))
    assert flow.state["0#0.past"].shape == (layer.max_delay - 1, B, 4, 3)
    flow.reset()
    torch.testing.assert_close(torch.cat([flow(part) for part in x.split(list(cuts))]), found)
    if layer.max_delay > 1:
        with pytest.raises(ValueError, match=r"call stream.reset\(\)"):
            flow(x[:, :1])


def test_between_per_step_and_neurons() -> None:
    net = nn.Sequential(
        sl.PerStep(nn.Linear(3, 5)), sl.LIF(), AxonalDelays(5, L), SynapticDelays(5, 4, L), sl.LIF(),
    )  # fmt: skip
    x = 3 * torch.rand(T, B, 3)
    net(x).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    with pytest.raises(TypeError, match="sees time"):
        sl.PerStep(SynapticDelays(3, 4, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_dtypes(dtype: torch.dtype) -> None:
    x = torch.randn(T, B, 4)
    for layer in layers().values():
        layer.float()
        y = layer(x.to(dtype))
        assert y.dtype == dtype
        torch.testing.assert_close(y.float(), layer(x), rtol=5e-2, atol=5e-2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert SynapticDelays(4, 6, L)(x).dtype == torch.bfloat16


@pytest.mark.parametrize("version", ["gauss", "max"])
def test_a_delay_is_learned(version: Any) -> None:
    """Which of 12 delays was it? Found from a wide sigma, as it falls, from 3 steps away."""
    x = (torch.rand(60, 8, 1) < 0.2).float()
    truth = AxonalDelays(1, 12, 8.0).eval()(x)
    layer = AxonalDelays(1, 12, 5.0, version=version)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    for step in range(200):
        layer.follow(step / 200)
        optimizer.zero_grad()
        (layer(x) - truth).square().mean().backward()
        optimizer.step()
        layer.settle()
    assert layer.delays().item() == 8
    assert torch.equal(layer.eval()(x), truth)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SynapticDelays(4, 6, 5)(torch.rand(4, 2, 4)), "hears 5 steps, .* has 4.*give more steps"),
        (lambda: AxonalDelays(4, 5)(torch.rand(4, 2, 4)), "hears 5 steps"),
        (lambda: SynapticDelays(4, 6, 2)(torch.rand(4, 2, 3)), r"takes \[T, B, 4, ...\]"),
        (lambda: AxonalDelays(4, 2)(torch.rand(4, 4)), r"takes \[T, B, 4, ...\]"),
        (lambda: SynapticDelays(4, 6, 0), "taps = 0; at least 1"),
        (lambda: SynapticDelays(4, 6, 2, kernel_count=3), "3 weights for 2 taps"),
        (lambda: SynapticDelays(4, 6, 2, groups=3), "not divided by groups = 3"),
        (lambda: AxonalDelays(4, 5, 5.0), r"they lie in \[0, 4\]; for longer ones build it with"),
        (lambda: AxonalDelays(4, 5, torch.zeros(3)), r"give a number, or \[4\]"),
        (lambda: SynapticDelays(4, 6, 5).set_delays(-1), r"they lie in \[0, 4\]"),
    ],
)
def test_what_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_fixed_does_not_learn() -> None:
    axons = AxonalDelays(3, 5, 2, learnable=False)
    assert not any(p.requires_grad for p in axons.parameters())
    assert list(axons.state_dict()) == ["positions", "sigma"]
    assert sum(p.numel() for p in SynapticDelays(4, 6, 5).parameters()) == 2 * 4 * 6
