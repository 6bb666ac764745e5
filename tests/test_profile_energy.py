"""Traffic, state and energy of networks small enough to be counted by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.measure import HARDWARE, Convention, Cost, Hardware, Traffic, Updates, profile
from spikeloom.measure.estimate import Estimate, ann_cost, spiking_cost
from spikeloom.measure.traffic import ann_traffic, spiking_traffic
from spikeloom.measure.updates import updates_of

ROUND = Hardware(
    "round",
    add=1.0,
    multiply=2.0,
    state_multiply=3.0,
    address=0.5,
    weight_bits=32,
    value_bits=16,
    state_bits=64,
    event_bits=8,
    sram=((8, 1.0), (16, 2.0)),
    dram=10.0,
)
STATELESS = replace(ROUND, name="stateless", state_bits=0)
CHEAP = replace(ROUND, name="cheap", multiply=0.0, add=0.25)


def few() -> sl.measure.Profile:
    """Two steps of two samples through 4 neurons and 4 x 2 weights: 3 spikes and 6 accumulates a sample."""
    net = nn.Sequential(sl.IF(v_threshold=1.0), sl.PerStep(nn.Linear(4, 2, bias=False)))
    x = torch.zeros(2, 2, 4)
    x[:, :, 0] = 1
    x[1, 0, 1] = 1
    x[0, 1, 2], x[1, 1, 2] = 0.5, 0.5
    return profile(net, x)


def test_an_access_by_size_and_width() -> None:
    found = HARDWARE["45nm-fp32"]
    sizes = (1, 8192, 20480, 32768, 540672, 1 << 20, (1 << 20) + 1)
    assert [found.access(size) for size in sizes] == [10, 10, 15, 20, 60, 100, 1300]
    assert found.access(8192, 32) == 5
    assert found.access(1 << 30, 8) == 162.5
    for name, energy in (("45nm-fp32", 4.6), ("45nm-int8", 0.3)):
        assert HARDWARE[name].multiply + HARDWARE[name].add == pytest.approx(energy)


def test_operations_alone() -> None:
    found = few()
    assert (found.acs, found.dense, found.firing_rate) == (6, 16, 6 / 16)
    assert spiking_cost(found, ROUND, "none") == Cost(operations=6)
    assert ann_cost(found, ROUND, "none") == Cost(operations=8 * 3)  # 8 weights, once
    assert ann_cost(found, ROUND, "none", passes=2) == Cost(operations=16 * 3)
    fp32 = HARDWARE["45nm-fp32"]
    assert spiking_cost(found, fp32, "none").picojoules == found.energy.picojoules == pytest.approx(5.4)


def test_each_number_moves_once_a_step() -> None:
    found = few()
    # a weight is 32 of the 64 bits of an access to DRAM, as 8 of them are more than 16 bytes: 5 pJ; an event
    # is 8 bits of 4 bytes: 1/8 pJ, read by the layer and written by the neurons; 2 x 4 states of 64 bits in
    # DRAM are read and written; 8 neuron-steps of 4 additions
    assert spiking_cost(found, ROUND, "reused") == Cost(
        operations=6 + 8 * 4, weights=6 * 5, events=3 / 8 + 3 / 8, states=2 * 4 * 2 * 10
    )
    # 4 values in and 2 out, of 16 bits of 8 bytes: 1/4 pJ
    assert ann_cost(found, ROUND, "reused") == Cost(operations=24, weights=8 * 5, values=6 / 4)


def test_each_operation_fetches() -> None:
    found = few()
    # 2 sums of 64 bits are 16 bytes: 2 pJ; each of 6 accumulates reads and writes one
    assert spiking_cost(found, ROUND, "fetched") == Cost(
        operations=6 + 8 * 4,
        weights=6 * 5,
        events=3 / 4,
        states=2 * 4 * 2 * 10 + 2 * 6 * 2,
        addresses=6 * 0.5,
    )
    assert ann_cost(found, ROUND, "fetched") == Cost(operations=24, weights=8 * 5, values=(8 + 2) / 4)


@pytest.mark.parametrize(
    ("spiking", "ann", "memory", "factor"),
    [
        (ROUND, ROUND, "none", 24 / 6),
        (ROUND, CHEAP, "none", 2 / 6),
        (ROUND, ROUND, "reused", None),  # states alone cost more
        # 32 of updates; an accumulate, its weight, 1/8 + 1/8 for each of 3 events
        (STATELESS, STATELESS, "reused", (65.5 - 32) / (6 + 30 + 0.75)),
        (STATELESS, STATELESS, "fetched", (66.5 - 32) / (6 + 30 + 0.75 + 3)),
    ],
)
def test_break_even_by_hand(spiking: Hardware, ann: Hardware, memory: str, factor: float | None) -> None:
    found = few().energy_range([spiking] if spiking is ann else [spiking, ann])
    one = next(
        e
        for e in found.estimates
        if (e.memory, e.hardware, e.ann_hardware) == (memory, spiking.name, ann.name)
    )
    if factor is None:
        assert (one.break_even, one.verdict) == (None, "never")
    else:
        assert one.break_even == pytest.approx(6 / 16 * factor, rel=1e-9)
        assert one.verdict == ("any rate" if 6 / 16 * factor > 1 else f"{100 * 6 / 16 * factor:.3g}%")


def test_break_even_where_weights_saturate() -> None:
    """Beyond 16 accumulates all 8 weights are read in both steps: the cost of weights grows no more."""
    dear = replace(STATELESS, add=10.0, multiply=30.0, event_bits=0)
    found = few().energy_range([dear])
    one = next(e for e in found.estimates if e.memory == "reused")
    # 8 x 40 + 40 + 1.5 = 8 x 4 x 10 + 60 f + min(30 f, 80): f below 16 / 6, so that 41.5 = 90 f
    assert one.break_even == pytest.approx(6 / 16 * 41.5 / 90)
    many = replace(dear, multiply=100.0)
    one = next(e for e in few().energy_range([many]).estimates if e.memory == "reused")
    # 880 + 41.5 = 320 + 60 f + 80
    assert one.break_even == pytest.approx(6 / 16 * 521.5 / 60)


def test_a_linear_layer_breaks_even_at_the_ratio_of_energies() -> None:
    """The rate at which T r 0.9 pJ equal 4.6 pJ, or the 0.3 pJ of 8 bits."""
    x = (torch.rand(4, 3, 64, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    found = profile(nn.Sequential(sl.IF(v_threshold=1.0), sl.PerStep(nn.Linear(64, 32))), x)
    rates = {
        (e.hardware, e.ann_hardware): e.break_even
        for e in found.energy_range().estimates
        if e.memory == "none"
    }
    assert rates["45nm-fp32", "45nm-fp32"] == pytest.approx(4.6 / (4 * 0.9))
    assert rates["45nm-fp32", "45nm-int8"] == pytest.approx(0.3 / (4 * 0.9))
    assert rates["45nm-int8", "45nm-int8"] == pytest.approx(0.3 / (4 * 0.1))


def test_a_convolution_reads_no_weight_twice_a_step() -> None:
    net = nn.Sequential(sl.IF(), sl.PerStep(nn.Conv2d(1, 2, 3, padding=1, bias=False)))
    corner = torch.zeros(1, 1, 1, 4, 4)
    corner[..., 0, 0] = 1
    for x, acs, weights in ((corner, 2 * 4, 8), (torch.ones_like(corner), 2 * (4 * 4 + 8 * 6 + 4 * 9), 18)):
        row = profile(net, x).rows[1]
        assert (row.acs, row.weights, row.results, row.elements) == (acs, 18, 32, (16,))
        events = float(x.sum())
        assert spiking_traffic(row, Convention(), 1, True, "reused") == Traffic(
            weights=weights, events=events
        )
        assert spiking_traffic(row, Convention(), 1, True, "fetched") == Traffic(
            weights=acs, events=events, states=2 * acs, addresses=acs
        )
        assert ann_traffic(row, 1, "reused") == Traffic(weights=18, values=16 + 32)
        assert ann_traffic(row, 1, "fetched") == Traffic(weights=576 // 2, values=576 // 2 + 32)


def test_graded_and_integer_input_and_attention() -> None:
    class Products(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.neuron = nn.Linear(3, 3, bias=False), sl.IF()

        def forward(self, x: Tensor) -> Tensor:
            s = self.neuron(x)
            return self.linear(s + s) + (s @ s.mT) @ (0.5 * s)

    x = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]).expand(1, 1, 2, 3)
    _, residual, first, second = profile(Products(), x).rows
    assert [row.range for row in (residual, first, second)] == ["0 .. 2", "0 1 x 0 1", "1 .. 2 x 0 .. 0.5"]
    by = Convention()

    def moved(row: sl.measure.Row, memory: str) -> Traffic:
        return spiking_traffic(row, by, 1, False, memory)  # type: ignore[arg-type]

    # 5 pairs of ones; 3 spikes of one operand; of the 6 values of the other at most 5 are read
    assert moved(first, "reused") == Traffic(values=5, events=3)
    assert moved(first, "fetched") == Traffic(values=5, events=3, states=10, addresses=5)
    # integers by halves: 12 multiply-accumulates of 4 and 6 values, and 6 sums
    assert moved(second, "reused") == Traffic(values=10)
    assert moved(second, "fetched") == Traffic(values=24, states=6)
    assert ann_traffic(second, 1, "reused") == Traffic(values=16)
    # integers by weights: 18 multiply-accumulates, or 9 accumulates of 3 events
    assert moved(residual, "reused") == Traffic(weights=9, values=6)
    assert moved(residual, "fetched") == Traffic(weights=18, values=18, states=6)
    by = Convention(integer="ac")
    assert moved(residual, "reused") == Traffic(weights=9, events=3)
    assert moved(residual, "fetched") == Traffic(weights=9, events=3, states=18, addresses=9)


def test_what_updates_compute() -> None:
    """As the equations read: h = v + (x - (v - v_reset)) / tau; h - threshold >= 0; a choice by 1 - s."""
    assert updates_of(sl.IF()) == Updates(4, 0, 0)  # v + x; h - threshold; its comparison; + of the reset
    assert updates_of(sl.LIF()) == Updates(6, 1, 0)
    assert updates_of(sl.LIF(reset="soft")) == Updates(5, 1, 0)

    class Odd(sl.Neuron):
        states = ("v",)

        def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
            h = torch.exp(v) * x + v * v
            return self.spike(h), h.abs()

    assert updates_of(Odd()) == Updates(2, 2, 1)


def layers() -> dict[str, tuple[nn.Module, Tensor]]:
    x = torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(0))
    images = torch.randn(6, 3, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    masked = sl.nn.MaskedPSN(6, 3)
    return {
        "LIF": (sl.LIF(), x),
        "two states": (sl.Synaptic(), x),
        "Recurrent": (sl.Recurrent(sl.LIF(), nn.Linear(4, 4)), x),
        "NormNeuron": (sl.NormNeuron(nn.BatchNorm2d(2), sl.LIF()), images),
        "convolved": (sl.Recurrent(sl.LIF(), nn.Conv2d(2, 2, 3, padding=1)), images),
        "SlidingPSN": (sl.nn.SlidingPSN(3), x),
        "MaskedPSN": (masked, x),
        "S4D": (sl.nn.S4D(4, 8), x),
        "EGRU": (sl.nn.EGRU(4, 7), x),
        "SynapticDelays": (sl.nn.SynapticDelays(4, 5, 3), x),
        "AxonalDelays": (sl.nn.AxonalDelays(4, 3), x),
        "integrator": (sl.nn.LeakyIntegrator(), x),
    }


@pytest.mark.parametrize("name", layers())
def test_state_is_what_a_stream_carries(name: str) -> None:
    net, x = layers()[name]
    stream = sl.Stream(nn.Sequential(net).eval())
    with torch.no_grad():
        stream(x[:4])
    carried = [value for key, value in stream.state.items() if not key.endswith(".step")]
    found = profile(nn.Sequential(net), x)
    kept = [row.state for row in found.rows if row.state]
    assert len(kept) == 1
    assert kept[0].values == sum(value.numel() for value in carried) / 3
    assert kept[0].bytes == found.state_bytes == sum(value.nbytes for value in carried) / 3


def test_state_that_looks_ahead_and_a_module_called_twice() -> None:
    x = torch.randn(6, 3, 4)
    assert profile(sl.nn.PSN(6), x).state_bytes == 6 * 4 * 4
    shared = sl.LIF()
    found = profile(nn.Sequential(shared, shared), x)
    assert found.state_bytes == 2 * 4 * 4
    assert [row.state.values for row in found.rows if row.state] == [8]


def test_ranges() -> None:
    cases: list[tuple[list[float], str]] = [
        ([0, 1], "0 1"),
        ([0, 0], "0"),
        ([1, 1], "1"),
        ([-1, 1], "-1 0 1"),
        ([0, 7], "0 .. 7"),
        ([-0.25, 2], "-0.25 .. 2"),
    ]
    for values, shown in cases:
        row = profile(nn.Linear(2, 2), torch.tensor([values], dtype=torch.float32)).rows[0]
        assert row.range == shown
        assert row.ranges == ((min(values), max(values)),)
    odd = profile(nn.Linear(2, 2), torch.tensor([[math.nan, 1.0], [math.inf, 0.0]]))
    assert json.loads(json.dumps(odd.to_dict(), allow_nan=False))["rows"][0]["ranges"] == [[None, None]]


def test_what_is_printed_and_written() -> None:
    found = few()
    energies = found.energy_range(["45nm-fp32", ROUND, CHEAP])
    plain = json.loads(json.dumps(energies.to_dict(), allow_nan=False))
    assert len(plain["estimates"]) == 3 * 6
    assert plain["low"] == energies.low == pytest.approx(5.4)
    assert energies.low < energies.high
    for text in (str(energies), str(found)):
        assert max(map(len, text.splitlines())) <= 110
    for words in (
        "pJ in 8 KiB",
        "DRAM 1300 pJ",
        "measured: 37.5%",
        "all multiply-accumulates, once",
        "routing",
    ):
        assert words in str(energies)
    assert "ISSCC 2014" in plain["hardware"]["45nm-fp32"]["source"]
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["state_bytes"] == 16


def test_networks_without_spikes_or_neurons() -> None:
    silent = profile(nn.Sequential(sl.IF(), sl.PerStep(nn.Linear(3, 2))), torch.zeros(2, 1, 3))
    plain = profile(nn.Linear(3, 2), torch.rand(4, 3))
    for found in (silent, plain):
        one: Estimate = found.energy_range().estimates[0]
        assert math.isnan(one.break_even or 0.0)
        assert one.verdict == "no spikes"
        json.dumps(found.energy_range().to_dict(), allow_nan=False)
    assert "no neurons" in str(plain.energy_range())


def test_updates_that_are_not_read_are_named() -> None:
    class Eager(sl.Neuron):
        eager = True
        states = ("v",)

        def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
            return self.spike(v + x), v

    with pytest.warns(sl.SpikeloomWarning, match="eager"):
        found = profile(nn.Sequential(Eager()), torch.rand(2, 1, 3))
    assert found.energy_range().unread == ("0",)
    assert "as no equations are read: 0" in str(found.energy_range())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"add": -1.0}, "add = -1.0; a number >= 0"),
        ({"dram": math.nan}, "dram = nan"),
        ({"weight_bits": "8"}, "weight_bits = '8'"),
        ({"sram": ()}, "at least one pair"),
        ({"sram": ((16, 1.0), (8, 2.0))}, "the smallest memory first"),
        ({"sram": ((8, -1.0),)}, "pairs of bytes and pJ"),
    ],
)
def test_hardware_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(ROUND, **change)


def test_misuse() -> None:
    found = few()
    with pytest.raises(ValueError, match="there are: 45nm-fp32, 45nm-int8"):
        found.energy_range(["45nm"])
    with pytest.raises(ValueError, match="hardware is empty"):
        found.energy_range([])
    for passes in (0, -1.0, math.nan, math.inf, True, "1"):
        with pytest.raises(ValueError, match="passes = "):
            found.energy_range(passes=passes)  # type: ignore[arg-type]


class Loop(nn.Module):
    """Steps one by one, by a function within and a module."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.out, self.neuron = nn.Parameter(torch.ones(3, 5)), nn.Linear(3, 2), sl.IF()

    def forward(self, x: Tensor) -> Tensor:
        y = self.neuron(torch.stack([x_t @ self.weight.mT for x_t in x]))
        return torch.stack([self.out(y_t) for y_t in y])


