"""Networks as graphs of NIR: against numbers worked by hand, NIR's equations in a naive loop, themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.announce import SpikeloomWarning
from spikeloom.cli import main
from spikeloom.deploy.nir.units import NirError

DT = 1e-3
SAYABLE = ("IF", "LIF", "PLIF", "LI", "CubaLIF", "ClampedLIF")


@pytest.fixture(autouse=True)
def _truth() -> Iterator[None]:
    """Run no kernels: they would take long to compile, and have tests of their own."""
    with sl.backend("eager"):
        yield


def sayable(name: str, options: dict[str, Any]) -> bool:
    return name in SAYABLE and options.get("reset") != "soft" and options.get("output", "spike") == "spike"


def stripped(graph: Any) -> Any:
    """Return a graph without metadata, as another writer's."""
    for node in graph.nodes.values():
        node.metadata = {}
    graph.metadata = {}
    return graph


# -- neurons ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", zoo.NEURONS)
def test_the_table_of_neurons_there_and_back_or_refused(name: str, tmp_path: Path) -> None:
    entry = zoo.NEURONS[name]
    if name == "DendSN":  # of several inputs, which sl.nn.Dendritic gives it
        return
    for options in entry.variants():
        if options.get("detach_reset"):
            continue
        for kind in ("scalar", "channel", "neuron"):
            neuron = entry.make(**entry.tensors(kind, [2, 3, 4], **options)).eval()
            x = entry.input(17, 2, 3, 4)
            if not sayable(name, options):
                reset = r".*soft" if options.get("reset") == "soft" and name in SAYABLE else ""
                with pytest.raises(NirError, match=f"NIR cannot say {name}{reset}"):
                    sl.to_nir(nn.Sequential(neuron).eval(), x)
                continue
            graph, wanted = sl.to_nir(neuron, x, tmp_path / "one.nir", dt=DT), neuron(x)
            assert name == "LI" or 0 < wanted.mean() < 1
            again = sl.from_nir(tmp_path / "one.nir")
            assert torch.equal(again(x), wanted)
            assert type(again.layers["net" if name not in again.layers else name]) is type(neuron)
            plain = sl.from_nir(stripped(graph), dt=DT)(x)  # without what we told ourselves
            assert torch.equal(plain > 0, wanted > 0) if name != "LI" else True
            torch.testing.assert_close(plain, wanted, rtol=1e-5, atol=1e-6)


def fields(neuron: sl.Neuron, **options: Any) -> tuple[str, dict[str, float]]:
    graph = sl.to_nir(neuron.eval(), torch.zeros(1, 1, 1), dt=DT, **options)
    (node,) = (n for n in graph.nodes.values() if not isinstance(n, (nir.Input, nir.Output)))
    names = ("tau", "tau_mem", "tau_syn", "r", "w_in", "v_leak", "v_threshold", "v_reset")
    return type(node).__name__, {k: getattr(node, k).item() for k in names if hasattr(node, k)}


def test_constants_worked_by_hand() -> None:
    below = float(np.nextafter(np.float32(1), np.float32(0)))
    assert fields(sl.LIF(4.0, v_reset=-0.5)) == (
        "LIF",
        {"tau": 0.004, "r": 1.0, "v_leak": -0.5, "v_threshold": below, "v_reset": -0.5},
    )
    assert fields(sl.LIF(4.0, decay_input=False), fires=">=")[1] == {
        "tau": 0.004, "r": 4.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0,
    }  # fmt: skip
    assert fields(sl.IF())[1]["r"] == 1 / DT
    kind, found = fields(sl.CubaLIF(0.5, 0.75, reset="hard"))
    assert (kind, found["tau_syn"], found["w_in"], found["tau_mem"], found["r"]) == (
        "CubaLIF",
        0.002,
        2,
        0.004,
        4,
    )
    kind, found = fields(sl.LI(2.0), discretisation="exponential")
    assert (kind, found["r"]) == ("LI", 1.0)
    assert found["tau"] == pytest.approx(DT / math.log(2))
    kind, found = fields(sl.ClampedLIF(2.0, v_threshold=0.25))
    assert (kind, found["v_leak"], found["v_reset"], found["r"]) == ("LIF", 0.0, 0.25, 2.0)


