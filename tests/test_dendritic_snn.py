"""Networks of dendritic neurons: built, counted, streamed, gated and trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import spikeloom as sl


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def made(**options: Any) -> nn.Module:
    return sl.create_model("dendritic_snn", **{"T": 3, "num_classes": 3, **options})


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_parameters() -> None:
    # synapses n (in + out norms), strengths n, readout
    net = made(input_shape=(20,), hidden=(8, 6), branches=4)
    assert count(net) == 20 * 32 + 2 * 32 + 4 + 8 * 24 + 2 * 24 + 4 + 6 * 3 + 3
    net = made(input_shape=(2, 8, 8), channels=(5, 3), hidden=(), branches=2, strengths="channel")
    assert count(net) == 2 * 9 * 10 + 20 + 10 + 5 * 9 * 6 + 12 + 6 + 3 * 4 * 3 + 3


@pytest.mark.parametrize(
    "options",
    [
        {"input_shape": (6,), "hidden": (5, 4)},
        {"input_shape": (1, 8, 8), "channels": (4,), "hidden": (6,)},
        {
            "input_shape": (6,),
            "hidden": (5,),
            "neuron_options": {"trunks": 2, "init_tau": 3.0},
            "soma": "PLIF",
        },
    ],
)
def test_still_moving_and_streamed(options: dict[str, Any]) -> None:
    net = made(**options, readout="none").eval()
    x = torch.randn(2, *options["input_shape"])
    moving = x.expand(3, *x.shape)
    torch.testing.assert_close(net(x), net(moving))
    assert net(x).shape == (3, 2, 3)
    stream = sl.Stream(net)
    torch.testing.assert_close(torch.cat([stream(moving[:1]), stream(moving[1:])]), net(moving))
    net.train()
    net(moving).square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_contexts_of_a_network() -> None:
    net = made(input_shape=(6,), hidden=(40, 30), contexts=3, active=1, branches=4).eval()
    x = torch.randn(4, 6)
    each = net(x, torch.tensor([0, 1, 2, 0]))
    for k in range(3):
        rows = torch.tensor([0, 1, 2, 0]) == k
        torch.testing.assert_close(net(x, k)[rows], each[rows])
    assert not torch.allclose(net(x, 0), net(x, 1))
    # weights of branches that a task leaves closed have no gradient from it
    net(x, 1).sum().backward()
    weight = net.get_submodule("synapses.0.1").weight
    assert isinstance(weight, Tensor)
    assert weight.grad is not None
    touched = weight.grad.abs().sum(1) > 0
    closed = net.get_submodule("gates.0")(1).flatten() == 0
    assert not touched[closed].any()
    assert touched[~closed].any()
    again = made(input_shape=(6,), hidden=(40, 30), contexts=3, active=1, branches=4).eval()
    again.load_state_dict(net.state_dict())
    torch.testing.assert_close(again(x, 2), net(x, 2))


def test_it_learns_what_one_neuron_with_branches_can() -> None:
    # XOR of two inputs by a few neurons
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]).repeat(8, 1)
    y = (x[:, 0] != x[:, 1]).long()
    net = made(input_shape=(2,), num_classes=2, hidden=(8,), branches=4, T=4)
    optimiser = torch.optim.Adam(net.parameters(), 0.03)
    for _ in range(80):
        optimiser.zero_grad()
        functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    assert (net(x).argmax(1) == y).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": ()}, "at least one layer"),
        ({"T": 0}, "T = 0"),
        ({"soma": "DendSN"}, "soma"),
        ({"soma": "NoisyLIF"}, "further inputs"),
        ({"input_shape": (6,), "channels": (2,)}, "at least 2 pixels a side"),
        ({"input_shape": (1, 3, 3), "channels": (2, 2)}, "at least 4 pixels a side"),
        ({"neuron_options": {"trunks": 3}}, "3 trunks for 4 branches"),
        ({"contexts": 2, "active": 9}, "active = 9 of 4"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        made(**options)


def test_calls_that_are_refused() -> None:
    x = torch.rand(2, 1, 28, 28)
    with pytest.raises(ValueError, match="no gates"):
        made()(x, 0)
    with pytest.raises(ValueError, match=r"net\(x, context\)"):
        made(contexts=2)(x)
    with pytest.raises(ValueError, match=r"\(1, 28, 28\)"):
        made()(torch.rand(2, 784))


def test_the_benchmark_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import dendrites

    y = torch.arange(40) % 10
    data = dendrites.Data(torch.rand(40, 1, 28, 28), y, torch.rand(20, 1, 28, 28), y[:20])
    monkeypatch.setattr(dendrites.Data, "of", lambda *_: data)
    sizes = ["--width", "8", "--branches", "2", "--steps", "2", "--batch", "10", "--rounds", "1"]
    counts = ["--epochs", "1", "--seeds", "2", "--shots", "1", "--few-steps", "2", "--noise", "0.1"]
    dendrites.main([*sizes, *counts, "--epsilon", "0.01", "--markdown"])
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("forgetting", "FGSM", "1 a class", "form=scan", "gated"))
    # to 1 % at the size that is measured
    wide = dendrites.equal_width(256, 4)
    sizes_of = [dendrites.size(net) for net in (dendrites.point(256, 1), dendrites.dendritic(wide, 4, 1))]
    assert sizes_of[1] == pytest.approx(sizes_of[0], rel=0.01)


def test_attacks_stay_near_and_raise_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import dendrites

    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    x, y = torch.rand(6, 1, 2, 2), torch.arange(6) % 3
    for steps, size in ((1, 0.1), (10, 0.025)):
        moved = dendrites.attacked(net, x, y, 0.1, steps, size)
        assert (moved - x).abs().max() <= 0.1 + 1e-6
        assert 0 <= moved.min() <= moved.max() <= 1
        assert functional.cross_entropy(net(moved), y) > functional.cross_entropy(net(x), y)