T, B = 6, 4
EVALUATIONS: dict[str, tuple[nn.Module, tuple[int, ...], list[float]]] = {
    "a head of few values": (
        nn.Sequential(
            sl.PerStep(nn.Conv2d(2, 1, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            sl.IF(),
            sl.PerStep(nn.Linear(1, 3)),
        ),
        (T, B, 2, 9, 9),
        [T, T],
    ),
    "in time, as it is": (nn.Sequential(nn.Linear(5, 3), sl.IF(), nn.Linear(3, 2)), (T, B, 5), [T, T]),
    "as many steps as samples": (nn.Sequential(nn.Linear(5, 3), sl.IF()), (B, B, 5), [B]),
    "tokens": (nn.Sequential(sl.IF(), sl.nn.PerToken(nn.Linear(5, 3)), sl.IF()), (T, B, 7, 5), [T]),
    "a loop": (Loop(), (T, B, 5), [T, T]),
    "recurrent": (sl.Recurrent(sl.IF(), nn.Linear(5, 5)), (T, B, 5), [T]),
    "recurrent, convolved": (sl.Recurrent(sl.IF(), nn.Conv1d(5, 5, 1)), (T, B, 5, 3), [T]),
    "EGRU": (sl.nn.EGRU(5, 3), (T, B, 5), [T, T]),
    "delays": (nn.Sequential(sl.nn.SynapticDelays(5, 3, 2), sl.IF()), (T, B, 5), [T]),
    "no time": (nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 2)), (B, 5), [1, 1]),
    "a static image": (
        sl.create_model("dense_snn", T=T, in_features=12, hidden=(7,), num_classes=3),
        (B, 12),
        [1, T],
    ),
}


