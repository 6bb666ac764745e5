"""The nets of seven blocks for event cameras: published numbers of parameters, shapes, what they see."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_cases import rows_of
from torch import nn

import spikeloom as sl
from spikeloom.models.sew_7b import SEW7B

COUNTED = {"sew_7b": 130_426, "plain_7b": 130_426, "spiking_7b": 130_426, "sew_wide_7b": 1_192_218}
CONNECTIONS = ("ADD", "AND", "IAND", "none", "plain")


@pytest.mark.parametrize("name", COUNTED)
def test_parameters(name: str) -> None:
    with sl.backend("eager"), torch.device("meta"):
        net = sl.create_model(name)
        stages = net.forward_intermediates(torch.empty(2, 1, 2, 128, 128))
    assert sum(p.numel() for p in net.parameters()) == COUNTED[name]
    assert [stage.shape[-1] for stage in stages] == [64, 32, 16, 8, 4, 2, 1]
    neurons = 1 + 7 * 2 + (name == "sew_wide_7b")
    assert sum(isinstance(m, sl.PLIF) for m in net.modules()) == neurons


def tiny(**more: Any) -> SEW7B:
    torch.manual_seed(0)
    net = sl.create_model("sew_7b", **{**SEW7B.small, **more})
    assert isinstance(net, SEW7B)
    return net


@pytest.mark.parametrize("connect", CONNECTIONS)
def test_what_convolutions_see(connect: Any) -> None:
    net = tiny(connect=connect, T=4)
    rows = rows_of(net)
    kinds = [row.kinds[0] for row in rows]
    # the stem, three blocks of two, the one where channels change, the readout (of 2x2 pixels' mean)
    assert len(kinds) == 9
    assert kinds[0] == kinds[-1] == "graded"
    assert ("integer" in kinds) == (connect == "ADD")
    assert set(kinds[1:-1]) <= {"binary", "integer"}
    assert max(row.density for row in rows if row.density is not None) > 0.1


@pytest.mark.parametrize("connect", CONNECTIONS)
def test_a_stage_is_its_parts(connect: Any) -> None:
    net = tiny(connect=connect).double().eval()
    stage = net.stages[1]
    x = (torch.rand(3, 2, 4, 6, 6, dtype=torch.float64) < 0.5).double()
    block, pool = stage
    branch = block if connect == "plain" else (block[0] if connect == "none" else block).branch
    a = branch(x)
    if connect == "none":
        y = sl.PLIF()(a + x)
    else:
        y = {"ADD": a + x, "AND": a * x, "IAND": x * (1 - a), "plain": a}[connect]
    torch.testing.assert_close(block(x), y)
    torch.testing.assert_close(stage(x), y.unflatten(-1, (3, 2)).unflatten(-3, (3, 2)).amax((-1, -3)))
    assert isinstance(pool, sl.PerStep)


def test_any_size() -> None:
    net = tiny().eval()
    assert net(torch.rand(3, 2, 2, 7, 18)).shape == (2, 5)
    assert net.forward_features(torch.rand(3, 2, 2, 7, 18)).shape[-2:] == (1, 3)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="no connection 'IADN'; did you mean 'IAND'"):
        tiny(connect="IADN")
    with pytest.raises(ValueError, match="at least one block"):
        tiny(channels=())


def test_neurons_are_the_papers() -> None:
    found = [m for m in tiny().modules() if isinstance(m, sl.PLIF)]
    assert len(found) == 1 + 6 + 1
    for neuron in found:
        assert isinstance(neuron.w, nn.Parameter)
        assert neuron.w.item() == 0.0  # tau 2
        assert neuron.detach_reset
        assert repr(neuron.surrogate) == "ATan(alpha=2.0)"
