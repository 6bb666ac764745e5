"""Products place by place and sums: counted, and priced by the rules of papers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.measure import CONVENTIONS, Convention, Profiler, profile


def spikes(*shape: int, seed: int = 0) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.4).float()


class Calls(nn.Module):
    """A part called with operands cut from one input."""

    def __init__(self, part: Any, operands: int) -> None:
        super().__init__()
        self.part, self.operands = part, operands

    def forward(self, x: Tensor) -> Tensor:
        return self.part(*x.chunk(self.operands, -1))


def found(part: Any, operands: int, x: Tensor) -> list[tuple[str, tuple[str, ...], int, int]]:
    net = Calls(part, operands)
    with Profiler(net) as profiler, torch.no_grad():
        net.eval()(x)
        nn.Linear(2, 2)  # no part of it
    rows = profiler.profile(samples=1).elementwise
    return [(row.kind, row.kinds, row.dense_total, row.effective_total) for row in rows]


class Part(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function, self.neuron_like = function, sl.IF()

    def forward(self, *operands: Tensor) -> Tensor:
        out: Tensor = self.function(*operands)
        return self.neuron_like(out)


def test_products_and_sums_by_hand() -> None:
    x = torch.tensor([[[[1.0, 0, 2, 0.5]]]])
    a, b = [1.0, 0.0], [2.0, 0.5]
    assert found(Part(torch.mul), 2, x) == [("product", ("binary", "graded"), 2, 1)]
    assert found(Part(lambda a, b: (1 - a) * a), 2, x) == [("product", ("binary", "binary"), 2, 0)]
    assert found(Part(lambda a, b: b.sum(-1, keepdim=True)), 2, x) == [("sum", ("graded",), 2, len(b))]
    assert found(Part(lambda a, b: a.sum(-1, keepdim=True)), 2, x) == [("sum", ("binary",), 2, int(sum(a)))]
    wide = Part(lambda a, b: a.unsqueeze(-1) * b.unsqueeze(-2))  # one is repeated along the other
    assert found(wide, 2, x) == [("product", ("binary", "graded"), 4, 2)]
    # scales are none: by a number, or by a weight
    scaled = Part(lambda a, b: 0.5 * a + scaled.weight * b)
    scaled.weight = nn.Parameter(torch.ones(2))
    assert found(scaled, 2, x) == []


def test_what_neurons_compute_is_theirs() -> None:
    class Own(sl.Neuron):
        eager = True
        states = ("v",)

        def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
            h = v * x + x
            return self.spike(h), h * (1 - self.spike(h))

    with pytest.warns(sl.SpikeloomWarning, match="eager"):
        measured = profile(nn.Sequential(Own(), sl.LIF()), torch.rand(2, 2, 3))
    assert measured.elementwise == ()


def test_attention_by_masks_costs_its_sums() -> None:
    """T fr N D additions: SDSA-1 of K and V, QKTA of Q (Spike-driven Transformer, QKFormer)."""
    T, B, N, C = 3, 2, 5, 8
    x = spikes(T, B, N, 3 * C)
    q, k, v = x.chunk(3, -1)
    masks = profile(Calls(sl.nn.SpikeDrivenAttention(C), 3), x)
    product, total = masks.elementwise
    assert (product.kind, product.dense_total) == ("product", T * B * N * C * 2)  # K with V, and with Q
    both = int((k * v).sum())
    assert (total.kind, total.dense_total, total.effective_total) == ("sum", T * B * N * C, both)
    assert masks.price("papers").acs == masks.price("spikingformer").acs == both / B
    assert masks.price("papers").macs == masks.price(Convention(elementwise="counted")).macs == 0
    assert masks.price("counted").picojoules == 0
    assert "values summed up" in masks.caption()
    priced = profile(Calls(sl.nn.SpikeDrivenAttention(C), 3), x, convention="papers")
    assert "values summed up" not in priced.caption()

    second = profile(Calls(sl.nn.SpikeDrivenAttention(C, "SDSA-2"), 2), x[..., : 2 * C])
    assert second.price("papers").acs == int(q.sum()) / B
    attention = sl.nn.QKTokenAttention(C, 2)
    tokens = profile(attention, x[..., :C])
    total = next(row for row in tokens.elementwise if row.kind == "sum")
    rate = total.effective_total / total.dense_total
    assert total.dense_total == T * B * N * C
    sums = tokens.price("papers").acs - tokens.price(Convention(operations="rate", first="once")).acs
    assert sums == pytest.approx(T * rate * N * C)


def test_gates_of_graded_values_are_products() -> None:
    x = torch.rand(4, 2, 3, 5, 5, generator=torch.Generator().manual_seed(1)) + 0.1
    net = nn.Sequential(sl.nn.TemporalAttention(4, 2), sl.IF())
    gated = profile(net, x)
    (row,) = [row for row in gated.elementwise if row.kind == "product"]
    assert (row.path, row.kinds, row.dense) == ("0", ("graded", "graded"), 4 * 3 * 5 * 5)
    free, counted = gated.price("counted"), gated.price(Convention(elementwise="counted"))
    assert counted.macs - free.macs == pytest.approx(row.effective)
    assert CONVENTIONS["papers"].elementwise == "free"


@pytest.mark.parametrize("connect", ["ADD", "AND", "IAND"])
def test_residuals(connect: str) -> None:
    """Sums of residuals are free in all conventions; the others are masks, and free, too."""
    net = nn.Sequential(sl.IF(v_threshold=0.5), sl.nn.Residual(nn.Sequential(sl.IF()), connect=connect))
    measured = profile(net, spikes(3, 2, 6))
    kinds = [(row.kind, row.kinds) for row in measured.elementwise]
    assert kinds == ([] if connect == "ADD" else [("product", ("binary", "binary"))])
    assert measured.price(Convention(elementwise="counted", sums="counted")).picojoules == 0


def test_fourier_transforms_are_named() -> None:
    measured = profile(nn.Sequential(sl.nn.S4D(3, 4), sl.LIF()), torch.rand(8, 2, 3))
    assert measured.transformed == ("0",)
    assert "Fourier transforms in 0" in measured.caption()
    assert profile(nn.Sequential(sl.LIF()), torch.rand(8, 2, 3)).transformed == ()
