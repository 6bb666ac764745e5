"""Networks read as graphs, against what one sees in their code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.deploy import Ref, read_network


def conv(*, norm: bool = True) -> nn.Module:
    return nn.Sequential(
        sl.PerStep(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4) if norm else nn.Identity()),
        sl.LIF(),
        sl.PerStep(nn.Dropout(0.5), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)),
    ).eval()


def table(net: nn.Module, x: Tensor, **options: Any) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(n.name, n.kind, n.inputs) for n in read_network(net, x, **options)]


def test_a_chain() -> None:
    net, x = conv(), torch.rand(3, 2, 2, 4, 4)
    graph = read_network(net, x)
    assert [(n.name, n.kind, n.inputs, n.shape) for n in graph] == [
        ("input", "input", (), (2, 4, 4)),
        ("0.0", "Conv2d", ("input",), (4, 4, 4)),
        ("1", "LIF", ("0.0",), (4, 4, 4)),
        ("2.1", "AvgPool2d", ("1",), (4, 2, 2)),
        ("2.2", "Flatten", ("2.1",), (16,)),
        ("2.3", "Linear", ("2.2",), (3,)),
    ]
    assert graph.output == "2.3"
    assert graph.steps == 3
    assert graph["0.0"].module.bias is not None, "the norm is folded"
    assert net[0][0].bias is None, "into a copy"
    torch.testing.assert_close(graph.net(x), net(x))
    assert [n.name for n in graph.consumers("1")] == ["2.1"]
    assert "4x2x2" in str(graph)
    assert "0.1" in [n.name for n in read_network(net, x, fold_norms=False)]


@pytest.mark.parametrize("steps", [1, 3])
def test_ways_that_part_and_meet(steps: int) -> None:
    block = sl.nn.Residual(nn.Sequential(sl.PerStep(nn.Linear(4, 4)), sl.IF()), connect="IAND")
    found = read_network(nn.Sequential(sl.IF(), block).eval(), torch.rand(steps, 1, 4))
    assert [(n.kind, n.inputs) for n in found] == [
        ("input", ()),
        ("IF", ("input",)),
        ("Linear", ("0",)),
        ("IF", ("1.branch.0.0",)),
        ("rsub", ("1.branch.1",)),
        ("mul", ("0", "1.rsub")),
    ]
    rsub = found["1.rsub"]
    assert (rsub.args, rsub.path, rsub.folded) == ((Ref("1.branch.1"), 1), "1", False)


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.neuron = sl.PerStep(nn.Linear(4, 4)), sl.LIF()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        unused = x.mT * 2  # noqa: F841 - no node of the graph
        a, b = self.neuron(self.layer(x)).chunk(2, -1)
        y = torch.cat([b, a], dim=-1) * self.weight
        return self.neuron(self.layer(y)).mean(0)


def test_functions_calls_repeated_and_a_mean_over_time() -> None:
    graph = read_network(Odd().eval(), torch.rand(5, 2, 4))
    assert [(n.name, n.kind, n.inputs) for n in graph] == [
        ("input", "input", ()),
        ("layer.0", "Linear", ("input",)),
        ("neuron", "LIF", ("layer.0",)),
        ("chunk", "chunk", ("neuron",)),
        ("cat", "cat", ("chunk",)),
        ("mul#2", "mul", ("cat",)),
        ("layer.0#2", "Linear", ("mul#2",)),
        ("neuron#2", "LIF", ("layer.0#2",)),
        ("mean", "mean", ("neuron#2",)),
    ]
    assert graph["cat"].args == ([Ref("chunk", 1), Ref("chunk", 0)],)
    assert graph["cat"].kwargs == {"dim": -1}
    assert torch.equal(graph["mul#2"].args[1], torch.ones(4))
    assert graph["layer.0"].module is graph["layer.0#2"].module
    assert (graph["mean"].timed, graph["mean"].shape) == (False, (4,))


def test_layers_that_run_their_neuron_and_tokens() -> None:
    net = nn.Sequential(
        sl.nn.PerToken(nn.Linear(4, 6)),
        sl.LIF(channel_axis=-1),
        sl.PerStep(nn.Flatten(), nn.Linear(18, 5)),
        sl.Recurrent(sl.LIF(), nn.Linear(5, 5)),
    ).eval()
    graph = read_network(net, torch.rand(2, 3, 3, 4))
    assert [(n.name, n.kind, n.shape) for n in graph][1:] == [
        ("0.0", "Linear", (3, 6)),
        ("1", "LIF", (3, 6)),
        ("2.0", "Flatten", (18,)),
        ("2.1", "Linear", (5,)),
        ("3", "Recurrent", (5,)),
    ]
    assert graph["0.0"].folded
    assert not graph["1"].folded


def test_what_cannot_be_read() -> None:
    x = torch.rand(2, 1, 2, 4, 4)
    with pytest.raises(RuntimeError, match=r"training mode.*net.eval\(\)"):
        read_network(conv().train(), x)
    with pytest.raises(TypeError, match="takes a sample"):
        read_network(conv(), [1])  # type: ignore[arg-type]
    for shape in ((2, 4), (2, 0, 2, 4, 4)):
        with pytest.raises(ValueError, match="at least one step"):
            read_network(conv(), torch.zeros(shape))

    class Other(nn.Module):
        def __init__(self, out: Any) -> None:
            super().__init__()
            self.out, self.unused = out, nn.Identity()

        def forward(self, x: Tensor) -> Any:
            return self.out

    with pytest.raises(TypeError, match="returned a tuple"):
        read_network(Other((x,)).eval(), x)
    with pytest.raises(ValueError, match="does not depend on its input"):
        read_network(Other(torch.zeros(1)).eval(), x)


def test_every_kind_of_model_reads() -> None:
    names = {"spikformer_4_384_cifar10": {"dim": 16, "depth": 1, "heads": 2}, "ms_resnet20": {"width": 4}}
    for name, options in names.items():
        net = sl.create_model(name, **options).eval()
        x = torch.rand(1, 1, *net.input_shape)
        graph = read_network(net, x)
        assert sum(isinstance(n.module, sl.Neuron) for n in graph) == sum(
            isinstance(m, sl.Neuron) for m in net.modules()
        )
        assert torch.equal(graph.net(x), sl.fold(net)(x))


def test_whole_shapes_and_opened_modules() -> None:
    net = nn.Sequential(sl.PerStep(nn.Conv2d(2, 8, 1)), sl.LIF(), sl.PerStep(nn.Flatten(), sl.nn.Voting(2)))
    x = torch.rand(3, 5, 2, 2, 2)
    graph = read_network(net.eval(), x)
    assert [(n.taken, n.made) for n in graph] == [
        ((), ((3, 5, 2, 2, 2),)),
        (((15, 2, 2, 2),), ((15, 8, 2, 2),)),
        (((3, 5, 8, 2, 2),), ((3, 5, 8, 2, 2),)),
        (((15, 8, 2, 2),), ((15, 32),)),
        (((15, 32),), ((15, 16),)),
    ]
    opened = read_network(net, x, opened=lambda module: isinstance(module, sl.nn.Voting))
    assert [(n.name, n.path) for n in opened][-2:] == [("2.1.unflatten", "2.1"), ("2.1.mean", "2.1")]


def test_properties_are_functions_and_writing_into_a_part_is_refused() -> None:
    class Product(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.data @ x.mT

    class Write(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x * 2
            y[0] = 0
            return y

    x = torch.rand(2, 3, 4, 4)
    assert [(n.kind, n.inputs) for n in read_network(Product().eval(), x, opened=lambda m: True)][1:] == [
        ("mT", ("input",)),
        ("matmul", ("input", "mT")),
    ]
    with pytest.raises(TypeError, match=r"'1' writes into a part.*torch.where"):
        read_network(nn.Sequential(sl.IF(), Write()).eval(), x, opened=lambda m: isinstance(m, Write))
