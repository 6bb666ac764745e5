"""sl.explain tells which kernel runs, and what autograd keeps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import spikeloom as sl


class Branching(sl.Neuron):
    eager = True

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        if float(x.detach().sum()) > 1e9:
            v = v * 0
        s = self.spike(v + x - 1)
        return s, (v + x) * (1 - s)


@pytest.mark.filterwarnings("ignore:Branching runs its step")
def test_a_row_a_call() -> None:
    shared = sl.LIF()
    net = nn.Sequential(
        sl.PerStep(nn.Linear(6, 8), nn.BatchNorm1d(8)),
        shared,
        Branching(),
        sl.Recurrent(sl.IF(), nn.Linear(8, 8)),
        shared,
    ).train()
    before = net[0][1].running_mean.clone()
    found = sl.explain(net, torch.randn(5, 3, 6))
    assert [row.layer for row in found.rows] == ["1", "2", "3", "1"]
    assert [row.backend for row in found.rows] == ["numba", "eager", "numba", "numba"]
    first = found.rows[0]
    assert (first.steps, first.neurons, first.dtype) == (5, 24, "float32")
    assert first.bytes_per_neuron_step == 4.0
    assert found.rows[1].bytes_per_neuron_step > 4.0
    assert "eager = True" in found.rows[1].why
    assert torch.equal(net[0][1].running_mean, before)
    assert net.training
    assert "4.0" in str(found)


def test_a_neuron_alone_and_a_forced_backend() -> None:
    x = torch.randn(4, 2, 3)
    (row,) = sl.explain(sl.LIF(), x).rows
    assert row.backend == "numba"
    with sl.backend("eager"):
        (row,) = sl.explain(sl.LIF(), x).rows
    assert (row.backend, row.why) == ("eager", "forced")
    (row,) = sl.explain(sl.LIF(), x.bfloat16()).rows
    assert (row.dtype, row.bytes_per_neuron_step) == ("bfloat16", 2.0)


def test_it_takes_a_network() -> None:
    with pytest.raises(TypeError, match="explain takes a network first, not Tensor"):
        sl.explain(torch.randn(2, 3), sl.LIF())  # type: ignore[arg-type]


def test_hooks_are_gone_after_an_error() -> None:
    net = nn.Sequential(sl.LIF(), nn.Linear(7, 2))
    with pytest.raises(RuntimeError):
        sl.explain(net, torch.randn(4, 2, 3))
    assert not net[0]._forward_hooks
    assert torch._C._autograd._top_saved_tensors_default_hooks(True) is None
