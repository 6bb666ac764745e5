"""Stages that are run again in the backward pass: the same numbers, statistics and random draws once."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import spikeloom as sl


def stage(before: int, after: int) -> nn.Module:
    return nn.Sequential(
        sl.PerStep(
            nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.Dropout(0.2)
        ),
        sl.PLIF(),
    )


def net(recompute: bool) -> nn.Sequential:
    torch.manual_seed(0)
    stages = [
        stage(2, 4),
        stage(4, 4),
        nn.Sequential(sl.PerStep(nn.Conv2d(4, 4, 1)), sl.NormNeuron(nn.BatchNorm2d(4), sl.LIF())),
    ]
    return nn.Sequential(*(sl.recompute(s) if recompute else s for s in stages))


def step(made: nn.Module, x: Tensor) -> list[Tensor]:
    torch.manual_seed(5)
    leaf = x.clone().requires_grad_()
    y = made(leaf)
    grads = torch.autograd.grad(y.square().sum(), [leaf, *made.parameters()])
    return [y.detach(), *grads, *(b.clone() for b in made.buffers()), torch.get_rng_state()]


@pytest.mark.parametrize("packed", [False, True])
def test_numbers_statistics_and_draws_are_the_same(packed: bool) -> None:
    plain, again = net(False), net(True)
    for seed in range(3):
        x = 2 * torch.randn(3, 4, 2, 5, 5, generator=torch.Generator().manual_seed(seed))
        want = step(plain, x)
        if packed:
            with sl.packed_spikes():
                found = step(again, x)
        else:
            found = step(again, x)
        for a, b in zip(found, want, strict=True):
            assert torch.equal(a, b)
    assert plain[0][0][1].num_batches_tracked == 3


def test_backward_twice_starts_from_the_same_buffers() -> None:
    """The power iteration of a spectral norm moves on with each run, and its output with it."""
    torch.manual_seed(0)
    plain = nn.Sequential(torch.nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)), sl.PLIF())
    again = sl.recompute(copy.deepcopy(plain))
    x = torch.randn(5, 2, 4)
    wanted = torch.autograd.grad(plain(x).sum(), list(plain.parameters()))
    loss = again(x).sum()
    for retain in (True, False):
        grads = torch.autograd.grad(loss, list(again.parameters()), retain_graph=retain)
        for a, b in zip(grads, wanted, strict=True):
            assert torch.equal(a, b)
    for a, b in zip(again.buffers(), plain.buffers(), strict=True):
        assert torch.equal(a, b)


def test_two_forwards_before_backward() -> None:
    plain, again = net(False), net(True)
    a, b = 2 * torch.randn(3, 4, 2, 5, 5), 2 * torch.randn(3, 4, 2, 5, 5)
    found = []
    for made in (plain, again):
        torch.manual_seed(1)
        loss = made(a).sum() + made(b).square().sum()
        found.append([*torch.autograd.grad(loss, list(made.parameters())), *made.buffers()])
    for x, y in zip(*found, strict=True):
        assert torch.equal(x, y)


def test_an_error_in_the_recomputation_leaves_the_buffers() -> None:
    class Once(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            if self.calls > 1:
                raise KeyError("second")
            return x * x.exp()

    made = sl.recompute(nn.Sequential(nn.BatchNorm1d(4), Once()))
    y = made(torch.randn(6, 4, requires_grad=True))
    held, values = list(made.buffers()), [b.clone() for b in made.buffers()]
    with pytest.raises(KeyError):
        y.sum().backward()
    assert all(a is b for a, b in zip(made.buffers(), held, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(made.buffers(), values, strict=True))


def test_it_keeps_its_input_alone() -> None:
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    x = torch.randn(3, 4, 2, 5, 5, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = sl.recompute(stage(2, 4))(x)
    assert y.requires_grad
    assert sum(kept.values()) == x.numel() * 4


def test_without_gradients_it_just_runs_and_streams() -> None:
    made = net(True).eval()
    x = 2 * torch.randn(6, 2, 2, 5, 5)
    with torch.no_grad():
        running = sl.Stream(made)
        torch.testing.assert_close(torch.cat([running(x[:2]), running(x[2:])]), made(x))
    with pytest.raises(RuntimeError, match="inside a Stream"):
        sl.Stream(made)(x.requires_grad_())


def test_it_compiles_whole() -> None:
    torch._dynamo.reset()
    made = nn.Sequential(
        *(
            sl.recompute(
                nn.Sequential(
                    nn.Linear(4, 4), nn.Flatten(0, 1), nn.BatchNorm1d(4), nn.Unflatten(0, (5, 2)), sl.PLIF()
                )
            )
            for _ in range(2)
        )
    )
    other = copy.deepcopy(made)
    x = torch.randn(5, 2, 4)
    want = step(other, x)
    found = step(torch.compile(made, fullgraph=True, backend="aot_eager"), x)
    for a, b in zip(found, want, strict=True):
        torch.testing.assert_close(a, b)


def test_it_takes_modules() -> None:
    with pytest.raises(TypeError, match=r"recompute takes a torch\.nn\.Module, not int"):
        sl.recompute(3)  # type: ignore[arg-type]
