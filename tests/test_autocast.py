"""Half precision: kernels stay, states and sums are fp32, and what leaves is the fp32 truth, rounded once."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn
from truth import assert_same, run
from zoo import NEURONS

import spikeloom as sl
from spikeloom.kernels.cpu import numba_backend

HALF = (torch.bfloat16, torch.float16)
SHAPE = (6, 2, 3, 5)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the kernels that run."""
    counted: Counter[str] = Counter()
    for direction in ("forward", "backward"):
        kernel = getattr(numba_backend, direction)

        def counting(*args: Any, direction: str = direction, kernel: Any = kernel, **kwargs: Any) -> Any:
            counted[direction] += 1
            return kernel(*args, **kwargs)

        monkeypatch.setattr(numba_backend, direction, counting)
    return counted


def autocast(dtype: torch.dtype = torch.bfloat16) -> torch.autocast:
    return torch.autocast("cpu", dtype=dtype)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [*((name, torch.bfloat16) for name in NEURONS), ("LIF", torch.float16), ("LI", torch.float16)],
)
def test_every_neuron_is_the_fp32_truth_of_its_rounded_input(
    name: str, dtype: torch.dtype, calls: Counter[str]
) -> None:
    entry = NEURONS[name]
    neuron = entry.make(learnable=entry.params())
    half = entry.inputs(*SHAPE, dtype=dtype)
    g = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)).to(dtype)
    with autocast(dtype):
        mine = run(neuron, "numba", half, g)
    assert calls == {"forward": 1, "backward": 1}
    assert {str(v.dtype) for v in mine.final.values()} == {"torch.float32"}

    truth = run(neuron, "eager", [x.float() for x in half], g.float())
    assert mine.out.dtype == dtype
    assert torch.equal(mine.out, truth.out.to(dtype))
    for state in truth.final:
        torch.testing.assert_close(mine.final[state], truth.final[state], rtol=1e-5, atol=1e-5)
    for a, b in zip(mine.of_inputs, truth.of_inputs, strict=True):
        assert a.dtype == dtype
        # one rounding of a result that was computed in fp32
        near = 1e-5 * float(b.abs().max())
        torch.testing.assert_close(a.float(), b.to(dtype).float(), rtol=torch.finfo(dtype).eps, atol=near)
    for key, value in truth.of_params.items():
        assert mine.of_params[key].dtype == torch.float32
        torch.testing.assert_close(mine.of_params[key], value, rtol=1e-4, atol=1e-4)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        sl.PerStep(nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)),
        sl.LIF(tau=torch.full((8,), 2.0), learnable=("tau", "v_threshold")),
        sl.PerStep(nn.AvgPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)),
        sl.PLIF(),
        sl.PerStep(nn.Flatten(), nn.Linear(8 * 16, 10)),
    )


def neurons(net: nn.Module) -> list[sl.Neuron]:
    return [module for module in net.modules() if isinstance(module, sl.Neuron)]


def test_a_network_keeps_its_kernels(calls: Counter[str]) -> None:
    net, x = network(), torch.rand(4, 3, 2, 8, 8)
    seen: list[torch.dtype] = []
    for neuron in neurons(net):
        neuron.register_forward_hook(lambda _, args, out: seen.extend((args[0].dtype, out.dtype)))
    with autocast():
        out = net(x)
    out.float().square().sum().backward()
    assert calls == {"forward": 2, "backward": 2}
    # batch norm gives what the convolution gave it; a spike is exact in whatever came in
    assert set(seen) == {torch.bfloat16}
    assert out.dtype == torch.bfloat16
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()
    with autocast():
        rows = sl.explain(net, x).rows
    assert [(row.backend, row.dtype) for row in rows] == [("numba", "bfloat16")] * 2
    assert [row.bytes_per_neuron_step for row in rows] == pytest.approx([2.0, 2.0], abs=0.2)


def test_spikes_behind_a_layer_are_the_fp32_truth_of_its_rounded_output() -> None:
    synapse, neuron = sl.PerStep(nn.Linear(7, 5)), sl.LIF(tau=3.0)
    x = 8 * torch.rand(20, 4, 7)
    with autocast():
        current = synapse(x)
        spikes = neuron(current)
    with sl.backend("eager"):
        assert torch.equal(spikes.float(), neuron(current.float()))
    assert 0.05 < spikes.float().mean() < 0.95


