"""Chunks of a long sequence, computed again in the backward pass: the whole's numbers in less memory."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import spikeloom as sl
from spikeloom import stream


class Ahead(nn.Module):
    """A layer that looks ahead."""

    def forward(self, x: Tensor) -> Tensor:
        stream.refuse(self, "looks ahead")
        return x + x.mean(0)


def net() -> nn.Sequential:
    """Return convolutions, neurons of several states, a recurrent layer, one module called twice."""
    torch.manual_seed(0)
    twice = sl.LIF(tau=torch.rand(6) + 1.5, learnable="tau", v_threshold=0.3, channel_axis=-1)
    made = nn.Sequential(
        sl.PerStep(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)),
        sl.PLIF(v_threshold=0.3),
        sl.PerStep(nn.Conv2d(4, 6, 3, stride=2), nn.GroupNorm(2, 6), nn.AvgPool2d(2), nn.Flatten()),
        twice,
        sl.CubaLIF(learnable=("alpha", "beta")),
        sl.Recurrent(sl.ALIF(learnable=("beta",)), nn.Linear(6, 6)),
        twice,
        sl.PerStep(nn.Linear(6, 5)),
        sl.LI(),
    )
    return made.double().eval()


def run(call: Callable[[Tensor], Tensor], params: list[nn.Parameter], x: Tensor) -> list[Tensor]:
    leaf = x.clone().requires_grad_()
    y = call(leaf)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    return [y.detach(), *torch.autograd.grad((y * weights).sum(), [leaf, *params])]


@pytest.mark.parametrize("steps", [1, 3, 4, 8, 11, 12, 50])
def test_gradients_are_the_wholes(steps: int) -> None:
    made = net()
    x = torch.randn(11, 2, 2, 6, 6, dtype=torch.float64) + 0.5
    params = list(made.parameters())
    want = run(made, params, x)
    assert all(g.abs().max() > 0 for g in want)
    for a, b in zip(run(sl.checkpoint_time(made, steps), params, x), want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("backend", ["eager", "numba"])
def test_neurons_are_the_wholes_bit_for_bit(backend: str) -> None:
    made = nn.Sequential(sl.LIF(), sl.ALIF(), sl.AdLIF())
    x = 2 * torch.randn(9, 3, 40)
    with sl.backend(backend):
        assert torch.equal(sl.checkpoint_time(made, 4)(x), made(x))
        with torch.no_grad():
            assert torch.equal(sl.checkpoint_time(made, 4)(x), made(x))


def test_twice_in_one_graph_and_backward_twice() -> None:
    made = nn.Sequential(nn.Linear(4, 4), sl.PLIF(), nn.Linear(4, 4), sl.LI())
    chunks, params = sl.checkpoint_time(made, 3), list(made.parameters())
    x, z = torch.randn(7, 2, 4), torch.randn(5, 3, 4)
    loss = chunks(x).square().sum() + chunks(z).square().sum()
    first = torch.autograd.grad(loss, params, retain_graph=True)
    want = torch.autograd.grad(made(x).square().sum() + made(z).square().sum(), params)
    for a, b, c in zip(first, torch.autograd.grad(loss, params), want, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, c)


@pytest.mark.filterwarnings("ignore:a double backward")
def test_gradients_of_gradients() -> None:
    made = nn.Sequential(nn.Linear(4, 4), sl.PLIF(surrogate=sl.surrogate.Sigmoid()), nn.Linear(4, 4)).double()
    x = torch.randn(7, 2, 4, dtype=torch.float64, requires_grad=True)
    found = []
    for call in (made, sl.checkpoint_time(made, 3)):
        (g,) = torch.autograd.grad(call(x).tanh().sum(), [x], create_graph=True)
        found.append(torch.autograd.grad(g.square().sum(), list(made.parameters())))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_random_draws_are_repeated() -> None:
    """The gradient must belong to the noise and the mask that the output was made with."""
    made = nn.Sequential(nn.Linear(4, 4), sl.NoisyLIF(), nn.Dropout(0.5), nn.Linear(4, 3, bias=False))
    x, last = torch.randn(7, 2, 4), made[3]
    seen: list[Tensor] = []
    last.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    torch.manual_seed(3)
    y = sl.checkpoint_time(made, 3)(x)
    forward = torch.cat(seen)
    before = torch.get_rng_state()
    (g,) = torch.autograd.grad(y.sum(), [last.weight])
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(g, forward.sum((0, 1)).expand(3, 4))


def test_memory_does_not_grow_with_the_sequence() -> None:
    """Of the tensors that the network makes, no more than a chunk's live at a time, forward and backward."""
    made = nn.Sequential(nn.Linear(16, 16), sl.LIF(), nn.Linear(16, 16), sl.LIF(), nn.Linear(16, 1))
    alive, most = weakref.WeakSet(), [0]

    def watch(_: nn.Module, args: Any, out: Tensor) -> None:
        alive.add(out.untyped_storage())
        most[0] = max(most[0], sum(storage.nbytes() for storage in alive))

    for module in made:
        module.register_forward_hook(watch)

    def peak(call: nn.Module, steps: int) -> int:
        alive.clear()
        most[0] = 0
        call(torch.randn(steps, 4, 16)).sum().backward()
        return most[0]

    chunks = sl.checkpoint_time(made, 10)
    assert peak(made, 400) > 9 * peak(made, 40)
    outputs = (400 - 40) * 4 * 4  # of the last layer, which are the result
    assert peak(chunks, 400) <= peak(chunks, 40) + outputs


