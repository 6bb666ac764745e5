"""Networks of EGRU: sizes, readouts, a GRU beside, tokens, streams."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import spikeloom as sl
from spikeloom.nn import activity


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def count(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("cell", ["egru", "gru"])
def test_smnist_has_its_parameters(cell: str) -> None:
    net = sl.create_model("egru_smnist", cell=cell)
    units = 590
    layer = 3 * units * (1 + units) + 6 * units + (units if cell == "egru" else 0)
    assert count(net) == layer + 10 * units + 10


def test_the_trace_is_read_out() -> None:
    net, x = sl.create_model("egru", in_features=3, hidden=(8, 6)), torch.randn(7, 2, 3)
    y, trace, traces = net.layers(x)[-1], torch.zeros(2, 6), []
    for y_t in y:
        trace = 0.9 * trace + 0.1 * y_t
        traces.append(trace)
    head = net.head[0]
    every = torch.stack([head(t) for t in traces])
    torch.testing.assert_close(net(x), every[-1])
    for readout, wanted in (("mean", every.mean(0)), ("none", every)):
        net.readout = readout
        torch.testing.assert_close(net(x), wanted)
    net.trace = None
    torch.testing.assert_close(net(x), head(y))


def test_images_are_read_pixel_by_pixel() -> None:
    net, x = sl.create_model("egru", in_features=2, hidden=(5,)), torch.rand(3, 1, 4, 4)
    rows = torch.stack([x[:, 0, i // 2, 2 * (i % 2) : 2 * (i % 2) + 2] for i in range(8)])
    assert torch.equal(net(x), net(rows))
    assert net(x).shape == (3, 10)
    with pytest.raises(ValueError, match="no whole number of steps of 3"):
        sl.create_model("egru", in_features=3)(x)


@pytest.mark.parametrize("cell", ["egru", "gru"])
def test_characters(cell: str) -> None:
    net = sl.create_model("egru_characters", hidden=(16, 12), cell=cell).eval()
    x = torch.randint(256, (9, 2))
    y = net(x)
    assert y.shape == (9, 2, 256)
    torch.testing.assert_close(net(x.float().unsqueeze(-1)), y)
    torch.testing.assert_close(net(x[:4]), y[:4])  # no step sees a later one
    with pytest.raises(ValueError, match="vocabulary of 256"):
        net(x + 256)


def test_one_character_at_a_time() -> None:
    net = sl.create_model("egru_characters", hidden=(16, 12)).eval()
    x = torch.randint(256, (9, 1))
    with torch.no_grad():
        whole, stream = net(x), sl.Stream(net)
        parts = torch.cat([stream(x_t) for x_t in x.split(1)])
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)
    assert activity(net.layers(x)[0]) < 1


def test_it_learns() -> None:
    """Whether the first of some pixels was bright."""
    net = sl.create_model("egru", num_classes=2, hidden=(24,))
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    x = torch.rand(64, 1, 2, 4)
    label = (x[:, 0, 0, 0] > 0.5).long()
    for _ in range(80):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), label).backward()
        optimizer.step()
    right: Tensor = (net(x).argmax(1) == label).float().mean()
    assert right > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": ()}, "at least one layer"),
        ({"hidden": (0,)}, "at least 1 unit"),
        ({"cell": "gruu"}, "did you mean"),
        ({"readout": "lst"}, "did you mean 'last'"),
        ({"cell": "gru", "zoneout": 0.1}, "GRU has neither"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sl.create_model("egru", **options)
