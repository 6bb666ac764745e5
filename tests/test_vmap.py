"""Ensembles of networks and per-sample gradients: torch.func over the kernels."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from zoo import NEURONS

import spikeloom as sl

COUNT = 4


def network() -> nn.Module:
    return nn.Sequential(
        sl.PerStep(nn.Conv2d(2, 3, 3, padding=1)),
        sl.LIF(tau=torch.rand(3) + 1.5, learnable=("tau", "v_threshold")),
        sl.ALIF(),
        sl.PLIF(),
        sl.PerStep(nn.Flatten(), nn.Linear(3 * 16, 5)),
    ).double()


@pytest.mark.parametrize("shared_input", [True, False])
def test_an_ensemble_is_its_members(shared_input: bool) -> None:
    torch.manual_seed(0)
    nets = [network() for _ in range(COUNT)]
    params, buffers = stack_module_state(nets)
    base = copy.deepcopy(nets[0])
    x = torch.randn(COUNT, 6, 2, 2, 4, 4, dtype=torch.float64)

    def loss(params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(base, (params, buffers), (x,)).square().mean()

    given = x[0] if shared_input else x
    dims = (0, 0, None if shared_input else 0)
    losses = vmap(loss, in_dims=dims)(params, buffers, given)
    grads = vmap(grad(loss, argnums=(0, 2)), in_dims=dims)(params, buffers, given)
    for i, net in enumerate(nets):
        leaf = (x[0] if shared_input else x[i]).clone().requires_grad_()
        truth = net(leaf).square().mean()
        truth.backward()
        torch.testing.assert_close(losses[i], truth.detach())
        torch.testing.assert_close(grads[1][i], leaf.grad)
        for name, p in net.named_parameters():
            torch.testing.assert_close(grads[0][name][i], p.grad, msg=lambda m, name=name: f"{name}: {m}")


def test_gradients_of_each_sample() -> None:
    torch.manual_seed(1)
    net, x = network(), torch.randn(6, COUNT, 2, 4, 4, dtype=torch.float64)
    params = {name: p.detach() for name, p in net.named_parameters()}

    def loss(params: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(net, params, (x.unsqueeze(1),)).square().mean()

    grads = vmap(grad(loss), in_dims=(None, 1))(params, x)
    for i in range(COUNT):
        net.zero_grad()
        net(x[:, i : i + 1]).square().mean().backward()
        for name, p in net.named_parameters():
            torch.testing.assert_close(grads[name][i], p.grad)


@pytest.mark.parametrize("name", NEURONS)
@pytest.mark.parametrize("final", [False, True])
def test_every_neuron_over_an_axis_of_its_own(name: str, final: bool) -> None:
    entry = NEURONS[name]
    neuron = entry.make(learnable=entry.params()).double()
    xs = entry.inputs(5, COUNT, 2, 3, dtype=torch.float64)
    state = {k: torch.rand(2, 3, dtype=torch.float64) for k in neuron.states}

    def value(*xs: Tensor) -> Tensor:
        out, last, _ = neuron.run(*xs, state=state if final else None)
        return out.square().sum() + sum((v.square().sum() for v in last.values() if final), out.sum())

    together = vmap(grad(value, argnums=tuple(range(len(xs)))), in_dims=1)(*xs)
    for i in range(COUNT):
        leaves = [x[:, i].clone().requires_grad_() for x in xs]
        value(*leaves).backward()
        for a, leaf in zip(together, leaves, strict=True):
            torch.testing.assert_close(a[i], leaf.grad)


def test_grad_of_torch_func_runs_the_kernel() -> None:
    # torch.func asks for gradients that can be differentiated again; no announcement: the truth is not run
    x = torch.randn(5, 2, 3)
    leaf = x.clone().requires_grad_()
    sl.LIF()(leaf).square().sum().backward()
    torch.testing.assert_close(grad(lambda x: sl.LIF()(x).square().sum())(x), leaf.grad)


@pytest.mark.filterwarnings("ignore:a double backward")
def test_a_second_gradient_of_what_depends_on_one_another() -> None:
    # the state is made of x: each path counts once
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    neuron = sl.LIF(tau=2.5, surrogate=sl.surrogate.Smooth(sl.surrogate.Sigmoid(2.0))).double()

    def value(x: Tensor) -> Tensor:
        out, last, _ = neuron.run(x.unsqueeze(1), state={"v": (x * x).sum(0, keepdim=True)})
        return out.square().sum() + last["v"].square().sum()

    assert torch.autograd.gradcheck(value, (x,))
    assert torch.autograd.gradgradcheck(value, (x,))


def test_a_compiled_ensemble() -> None:
    neuron, x = sl.LIF(tau=torch.rand(3) + 1.5), torch.randn(5, COUNT, 2, 3)
    together = vmap(lambda x: neuron(x), in_dims=1)
    compiled = torch.compile(together, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), together(x))
