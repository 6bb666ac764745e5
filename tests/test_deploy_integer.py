"""Networks of whole numbers, against hand-worked steps and the networks that they were made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import spikeloom as sl
from spikeloom import deploy
from spikeloom.deploy.integer import IntFire, IntSynapse, StateOverflow, keep, shifted
from spikeloom.deploy.units import best_scale
from spikeloom.nn.quantise import FakeQuantise, settle_weights
from spikeloom.training.recipes import find_recipe
from spikeloom.training.runs import build


def test_leaks_and_shifts_round_as_written() -> None:
    v = torch.tensor([7, -7, 1, -1, 0, 32767])
    assert keep(v, torch.tensor(1 << 14)).tolist() == [3, -3, 0, 0, 0, 16383], "a half, towards 0"
    assert keep(v, torch.tensor(1 << 15)).tolist() == v.tolist()
    assert shifted(torch.tensor([5, 6, 7, -5, -6, -7]), -2).tolist() == [1, 2, 2, -1, -1, -2], "half up"
    assert shifted(torch.tensor([-3]), 2).tolist() == [-12]


def single(weight: float, **options: Any) -> nn.Module:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, weight)
    return nn.Sequential(sl.PerStep(layer), sl.LIF(**options)).eval()


def test_a_neuron_by_hand() -> None:
    """Here w = 0.5 is 127 units; tau = 2 halves the input: a threshold of 1 is 4 x 127 units."""
    ones = torch.ones(6, 1, 1)
    net = deploy.quantise(single(0.5), ones)
    synapse, fire = net.layers["0.0"], net.layers["1"]
    assert isinstance(synapse, IntSynapse)
    assert isinstance(fire, IntFire)
    assert synapse.weight.tolist() == [[127]]
    assert fire.keep.tolist() == [1 << 14]
    assert fire.threshold is not None
    assert fire.threshold.tolist() == [508 << fire.shift]
    assert (deploy.simulate(net, ones).totals == 0).all(), "v comes to 254 units less what rounding takes"
    # with w = 1.5, h is 0.75, 1.125
    fires = deploy.simulate(deploy.quantise(single(1.5), ones), ones).totals
    assert fires.flatten().tolist() == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize(("reset", "wanted"), [("hard", [0, 1, 0, 1, 0, 1]), ("soft", [0, 1, 1, 0, 1, 1])])
def test_resets_by_hand(reset: Any, wanted: list[int]) -> None:
    """IF of w = 2/3: sums are whole numbers of thirds; soft keeps what is above 1."""
    net = nn.Sequential(single(0.67)[0], sl.IF(reset=reset)).eval()
    x = torch.ones(6, 1, 1)
    assert deploy.simulate(deploy.quantise(net, x), x).totals.flatten().tolist() == wanted
    assert net(x).flatten().tolist() == wanted


def conv_net(**options: Any) -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        sl.PerStep(nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)),
        sl.LIF(**options),
        sl.PerStep(nn.AvgPool2d(2), nn.Conv2d(6, 4, 3, groups=2)),
        sl.PLIF(v_threshold=0.2, **options),
        sl.PerStep(nn.Flatten(), nn.Linear(16, 3)),
    ).eval()


def test_whole_numbers_stay_near_the_network() -> None:
    net, x = conv_net(), (torch.rand(5, 8, 2, 9, 9) < 0.4).float()
    want = net(x)
    small = deploy.quantise(net, x, state_bits=32)
    assert (small.input_scale, small.signed) == (1.0, False), "whole numbers are taken as they are"
    run = deploy.simulate(small, x, record=True)
    spikes = net[1](net[0](x))
    assert (run.values["1"] == spikes).float().mean() > 0.99
    assert torch.nn.functional.cosine_similarity(run.output.flatten(), want.flatten(), 0) > 0.98
    assert torch.equal(run.output, (run.totals.double() * small.output_scale).float())
    assert torch.equal(deploy.simulate(small, x.long()).totals, run.totals)
    assert small.quantise_input(torch.tensor([0.5, 1.5, 300.0, -2.0])).tolist() == [0, 2, 255, 0]


def test_states_that_leave_their_width_are_told() -> None:
    net, quiet = single(1.0, tau=1.0), torch.full((3, 1, 1), 0.1)  # h is the input
    inputs = torch.arange(0, 60000, 377).reshape(1, -1, 1)
    for how in ("saturate", "wrap"):
        small = deploy.quantise(net, quiet, overflow=how)  # type: ignore[arg-type]
        fire = small.layers["1"]
        assert isinstance(fire, IntFire)
        assert fire.threshold is not None
        h = [shifted(127 * torch.tensor(n), fire.shift).item() for n in inputs.flatten().tolist()]
        out = [n for n in h if n > 32767]
        kept = [min(n, 32767) if how == "saturate" else (n + 32768) % 65536 - 32768 for n in h]
        run = deploy.simulate(small, inputs, overflow="report")
        assert run.totals.flatten().tolist() == [int(n >= fire.threshold) for n in kept]
        assert [(o.layer, o.state, o.step, o.value, o.count) for o in run.overflows] == [
            ("1", "v", 0, max(out), len(out))
        ]
    with pytest.raises(StateOverflow, match=r"layer '1', step 0: v = .*state_bits=32"):
        deploy.simulate(small, inputs, overflow="raise")


def test_weights_on_a_grid_stay_on_it() -> None:
    torch.manual_seed(0)
    for bits in (8, 4, 2, 1):
        grid = (
            torch.randint(-7, 8, (5, 40))
            .clamp(-(2 ** (bits - 1)) + 1 or 1, max(2 ** (bits - 1) - 1, 1))
            .double()
        )
        grid = torch.where(grid == 0, 1.0, grid).sign() if bits == 1 else grid
        weight = grid * torch.rand(5, 1) * 3
        scale = best_scale(weight, bits)
        assert torch.allclose((weight / scale).round() * scale, weight, atol=1e-12)
    assert best_scale(torch.zeros(2, 3).double(), 8).flatten().tolist() == [1, 1], "a dead channel"


def test_what_is_learned_rounded_is_what_whole_numbers_say() -> None:
    net = conv_net()
    params = sum(p.numel() for p in net.parameters())
    assert deploy.quantise_weights(net, 4, skip=("4.1",)) is net
    assert sum(p.numel() for p in net.parameters()) == params
    conv = net[0][0]
    assert len(conv.weight.unique()) <= 6 * 15
    conv.weight.sum().backward()
    assert (conv.parametrizations.weight.original.grad == 1).all(), "straight through"
    settled = settle_weights(net)
    x = (torch.rand(3, 2, 2, 9, 9) < 0.4).float()
    assert torch.equal(settled(x), net(x))
    small = deploy.quantise(net, x, bits=4)
    synapse = small.layers["0.0"]
    assert isinstance(synapse, IntSynapse)
    ratio = conv.weight.detach().flatten(1) / synapse.weight.flatten(1)
    for row, whole in zip(ratio, synapse.weight.flatten(1), strict=True):
        of_one = row[whole != 0]
        torch.testing.assert_close(of_one, of_one[0].expand_as(of_one), rtol=1e-4, atol=0)
    assert FakeQuantise(1)(torch.tensor([[0.5, -1.5]])).tolist() == [[1.0, -1.0]]


class Adds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fire = sl.PerStep(nn.Linear(4, 5)), sl.IF(), sl.IF(v_threshold=0.3)
        self.c, self.d = sl.PerStep(nn.Linear(4, 5)), sl.PerStep(nn.Linear(5, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.fire(self.c(x) + self.d(self.b(self.a(x))))


def test_of_what_is_added_scales_differ_by_powers_of_two() -> None:
    torch.manual_seed(0)
    net, x = Adds().eval(), torch.rand(6, 16, 4)
    small = deploy.quantise(net, x)
    factors = {name: layer.factor for name, layer in small.layers.items() if isinstance(layer, IntSynapse)}
    assert factors["c.0"] == 1
    assert factors["d.0"] >= 64, "an input of 8 bits has small units, spikes have large ones"
    same = (deploy.simulate(small, x).totals == net(x)).float().mean()
    assert same > 0.97


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bits": 9}, "1 to 8 bits"),
        ({"bits": True}, "1 to 8 bits"),
        ({"state_bits": 12}, "8, 16 or 32"),
        ({"input_bits": 0}, "1 to 16"),
        ({"overflow": "trap"}, "'saturate' or 'wrap'"),
    ],
)
def test_options_that_are_not_to_be_had(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        deploy.quantise(single(0.5), torch.ones(1, 1, 1), **options)


def test_what_has_no_whole_numbers() -> None:
    ones = torch.ones(2, 1, 1)
    for net, words in (
        (nn.Sequential(single(0.5)[0], sl.QIF()), r"layer '1' is a QIF.*float runtime"),
        (nn.Sequential(single(0.5)[0], sl.LIF(v_threshold=0.0)), "v_threshold above v_reset"),
        (single(float("nan")), r"layer '0.0': its weight holds NaN"),
        (nn.Sequential(single(0.5)[0], sl.PerStep(nn.GELU())), r"layer '1.0' is a GELU"),
        (
            nn.Sequential(single(0.5)[0], sl.PerStep(nn.Linear(1, 1)), sl.LI(), sl.PerStep(nn.Linear(1, 1))),
            "LI",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            deploy.quantise(net.eval(), ones)
    with pytest.raises(ValueError, match="NaN"):
        deploy.quantise(single(0.5), ones * float("nan"))
    small = deploy.quantise(single(0.5), ones)
    with pytest.raises(ValueError, match="NaN"):
        deploy.simulate(small, ones * float("inf"))
    with pytest.raises(ValueError, match="shape"):
        deploy.simulate(small, torch.ones(2, 1, 3))
    with pytest.raises(TypeError, match="IntegerNetwork"):
        deploy.simulate(single(0.5), ones)  # type: ignore[arg-type]
    for call, words in (
        (lambda: deploy.quantise_weights(sl.LIF()), "no linear"),
        (lambda: deploy.quantise_weights(conv_net(), 3, skip=("7",)), "skip names '7'"),
        (lambda: deploy.quantise_weights(deploy.quantise_weights(conv_net())), "parametrisation"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_digits() -> None:
    """A linear network of digits, ridge regression on the pixels: whole numbers decide alike."""
    data = sl.data.load_data("digits")
    x = data.inputs(data.train.pixels).flatten(1)
    x = torch.cat([x, torch.ones(len(x), 1)], 1)
    y = 4 * torch.nn.functional.one_hot(data.train.labels, 10).float() - 1
    solution = torch.linalg.solve(x.T @ x + torch.eye(65), x.T @ y)
    net = nn.Sequential(sl.PerStep(nn.Linear(64, 10)), sl.IF(reset="soft")).eval()
    net[0][0].weight.data, net[0][0].bias.data = solution[:-1].T.contiguous(), solution[-1]
    test = data.inputs(data.test.pixels).flatten(1).expand(16, -1, 64)

    def right(scores: Tensor) -> float:
        return (scores.sum(0).argmax(1) == data.test.labels).float().mean().item()

    with torch.no_grad():
        whole = right(net(test))
    assert whole > 0.85
    for bits, lost in ((8, 0.01), (4, 0.03)):
        small = deploy.quantise(net, test[:, :64], bits=bits)
        assert right(deploy.simulate(small, test).output) > whole - lost


def test_a_recipe_learns_with_rounded_weights() -> None:
    data = sl.data.load_data("digits")
    recipe = replace(find_recipe("digits"), weight_bits=4)
    net = build(recipe, data)
    layers = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert layers
    assert all(layer.weight.unique(dim=None).numel() <= 15 * len(layer.weight) for layer in layers)
    assert all(isinstance(layer.parametrizations.weight[0], FakeQuantise) for layer in layers)  # type: ignore[index, union-attr]
    with pytest.raises(ValueError, match="weight_bits = 9; a whole number from 1 to 8"):
        replace(recipe, weight_bits=9)


def test_a_file_gives_the_same_network(tmp_path: Path) -> None:
    net, x = conv_net(), torch.rand(4, 3, 2, 9, 9)
    small = deploy.quantise(net.eval(), x)
    file = deploy.save_integers(small, tmp_path / "small.safetensors")
    again = deploy.load_integers(file)
    assert torch.equal(deploy.simulate(again, x).totals, deploy.simulate(small, x).totals)
    assert list(again.layers) == list(small.layers)
    assert (again.peaks, again.input, again.bits, again.overflow) == (
        small.peaks,
        small.input,
        small.bits,
        small.overflow,
    )
    source, _ = deploy.export_c(again, x, tmp_path / "again.c")
    first, _ = deploy.export_c(small, x, tmp_path / "first.c")
    assert source.read_text().replace("again", "first") == first.read_text()
    assert not list(tmp_path.glob("*.part"))


def test_files_that_hold_no_such_network(tmp_path: Path) -> None:
    file = deploy.save_integers(deploy.quantise(conv_net(), torch.rand(4, 3, 2, 9, 9)), tmp_path / "a")
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"x" * 100, whole.replace(b"IntFire", b"IntFirm", 1)):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="holds no network of whole numbers"):
            deploy.load_integers(file)
    safetensors.torch.save_file({"w": torch.ones(2)}, file)
    with pytest.raises(ValueError, match="its header does not say 'spikeloom integers 1'"):
        deploy.load_integers(file)
    with pytest.raises(FileNotFoundError, match="save_integers"):
        deploy.load_integers(tmp_path / "none")
    with pytest.raises(TypeError, match="quantise"):
        deploy.save_integers(conv_net(), file)  # type: ignore[arg-type]
