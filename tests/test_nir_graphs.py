"""Graphs of NIR with loops, delays and parts; and those that cannot run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest
import torch
from torch import nn

import spikeloom as sl
from spikeloom.announce import SpikeloomWarning
from spikeloom.deploy.nir import files as nir_files
from spikeloom.deploy.nir.units import NirError

DT = 1e-3


@pytest.fixture(autouse=True)
def _truth() -> Iterator[None]:
    with sl.backend("eager"):
        yield


def graph_of(nodes: dict[str, Any], edges: list[tuple[str, str]], shape: Any = (2,), out: Any = None) -> Any:
    ends = {
        "input": nir.Input(np.array(shape)),
        "output": nir.Output(np.array(shape if out is None else out)),
    }
    return nir.NIRGraph({**ends, **nodes}, edges, type_check=False)


def lif(n: int = 2, tau: float = 0.004, **more: Any) -> Any:
    given = {"r": np.full(n, 1.5), "v_leak": np.zeros(n), "v_threshold": np.full(n, 0.6)}
    return nir.LIF(**{"tau": np.full(n, tau), "v_reset": np.zeros(n), **given, **more})


class Lif:
    """The same, by hand."""

    def __init__(self) -> None:
        self.v: Any = 0.0

    def __call__(self, x: Any) -> Any:
        self.v = self.v + 0.25 * (1.5 * x - self.v)
        s = (self.v > 0.6).astype(float)
        self.v = (1 - s) * self.v
        return s


W = np.array([[0.0, 0.9], [-0.7, 0.4]])
X = np.random.default_rng(0).uniform(0, 1.2, (60, 3, 2))


def run(graph: Any, **options: Any) -> Any:
    return sl.from_nir(graph, **{"dt": DT, **options})(torch.from_numpy(X).float()).detach().numpy()


def test_a_loop_of_one_neuron_is_recurrent() -> None:
    edges = [("input", "a"), ("a", "w"), ("w", "a"), ("a", "output")]
    graph = graph_of({"a": lif(), "w": nir.Affine(W, np.array([0.1, 0.0]))}, edges)
    net = sl.from_nir(graph, dt=DT)
    assert isinstance(net.layers["a"], sl.Recurrent)
    a, s, wanted = Lif(), np.zeros((3, 2)), []
    for x in X:
        s = a(x + s @ W.T + [0.1, 0.0])
        wanted.append(s)
    np.testing.assert_array_equal(run(graph), wanted)
    assert np.mean(wanted) > 0.05


def test_a_loop_of_two_neurons_runs_step_by_step() -> None:
    nodes = {"a": lif(), "w": nir.Linear(W), "b": lif(), "u": nir.Linear(-W)}
    edges = [("input", "a"), ("a", "w"), ("w", "b"), ("b", "u"), ("u", "a"), ("b", "output"), ("input", "b")]
    graph = graph_of(nodes, edges)
    a, b, s, wanted = Lif(), Lif(), np.zeros((3, 2)), []
    for x in X:  # b is heard by a a step later; a by b at once
        s = b(a(x - s @ W.T) @ W.T + x)
        wanted.append(s)
    with pytest.warns(SpikeloomWarning, match="step by step"):
        np.testing.assert_array_equal(run(graph), wanted)
    assert np.mean(wanted) > 0.05
    net, x = sl.from_nir(graph, dt=DT), torch.from_numpy(X).float()
    stream = sl.Stream(net)
    assert torch.equal(torch.cat([stream(part) for part in x.split([1, 20, 39])]), net(x))
    with pytest.warns(SpikeloomWarning, match="step by step"):
        assert torch.equal(sl.from_nir(sl.to_nir(net, x))(x), net(x))


@pytest.mark.filterwarnings("ignore:from_nir. the loop")
def test_a_delay_breaks_a_loop_by_itself() -> None:
    nodes = {"a": lif(), "w": nir.Linear(W), "d": nir.Delay(np.array([2, 3]) * DT)}
    graph = graph_of(nodes, [("input", "a"), ("a", "d"), ("d", "w"), ("w", "a"), ("a", "output")])
    a, said, wanted = Lif(), [np.zeros((3, 2))] * 3, []
    for x in X:
        heard = np.stack([said[-2][:, 0], said[-3][:, 1]], 1)
        said.append(a(x + heard @ W.T))
        wanted.append(said[-1])
    np.testing.assert_array_equal(run(graph), wanted)
    net, x = sl.from_nir(graph, dt=DT), torch.from_numpy(X).float()
    stream = sl.Stream(net)
    assert torch.equal(torch.cat([stream(part) for part in x.split([1, 1, 58])]), net(x))


def test_a_soft_reset_said_with_what_nir_has() -> None:
    """An integrator, a threshold, and a scale that comes back; by one neuron, or step by step."""
    nodes = {
        "i": nir.I(np.full(2, 1 / DT)),
        "t": nir.Threshold(np.full(2, 0.9)),
        "back": nir.Scale(np.full(2, -0.9)),
    }
    edges = [("input", "i"), ("i", "t"), ("t", "back"), ("back", "i"), ("t", "output")]
    assert isinstance(sl.from_nir(graph_of(nodes, edges), dt=DT).layers["t"], sl.IF)
    nodes["also"] = nir.Scale(np.zeros(2))  # another who hears the integrator
    with pytest.warns(SpikeloomWarning, match="step by step"):
        found = run(graph_of(nodes, [*edges, ("i", "also"), ("also", "output")]))
    soft = sl.IF(v_threshold=float(np.nextafter(np.float32(0.9), np.float32(1))), reset="soft")
    np.testing.assert_array_equal(found, soft(torch.from_numpy(X).float()).numpy())


@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_what_may_be_said_with_several_nodes(reset: Any, tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = nn.Sequential(
        sl.PerStep(nn.Conv2d(2, 3, 3)),
        sl.LIF(torch.tensor([1.5, 2.0, 3.0]), decay_input=False, reset=reset),
        sl.PerStep(nn.MaxPool2d(3, 2, 1), nn.Flatten(), nn.Linear(27, 6)),
        sl.Recurrent(sl.LIF(2.7, reset=reset, v_threshold=0.3), nn.Linear(6, 6)),
        sl.PerStep(nn.Linear(6, 5)),
        sl.CubaLIF(reset=reset, v_threshold=0.3),
    ).eval()
    x = torch.rand(20, 2, 2, 7, 7) * 4
    with pytest.raises(NirError, match=r"rewrite=\('(max_pool|soft_reset)',\)"):
        sl.to_nir(net, x)
    rewrite = ("max_pool", "soft_reset") if reset == "soft" else ("max_pool",)
    graph = sl.to_nir(net, x, tmp_path / "net.nir", dt=DT, rewrite=rewrite)
    again, wanted = sl.from_nir(tmp_path / "net.nir"), net(x)
    assert 0.05 < wanted.mean() < 0.9
    assert torch.equal(again(x), wanted)
    kinds = [type(node).__name__ for node in graph.nodes.values()]
    assert kinds.count("Threshold") == (4 if reset == "soft" else 1)
    neurons = [m for m in again.modules() if isinstance(m, sl.LIF)]
    assert len(neurons) == (3 if reset == "soft" else 2)
    with pytest.raises(NirError, match="its input is not spikes"):
        sl.to_nir(nn.Sequential(sl.PerStep(nn.MaxPool2d(2))).eval(), x, rewrite=("max_pool",))
    with pytest.raises(ValueError, match=r"no rewriting 'maxpool'; did you mean 'max_pool'"):
        sl.to_nir(net, x, rewrite=("maxpool",))


def test_subgraphs_are_opened(tmp_path: Path) -> None:
    inner = graph_of(
        {"lif": lif(), "w": nir.Linear(W)}, [("input", "lif"), ("lif", "w"), ("w", "lif"), ("lif", "output")]
    )
    whole = graph_of(
        {"first": nir.Linear(W), "part": inner}, [("input", "first"), ("first", "part"), ("part", "output")]
    )
    nir.write(tmp_path / "part.nir", whole)
    net = sl.from_nir(tmp_path / "part.nir", dt=DT)
    assert isinstance(net.layers["part_lif"], sl.Recurrent)
    assert torch.equal(
        net(torch.from_numpy(X).float()), sl.from_nir(whole, dt=DT)(torch.from_numpy(X).float())
    )


def test_delays_alone() -> None:
    found = run(graph_of({"d": nir.Delay(np.array([0.0, 70]) * DT)}, [("input", "d"), ("d", "output")]))
    np.testing.assert_array_equal(found[..., 0], X[..., 0].astype(np.float32))
    assert not found[..., 1].any()  # a delay beyond the end


STUCK = "neither a neuron with a membrane"
IN_OUT = [("input", "a"), ("a", "output")]


@pytest.mark.parametrize(
    ("nodes", "edges", "says"),
    [
        ({"a": nir.Linear(W), "b": nir.Linear(W)}, [*IN_OUT, ("a", "b"), ("b", "a")], STUCK),
        ({"a": nir.Scale(np.ones(2))}, [*IN_OUT, ("a", "a")], STUCK),
        ({"a": nir.Threshold(np.ones(2))}, [*IN_OUT, ("a", "a")], STUCK),
        ({"a": nir.Linear(np.array([[np.nan, 1.0], [0, 0]]))}, IN_OUT, "'a' .*weight holds .* not finite"),
        ({"a": lif(tau=np.inf)}, IN_OUT, "tau holds numbers that are not finite"),
        ({"a": lif(v_threshold=np.array([1.0, 0.0]))}, IN_OUT, r"v_threshold = 0, .* above 0"),
        ({"a": nir.Threshold(np.array([-1.0]))}, IN_OUT, "threshold = -1"),
        ({"a": lif(tau=0.0)}, IN_OUT, "time constant is above 0"),
        ({"a": lif(tau=5e-4)}, IN_OUT, "below the time step"),
        ({"a": nir.Delay(np.array([DT / 2, DT]))}, IN_OUT, "no whole number of steps"),
        ({"a": nir.Delay(np.array([-DT, DT]))}, IN_OUT, "no whole number of steps"),
        ({"a": nir.Linear(np.ones((2, 3)))}, IN_OUT, "'a'.*Linear"),
        ({"a": lif(3)}, IN_OUT, r"'a' has numbers of shape \(3,\), but its input is \(2,\)"),
        ({"a": nir.Linear(np.ones((3, 2)))}, [*IN_OUT, ("input", "output")], "lead to one node"),
        ({"a": lif()}, [("input", "a")], "nothing leads to the graph's output"),
        ({"a": lif()}, [("a", "output")], "nothing leads to node 'a'"),
        ({"a": lif()}, [*IN_OUT, ("a", "b")], "no node 'b'"),
        ({"a": lif()}, [*IN_OUT, ("input", "a")], "two edges"),
        ({"a": lif(), "two": nir.Input(np.array([2]))}, IN_OUT, "2 nodes of class Input"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:from_nir. the loop")
def test_graphs_that_cannot_run(nodes: Any, edges: Any, says: str) -> None:
    with pytest.raises(NirError, match=says):
        sl.from_nir(graph_of(nodes, edges), dt=DT)


class Unknown(nir.NIRNode):
    def __init__(self) -> None:
        self.input_type = self.output_type = {"input": np.array([2])}


def test_unknown_nodes_and_arguments() -> None:
    with pytest.raises(NirError, match="'a' is a Unknown, which from_nir does not know"):
        sl.from_nir(graph_of({"a": Unknown()}, IN_OUT))
    good = graph_of({"a": lif()}, IN_OUT)
    for options in (
        {"dt": 0.0},
        {"dt": np.nan},
        {"fires": ">>"},
        {"discretisation": "heun"},
        {"reset": "no"},
    ):
        with pytest.raises(ValueError, match=r"dt = |comparison|discretisation|reset = "):
            sl.from_nir(good, **{"dt": DT, **options})
    with pytest.raises(NirError, match="or the path of a file"):
        sl.from_nir(3)


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "net.nir"
    net = nn.Sequential(sl.PerStep(nn.Linear(2, 2)), sl.LIF()).eval()
    x = torch.from_numpy(X).float()
    sl.to_nir(net, x, path)
    whole = path.read_bytes()
    damaged = tmp_path / "damaged.nir"
    for content in (b"", b"no graph", whole[:1000], whole[: len(whole) - 100]):
        damaged.write_bytes(content)
        with pytest.raises(NirError, match=r"damaged.nir .*(cannot be read|no graph)"):
            sl.from_nir(damaged)
    with pytest.raises(NirError, match="is no file"):
        sl.from_nir(tmp_path / "none.nir")
    with h5py.File(path, "r+") as file:
        del file["node/nodes/1/type"]
        file["node/nodes/1/type"] = "Izhikevich"
    with pytest.raises(NirError, match="node '1' is a 'Izhikevich'"):
        sl.from_nir(path)
    with h5py.File(path, "r+") as file:
        del file["node"]
    with pytest.raises(NirError, match="no group 'node'"):
        sl.from_nir(path)


def test_nothing_is_written_halfway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, x = tmp_path / "net.nir", torch.zeros(1, 1, 2)
    path.write_text("before")

    def half(part: str, graph: Any) -> None:
        Path(part).write_text("half")
        raise OSError("no space left")

    monkeypatch.setattr(nir, "write", half)
    with pytest.raises(NirError, match="cannot be written: no space left"):
        sl.to_nir(sl.LIF().eval(), x, path)
    assert [p.name for p in tmp_path.iterdir()] == ["net.nir"]
    assert path.read_text() == "before"
    monkeypatch.undo()
    with pytest.raises(NirError, match="cannot be written"):
        nir_files.write_nir(tmp_path / "no" / "net.nir", sl.to_nir(sl.LIF().eval(), x))


class Product(nn.Module):
    def forward(self, x: Any) -> Any:
        return x @ x.transpose(-1, -2)


class Middle(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.mean(0) * 2.0


def broken() -> nn.Module:
    layer = nn.Linear(2, 2)
    nn.init.constant_(layer.weight, torch.nan)
    return layer


@pytest.mark.parametrize(
    ("net", "shape", "says"),
    [
        (sl.LIF(reset="soft"), (2,), "LIF '0': its reset is soft.*reset='hard'"),
        (sl.CubaLIF(), (2,), "CubaLIF '0': its reset is soft"),
        (sl.LIF(v_threshold=-1.0), (2,), "its threshold is -1"),
        (sl.ALIF(reset="hard"), (2,), "ALIF '0'"),
        (sl.NoisyLIF(), (2,), "NoisyLIF '0': it takes a further input"),
        (sl.PerStep(nn.MaxPool2d(2)), (1, 4, 4), r"MaxPool2d '0.0': NIR has no max pooling.*threshold"),
        (sl.PerStep(nn.AvgPool2d(2, ceil_mode=True)), (1, 5, 5), "ceil_mode"),
        (sl.PerStep(nn.AvgPool2d(2, padding=1, count_include_pad=False)), (1, 4, 4), "count_include_pad"),
        (sl.PerStep(nn.AvgPool2d(2, divisor_override=3)), (1, 4, 4), "divides by 3"),
        (sl.PerStep(nn.AdaptiveAvgPool2d(3)), (1, 4, 4), "of several sizes"),
        (sl.PerStep(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")), (1, 4, 4), "'reflect'"),
        (sl.nn.PerToken(nn.Linear(4, 4)), (3, 4), r"takes? one; over \[channels, tokens\]"),
        (sl.PerStep(broken()), (2,), "Linear '0.0': its weight holds numbers that are not finite"),
        (sl.PerStep(nn.Linear(2, 2), nn.ReLU()), (2,), "ReLU '0.1': it is none of NIR's nodes"),
        (Product(), (2, 3), "Product '0': it is none of NIR's nodes"),
        (Middle(), (2,), "no time axis"),
        (sl.nn.Residual(sl.IF(), connect="IAND"), (2,), r"rsub\(\) in '0'"),
        (sl.Recurrent(sl.LIF(), nn.Sequential(nn.Linear(2, 2), nn.Tanh())), (2,), "synapse holds Tanh"),
    ],
)  # fmt: skip
def test_what_nir_cannot_say(net: nn.Module, shape: tuple[int, ...], says: str, tmp_path: Path) -> None:
    with pytest.raises(NirError, match=says):
        sl.to_nir(nn.Sequential(net).eval(), torch.rand(3, 2, *shape), tmp_path / "net.nir")
    assert not list(tmp_path.iterdir())


def test_the_older_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    """nir 1.0.4 has no v_reset: 0 is noted in the metadata, anything else refused."""

    class Older(nir.IF):
        def __init__(self, r: Any, v_threshold: Any, metadata: Any = None) -> None:
            super().__init__(r, v_threshold, metadata=metadata or {})

    Older.__name__ = "IF"
    monkeypatch.setattr(nir, "IF", Older)
    x = torch.from_numpy(X).float()
    with pytest.warns(SpikeloomWarning, match="no field for a reset"):
        graph = sl.to_nir(sl.IF().eval(), x)
    assert graph.nodes["IF"].metadata["reset"] == "hard"
    assert torch.equal(sl.from_nir(graph)(x), sl.IF()(x))
    with pytest.raises(NirError, match="no v_reset in IF"):
        sl.to_nir(sl.IF(v_reset=-1.0).eval(), x)
