"""torch.utils.checkpoint: the same gradients without a Stream, an error inside of one, never a wrong one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.distributed._composable import checkpoint as composable
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import spikeloom as sl


@pytest.fixture(autouse=True, params=["eager", "numba"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    # by the environment: inside `with sl.backend(...)` nothing is compiled
    monkeypatch.setenv("SPIKELOOM_BACKEND", request.param)
    return str(request.param)


class Net(nn.Module):
    """A block that is checkpointed, between two layers."""

    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = sl.PerStep(nn.Linear(4, 4))
        self.block = nn.Sequential(sl.PLIF(), sl.PerStep(nn.Linear(4, 4)), sl.LIF(reset="soft"))
        self.last = sl.PerStep(nn.Linear(4, 2))
        for p in (*self.first.parameters(), *self.block[1].parameters()):
            p.data *= 4  # so that both neurons fire
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if self.reentrant is None:
            return self.last(self.block(x))
        return self.last(checkpoint(self.block, x, use_reentrant=self.reentrant))


def data() -> Tensor:
    return 2 * torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(1))


def gradients(net: nn.Module) -> list[Tensor]:
    net.zero_grad()
    net(data()).square().sum().backward()
    return [p.grad.clone() for p in net.parameters()]


def same(got: list[Tensor], want: list[Tensor]) -> bool:
    assert all(g.abs().sum() > 0 for g in want)
    return len(got) == len(want) and all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("reentrant", [True, False])
def test_same_gradients_without_a_stream(reentrant: bool) -> None:
    assert same(gradients(Net(reentrant)), gradients(Net(None)))


@pytest.mark.parametrize("reentrant", [True, False])
def test_same_gradients_in_segments(reentrant: bool) -> None:
    torch.manual_seed(0)
    layers = [sl.PLIF(), sl.PerStep(nn.Linear(4, 4)), sl.Recurrent(sl.LIF(), nn.Linear(4, 4)), sl.PLIF()]
    net, x = nn.Sequential(*layers), data().requires_grad_()
    net(x).sum().backward()
    want, x.grad = x.grad, None
    checkpoint_sequential(net, 2, x, use_reentrant=reentrant).sum().backward()
    assert torch.equal(x.grad, want)


@pytest.mark.parametrize("reentrant", [True, False])
def test_inside_a_stream_it_raises(reentrant: bool) -> None:
    net = Net(reentrant)
    run = sl.Stream(net)
    with pytest.raises(RuntimeError, match=r"PLIF 'block.0' runs inside torch.utils.checkpoint"):
        run(data())
    assert run.state == {}
    # neither the error nor the stream has left anything behind in the network
    assert same(gradients(net), gradients(Net(None)))


def test_inside_a_stream_composable_checkpoint_raises() -> None:
    net = Net(None)
    composable(net.block)
    with pytest.raises(RuntimeError, match=r"runs inside torch\.utils\.checkpoint"):
        sl.Stream(net)(data())


def test_inside_a_stream_another_checkpoint_raises() -> None:
    class Homemade(torch.autograd.Function):
        @staticmethod
        def forward(ctx, run, x):  # type: ignore[no-untyped-def]
            ctx.run = run
            ctx.save_for_backward(x)
            with torch.no_grad():
                return run(x)

        @staticmethod
        def backward(ctx, grad):  # type: ignore[no-untyped-def]
            (x,) = ctx.saved_tensors
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                out = ctx.run(x)
            return None, *torch.autograd.grad(out, x, grad)

    class Wraps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron = sl.LIF()

        def forward(self, x: Tensor) -> Tensor:
            return Homemade.apply(self.neuron, x)

    net, x = Wraps(), data().requires_grad_()
    got = torch.autograd.grad(net(x).sum(), x)[0]
    assert torch.equal(got, torch.autograd.grad(net.neuron(x).sum(), x)[0])
    with pytest.raises(RuntimeError, match=r"another autograd\.Function"):
        sl.Stream(net)(x)


@pytest.mark.parametrize("reentrant", [True, False])
def test_around_a_stream_it_raises(reentrant: bool) -> None:
    run, x = sl.Stream(sl.LIF()), data().requires_grad_()
    match = "inside a backward pass" if reentrant else "runs inside torch.utils.checkpoint"
    with pytest.raises(RuntimeError, match=match):
        checkpoint(run, x, use_reentrant=reentrant).sum().backward()


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("reentrant", [True, False])
def test_plain_use_after_streaming(reentrant: bool) -> None:
    """A network that was streamed, with gradients or without, may be run and checkpointed outside of it."""
    net, plain, x = Net(reentrant), Net(None), data()
    want = gradients(plain)
    with torch.no_grad():
        sl.Stream(net)(x)
    assert same(gradients(net), want)
    run = sl.Stream(plain)
    (run(x).sum() + run(x).sum()).backward()
    assert same(gradients(plain), want)
    plain.reentrant = reentrant
    assert same(gradients(plain), want)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("reentrant", [True, False])
def test_streaming_without_gradients_needs_no_checkpoint(reentrant: bool) -> None:
    net, plain, x = Net(reentrant), Net(None), data()
    with torch.no_grad():
        run, other = sl.Stream(net), sl.Stream(plain)
        for _ in range(2):
            assert torch.equal(run(x), other(x))


def test_a_frozen_part_and_saved_tensor_hooks_stream_with_gradients() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.back, self.front = sl.LIF(), sl.PLIF()

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = self.back(x)
            with torch.autograd.graph.save_on_cpu():
                return self.front(x)

    net, x = Frozen(), data()
    run = sl.Stream(net)
    got = torch.cat([run(c) for c in x.split(2)])
    assert torch.equal(got, net(x))
    streamed = torch.autograd.grad(got.sum(), net.front.w)[0]
    torch.testing.assert_close(streamed, torch.autograd.grad(net(x).sum(), net.front.w)[0])
