"""Graphs that other libraries wrote, against the outputs that their own networks gave (tests/data/nir)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch

import spikeloom as sl
from spikeloom.deploy.nir.units import NirError

FOLDER = Path(__file__).parent / "data" / "nir"
SNNTORCH = {"dt": 1e-4}
NORSE = {"dt": 1e-6, "reset": "hard"}  # it writes dt tau for tau, with its dt of 1e-3
SINABS = {"dt": 1.0, "discretisation": "exponential", "fires": ">=", "reset": "soft"}
HOW: dict[str, dict[str, Any]] = {
    "snntorch_zero": SNNTORCH,
    "snntorch_subtract": {**SNNTORCH, "reset": "soft"},
    "snntorch_recurrent": SNNTORCH,
    "norse": NORSE,
    "norse_if": {"dt": 1.0, "reset": "hard"},  # its IAF has no dt
    "sinabs": SINABS,
    "spikingjelly": {"dt": 1e-3, "fires": ">="},
}


@pytest.fixture(autouse=True)
def _truth() -> Iterator[None]:
    with sl.backend("eager"):
        yield


def recorded(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    with np.load(FOLDER / f"{name}.npz") as file:
        return torch.from_numpy(file["x"]), torch.from_numpy(file["y"])


@pytest.mark.parametrize("name", HOW)
def test_the_same_spikes(name: str) -> None:
    x, wanted = recorded(name)
    net = sl.from_nir(FOLDER / f"{name}.nir", **HOW[name])
    found = net(x)
    assert wanted.abs().mean() > 1e-3
    if name == "norse":  # it ends with membranes
        torch.testing.assert_close(found, wanted)
    else:
        assert 0.02 < wanted.mean() < 0.6
        assert torch.equal(found, wanted)
    kinds = {type(module).__name__ for module in net.modules()}
    expected = {"norse_if": "IF", "norse": "NirLIF", "snntorch_recurrent": "Recurrent"}
    assert expected.get(name, "LIF") in kinds
    if HOW[name].get("reset") != "soft":  # and back, to a file of ours
        assert torch.equal(sl.from_nir(sl.to_nir(net, x))(x), found)


def numbers(name: str) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """Return what a file's linear layer makes of x, the recorded spikes, and the neuron's node."""
    x, wanted = recorded(name)
    graph = nir.read(FOLDER / f"{name}.nir")
    affine = next(n for n in graph.nodes.values() if isinstance(n, nir.Affine))
    neuron = next(n for n in graph.nodes.values() if isinstance(n, (nir.LIF, nir.IF)))
    weight, bias = (torch.from_numpy(np.asarray(v)).float() for v in (affine.weight, affine.bias))
    return torch.nn.functional.linear(x, weight, bias), wanted, neuron


def test_snntorch_as_it_comes_resets_a_step_late() -> None:
    current, wanted, node = numbers("snntorch_late")
    beta = 1 - 1e-4 / torch.from_numpy(node.tau).float()
    threshold = torch.from_numpy(node.v_threshold).float()
    v, spikes = torch.zeros_like(current[0]), []
    for x in current:  # after its code: what is subtracted was not there to decay
        v = beta * v + x - (v > threshold) * threshold
        spikes.append((v > threshold).float())
    assert torch.equal(torch.stack(spikes), wanted)
    net = sl.from_nir(FOLDER / "snntorch_late.nir", dt=1e-4, reset="soft")
    differ = (net(recorded("snntorch_late")[0]) != wanted).float().mean()
    assert 0 < differ < 0.2


def test_sinabs_as_it_comes_fires_many_spikes_a_step() -> None:
    current, wanted, node = numbers("sinabs_many")
    threshold = torch.from_numpy(np.asarray(node.v_threshold)).float()
    v, spikes = torch.zeros_like(current[0]), []
    for x in current:
        v = v + x
        many = (v / threshold).floor().clamp(min=0)
        v = v - many * threshold
        spikes.append(many)
    assert torch.equal(torch.stack(spikes), wanted)
    assert wanted.max() > 1
    assert sl.from_nir(FOLDER / "sinabs_many.nir", **SINABS)(recorded("sinabs_many")[0]).max() == 1


def test_what_their_files_do_not_say_is_asked_for() -> None:
    with pytest.raises(NirError, match=r"nothing says how long a step is.*1e-4 for graphs of snnTorch"):
        sl.from_nir(FOLDER / "snntorch_zero.nir")
    with pytest.raises(NirError, match=r"does not say what it is reset to.*reset='soft'.*Sinabs"):
        sl.from_nir(FOLDER / "sinabs.nir", dt=1.0)
    with pytest.raises(NirError, match=r"below the time step dt = 0.01 s.*exponential"):
        sl.from_nir(FOLDER / "snntorch_zero.nir", dt=1e-2)