class Own(sl.Neuron):
    """A user's: a membrane that is 0.9 of itself, with a third of x, reset to 0.1."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = sl.param(0.7, learnable=True)

    def initial(self) -> tuple[Any, ...]:
        return (0.2,)

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        h = 0.9 * v + (x + 0.06) / 3
        s = self.spike(h - self.theta)
        return s, h - s * (h - 0.1)


def naive(node: Any, x: Any, dt: float) -> Any:
    """Run a neuron of NIR by forward Euler, as its text says, in double precision."""
    v = np.broadcast_to(
        np.asarray(getattr(node, "v_leak", getattr(node, "v_reset", 0.0)), float), x.shape[1:]
    )
    i, out = np.zeros(x.shape[1:]), []
    for x_t in x:
        given = x_t
        if hasattr(node, "tau_syn"):
            given = i = i + dt / node.tau_syn * (-i + node.w_in * x_t)
        if hasattr(node, "v_leak"):
            v = v + dt / (node.tau_mem if hasattr(node, "tau_mem") else node.tau) * (
                (node.v_leak - v) + node.r * given
            )
        else:
            v = v + dt * node.r * given
        if hasattr(node, "v_threshold"):
            z = v > node.v_threshold
            v = np.where(z, node.v_reset, v)
            out.append(z.astype(float))
        else:
            out.append(v)
    return np.stack(out)


def test_a_users_neuron_is_read_from_its_equations() -> None:
    neuron, x = Own().eval(), torch.rand(200, 2, 5) * 2
    graph = sl.to_nir(neuron, x, dt=DT)
    node = graph.nodes["Own"]
    assert isinstance(node, nir.LIF)
    assert node.v_leak[0] == pytest.approx(0.2)
    assert node.tau[0] == pytest.approx(0.01)
    wanted = neuron(x)
    assert 0.05 < wanted.mean() < 0.9
    np.testing.assert_array_equal(naive(node, x.numpy().astype(float), DT), wanted.detach().numpy())
    assert torch.equal(sl.from_nir(graph)(x), wanted)


def unit_nodes(shape: tuple[int, ...], seed: int) -> list[Any]:
    """Make every neuron of NIR, its parameters all different."""
    draw = np.random.default_rng(seed)

    def some(low: float, high: float) -> Any:
        return draw.uniform(low, high, shape)

    leak, reset, high = some(-0.3, 0.3), some(-0.5, 0.2), some(0.5, 1.5)
    syn = {"tau_syn": some(0.002, 0.01), "tau_mem": some(0.002, 0.02), "r": some(0.5, 3), "v_leak": leak}
    return [
        nir.IF(some(100, 900), high, reset),
        nir.LIF(some(0.002, 0.02), some(0.5, 4), leak, high, reset),
        nir.CubaLIF(**syn, v_threshold=high, v_reset=reset, w_in=some(0.5, 2)),
        nir.I(some(100, 900)),
        nir.LI(some(0.002, 0.02), some(0.5, 4), leak),
        nir.CubaLI(**syn, w_in=some(0.5, 2)),
    ]


@pytest.mark.parametrize("k", range(6))
@pytest.mark.parametrize("shape", [(3,), (2, 3, 4)])
def test_every_neuron_of_nir_by_its_equations(k: int, shape: tuple[int, ...]) -> None:
    node = unit_nodes(shape, k)[k]
    net = sl.from_nir(nir.NIRGraph.from_list(node), dt=DT)
    x = torch.from_numpy(np.random.default_rng(9).uniform(0, 2, (50, 2, *shape))).float()
    wanted, found = naive(node, x.numpy().astype(float), DT), net(x)
    if k < 3:
        assert 0.02 < wanted.mean() < 0.9
        np.testing.assert_array_equal(found.detach().numpy(), wanted)
    else:
        np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=2e-5, atol=1e-5)
    again = sl.from_nir(sl.to_nir(net, x, dt=2 * DT))  # another step in seconds, the same steps
    assert torch.equal(again(x), found)


def test_at_the_threshold() -> None:
    x = torch.tensor([1.0, 0.25, 0.75, 1.0]).reshape(4, 1, 1)
    fired = [1.0, 0.0, 1.0, 1.0]
    graph = sl.to_nir(sl.IF().eval(), x)
    assert sl.from_nir(graph)(x).flatten().tolist() == fired  # we fire at it
    theirs = nir.NIRGraph.from_list(nir.IF(np.array([1e4]), np.array([1.0])))
    assert sl.from_nir(theirs, dt=1e-4)(x).flatten().tolist() == [0.0, 1.0, 0.0, 1.0]  # NIR above it
    assert sl.from_nir(theirs, dt=1e-4, fires=">=")(x).flatten().tolist() == fired


def test_double_precision_and_surrogates_come_back() -> None:
    neuron = sl.PLIF(
        torch.tensor([2.3, 7.1, 1.01]).double(), surrogate=sl.surrogate.Sigmoid(3.0), detach_reset=True
    )
    x = torch.rand(60, 2, 3, dtype=torch.float64) * 2
    again = sl.from_nir(sl.to_nir(nn.Sequential(neuron).double().eval(), x))
    assert torch.equal(again(x), neuron(x))
    (found,) = again.layers.values()
    assert (found.surrogate.alpha, found.detach_reset, found.w.requires_grad) == (3.0, True, True)


def test_a_changed_file_is_believed_more_than_its_hint() -> None:
    graph = sl.to_nir(sl.LIF(4.0).eval(), torch.zeros(1, 1, 2), dt=DT)
    graph.nodes["LIF"].tau = graph.nodes["LIF"].tau * 2
    assert sl.from_nir(graph).layers["LIF"].tau == 8.0


# -- layers -------------------------------------------------------------------------------------------


def there_and_back(
    net: nn.Module, x: Tensor, path: Path | None = None, *, exact: bool = True
) -> tuple[Any, nn.Module]:
    graph = sl.to_nir(net.eval(), x, path)
    again, wanted = sl.from_nir(graph if path is None else path), net(x)
    assert wanted.abs().sum() > 0
    if exact:
        assert torch.equal(again(x), wanted)
    else:
        torch.testing.assert_close(again(x), wanted)
    return graph, again


def test_layers_there_and_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sums = nn.AvgPool2d((2, 1), divisor_override=1)
    net = nn.Sequential(
        sl.PerStep(nn.Conv2d(2, 4, 3, padding="same", bias=False), nn.BatchNorm2d(4)),
        sl.LIF(),
        sl.PerStep(sums, nn.Conv2d(4, 6, 3, stride=(2, 1), padding=(2, 1), dilation=2)),
        sl.PLIF(3.0),
        sl.nn.Residual(nn.Sequential(sl.PerStep(nn.Conv2d(6, 6, 1)), sl.IF())),
        sl.PerStep(nn.AvgPool2d(2, padding=1), nn.AdaptiveAvgPool2d((1, 2)), nn.Flatten(2)),
        sl.PerStep(nn.Conv1d(6, 3, 2)),
        sl.PerStep(nn.Flatten(), nn.Linear(3, 8, bias=False), sl.nn.Voting(2)),
        sl.nn.AxonalDelays(4, 3, torch.tensor([0, 1, 2, 1])),
        sl.Recurrent(sl.CubaLIF(reset="hard", v_threshold=0.2), nn.Linear(4, 4)),
        sl.nn.SynapticDelays(4, 5, 4, kernel_count=2, bias=True),
        sl.LI(),
    )
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    x = torch.rand(6, 2, 2, 8, 9) * 2
    graph, again = there_and_back(net, x, tmp_path / "net.nir", exact=False)
    kinds = {type(node).__name__ for node in graph.nodes.values()}
    assert kinds == {
        "Input", "Output", "Conv2d", "LIF", "SumPool2d", "IF", "AvgPool2d", "Flatten", "Conv1d", "Linear",
        "Delay", "CubaLIF", "Affine", "LI",
    }  # fmt: skip
    assert graph.nodes["0_0"].metadata == {}
    assert graph.nodes["4_branch_1"].metadata["path"] == "4.branch.1"
    assert [p.name for p in tmp_path.iterdir()] == ["net.nir"]
    stream = sl.Stream(again)
    torch.testing.assert_close(torch.cat([stream(x[:1]), stream(x[1:])]), again(x))
    nir.read(tmp_path / "net.nir")  # and its own checks agree


def test_groups_and_oblong_kernels_which_nirs_own_check_misreads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(sl.PerStep(nn.Conv2d(4, 6, (3, 1), groups=2, stride=2)), sl.LIF())
    with pytest.warns(SpikeloomWarning, match="type_check=False"):
        there_and_back(net, torch.rand(5, 2, 4, 5, 6) * 3, tmp_path / "net.nir")


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.neuron, self.weight = sl.IF(), nn.Parameter(torch.tensor([1.0, 0.5, 2.0]))

    def forward(self, x: Tensor) -> Tensor:
        s = self.neuron(x)
        return self.neuron(-(s - 2 * x * self.weight) + (s + s)).flatten(2)


def test_sums_scales_and_repeated_calls() -> None:
    graph, _ = there_and_back(Odd(), torch.rand(9, 2, 3))
    assert sum(isinstance(node, nir.IF) for node in graph.nodes.values()) == 2
    there_and_back(Odd(), torch.rand(9, 2, 2, 2, 3), exact=False)


def test_a_mean_over_time_is_left_to_the_reader() -> None:
    net = sl.create_model("dense_snn", in_features=6, hidden=(8,), num_classes=3).eval()
    x = torch.rand(5, 2, 6) * 3
    with pytest.warns(SpikeloomWarning, match="ends with a mean over time"):
        graph = sl.to_nir(net, x)
    assert graph.metadata["readout"] == "mean"
    torch.testing.assert_close(sl.from_nir(graph)(x), net(x))
    stripped(graph)
    assert sl.from_nir(graph, dt=1e-4)(x).shape == (5, 2, 3)


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "net.nir"
    words = ["export", "dense_snn", "--to", "nir", "--out", str(out), "--dt", "1e-3"]
    with pytest.warns(SpikeloomWarning, match="ends with a mean over time"):
        assert main(words) == 0
    assert "a step is 0.001 s, by euler; a neuron fires where v > v_threshold" in capsys.readouterr().out
    assert sl.from_nir(out)(torch.rand(4, 1, 64)).shape == (1, 10)
    before = out.read_bytes()
    assert main(words) == 2
    assert "--overwrite replaces it" in capsys.readouterr().err
    assert main(["export", "conv_snn", *words[2:], "--overwrite"]) == 2
    assert "NIR cannot say MaxPool2d 'synapses.0.2'" in capsys.readouterr().err
    assert out.read_bytes() == before


@pytest.mark.filterwarnings("ignore:.*type_check=False")  # NIR's own check, and grouped convolutions
@settings(max_examples=20, deadline=None)
@given(st.data())
def test_any_net_there_and_back(data: st.DataObject) -> None:
    draw = data.draw
    torch.manual_seed(draw(st.integers(0, 99)))
    shape = draw(st.sampled_from([(3,), (2, 5, 4), (1, 7, 7)]))
    T, B = draw(st.sampled_from([1, 2, 9])), draw(st.integers(1, 3))
    x, layers, now = torch.rand(T, B, *shape) * 3, [], shape
    for _ in range(draw(st.integers(1, 4))):
        if len(now) == 3:
            out, groups = 2 * now[0], draw(st.sampled_from([1, now[0]]))
            conv = nn.Conv2d(now[0], out, 3, draw(st.integers(1, 2)), 1, draw(st.integers(1, 2)), groups)
            parts = [conv] if min(now[1:]) >= 3 else [nn.Flatten(), nn.Linear(math.prod(now), 4)]
        else:
            parts = [nn.Linear(now[0], draw(st.integers(1, 5)), bias=draw(st.booleans()))]
        layers.append(sl.PerStep(*parts))
        now = tuple(layers[-1](torch.zeros(1, 1, *now)).shape[2:])
        tau = draw(st.sampled_from([1.0, 2.0, 1.7])) + draw(
            st.sampled_from([0.0, torch.rand(now[0]), torch.rand(now)])
        )
        options = {"v_threshold": draw(st.floats(0.1, 1.5)), "v_reset": draw(st.sampled_from([0.0, -0.25]))}
        make = draw(st.sampled_from([sl.LIF, sl.IF, sl.CubaLIF]))
        if make is sl.LIF:
            options.update(tau=tau, decay_input=draw(st.booleans()))
        neuron = make(reset="hard", **options)
        recurrent = len(now) == 1 and draw(st.booleans())
        layers.append(sl.Recurrent(neuron, nn.Linear(now[0], now[0])) if recurrent else neuron)
    net = nn.Sequential(*layers).eval()
    fires, how = draw(st.sampled_from([">", ">="])), draw(st.sampled_from(["euler", "exponential"]))
    try:
        graph = sl.to_nir(
            net, x, dt=draw(st.sampled_from([1e-4, 1.0, 3e-3])), fires=fires, discretisation=how
        )
    except NirError as error:
        if how == "exponential" and "use 'euler'" in str(error):  # a tau of one step
            return
        raise
    assert torch.equal(sl.from_nir(graph)(x), net(x))
