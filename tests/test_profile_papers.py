"""Energies by the recipes of papers, recounted with hooks and formulas of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.measure import Convention, profile

MAC, AC = 4.6, 0.9


@pytest.mark.parametrize(
    ("macs", "acs", "millijoules", "within"),
    [
        # Spikingformer: the first convolution in each of four steps, and the head once
        (4 * 64 * 27 * 224**2 + 512 * 1000, 6.5175e9, 7.4635, 2e-4),
        (4 * 96 * 27 * 224**2 + 768 * 1000, 12.5137e9, 13.6589, 2e-4),
        (15.4e9, 0, 70.84, 1e-9),  # Swin-B, 224
        (47.0e9, 0, 216.20, 1e-9),  # Swin-B, 384
        (2.92e7, 0, 0.13432, 1e-5),  # E-3DSNN T, S and L, as dense networks
        (6.52e7, 0, 0.29992, 1e-5),
        (4.58e8, 0, 2.1068, 1e-4),
    ],
)
def test_published_energies(macs: float, acs: float, millijoules: float, within: float) -> None:
    assert Convention().energy(macs, acs).millijoules == pytest.approx(millijoules, abs=within)


class Recount:
    """Mean input times FLOPs of every convolution and linear layer, and what flows into attention."""

    def __init__(self, net: nn.Module) -> None:
        self.layers: dict[str, tuple[float, float, bool]] = {}
        self.seen: dict[str, Tensor] = {}
        for name, module in net.named_modules():
            if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)):
                module.register_forward_hook(self.layer(name))
            if isinstance(module, (sl.nn.QKTokenAttention, sl.nn.SpikingSelfAttention)):
                part, inner = (
                    (module.attention, True)
                    if isinstance(module, sl.nn.QKTokenAttention)
                    else (module.qkv, False)
                )
                part.register_forward_hook(self.keep(name, inner))

    def layer(self, name: str) -> Any:
        def hook(module: Any, given: tuple[Tensor], out: Tensor) -> None:
            x = given[0].double()
            if isinstance(module, nn.Linear):
                flops = x.numel() * module.out_features
            else:
                flops = out.numel() * module.weight[0].numel()
            binary = set(x.unique().tolist()) <= {0.0, 1.0}
            self.layers[name] = flops, float(x.mean()), binary

        return hook

    def keep(self, name: str, given: bool) -> Any:
        def hook(module: Any, x: tuple[Tensor], out: Tensor) -> None:
            self.seen[name] = (x[0] if given else out).double()

        return hook


def test_qkformer_by_its_formula() -> None:
    """E = E_AC (sum of SOP_conv from the second on + SOP_QKTA + SOP_SSA) + E_MAC FLOP_conv1."""
    torch.manual_seed(0)
    T, B, dim, heads = 3, 2, 32, 4
    net = sl.create_model("qkformer_4_384_cifar10", dim=dim, heads=heads, image_size=16, T=T).eval()
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
            nn.init.constant_(module.weight, 2.0)
    x = torch.rand(B, 3, 16, 16)
    with torch.no_grad():
        net.train()(x)  # norms learn what flows, so that it spikes
    counted = Recount(net)
    found = profile(net, x)
    assert found.firing_rate > 0.05

    first, *rest = counted.layers.values()
    macs, acs = first[0], 0.0
    for flops, rate, binary in rest:
        if binary:
            acs += rate * flops
        else:
            macs += flops
    attentions = dict(net.named_modules())
    kinds = []
    for name, kept in counted.seen.items():
        module = attentions[name]
        kinds.append(type(module).__name__)
        if isinstance(module, sl.nn.QKTokenAttention):
            acs += float(kept.sum())  # of Q, a head each: T fr N D
        else:
            n, d = kept.shape[2], dim // heads
            assert n > d
            q, k, v = (float(part.mean()) for part in kept.chunk(3, -1))
            acs += B * T * heads * n * d * d * (min(k, v) + q)
    assert kinds == ["QKTokenAttention"] * 2 + ["SpikingSelfAttention"] * 2
    assert acs > 0
    energy = found.price("papers")
    assert energy.acs == pytest.approx(acs / B)
    assert energy.macs == pytest.approx(macs / B)
    assert energy.picojoules == pytest.approx((MAC * macs + AC * acs) / B)
    again = found.price("spikingformer")
    assert again.macs - energy.macs == pytest.approx((T - 1) * first[0] / B)
    assert again.acs == energy.acs


def test_integer_spikes_by_expanded_steps() -> None:
    """E-3DSNN and I-LIF: E = E_AC FLOPs T D fr, with fr over T x D steps of spikes of one."""
    T, B, D = 3, 2, 4
    torch.manual_seed(0)
    neuron, linear = sl.ILIF(levels=D), nn.Linear(6, 5)
    x = 2 * torch.randn(T, B, 6) + 1
    with torch.no_grad():
        s = neuron(x)
    assert set(s.unique().tolist()) > {0.0, 1.0}
    expanded = torch.stack([(s > d).float() for d in range(D)])  # one after the other, s of D are ones
    rate = float(expanded.double().mean())
    found = profile(nn.Sequential(neuron, sl.PerStep(linear)), x)
    by = Convention(operations="rate", integer="levels")
    assert found.price(by).acs == pytest.approx(6 * 5 * T * D * rate)
    assert found.price(Convention(integer="levels")).acs == pytest.approx(6 * 5 * T * D * rate)
    assert found.price(Convention(integer="ac")).acs == pytest.approx(5 * int(torch.count_nonzero(s)) / B)
    assert found.price(Convention()).macs == 6 * 5 * T


def test_rates_of_spikformer_and_spikingformer_differ_by_the_rule_for_integers() -> None:
    """A residual of spikes makes the next layer's input whole numbers: accumulates, or not."""
    torch.manual_seed(0)
    block = sl.nn.Residual(nn.Sequential(sl.LIF(v_threshold=0.1)))
    net = nn.Sequential(sl.LIF(v_threshold=0.2), block, sl.PerStep(nn.Linear(8, 8)))
    found = profile(net, torch.rand(4, 2, 8))
    layer = found.rows[-1]
    assert layer.input == "integer"
    costs = {
        rule: found.price(Convention(integer=rule)).picojoules  # type: ignore[arg-type]
        for rule in ("mac", "ac", "levels")
    }
    assert costs["mac"] == pytest.approx(MAC * layer.dense)
    assert costs["ac"] == pytest.approx(AC * layer.effective)
    assert costs["levels"] == pytest.approx(AC * layer.levels)
    assert costs["ac"] < costs["levels"] < costs["mac"]