def test_what_is_kept_is_the_input_and_a_state_a_chunk() -> None:
    made, kept = nn.Sequential(nn.Linear(16, 16), sl.LIF(), nn.Linear(16, 1)), {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    x = torch.randn(100, 4, 16)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = sl.checkpoint_time(made, 10)(x)
    assert y.requires_grad
    assert sum(kept.values()) <= x.untyped_storage().nbytes() + 10 * 4 * 16 * 4


def test_spikes_that_it_keeps_are_packed() -> None:
    made = nn.Sequential(sl.LIF(), sl.checkpoint_time(nn.Sequential(nn.Linear(4, 4), sl.LIF()), 3))
    x, params = torch.randn(7, 2, 4) * 2, list(made.parameters())
    want = torch.autograd.grad(made(x).sum(), params)
    with sl.packed_spikes():
        y = made(x)
    assert all(torch.equal(a, b) for a, b in zip(torch.autograd.grad(y.sum(), params), want, strict=True))


# -- as a module ----------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda m: sl.checkpoint_time(m, 3), sl.recompute])
def test_keys_are_those_of_the_network(wrap: Callable[[nn.Module], nn.Module]) -> None:
    plain = nn.Sequential(nn.Linear(3, 4), nn.Sequential(sl.PLIF(), nn.BatchNorm1d(4)))
    wrapped = nn.Sequential(wrap(plain[0]), wrap(wrap(plain[1])))
    assert list(wrapped.state_dict()) == list(plain.state_dict())
    other = copy.deepcopy(plain)
    nn.init.normal_(other[0].weight)
    wrapped.load_state_dict(other.state_dict())
    assert torch.equal(plain[0].weight, other[0].weight)
    copy.deepcopy(plain).load_state_dict(copy.deepcopy(wrapped).state_dict())
    with pytest.raises(RuntimeError, match=r"(?s)Missing key.*Unexpected key"):
        wrapped.load_state_dict({"0.module.weight": plain[0].weight})
    assert {id(p) for p in wrapped.parameters()} == {id(p) for p in plain.parameters()}
    assert not wrapped.eval()[1].module.module[1].training


# -- what it refuses ------------------------------------------------------------------------------


def test_batch_norm_in_training_raises() -> None:
    made = nn.Sequential(sl.PerStep(nn.Linear(4, 4), nn.BatchNorm1d(4)), sl.LIF())
    chunks, x = sl.checkpoint_time(made, 3), torch.randn(7, 2, 4)
    with pytest.raises(RuntimeError, match=r"BatchNorm1d '0\.1' takes its statistics .*; call eval\(\)"):
        chunks(x)
    assert made[0][1].num_batches_tracked == 0
    assert torch.equal(chunks.eval()(x), made(x))


def test_other_buffers_that_change_raise() -> None:
    made = nn.Sequential(torch.nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)), sl.LIF())
    with pytest.raises(RuntimeError, match=r"changes its buffer '0\.parametrizations"):
        sl.checkpoint_time(made, 3)(torch.randn(7, 2, 4))


