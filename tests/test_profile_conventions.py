"""Energies as papers quote them, from their operations; the choices that they make by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.measure import CONVENTIONS, Convention, profile
from spikeloom.measure.text import brief, joules


@pytest.mark.parametrize(
    ("macs", "acs", "millijoules", "within"),
    [
        (0.3473e9, 6.5175e9, 7.4635, 3e-4),  # Spikingformer 8-512
        (0.5210e9, 12.5137e9, 13.6589, 3e-4),  # Spikingformer 8-768
        (55.4e9, 0, 254.84, 5e-3),  # ViT-B/16, 384
        (17.5e9, 0, 80.50, 5e-3),  # DeiT-B
        (275.2e9, 0, 1265, 1.0),  # SpikingSSM, as a dense network
        (0, 72.66e9, 65.40, 1e-2),  # SpikingSSM
    ],
)
def test_published_energies(macs: float, acs: float, millijoules: float, within: float) -> None:
    energy = Convention().energy(macs, acs)
    assert energy.millijoules == pytest.approx(millijoules, abs=within)
    assert energy.picojoules == pytest.approx(4.6 * macs + 0.9 * acs)


def test_the_first_convolution_of_spikingformer() -> None:
    """64 channels of 3x3 windows over 224x224 pixels, in each of four steps: 346,816,512."""
    net = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1, bias=False), Repeat(4), sl.IF())
    found = profile(net, torch.rand(1, 3, 224, 224))
    assert found.steps == 4
    assert found.price("spikingformer").macs == 346_816_512
    assert found.price("papers").macs == found.price("counted").macs == 346_816_512 / 4


class Repeat(nn.Module):
    def __init__(self, T: int) -> None:
        super().__init__()
        self.T = T

    def forward(self, x: Tensor) -> Tensor:
        return x.expand(self.T, *x.shape)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = sl.IF(v_threshold=1.0), sl.IF(v_threshold=1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) + self.two(x.clamp(max=0.5))


def test_integers_by_their_rule() -> None:
    net = nn.Sequential(Residual(), sl.PerStep(nn.Linear(4, 3)))
    x = torch.tensor([1.0, 0.5, 0.0, 0.0]).expand(2, 1, 4)
    # step 1: 1 0 0 0; step 2: 2 2 0 0, as both neurons reach 1
    layer = profile(net, x).rows[-1]
    assert (layer.input, layer.dense, layer.effective, layer.levels, layer.level) == (
        "integer",
        24,
        9,
        15,
        5 / 8,
    )

    def cost(**options: Any) -> tuple[float, float]:
        energy = profile(net, x, convention=Convention(**options)).energy
        return energy.macs, energy.acs

    assert cost() == (24, 0)
    assert cost(macs="nonzero") == (9, 0)
    assert cost(integer="ac") == (0, 9)
    assert cost(integer="levels") == (0, 15)
    assert cost(integer="ac", operations="rate") == (0, 24 * 3 / 8)
    assert cost(integer="levels", operations="rate") == (0, 24 * 5 / 8)


def test_padding_is_data_for_a_rate_alone() -> None:
    net = nn.Sequential(sl.IF(), sl.PerStep(nn.Conv2d(1, 2, 3, padding=1)))
    x = torch.zeros(1, 1, 1, 4, 4)
    x[..., 0, 0] = 1  # in 4 of the windows
    found = profile(net, x)
    assert found.price("counted").acs == 2 * 4
    assert found.price("papers").acs == 16 * 2 * 9 / 16


def test_attention_by_its_rule() -> None:
    class Products(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron = sl.IF()

        def forward(self, x: Tensor) -> Tensor:
            s = self.neuron(x)
            return (s @ s.mT) @ (0.5 * s)

    x = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]).expand(1, 1, 2, 3)
    found = profile(Products(), x)
    _, first, second = found.rows
    assert (first.input, first.dense, first.effective) == ("binary x binary", 12, 2 * 2 + 1)
    assert (second.input, second.dense, second.effective) == ("integer x graded", 12, 2 * 3)
    assert [c.acs for _, c in found.costs(Convention(attention="sparser"))] == [0, 12 * 0.5, 0]
    assert [c.macs for _, c in found.costs()] == [0, 0, 12]
    integer = Convention(integer="ac", attention="sparser")  # of 1 1 / 1 2 none is 0
    assert [c.acs for _, c in found.costs(integer)] == [0, 6, 12]
    assert [c.acs for _, c in found.costs(Convention(integer="levels"))] == [
        0,
        5,
        1 * 1 + 1 * 2 + 1 * 1 + 2 * 2,
    ]


def test_prices() -> None:
    found = profile(nn.Linear(3, 2), torch.rand(2, 3) + 0.5)
    assert found.energy.picojoules == pytest.approx(6 * 4.6)
    assert found.price(Convention(e_mac=2, e_ac=0)).picojoules == 12
    assert found.price("papers") == found.price(CONVENTIONS["papers"])
    for given, message in (
        ({"e_mac": -1.0}, "e_mac = -1.0; a number of picojoules >= 0"),
        ({"e_ac": float("nan")}, "e_ac = nan"),
        ({"e_ac": "1"}, "e_ac = '1'"),
        ({"integer": "acs"}, "no choice of integer 'acs'; did you mean 'ac'"),
        ({"first": "always"}, "no choice of first 'always'"),
    ):
        with pytest.raises(ValueError, match=message):
            Convention(**given)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no convention 'spiking'; did you mean 'spikingformer'"):
        found.price("spiking")


def test_numbers_in_brief() -> None:
    shown = [
        brief(n) for n in (0, 0.25, 12, 999, 999.7, 1000, 12_345, 999_499, 999_501, 1e6, 346_816_512, 4.2e12)
    ]
    assert shown == ["0", "0.25", "12", "999", "1k", "1k", "12.3k", "999k", "1M", "1M", "347M", "4.2T"]
    energies = [joules(pj) for pj in (0, 5.25, 1234.5, 7.4635e9, 1.266e12)]
    assert energies == ["0 pJ", "5.25 pJ", "1.234 nJ", "7.463 mJ", "1.266 J"]
