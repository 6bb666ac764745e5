"""An output that comes back into several inputs: the kernels are a loop over `step`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import torch
from pairs import all_pairs
from torch import Tensor, nn
from torch.nn import functional as F

import spikeloom as sl
from spikeloom import kernels
from spikeloom.kernels import recur_run, recur_steps
from spikeloom.kernels.cpu import numba_backend, pool
from spikeloom.kernels.cpu import recur as recur_numba
from spikeloom.nn import EGRU

F64 = torch.float64

pytestmark = pytest.mark.usefixtures("poison")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small runs be shared among threads, too."""
    torch.manual_seed(0)
    monkeypatch.setattr(numba_backend, "SERIAL", 0)


class Pair(sl.Neuron):
    """Two inputs that hear, two states, one of them long; a spike comes back."""

    states = ("v", "w")
    inputs: ClassVar[tuple[str, ...]] = ("gate",)
    hear = 2

    def __init__(self, rho: float | Tensor) -> None:
        super().__init__(surrogate=sl.surrogate.ATan(), channel_axis=-1)
        self.rho = sl.param(rho, learnable=True)

    def step(self, x: Tensor, gate: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        h = torch.sigmoid(gate) * v + x - w
        s = self.spike(h - 1.0)
        return s, h * (1 - s), self.rho * w + 0.1 * s


class Graded(sl.Neuron):
    """Three inputs that hear, and one that does not; what comes back is a number, often 0."""

    states = ("v",)
    inputs: ClassVar[tuple[str, ...]] = ("b", "c", "alone")
    hear = 3

    def __init__(self, rho: float | Tensor) -> None:
        super().__init__(surrogate=sl.surrogate.ATan(), channel_axis=-1)
        self.rho = sl.param(rho, learnable=True)

    def step(self, x: Tensor, b: Tensor, c: Tensor, alone: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        h = torch.sigmoid(x) * v + torch.tanh(alone + b * c)
        e = self.spike(h - self.rho)
        return e * h, h - e * self.rho


def case_of(neuron: Any, case: dict[str, Any]) -> tuple[sl.Neuron, list[Tensor], list[Tensor]]:
    """Return a neuron, a call's tensors (inputs, states, fed, weight, bias), and the output's gradient."""
    dtype, steps, shape = case["dtype"], case["steps"], case["shape"]
    n = shape[-1]
    net = neuron(torch.rand(n) / 2 + 0.3 if case["channel"] else 0.6).to(dtype)
    xs = [torch.randn(steps, *shape).to(dtype) for _ in range(1 + len(net.inputs))]
    if case["layout"] == "transposed":
        xs = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in xs]
    if case["layout"] == "chunks":  # of one tensor, as a projection for all inputs leaves them
        xs = list(torch.cat(xs, -1).chunk(len(xs), -1))
    if case["layout"] == "expanded":
        xs[1] = xs[1][:1].expand_as(xs[1])
    states = [torch.rand(shape, dtype=dtype) for _ in net.states] if case["state"] else []
    fed = [torch.rand(shape, dtype=dtype) * (torch.rand(shape) < 0.5)] if case["state"] else []
    weight = torch.randn(net.hear * n, n, dtype=dtype) * 0.5 / n**0.5
    bias = [torch.randn(net.hear * n, dtype=dtype) * 0.3] if case["bias"] else []
    return net, [*xs, *states, *fed, weight, *bias], [torch.randn(steps, *shape, dtype=dtype)]


def split(net: sl.Neuron, every: Sequence[Tensor], case: dict[str, Any]) -> list[list[Tensor]]:
    inner = len(net.states) if case["state"] else 0
    return recur_run.split((1 + len(net.inputs), inner, bool(inner), 2), every)


def truth(net: Any, every: Sequence[Tensor], case: dict[str, Any]) -> list[Tensor]:
    """Return the output and the final states, by a loop over `step`."""
    xs, states, fed, (weight, *bias) = split(net, every, case)
    states = states or [torch.zeros_like(xs[0][0]) for _ in net.states]
    said, outs = fed[0] if fed else torch.zeros_like(xs[0][0]), []
    for t in range(len(xs[0])):
        heard = F.linear(said, weight, *bias).chunk(net.hear, -1)
        x = [x_i[t] for x_i in xs]
        x[: net.hear] = [a + b for a, b in zip(x, heard, strict=False)]
        said, *states = net.step(*x, *states)
        outs.append(said)
    return [torch.stack(outs), *states]


def kernel(net: Any, every: Sequence[Tensor], case: dict[str, Any]) -> list[Tensor]:
    xs, states, fed, (weight, *bias) = split(net, every, case)
    values = [net._value(name, xs[0], xs[0].dtype) for name in net._names()]
    out, last = kernels.recur(
        net._plan.program, xs, net._plan.slots(values), states, fed[0] if fed else None, weight,
        bias[0] if bias else None, xs[0].dtype, True,
    )  # fmt: skip
    return [out, *last]


def results(run: Any, net: Any, every: Sequence[Tensor], g: Sequence[Tensor], case: Any) -> list[Tensor]:
    """Return results, then gradients of every tensor and of the parameter."""
    leaves = [t.detach().requires_grad_() for t in every]
    found = run(net, leaves, case)
    g = [*g, *(torch.full_like(last, 0.7) for last in found[1:])]
    wanted = [*leaves, net.rho]
    of_all = torch.autograd.grad(found, wanted, g, allow_unused=True)
    made = [torch.zeros_like(w) if o is None else o for w, o in zip(wanted, of_all, strict=True)]
    return [*(f.detach() for f in found), *made]


AXES: dict[str, Any] = {
    "neuron": (Pair, Graded),
    "dtype": (torch.float32, F64),
    "steps": (1, 2, 17),
    "shape": ((3, 1), (1, 5), (13, 33), (9, 40), (2, 3, 7), (33, 130)),
    "layout": ("contiguous", "transposed", "chunks", "expanded"),
    "channel": (True, False),
    "bias": (True, False),
    "state": (True, False),
}


@pytest.mark.parametrize("case", all_pairs(AXES), ids=lambda case: "-".join(str(v) for v in case.values()))
def test_the_kernel_is_the_loop(case: dict[str, Any]) -> None:
    net, every, g = case_of(case["neuron"], case)
    got, want = (results(run, net, every, g, case) for run in (kernel, truth))
    close = 1e-9 if case["dtype"] == F64 else 2e-4
    strange = ((got[0] - want[0]).abs() > 1e-3).double().mean()
    if strange and case["dtype"] != F64:  # a spike at its threshold that rounding decides, and what follows
        assert strange < 0.01
        return
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=close, atol=close * max(1.0, float(b.abs().max())))