def test_what_looks_ahead_or_keeps_no_state_raises() -> None:
    x = torch.randn(7, 2, 4)
    with pytest.raises(RuntimeError, match="Ahead looks ahead"):
        sl.checkpoint_time(nn.Sequential(sl.LIF(), Ahead()), 3)(x)
    with pytest.raises(RuntimeError, match=r"GRU '1' would start anew .* sl\.Recurrent"):
        sl.checkpoint_time(nn.Sequential(sl.LIF(), nn.GRU(4, 4)), 3)(x)
    with pytest.raises(RuntimeError, match="called no module that keeps a state"):
        sl.checkpoint_time(nn.Linear(4, 4), 3)(x)


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpoint_inside_raises(reentrant: bool) -> None:
    class Inner(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(super().forward, x, use_reentrant=reentrant)  # type: ignore[no-any-return]

    x = torch.randn(7, 2, 4, requires_grad=True)
    for inner in (Inner(nn.Linear(4, 4), sl.LIF()), sl.recompute(sl.LIF())):
        with pytest.raises(RuntimeError, match=r"inside torch\.utils\.checkpoint"):
            sl.checkpoint_time(nn.Sequential(inner), 3)(x)
    assert stream.current() is None


def test_inside_a_checkpoint_it_is_right() -> None:
    made = nn.Sequential(nn.Linear(4, 4), sl.PLIF(), nn.Linear(4, 4))
    chunks, x, params = sl.checkpoint_time(made, 3), torch.randn(7, 2, 4), list(made.parameters())
    want = torch.autograd.grad(made(x).square().sum(), params)
    loss = checkpoint(lambda x: chunks(x).square().sum(), x, use_reentrant=False)
    for a, b in zip(torch.autograd.grad(loss, params), want, strict=True):
        torch.testing.assert_close(a, b)


def test_inside_a_stream() -> None:
    made = nn.Sequential(nn.Linear(4, 4), sl.LIF())
    chunks, x = sl.checkpoint_time(made, 2), torch.randn(7, 2, 4)
    running = sl.Stream(nn.Sequential(chunks))
    with torch.no_grad():
        assert torch.equal(torch.cat([running(x[:4]), running(x[4:])]), made(x))
    with pytest.raises(RuntimeError, match=r"inside a Stream.*\.module"):
        running(x)


def test_compiled_code() -> None:
    torch._dynamo.reset()
    made = nn.Sequential(nn.Linear(4, 4), sl.LIF())
    x = torch.randn(7, 2, 4)
    want = made(x)
    inner = torch.compile(made, backend="eager")
    inner(x)
    with pytest.warns(sl.SpikeloomWarning, match="runs uncompiled"):
        assert torch.equal(sl.checkpoint_time(inner, 3)(x), want)
    with pytest.raises(Exception, match=r"call it outside of torch\.compile"):
        torch.compile(sl.checkpoint_time(made, 3), backend="eager", fullgraph=True)(x)


@pytest.mark.parametrize("steps", [0, -1, 2.5, True, None])
def test_steps_must_be_a_number_of_steps(steps: Any) -> None:
    with pytest.raises(ValueError, match="steps = "):
        sl.checkpoint_time(sl.LIF(), steps)


def test_shapes_and_types() -> None:
    with pytest.raises(TypeError, match=r"checkpoint_time takes a torch\.nn\.Module, not function"):
        sl.checkpoint_time(lambda x: x, 3)  # type: ignore[arg-type]
    chunks = sl.checkpoint_time(sl.LIF(), 3)
    for wrong in (torch.randn(3), torch.randn(0, 2, 3), [1]):
        with pytest.raises(ValueError, match="at least one step"):
            chunks(wrong)

    class Mean(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).mean(0)  # type: ignore[no-any-return]

    with pytest.raises(ValueError, match=r"chunk \(3, 2, 4\) the network returned \(2, 4\)"):
        sl.checkpoint_time(Mean(sl.LIF()), 3)(torch.randn(7, 2, 4))
