"""An announcement shows the line that it is about: the user's."""

from __future__ import annotations

import sys
import warnings

import pytest
import torch
from torch import nn

import spikeloom as sl


def here() -> int:
    """Return the line of the caller."""
    return sys._getframe(1).f_lineno


def test_by_a_call_of_the_package() -> None:
    line = here() + 2
    with pytest.warns(sl.SpikeloomWarning, match="runs the eager truth") as seen:
        sl.LIF().run(torch.rand(3, 2, 4), record=("v",))
    assert [(w.filename, w.lineno) for w in seen] == [(__file__, line)]


def test_through_modules_of_torch() -> None:
    net = nn.Sequential(nn.Sequential(sl.PerStep(nn.Linear(4, 4), nn.BatchNorm1d(4)), sl.LIF()))
    stream = sl.Stream(net)
    line = here() + 2
    with pytest.warns(sl.SpikeloomWarning, match="takes its statistics from each chunk") as seen:
        stream(torch.rand(3, 2, 4))
    assert [(w.filename, w.lineno) for w in seen] == [(__file__, line)]


def test_once() -> None:
    neuron, x = sl.LIF(), torch.rand(3, 2, 4)
    with pytest.warns(sl.SpikeloomWarning, match="runs the eager truth"):
        neuron.run(x, record=("v",))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        neuron.run(x, record=("v",))
