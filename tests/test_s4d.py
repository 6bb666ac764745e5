"""S4D: the convolution, the recurrence and the equations written out; gradients, streams, precision."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

import spikeloom as sl
from spikeloom.nn import S4D


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def by_hand(net: S4D, x: Tensor) -> Tensor:
    """Return y of `[T, B, H]` by the equations, a channel, mode and step at a time, in Python's numbers."""
    net, (T, B, H) = net.requires_grad_(False), x.shape
    y = torch.zeros_like(x)
    for h in range(H):
        step = math.exp(float(net.ln_step[h]))
        for b in range(B):
            z = [0j] * (net.state // 2)
            for t in range(T):
                value = float(net.D[h]) * float(x[t, b, h])
                for n in range(len(z)):
                    A = complex(-math.exp(float(net.a[h, n])), float(net.omega[h, n]))
                    held = math.e ** (step * A)
                    z[n] = held * z[n] + (held - 1) / A * float(x[t, b, h])
                    value += 2 * (complex(*net.C[h, n].tolist()) * z[n]).real
                y[t, b, h] = value
    return y


@pytest.mark.parametrize(("T", "B", "H", "state"), [(1, 1, 1, 2), (2, 3, 2, 4), (17, 2, 3, 6)])
def test_convolution_and_recurrence_are_the_equations(T: int, B: int, H: int, state: int) -> None:
    net, x = S4D(H, state).double(), torch.randn(T, B, H, dtype=torch.float64)
    want = by_hand(net, x)
    torch.testing.assert_close(net(x), want, rtol=1e-12, atol=1e-12)
    y, final = net.run(x)
    torch.testing.assert_close(y, want, rtol=1e-12, atol=1e-12)
    assert set(final) == set(net.states)
    assert len(net.states) == state
    assert all(value.shape == (B, H) for value in final.values())


def test_one_slow_mode_by_hand() -> None:
    """A = -1/2, Delta = 2 ln 2, so that a step keeps half; B = (1/2 - 1) / (-1/2) = 1; C = 1/4, D = 3."""
    net = S4D(1, 2).double()
    with torch.no_grad():
        net.ln_step.fill_(math.log(2 * math.log(2)))
        net.omega.zero_()
        net.a.fill_(math.log(0.5))
        net.C[...] = torch.tensor([0.25, 7.0])  # the imaginary part meets a real mode
        net.D.fill_(3.0)
    x = torch.tensor([1.0, 0, 0, 4]).double().reshape(4, 1, 1)
    want = torch.tensor([3.5, 0.25, 0.125, 12 + 0.5 * 4.125]).double()
    torch.testing.assert_close(net(x).flatten(), want)
    torch.testing.assert_close(net.kernel(4).flatten(), torch.tensor([0.5, 0.25, 0.125, 0.0625]))


def test_it_starts_as_the_paper_says() -> None:
    net = S4D(400, 64, step_min=1e-3, step_max=1e-1)
    assert torch.equal(net.a, torch.full((400, 32), math.log(0.5)))
    assert net.omega[7].tolist() == pytest.approx([math.pi * n for n in range(32)])
    assert math.log(1e-3) <= float(net.ln_step.min()) < -6.5
    assert -2.7 < float(net.ln_step.max()) <= math.log(1e-1)
    assert float(net.C.square().sum(-1).mean()) == pytest.approx(1, rel=0.05)
    # Delta and D, C's two parts, a and omega
    assert sum(p.numel() for p in net.parameters()) == 2 * 400 + 400 * 64 + 2 * 400 * 32


@pytest.mark.parametrize("T", [1, 2, 3, 63, 500])
def test_the_kernel_at_any_length(T: int) -> None:
    net = S4D(3, 8)
    held, B = net._sampled(torch.float64)
    C = torch.complex(net.C[..., 0], net.C[..., 1]).to(torch.complex128)
    want = torch.stack([2 * (C * B * held**k).real.sum(-1) for k in range(T)])
    torch.testing.assert_close(net.kernel(T, torch.float64), want, rtol=1e-10, atol=1e-12)
    assert net.kernel(T).dtype == torch.float32


def test_gradients_are_true() -> None:
    net = S4D(2, 4).double()
    names = [name for name, _ in net.named_parameters()]

    def of(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(net, dict(zip(names, values, strict=True)), (x,))

    x = torch.randn(5, 1, 2, dtype=torch.float64, requires_grad=True)
    given = [p.detach().clone().requires_grad_() for p in net.parameters()]
    assert torch.autograd.gradcheck(of, (x, *given))


def test_gradients_of_both_forms_agree() -> None:
    net, x = S4D(3, 8).double(), torch.randn(40, 2, 3, dtype=torch.float64, requires_grad=True)
    wanted, weight = [x, *net.parameters()], torch.randn(40, 2, 3, dtype=torch.float64)
    whole = torch.autograd.grad((net(x) * weight).sum(), wanted)
    steps = torch.autograd.grad((net.run(x)[0] * weight).sum(), wanted)
    for a, b in zip(whole, steps, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_precision_at_length() -> None:
    net = S4D(4, 64, step_min=1e-4)
    x = torch.randn(8192, 1, 4)
    with torch.no_grad():
        true = copy.deepcopy(net).double()(x.double())
        bound = 1e-4 * float(true.abs().max())
        assert float((net(x) - true).abs().max()) < bound
        assert float((net.run(x)[0] - true).abs().max()) < bound


@pytest.mark.parametrize("cuts", [(30,), (1, 29), (7, 1, 13, 9)])
def test_chunks_are_the_whole(cuts: tuple[int, ...]) -> None:
    net, x = S4D(3, 8), torch.randn(30, 2, 3)
    stream = sl.Stream(net)
    with torch.no_grad():
        got = torch.cat([stream(chunk) for chunk in x.split(list(cuts))])
        torch.testing.assert_close(got, net(x), rtol=1e-4, atol=1e-5)
    assert stream.state["#0.re0"].shape == (2, 3)


def test_a_chunk_is_differentiable_in_its_state() -> None:
    net, x = S4D(2, 4).double(), torch.randn(6, 1, 2, dtype=torch.float64, requires_grad=True)
    head, state = net.run(x[:2])
    tail, _ = net.run(x[2:], state)
    (gx,) = torch.autograd.grad(torch.cat((head, tail)).sum(), x)
    (wx,) = torch.autograd.grad(net(x).sum(), x)
    torch.testing.assert_close(gx, wx)


def test_layouts_and_dtypes() -> None:
    net, x = S4D(4, 8), torch.randn(9, 2, 5, 4)
    want = torch.stack([net(x[:, :, i]) for i in range(5)], 2)
    torch.testing.assert_close(net(x), want)
    torch.testing.assert_close(net(x.transpose(1, 2)).transpose(1, 2), want)  # not contiguous
    for dtype in (torch.bfloat16, torch.float16):
        low = net(x.to(dtype))
        assert low.dtype == dtype
        torch.testing.assert_close(low, net(x.to(dtype).float()).to(dtype))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(net(x), want)


def test_it_compiles_whole() -> None:
    torch._dynamo.reset()
    net, x = S4D(3, 4), torch.randn(11, 2, 3)
    torch.testing.assert_close(torch.compile(net, fullgraph=True, backend="aot_eager")(x), net(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: S4D(0), "channels = 0"),
        (lambda: S4D(2, 5), "state = 5; an even number"),
        (lambda: S4D(2, 4, step_min=0.0), "step_min = 0.0"),
        (lambda: S4D(2, 4, step_min=1.0, step_max=0.1), "step_min <= step_max"),
        (lambda: S4D(2, 4)(torch.rand(3, 1, 3)), r"takes \[T, B, ..., 2\]"),
        (lambda: S4D(2, 4)(torch.rand(0, 1, 2)), "at least one step"),
        (lambda: S4D(2, 4).run(torch.rand(3, 1, 2), {"re0": torch.zeros(1, 2)}), "no 'im0'"),
    ],
)
def test_what_does_not_fit(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_whole_numbers_are_refused() -> None:
    with pytest.raises(TypeError, match=r"floating-point numbers .*, not torch.int64"):
        S4D(2, 4)(torch.ones(3, 1, 2, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"S4D .*sees time"):
        sl.PerStep(S4D(2, 4))
