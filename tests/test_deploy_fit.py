"""Whether networks fit devices, against figures worked out by hand; changes, by making them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import spikeloom as sl
from spikeloom.cli import main
from spikeloom.deploy.fitting import Fit, Target, fit, list_targets, load_target
from spikeloom.deploy.fitting.layer import on_grid
from spikeloom.names import UnknownName
from spikeloom.nn.quantise import to_grid

DEFAULT: dict[tuple[str, str], Any] = {
    ("0.0", "out_channels"): 8,
    ("0.0", "kernel_size"): 3,
    ("0.0", "stride"): 1,
    ("0.0", "padding"): 1,
    ("2.1", "pool"): 2,
    ("2.1", "out_channels"): 16,
    ("2.1", "groups"): 1,
    ("4.2", "out_features"): 10,
    ("4.2", "pool"): 1,
}


def build(spec: dict[tuple[str, str], Any], size: int = 16) -> tuple[nn.Module, torch.Tensor]:
    """Return a network of convolution, neurons, pooling, convolution, neurons, linear layer, neurons."""
    torch.manual_seed(0)
    s = {**DEFAULT, **spec}
    first, second = s["0.0", "out_channels"], s["2.1", "out_channels"]
    options = {name: s["0.0", name] for name in ("kernel_size", "stride", "padding")}
    layers = [
        sl.PerStep(nn.Conv2d(2, first, **options)),
        sl.LIF(),
        sl.PerStep(
            nn.AvgPool2d(s["2.1", "pool"]), nn.Conv2d(first, second, 3, padding=1, groups=s["2.1", "groups"])
        ),
        sl.LIF(),
    ]
    x = torch.rand(1, 1, 2, size, size)
    pool = nn.AvgPool2d(s["4.2", "pool"])
    wide = sl.PerStep(pool)(nn.Sequential(*layers)(x)).shape[2:].numel()
    last = sl.PerStep(pool, nn.Flatten(), nn.Linear(wide, s["4.2", "out_features"]))
    net = nn.Sequential(*layers, last, sl.LIF())
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if name.endswith("weight") and s.get(("", "bits"), 8) == 8:
                whole, scale = to_grid(weight, 8)
                weight.copy_(whole * scale)
    return net.eval(), x


def broken(found: Fit) -> list[tuple[str, str]]:
    return [(need.path, need.what) for need in found.needs if not need.fits]


BREAKS: list[tuple[dict[tuple[str, str], Any], int, str, Any]] = [
    ({("0.0", "kernel_size"): 17, ("0.0", "padding"): 7}, 16, "kernel", 16),
    ({("0.0", "stride"): 3}, 16, "stride", 4),
    ({("0.0", "padding"): 8, ("0.0", "kernel_size"): 15}, 16, "padding", 7),
    ({("2.1", "pool"): 3}, 16, "pooling before it", 4),
    ({("2.1", "groups"): 2}, 16, "groups", 1),
    # 20 x 64 x 64 neurons are more than any core's 65536; 16 of them are as many
    ({("0.0", "out_channels"): 20, ("2.1", "pool"): 4}, 64, "words of weights, neurons", 16),
    # 16 * 2^(4 + 9) words are more than any core's 65536
    (
        {("2.1", "out_channels"): 512, ("0.0", "out_channels"): 16, ("2.1", "pool"): 4},
        16,
        "words of weights, neurons",
        256,
    ),
    ({("0.0", "stride"): 1}, 100, "output size", 2),
]


@pytest.mark.parametrize(("spec", "size", "what", "value"), BREAKS)
def test_one_limit_of_speck_breaks_and_its_change_mends_it(
    spec: dict[tuple[str, str], Any], size: int, what: str, value: Any
) -> None:
    found = fit(*build(spec, size), "speck")
    need = next(need for need in found.needs if not need.fits)
    assert need.what == what
    assert need.change is not None
    assert need.change.value == value
    mended = dict(spec)
    for _ in range(3):  # what follows from a change, as fewer inputs of the next layer, may need one, too
        for change in found.changes:
            mended[change.path, change.attribute] = change.value
        found = fit(*build(mended, size), "speck")
    assert found, str(found)
    # and nothing less does
    less = {"kernel": 1, "padding": 1, "words of weights, neurons": 1, "output size": -1}.get(what)
    if less is not None:
        key = (need.change.path, need.change.attribute)
        assert not fit(*build({**mended, key: value + less}, size), "speck")


def test_it_fits_and_says_where() -> None:
    net, x = build({})
    found = fit(net, x, "speck")
    assert found.fits
    assert bool(found)
    assert broken(found) == []
    assert sorted(found.cores) == ["0.0", "2.1", "4.2"]
    assert len(set(found.cores.values())) == 3
    # 8 channels of 3 x 3 to 16: 8 * 2^(4 + 4) words; 16 x 8 x 8 neurons
    words = {n.path: n.needs for n in found.needs if n.what == "words of weights, neurons"}
    assert words["2.1"] == "2048 and 1024"
    # a linear layer behind 16 maps of 8 x 8 is a convolution of kernel 8: 16 * 2^(6 + 4) words
    assert words["4.2"] == "16384 and 10"
    assert "fits: Speck" in str(found)
    plain, _ = build({("", "bits"): 32})
    assert {what for _, what in broken(fit(plain, x, "speck"))} == {"weight bits"}


def test_layers_find_the_cores_that_are_large_enough() -> None:
    def chain(count: int, width: int) -> nn.Module:
        layers: list[nn.Module] = []
        for _ in range(count):
            layers += [sl.PerStep(nn.Conv2d(width, width, 3, padding=1, bias=False)), sl.IF()]
        return nn.Sequential(*layers).eval()

    # 32 * 2^(4 + 5) words: any core; 64 * 2^(4 + 6) = 65536: two cores alone
    for count, width, room in ((9, 32, 9), (10, 32, 9), (2, 64, 2), (3, 64, 2)):
        net = chain(count, width)
        for weight in net.parameters():
            weight.data.sign_()
        found = fit(net, torch.rand(1, 1, width, 4, 4), "speck")
        assert bool(found) == (count <= room)
        assert sum(core is not None for core in found.cores.values()) == min(count, room)
        if count > room:
            assert found.changes[0].value == room
            assert (
                fit(chain(room, width), torch.rand(1, 1, width, 4, 4), "speck").changes[0].attribute == "bits"
            )


def test_what_speck_has_not() -> None:
    x = torch.rand(1, 1, 2, 8, 8)
    conv = nn.Conv2d(2, 2, 3, padding=1)
    net = nn.Sequential(
        sl.PerStep(conv, nn.MaxPool2d(2)), sl.LIF(), sl.Recurrent(sl.LIF(), nn.Conv2d(2, 2, 1))
    )
    found = broken(fit(net.eval(), x, "speck"))
    assert {("0.0", "pooling before its neurons"), ("0.1", "operation"), ("2", "recurrence")} <= set(found)
    block = nn.Sequential(sl.IF(), sl.nn.Residual(sl.PerStep(nn.Conv2d(2, 2, 1))), sl.IF())
    assert ("2", "operation") in broken(fit(block.eval(), x, "speck"))
    both = nn.Sequential(sl.nn.Residual(sl.PerStep(conv), sl.PerStep(nn.Conv2d(2, 2, 1))), sl.IF())
    assert ("1", "synapses into its neurons") in broken(fit(both.eval(), x, "speck"))
    assert ("1", "synapses into its neurons") not in broken(fit(both.eval(), x, "loihi2"))


def dense(wide: int, out: int, tau: float) -> nn.Module:
    recurrent = sl.Recurrent(sl.LIF(tau=tau), nn.Linear(wide, wide))
    net = nn.Sequential(
        sl.PerStep(nn.Linear(16, wide)), recurrent, sl.PerStep(nn.Linear(wide, out)), sl.LIF()
    )
    for p in net.parameters():
        p.data.sign_()
    return net.eval()


def test_xylo_counts_neurons_and_leaks_by_shifts() -> None:
    x = torch.rand(2, 1, 16)
    assert fit(dense(1000, 8, 4.0), x, "xylo")
    found = fit(dense(1003, 9, 5.0), x, "xylo")
    assert {(c.path, c.attribute, c.value) for c in found.changes} == {
        ("0.0", "out_features", 1000),
        ("2.0", "out_features", 8),
        ("1", "tau", 4.0),
    }
    assert [n.needs for n in found.needs if not n.fits] == [5.0, 1003, 9]


def test_cores_that_share_a_layer() -> None:
    x = torch.rand(1, 1, 4000)
    net = nn.Sequential(sl.PerStep(nn.Linear(4000, 4000, bias=False)), sl.IF()).eval()
    net[0][0].weight.data.sign_()
    # 16,000,000 weights, 937,500 a core; a byte each, and 4 a state, of 131,072 bytes
    assert fit(net, x, "loihi2").cores == {"0.0": 18}
    assert fit(net, x, "spinnaker2").cores == {"0.0": 123}
    wide = nn.Sequential(sl.PerStep(nn.Linear(5000, 5, bias=False)), sl.IF()).eval()
    found = fit(wide, torch.rand(1, 1, 5000), "loihi2")
    assert ("0.0", "in_features", 4096) in [(c.path, c.attribute, c.value) for c in found.changes]
    small = Target(
        "small", "Small", "a test", ["Linear"], cores=load_target("loihi2").cores.__class__(2, weights=100)
    )
    layer = nn.Sequential(sl.PerStep(nn.Linear(10, 30, bias=False)), sl.IF()).eval()
    change = fit(layer, torch.rand(1, 1, 10), small).changes[0]
    assert (change.path, change.attribute, change.value) == ("0.0", "out_features", 20)


def test_weights_on_a_grid() -> None:
    w = torch.randn(4, 5)
    assert not on_grid(w, 8)
    whole, scale = to_grid(w, 4)
    assert on_grid(whole * scale, 4)
    assert not on_grid(whole * scale, 2)


def test_targets_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list_targets() == ["loihi2", "speck", "spinnaker2", "xylo"]
    assert all(load_target(name).source for name in list_targets())
    with pytest.raises(UnknownName, match="did you mean 'speck'"):
        load_target("spek")
    file = tmp_path / "own.yaml"
    text = "name: own\ntitle: Own\nsource: me\nlayers: [Linear]\ntotal: {hidden: 10, outputs: 10}\n"
    file.write_text(text)
    assert load_target(file).total.hidden == 10
    for bad, message in {
        text + "limits: {kernle: 3}": "kernel",
        text + "weight_bits: -1": "negative",
        text + "cores: {count: many}": "int is needed",
        "name: own": "no target",
        "[": "cannot be read",
    }.items():
        (tmp_path / "bad.yaml").write_text(bad)
        with pytest.raises(ValueError, match=message):
            load_target(tmp_path / "bad.yaml")
    with pytest.raises(ValueError, match="cannot be read"):
        load_target(tmp_path / "none.yaml")
    assert main(["fit", "dense_snn", "--target", str(file), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["fits"] is False
    assert any(need["change"] and need["what"] == "hidden neurons" for need in told["needs"])
    file.write_text(text.replace("hidden: 10", "hidden: 1000"))
    assert main(["fit", "dense_snn", "--target", str(file)]) == 0
    assert "fits: Own" in capsys.readouterr().out
    assert main(["fit", "dense_snn", "--target", "xilo"]) == 2