WHOLE = {"neuron": Graded, "dtype": torch.float32, "steps": 9, "shape": (21, 70), "layout": "contiguous",
         "channel": True, "bias": True, "state": False}  # fmt: skip


def test_it_is_one_kernel_unless_steps_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    net, every, g = case_of(Graded, WHOLE)
    calls: list[int] = []
    run = numba_backend.forward
    monkeypatch.setattr(numba_backend, "forward", lambda *a: calls.append(1) or run(*a))  # type: ignore[func-returns-value]
    fused = results(kernel, net, every, g, WHOLE)
    assert calls == [1]
    monkeypatch.setattr(recur_run, "_kernels", lambda device: recur_steps)
    stepped = results(kernel, net, every, g, WHOLE)
    assert len(calls) > 9
    torch.testing.assert_close(fused[0], stepped[0])


def test_neither_threads_batch_blocks_nor_events_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    net, every, g = case_of(Graded, WHOLE)
    whole = results(kernel, net, every, g, WHOLE)
    again = results(kernel, net, every, g, WHOLE)
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))
    assert 0.3 < (whole[0] == 0).float().mean() < 0.95
    cut = [x[:, 4:7] if x.ndim == 3 else x for x in every]
    alone = results(kernel, net, cut, [g[0][:, 4:7]], WHOLE)
    inputs = slice(2, 2 + 4)  # behind output and state
    for changed, value in ((pool, "threads"), (numba_backend, "LARGE"), (recur_numba, "RARE")):
        with monkeypatch.context() as patch:
            patch.setattr(changed, value, (lambda: 1) if value == "threads" else 0)
            other = results(kernel, net, every, g, WHOLE)
        assert torch.equal(whole[0], other[0])
        assert all(torch.equal(a, b) for a, b in zip(whole[inputs], other[inputs], strict=True))
    assert torch.equal(whole[0][:, 4:7], alone[0])
    for a, b in zip(whole[inputs], alone[inputs], strict=True):
        assert torch.equal(a[:, 4:7], b)


def test_long_sequences_recompute_from_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    case = WHOLE | {"steps": 40, "shape": (3, 5), "dtype": F64, "state": True}
    net, every, g = case_of(Pair, case)
    whole = results(kernel, net, every, g, case)
    monkeypatch.setattr(numba_backend, "KEPT", 0)  # segments of 7 steps
    for a, b in zip(results(kernel, net, every, g, case), whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_a_weight_that_is_not_finite_is_not_left_out() -> None:
    net, every, _ = case_of(Graded, WHOLE)
    every[-2][70 + 2, 3] = torch.inf  # of the second input: b
    got, want = kernel(net, every, WHOLE), truth(net, every, WHOLE)
    assert got[1][:, 2].isnan().all()
    torch.testing.assert_close(got[1].isnan(), want[1].isnan())


def test_bf16_rounds_what_the_loop_rounds() -> None:
    net, x = EGRU(6, 40).to(torch.bfloat16), torch.randn(7, 9, 6).to(torch.bfloat16)
    found = []
    for backend in ("numba", "eager"):
        with sl.backend(backend):
            y = net(x)
        found.append((y, *torch.autograd.grad(y.float().sum(), list(net.parameters()))))
    for a, b in zip(*found, strict=True):
        assert (a - b).abs().max() <= 0.05 * b.abs().max().clamp(min=1)


def test_chunks_of_a_stream_are_the_whole_and_explained() -> None:
    net, x = EGRU(6, 33).eval(), torch.randn(9, 5, 6)
    stream = sl.Stream(nn.Sequential(net))
    parts = torch.cat([stream(chunk) for chunk in x.split([1, 5, 3])])
    torch.testing.assert_close(parts, net(x))  # behind the projection of x, whose rows PyTorch groups
    (row,) = sl.explain(net, x).rows
    assert (row.backend, row.why, row.neurons) == ("numba", "fused CPU kernel", 5 * 33)
    with sl.backend("eager"):
        assert sl.explain(net, x).rows[0].why == "forced"


def test_few_steps_go_one_by_one_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = EGRU(4, 33), torch.randn(3, 2, 4)
    size = 4 * net.weight_hh.numel()
    whole = net(x)
    for enough, per_step in ((True, size // 3 + 1), (False, size // 3 - 1)):
        monkeypatch.setattr(recur_run, "PACKED", per_step)
        assert ("few" in sl.explain(net, x).rows[0].why) is not enough
        torch.testing.assert_close(net(x), whole)
    monkeypatch.setattr(recur_run, "_kernels", None)  # not asked for
    net(x).sum().backward()
