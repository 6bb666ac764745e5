"""Programs of torch.export: with the loop as one operator, and of torch's operators alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import spikeloom as sl
from spikeloom.deploy.torch_export import load_torch, to_torch

ALONE = """
import sys, torch
program = torch.export.load(sys.argv[1])
x, y = torch.load(sys.argv[2], weights_only=True)
assert torch.equal(program.module()(x), y)
assert "spikeloom" not in sys.modules
print("equal")
"""


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        sl.PerStep(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)),
        sl.LIF(tau=torch.rand(4) + 1.5),
        sl.PerStep(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 5)),
        sl.Recurrent(sl.ALIF(v_threshold=0.1), nn.Linear(5, 5)),
    ).eval()


def test_the_loop_is_kept(tmp_path: Path) -> None:
    net, x, path = network(), 3 * torch.rand(1, 1, 2, 4, 4), tmp_path / "net.pt2"
    program = to_torch(net, x, path)
    used = {str(node.target) for node in program.graph.nodes if "spikeloom" in str(node.target)}
    assert used == {"spikeloom.weave.default", "spikeloom.recur.default"}
    loaded = load_torch(path)
    for steps, batch in ((2, 2), (7, 3)):
        z = 3 * torch.rand(steps, batch, 2, 4, 4)
        y = sl.fold(net)(z)
        assert y.std() > 0
        assert torch.equal(loaded(z), y)
    assert [p.name for p in tmp_path.iterdir()] == ["net.pt2"]
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="no program that to_torch saved"):
        load_torch(path)


def test_unrolled_it_runs_without_us(tmp_path: Path) -> None:
    net, x = network()[3:].eval(), 3 * torch.rand(3, 2, 5)
    to_torch(net, x, tmp_path / "net.pt2", loop="unrolled")
    z = torch.cat([x, x, x], 1)
    with sl.backend("eager"):
        torch.save((z, sl.fold(net)(z)), tmp_path / "data.pt")
    files = [str(tmp_path / "net.pt2"), str(tmp_path / "data.pt")]
    done = subprocess.run([sys.executable, "-c", ALONE, *files], capture_output=True, text=True)
    assert done.stdout.strip() == "equal", done.stderr


def test_what_is_refused(tmp_path: Path) -> None:
    net, x, path = network(), torch.rand(3, 2, 2, 4, 4), tmp_path / "net.pt2"
    cases: list[tuple[Any, Any, dict[str, Any], type[Exception], str]] = [
        (net, x, {"loop": "scan"}, ValueError, "take one of 'kept', 'unrolled'"),
        (net, x, {"open_axes": "C"}, ValueError, "open_axes = 'C'"),
        (net, x[0, 0, 0], {}, ValueError, "takes a sample"),
        (network().train(), x, {}, RuntimeError, "training mode"),
    ]
    for module, sample, options, kind, message in cases:
        with pytest.raises(kind, match=message):
            to_torch(module, sample, path, **options)
    assert not list(tmp_path.iterdir())
