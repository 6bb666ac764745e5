"""Norms with weights of each step: against torch a step at a time, in a stream, in networks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from model_cases import assert_same
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.models.parts import norms
from spikeloom.nn import BatchNormThroughTime, TemporalEffectiveBatchNorm, TimeDependentBatchNorm

KINDS: dict[str, Callable[..., Any]] = {
    "TEBN": TemporalEffectiveBatchNorm,
    "BNTT": BatchNormThroughTime,
    "timeBN": TimeDependentBatchNorm,
}
T, C = 4, 3


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def made(kind: str, **options: Any) -> Any:
    """Return a norm whose every weight and statistic is its own, in float64."""
    norm = KINDS[kind](C, T, **options).double()
    for value in [*norm.parameters(), norm.running_mean, norm.running_var]:
        value.data.uniform_(0.5, 1.5)
    return norm


def naive(kind: str, norm: Any, x: Tensor) -> Tensor:
    """Return the equation's y for `[T, B, C, ...]`, a step and a channel at a time."""
    y = torch.zeros_like(x)
    for t in range(T):
        for c in range(C):
            seen = x[:, :, c] if kind == "TEBN" else x[t, :, c]
            at = (c,) if kind == "TEBN" else (t, c)
            mean, var = norm.running_mean[at], norm.running_var[at]
            if norm.training:
                mean, var = seen.mean(), seen.var(correction=0)
            z = (x[t, :, c] - mean) / (var + norm.eps) ** 0.5
            if kind == "TEBN":
                y[t, :, c] = norm.p[t] * (norm.weight[c] * z + norm.bias[c])
            else:
                y[t, :, c] = norm.weight[t, c] * z + (0 if norm.bias is None else norm.bias[t, c])
    return y


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("space", [(), (5,), (4, 5), (2, 3, 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_equation_and_its_gradients(kind: str, space: tuple[int, ...], training: bool) -> None:
    norm = made(kind).train(training)
    x = (2 + 3 * torch.randn(T, 6, C, *space, dtype=torch.float64)).requires_grad_()
    want = naive(kind, norm, x)
    assert_same(norm(x), want, [x, *norm.parameters()])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_positions(kind: str, training: bool) -> None:
    x = torch.randn(T, 5, 7, C, dtype=torch.float64)
    tokens = made(kind, channel_axis=-1).train(training)
    maps = made(kind).train(training)
    maps.load_state_dict(tokens.state_dict())
    torch.testing.assert_close(tokens(x), maps(x.movedim(-1, 2)).movedim(2, -1))
    for a, b in zip(tokens.buffers(), maps.buffers(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_running_statistics_are_torchs(kind: str) -> None:
    norm = made(kind, momentum=0.3).train()
    features = C if kind == "TEBN" else T * C
    plain = nn.BatchNorm2d(features, momentum=0.3).double()
    plain.running_mean.copy_(norm.running_mean.flatten())
    plain.running_var.copy_(norm.running_var.flatten())
    for x in torch.randn(2, T, 6, C, 4, 5, dtype=torch.float64):
        norm(x)
        plain(x.flatten(0, 1) if kind == "TEBN" else x.movedim(0, 1).flatten(1, 2))
    torch.testing.assert_close(norm.running_mean.flatten(), plain.running_mean)
    torch.testing.assert_close(norm.running_var.flatten(), plain.running_var)


@pytest.mark.parametrize("kind", KINDS)
def test_channels_last_and_half_precision_stay(kind: str) -> None:
    norm = made(kind).float()
    x = torch.randn(T * 6, C, 4, 5).to(memory_format=torch.channels_last).unflatten(0, (T, 6))
    y = norm(x)
    assert y.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, norm(x.contiguous()))
    half = norm(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), y, rtol=5e-2, atol=5e-2)


def test_weights() -> None:
    sizes = {kind: sum(p.numel() for p in KINDS[kind](C, T).parameters()) for kind in KINDS}
    assert sizes == {"TEBN": 2 * C + T, "BNTT": T * C, "timeBN": 2 * T * C}
    assert BatchNormThroughTime(C, T).eps == 1e-4
    fresh = torch.randn(T, 8, C, 5)
    plain = sl.PerStep(nn.BatchNorm1d(C))(fresh)
    torch.testing.assert_close(TemporalEffectiveBatchNorm(C, T)(fresh), plain)


@pytest.mark.parametrize("cuts", [(1, 1, 1, 1), (3, 1), (2, 2), (4,)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_carries_the_step(kind: str, cuts: tuple[int, ...]) -> None:
    norm = made(kind).eval()
    net = nn.Sequential(norm, sl.LIF())
    x = 2 * torch.randn(T, 2, C, 4, dtype=torch.float64)
    stream = sl.Stream(net)
    assert torch.equal(torch.cat([stream(part) for part in x.split(cuts)]), net(x))
    assert int(stream.state["0#0.step"]) == T
    with pytest.raises(ValueError, match=r"of T = 4 steps, of which the stream has seen 4, but .* 1 more"):
        stream(x[:1])
    stream.reset()
    assert torch.equal(stream(x), net(x))


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_of_batch_statistics_is_announced(kind: str) -> None:
    norm = made(kind).train()
    with pytest.warns(sl.SpikeloomWarning, match="takes its statistics from each chunk alone"):
        sl.Stream(nn.Sequential(norm))(torch.randn(1, 2, C, 4, dtype=torch.float64))
    with pytest.raises(RuntimeError, match="takes its statistics from its input"):
        sl.checkpoint_time(norm, 2)(torch.randn(T, 2, C, 4, dtype=torch.float64))


def test_long_sequences_in_chunks() -> None:
    net = nn.Sequential(made("timeBN").eval(), sl.LIF())
    x = 2 * torch.randn(T, 2, C, 4, dtype=torch.float64)
    assert torch.equal(sl.checkpoint_time(net, 3)(x), net(x))


@pytest.mark.parametrize("kind", KINDS)
def test_compiled(kind: str) -> None:
    norm = made(kind).train()
    other = copy.deepcopy(norm)
    x = torch.randn(T, 6, C, 5, dtype=torch.float64)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), norm(x))
    torch.testing.assert_close(other.running_var, norm.running_var)


@pytest.mark.parametrize("kind", KINDS)
def test_bad_input(kind: str) -> None:
    norm = made(kind)
    x = torch.randn(T, 2, C, 4, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"of each of T = 4 steps, but was given 3 .* build it with T=3"):
        norm(x[:3])
    with pytest.raises(
        ValueError, match=r"has 3 features, but axis 2 of x, shape \(4, 2, 4, 3\), has 4; for"
    ):
        norm(x.transpose(2, 3))
    with pytest.raises(ValueError, match=r"takes \[T, B, C, ...\]"):
        norm(x[0, 0])
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        KINDS[kind](C, 1)(x[:1, :1, :, :1].float())
    for options, why in (
        ({"T": 0}, "T = 0; at least 1"),
        ({"num_features": 0}, "num_features = 0"),
        ({"channel_axis": 1}, "channel_axis is 1; 2, or -1"),
        ({"momentum": 2.0}, "momentum in"),
    ):
        with pytest.raises(ValueError, match=why):
            KINDS[kind](**{"num_features": 3, "T": 4, **options})
    with pytest.raises(TypeError, match="sees time"):
        sl.PerStep(norm)
    assert "3, T=4" in repr(norm)


@pytest.mark.parametrize("kind", KINDS)
def test_fold_leaves_it_and_says_so(kind: str) -> None:
    net = nn.Sequential(sl.PerStep(nn.Conv1d(2, C, 3)), made(kind), sl.LIF()).double().eval()
    x = torch.randn(T, 2, 2, 6, dtype=torch.float64)
    with pytest.warns(sl.SpikeloomWarning, match=r"leaves \w+ '1' as it is: it has weights of each step"):
        folded = sl.fold(net)
    assert torch.equal(folded(x), net(x))


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_network(kind: str) -> None:
    arguments = {"width": 4, "image_size": 32, "T": 3, "num_classes": 5, "stem": "cifar", "norm": kind}
    net = sl.create_model("sew_resnet18", **arguments, readout="none").eval()
    assert type(norms(kind)(4, T=3)) is KINDS[kind]
    assert norms(kind)(4, T=3, tokens=True).channel_axis == -1
    x = 3 * torch.rand(3, 2, 3, 32, 32)
    assert net.fixed_T
    torch.testing.assert_close(net(x[0]), net(x[:1].expand(3, -1, -1, -1, -1)))
    with pytest.raises(ValueError, match=r"its T = 3 steps, but was given 2 steps; build it with T=2"):
        net(x[:2])
    stream = sl.Stream(net)
    whole = net(x)
    torch.testing.assert_close(torch.cat([stream(x[:1]), stream(x[1:])]), whole, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"the stream has seen 3"):
        stream(x[:1])
    once = sl.create_model("sew_resnet18", **arguments, neuron="ReLU")
    with pytest.raises(ValueError, match=r"ReLUs see a single step; give it norm='BN'"):
        once(x)
    assert once(x[:1]).shape == (2, 5)


def test_threshold_dependent_norms_fold_behind_any_layer() -> None:
    """tdBN behind PerStep and in NormNeuron: the folded network is the network."""
    net = nn.Sequential(
        sl.PerStep(
            nn.Conv2d(2, 4, 3, bias=False), sl.nn.ThresholdDependentBatchNorm2d(4, v_threshold=0.5, alpha=0.7)
        ),
        sl.LIF(v_threshold=0.5),
        sl.PerStep(nn.Conv2d(4, 5, 3)),
        sl.NormNeuron(sl.nn.ThresholdDependentBatchNorm2d(5, v_threshold=0.5), sl.LIF(v_threshold=0.5)),
        sl.PerStep(nn.Flatten()),
        sl.nn.PerToken(nn.Linear(5 * 16, 6)),
        sl.NormNeuron(sl.nn.ThresholdDependentBatchNorm1d(6, alpha=0.7), sl.LI(), channel_axis=-1),
    ).double()
    for _ in range(3):
        net(2 * torch.randn(3, 4, 2, 8, 8, dtype=torch.float64))
    net.eval()
    folded = sl.fold(net)
    assert not [m for m in folded.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    x = 2 * torch.randn(3, 4, 2, 8, 8, dtype=torch.float64)
    assert net(x).any()
    torch.testing.assert_close(folded(x), net(x))
