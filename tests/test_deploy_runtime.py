"""Networks compiled by Numba, a step of one sample at a time, against the networks themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_deploy_c import Every, mixed, outputs
from torch import nn

import spikeloom as sl
from spikeloom import deploy
from spikeloom.deploy.lower import Fire


def test_floats_are_the_network() -> None:
    net, x = mixed()
    said, want = outputs(net, x)
    compiled = deploy.compile(net, x)
    torch.testing.assert_close(compiled(x), want, atol=1e-5, rtol=1e-5)
    compiled.reset()
    for t in range(len(x)):
        compiled.step(x[t, 0])
        for name in ("first", "block.branch.1", "iand.branch.1", "back"):
            assert np.array_equal(compiled.values(name), said[name][t, 0].numpy()), name


@pytest.mark.parametrize(
    "options", [{}, {"state_bits": 8, "overflow": "wrap"}, {"bits": 1, "state_bits": 32}]
)
def test_whole_numbers_are_the_simulator(options: dict[str, object]) -> None:
    net, x = mixed()
    small = deploy.quantise(net, x[:, :2], **options)  # type: ignore[arg-type]
    run = deploy.simulate(small, x, record=True)
    compiled = deploy.compile(small, x)
    assert torch.equal(compiled(x), run.output)
    for name, values in run.values.items():
        assert np.array_equal(compiled.values(name), values[-1, -1].numpy()), name


class Adapting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.neuron = sl.PerStep(nn.Linear(3, 4)), sl.ALIF(tau=4.0, tau_adapt=8.0, beta=0.5)
        self.readout = nn.Sequential(sl.PerStep(nn.Linear(4, 2)), sl.LI(tau=3.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.readout(self.neuron(self.layer(x)))


def test_thresholds_that_rise_and_membranes_as_output() -> None:
    torch.manual_seed(0)
    net, x = Adapting().eval(), torch.rand(30, 2, 3) * 8
    small = deploy.quantise(net, x, state_bits=32)
    run = deploy.simulate(small, x, record=True)
    assert torch.equal(deploy.compile(small, x)(x), run.output)
    want = net(x)
    spikes = net.neuron(net.layer(x))
    assert 0.05 < spikes.mean() < 0.95
    assert (run.values["neuron"] == spikes).float().mean() > 0.97
    assert (run.output - want).abs().mean() < 0.05 * want.abs().mean() + 0.02


def test_neurons_of_all_operations() -> None:
    torch.manual_seed(0)
    net, x = Every("AdEx", "GLIF", "ILIF", "RefractoryLIF").eval(), torch.randn(20, 1, 5)
    fires = [layer for layer in deploy.lower(net, x) if isinstance(layer, Fire)]
    said, _ = outputs(net, x)
    compiled = deploy.compile(net, x)
    for t, frame in enumerate(x[:, 0]):
        compiled.step(frame)
        for layer in fires:
            want = said[layer.name][t, 0].numpy()
            np.testing.assert_allclose(compiled.values(layer.name), want, 1e-3, 1e-3, err_msg=layer.name)


def test_each_has_a_memory_of_its_own_and_refuses_other_shapes() -> None:
    net = nn.Sequential(sl.PerStep(nn.Linear(4, 3)), sl.LIF()).eval()
    x = torch.rand(5, 2, 4)
    one, two = deploy.compile(net, x), deploy.compile(net, x)
    want = net(x).detach()
    for t in range(len(x)):
        assert np.array_equal(one.step(x[t, 0]), want[t, 0].numpy())
        assert np.array_equal(two.step(x[t, 1].numpy()), want[t, 1].numpy())
    assert torch.equal(one(x), want), "each step, without a mean"
    with pytest.raises(ValueError, match="one step has shape"):
        one.step(torch.rand(5))
    with pytest.raises(ValueError, match=r"\[T, B, \*\(4,\)\]"):
        one(torch.rand(5, 4))
