"""The memory benchmark's counting, and that every way to train is the same network."""

from argparse import Namespace
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_kept_and_peak_are_counted():
    from memory import Memory

    torch.set_num_threads(1)
    x = torch.randn(1000, requires_grad=True)
    x.grad = torch.zeros(1000)
    memory = Memory.of(lambda: (x.exp() + 1).sum(), torch.device("cpu"))
    assert memory.kept == 4000 + 4  # what exp keeps, and the sum
    assert 2 * 4000 <= memory.peak <= 3 * 4000 + 100


@pytest.mark.parametrize("kind", ["conv", "transformer"])
def test_every_way_is_the_same_network(kind):
    from memory import SMALL
    from memory_nets import WAYS, check
    from rivals import LIBRARIES

    check(SMALL[kind], [name for name, way in WAYS.items() if not way.rival or not LIBRARIES[0].problem()])


def test_each_way_keeps_less():
    from memory import alone
    from memory_nets import WAYS

    ours = [name for name, way in WAYS.items() if not way.rival]
    kept = [alone("conv", n, Namespace(shrink=8, device=torch.device("cpu"))).kept for n in ours]
    assert kept[1] < 0.8 * kept[0]
    assert kept[2] < 0.6 * kept[1]
    assert kept[3] < 0.1 * kept[2]