@pytest.mark.parametrize("name", EVALUATIONS)
def test_how_often_a_sample_passes(name: str) -> None:
    """By this is divided what the network without spikes does once."""
    net, shape, expected = EVALUATIONS[name]
    found = profile(net, torch.rand(shape) + 0.5)
    assert [row.evaluations for row in found.rows if row.kinds] == expected


def test_break_even_of_products_of_spikes_by_spikes() -> None:
    """Pairs grow by the square of the rate, what else flows by the rate: solved as a quadratic."""

    class Pairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron, self.linear = sl.IF(v_threshold=1.0), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            s = self.neuron(x)
            return (s @ s.mT).sum() + self.linear(s)

    x = (torch.rand(2, 3, 5, 6, generator=torch.Generator().manual_seed(3)) < 0.4).float()
    found = profile(Pairs(), x)
    pairs, linear = found.rows[1].acs, found.rows[2].acs
    one = next(e for e in found.energy_range([ROUND, CHEAP]).estimates if e.ann_hardware == "cheap")
    target = 0.25 * found.dense / 2  # once
    assert one.ann.picojoules == pytest.approx(target)
    factor = (-linear + math.sqrt(linear**2 + 4 * pairs * target)) / (2 * pairs)
    assert one.break_even == pytest.approx(found.firing_rate * factor, rel=1e-10)