def trained(dtype: torch.dtype | None, steps: int = 25) -> list[float]:
    """Return the losses of a network in training, in fp32 or under autocast."""
    net = network()
    x = torch.rand(4, 16, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    target = torch.arange(16) % 10
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(steps):
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            loss = nn.functional.cross_entropy(net(x).mean(0).float(), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_training_under_autocast_is_training() -> None:
    plain, mixed = trained(None), trained(torch.bfloat16)
    assert mixed[0] == pytest.approx(plain[0], rel=0.05)
    assert plain[-1] < 0.3 * plain[0]
    assert mixed[-1] < 0.3 * mixed[0]
    assert mixed[-1] == pytest.approx(plain[-1], abs=0.1 * plain[0])


def test_a_stream_keeps_fp32_state_under_autocast() -> None:
    net = nn.Sequential(sl.PerStep(nn.Linear(7, 5)), sl.ALIF(), sl.PerStep(nn.Linear(5, 3)), sl.LI()).eval()
    x, stream = 3 * torch.rand(12, 2, 7), sl.Stream(net)
    with torch.no_grad(), autocast():
        whole = net(x)
        chunks = torch.cat([stream(chunk) for chunk in x.split([1, 4, 7])])
    assert whole.dtype == chunks.dtype == torch.bfloat16
    assert {value.dtype for value in stream.state.values()} == {torch.float32}
    torch.testing.assert_close(chunks, whole)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_state_that_is_handed_on_is_not_rounded(dtype: torch.dtype) -> None:
    neuron = sl.LIF(tau=7.3)
    x = (2 * torch.rand(40, 2, 3)).to(dtype)
    whole, last, _ = neuron.run(x)
    first, state, _ = neuron.run(x[:17])
    rest, end, _ = neuron.run(x[17:], state=state)
    assert state["v"].dtype == torch.float32
    assert torch.equal(torch.cat([first, rest]), whole)
    assert torch.equal(end["v"], last["v"])


def test_a_model_in_bf16_computes_in_fp32_from_rounded_parameters() -> None:
    tau = torch.tensor([2.1, 3.3, 5.7])
    neuron = sl.LIF(tau=tau, v_threshold=1.001, learnable="tau")
    net = nn.Sequential(sl.PerStep(nn.Linear(4, 3)), neuron).to(torch.bfloat16)
    x = (2 * torch.rand(9, 2, 4)).to(torch.bfloat16)
    out = net(x)
    out.float().sum().backward()
    # a tensor is rounded with the model; a fixed number stays the number that was written
    assert neuron.tau.dtype == torch.bfloat16
    assert neuron.v_threshold == 1.001
    assert neuron.tau.grad is not None
    assert neuron.tau.grad.dtype == torch.bfloat16
    assert neuron.run(x[..., :3])[1]["v"].dtype == torch.float32
    same = sl.LIF(tau=tau.to(torch.bfloat16).float(), v_threshold=1.001)
    with sl.backend("eager"):
        assert torch.equal(out.float(), same(net[0](x).float()))


def test_bf16_parameters_under_fp32_data_get_their_own_gradient() -> None:
    neuron = sl.LIF(tau=torch.tensor([2.5, 3.0]), learnable="tau").to(torch.bfloat16)
    exact = copy.deepcopy(neuron).float()
    x, g = torch.randn(8, 3, 2) + 1, torch.randn(8, 3, 2)
    mine, truth = run(neuron, "numba", [x], g), run(exact, "eager", [x], g)
    assert torch.equal(mine.out, truth.out)
    assert mine.of_params["tau"].dtype == torch.bfloat16
    torch.testing.assert_close(mine.of_params["tau"].float(), truth.of_params["tau"], rtol=2**-7, atol=1e-5)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_the_largest_half_precision_input_spoils_no_neighbour(dtype: torch.dtype) -> None:
    neuron = sl.LIF()
    x, g = torch.rand(5, 1, 40).to(dtype), torch.ones(5, 1, 40).to(dtype)
    clean = run(neuron, "numba", [x], g)
    x[2, 0, 3] = torch.finfo(dtype).max
    spoilt = run(neuron, "numba", [x], g)
    others = torch.arange(40) != 3
    assert torch.equal(clean.out[..., others], spoilt.out[..., others])
    assert torch.equal(clean.of_inputs[0][..., others], spoilt.of_inputs[0][..., others])
    assert_same(spoilt, run(neuron, "eager", [x], g), dtype)
