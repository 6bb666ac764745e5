"""What flows into each layer of a network, as its model card says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import spikeloom as sl
from spikeloom.models import ModelCard, save_pretrained

SMALL: dict[str, Any] = {"width": 4, "image_size": 64, "T": 3, "num_classes": 5}


def firing(name: str, **more: Any) -> nn.Module:
    """Return a network in which spikes reach every layer."""
    torch.manual_seed(0)
    net = sl.create_model(name, **{**SMALL, **more})
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 0.5)
    return net.eval()


def inputs(net: nn.Module) -> tuple[dict[str, str], dict[str, str]]:
    """Return what flows into the convolutions behind the stem, and into the rest."""
    profile = sl.measure.profile(net, torch.rand(2, 3, 64, 64))
    for row in profile.rows:
        assert not row.kinds or row.densities[0] > 0, row.path
    found = profile.inputs
    behind = {path: kind for path, kind in found.items() if path.startswith("stages")}
    return behind, {path: kind for path, kind in found.items() if path not in behind}


def test_sew_resnet_by_its_connection() -> None:
    added, rest = inputs(firing("sew_resnet18", connect="ADD"))
    # 16 convolutions in blocks, 3 in shortcuts
    assert len(added) == 19
    assert rest == {"stem.0": "graded", "head.linear": "graded"}  # pixels, and means over places
    whole = {path for path, kind in added.items() if kind == "integer"}
    # behind a sum of spikes lie the first convolution of a block and its shortcut
    assert whole == {path for path in added if "branch.0" in path or "shortcut" in path} - {
        "stages.0.1.0.branch.0.0.0"
    }
    assert set(added.values()) == {"binary", "integer"}
    for connect in ("IAND", "AND", "none"):
        name = "spiking_resnet18" if connect == "none" else "sew_resnet18"
        spikes, _ = inputs(firing(name, connect=connect))
        assert set(spikes.values()) == {"binary"}, connect


def test_relu_is_graded() -> None:
    behind, _ = inputs(firing("sew_resnet18", neuron="ReLU"))
    assert set(behind.values()) == {"graded"}


def test_the_card_says_it(tmp_path: Path) -> None:
    net = firing("sew_resnet18", connect="IAND")
    card = ModelCard.of(net, "iand", torch.rand(2, 3, 64, 64))
    text = card.markdown()
    assert "## What flows into each layer" in text
    assert "19 of 21 layers took spikes alone." in text
    assert "| stages.0.1.0.branch.0.0.0 | binary |" in text
    assert "| stem.0 | graded |" in text
    assert card.operations is not None
    assert card.operations.samples == 2
    assert card.firing_rate == pytest.approx(
        sl.measure.profile(net, torch.rand(2, 3, 64, 64)).firing_rate, rel=0.2
    )
    save_pretrained(net, tmp_path / "net", card)
    assert text == (tmp_path / "net" / "README.md").read_text()


def test_nothing_is_said_where_nothing_was_measured() -> None:
    net = firing("sew_resnet18")
    assert "flows" not in ModelCard.of(net, "unmeasured").markdown()
    assert "flows" not in ModelCard("bare").markdown()


def test_layers_that_nothing_reached_are_not_called_pure() -> None:
    net = sl.create_model("sew_resnet18", **SMALL, neuron_options={"v_threshold": 1e3}).eval()
    x = torch.rand(2, 3, 64, 64)
    behind = [kind for path, kind in sl.measure.profile(net, x).inputs.items() if path != "stem.0"]
    assert set(behind) == {"zeros"}
    text = ModelCard.of(net, "silent", x).markdown()
    assert "0 of 21 layers took spikes alone; 20 saw nothing but zeros, which tells nothing of them." in text


def test_a_network_whose_first_layer_alone_sees_other_values() -> None:
    card = ModelCard("net", inputs={"stem": "graded", "attention": "binary x binary", "head": "binary"})
    assert "2 of 3 layers took spikes alone, all but stem, which takes the input." in card.markdown()
    mixed = ModelCard("net", inputs={"stem": "graded", "attention": "binary x integer", "head": "binary"})
    assert "1 of 3 layers took spikes alone." in mixed.markdown()
