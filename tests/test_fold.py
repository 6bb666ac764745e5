"""sl.fold: batch norms gone into the layers before them, and nothing folded that is not certain."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

import spikeloom as sl


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def ready(net: nn.Module) -> nn.Module:
    """Return the network in eval and float64, with norms that do something."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for value in [*module.parameters(), *module.buffers()]:
                if value.is_floating_point():
                    value.data.uniform_(0.5, 1.5)
    return net.double().eval()


def norms(net: nn.Module) -> list[str]:
    return [name for name, m in net.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def assert_same(net: nn.Module, x: Tensor) -> nn.Module:
    before = copy.deepcopy(net.state_dict())
    folded = sl.fold(net)
    torch.testing.assert_close(folded(x), net(x), rtol=1e-10, atol=1e-10)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), "the network itself has changed"
    return folded


CONVOLUTIONS: dict[str, Callable[[], nn.Module]] = {
    "conv": lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)),
    "with bias": lambda: nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4)),
    "groups": lambda: nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6)),
    "transposed": lambda: nn.Sequential(nn.ConvTranspose2d(3, 5, 3, stride=2), nn.BatchNorm2d(5)),
    "not affine": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)),
    "tdBN": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), sl.nn.ThresholdDependentBatchNorm2d(4, v_threshold=0.5, alpha=0.7)
    ),
    "tdBN, not affine": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), sl.nn.ThresholdDependentBatchNorm2d(4, v_threshold=0.5, affine=False)
    ),
    "identity between": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Identity(), nn.BatchNorm2d(4)),
    "twice in a row": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2)
    ),
    "two norms": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)),
    "nested": lambda: nn.Sequential(
        nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3)), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())
    ),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_two_dimensions(name: str) -> None:
    net = ready(CONVOLUTIONS[name]())
    x = torch.randn(5, 3, 7, 8, dtype=torch.float64)
    assert not norms(assert_same(net, x))
    steps = x.unflatten(0, (5, 1))
    assert not norms(assert_same(sl.PerStep(net).eval(), steps))
    assert not norms(assert_same(sl.PerStep(*net).eval(), steps))


def test_other_dimensions() -> None:
    pairs = [
        (nn.Conv1d(3, 4, 2), nn.BatchNorm1d(4), (5, 3, 7)),
        (nn.ConvTranspose1d(3, 4, 2), nn.BatchNorm1d(4), (5, 3, 7)),
        (nn.Conv3d(3, 4, 2), nn.BatchNorm3d(4), (5, 3, 4, 4, 4)),
        (nn.ConvTranspose3d(3, 4, 2), nn.BatchNorm3d(4), (5, 3, 3, 3, 3)),
        (nn.Linear(3, 4), nn.BatchNorm1d(4), (5, 3)),
        (nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), (5, 3)),
    ]
    for layer, norm, shape in pairs:
        net = ready(nn.Sequential(layer, norm))
        assert not norms(assert_same(net, torch.randn(shape, dtype=torch.float64)))


def test_a_spiking_network_and_norm_neurons() -> None:
    net = ready(
        nn.Sequential(
            sl.PerStep(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)),
            sl.LIF(),
            sl.PerStep(nn.AvgPool2d(2), nn.Conv2d(4, 5, 3, padding=1)),
            sl.NormNeuron(nn.BatchNorm2d(5), sl.PLIF()),
            sl.PerStep(nn.Flatten(), nn.Linear(5 * 16, 6)),
            sl.NormNeuron(nn.BatchNorm1d(6), sl.LIF(tau=3.0)),
            nn.Linear(6, 7),
            sl.NormNeuron(nn.BatchNorm1d(7), sl.LIF()),
        )
    )
    x = 2 * torch.randn(4, 3, 2, 8, 8, dtype=torch.float64)
    folded = assert_same(net, x)
    assert not norms(folded)
    assert isinstance(folded[0][1], nn.Identity)
    assert [type(folded[i]) for i in (3, 5, 7)] == [sl.PLIF, sl.LIF, sl.LIF]
    assert folded[5].tau == 3.0
    again = sl.fold(folded)
    assert torch.equal(again(x), folded(x))
    whole = torch.load(_saved(folded), weights_only=False)
    assert torch.equal(whole(x), folded(x))
    compiled = torch.compile(folded, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), folded(x))


def _saved(net: nn.Module) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return file


def test_tokens() -> None:
    net = ready(
        nn.Sequential(
            sl.PerStep(nn.Linear(3, 4)),
            sl.NormNeuron(nn.BatchNorm1d(4), sl.LIF(), channel_axis=-1),
            nn.Linear(4, 5),
            sl.NormNeuron(nn.BatchNorm1d(5), sl.LIF(), channel_axis=-1),
        )
    )
    assert not norms(assert_same(net, 3 * torch.randn(4, 2, 6, 3, dtype=torch.float64)))


def test_a_linear_layer_is_held_to_its_axes() -> None:
    """On [N, L, C] the norm works along L, but the layer along C; with L = C that would go unnoticed."""
    net = ready(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
    folded = assert_same(net, torch.randn(5, 4, dtype=torch.float64))
    net(torch.randn(5, 4, 4, dtype=torch.float64))
    with pytest.raises(ValueError, match="for outputs of 2 axes"):
        folded(torch.randn(5, 4, 4, dtype=torch.float64))


class Block(nn.Module):
    """A forward of its own, with a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.conv = nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.norm(y) + self.body(x) + y  # folding the norm would change the last term


def test_only_chains_within_free_forwards() -> None:
    net = ready(nn.Sequential(sl.PerStep(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), Block()), sl.LIF()))
    with pytest.warns(
        sl.SpikeloomWarning,
        match=r"leaves BatchNorm2d '0.2.norm' as it is: what comes before it is certain within",
    ):
        folded = assert_same(net, torch.randn(2, 3, 3, 5, 5, dtype=torch.float64))
    assert norms(folded) == ["0.2.norm"]


class Chatty(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        outs = []
        for module in self:
            x = module(x)
            outs.append(x)
        return torch.stack(outs).sum(0)


class Own(nn.Conv2d):
    pass


def hooked(module: nn.Module) -> nn.Module:
    module.register_forward_hook(lambda module, inputs, out: out + 1)
    return module


SHARED = nn.Conv2d(3, 3, 1)
STAY: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "an own forward": (
        lambda: Chatty(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)),
        "is certain within nn.Sequential",
    ),
    "an own layer": (lambda: nn.Sequential(Own(3, 3, 1), nn.BatchNorm2d(3)), "right before it comes Own"),
    "a layer used twice": (
        lambda: nn.Sequential(SHARED, nn.BatchNorm2d(3), SHARED),
        "Conv2d is used more than once",
    ),
    "hooks of the layer": (lambda: nn.Sequential(hooked(nn.Conv2d(3, 3, 1)), nn.BatchNorm2d(3)), "has hooks"),
    "hooks of the norm": (lambda: nn.Sequential(nn.Conv2d(3, 3, 1), hooked(nn.BatchNorm2d(3))), "has hooks"),
    "hooks between": (
        lambda: nn.Sequential(hooked(nn.Sequential(nn.Conv2d(3, 3, 1))), nn.BatchNorm2d(3)),
        "right before it comes nothing",
    ),
    "an identity with a hook": (
        lambda: nn.Sequential(nn.Conv2d(3, 3, 1), hooked(nn.Identity()), nn.BatchNorm2d(3)),
        "right before it comes Identity",
    ),
    "a parametrisation": (
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Conv2d(3, 3, 1)), nn.BatchNorm2d(3)),
        "ParametrizedConv2d",
    ),
    "no statistics": (
        lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)),
        "no running statistics",
    ),
    "pooling between": (
        lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.AvgPool2d(2), nn.BatchNorm2d(3)),
        "right before it comes AvgPool2d",
    ),
    "alone": (lambda: nn.BatchNorm2d(3), "is certain within nn.Sequential"),
    "nothing before": (lambda: nn.Sequential(nn.BatchNorm2d(3)), "right before it comes nothing"),
    "transposed with groups": (
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 3, 1, groups=3), nn.BatchNorm2d(3)),
        "transposed convolution with groups",
    ),
}


@pytest.mark.parametrize("name", STAY)
def test_what_is_not_certain_stays(name: str) -> None:
    make, why = STAY[name]
    net = ready(make())
    with pytest.warns(sl.SpikeloomWarning, match=why):
        folded = assert_same(net, torch.randn(5, 3, 4, 4, dtype=torch.float64))
    assert norms(folded) == norms(net)
    assert parametrize.is_parametrized(folded) == parametrize.is_parametrized(net)


def test_axes_that_differ_stay() -> None:
    conv = ready(nn.Sequential(sl.PerStep(nn.Conv2d(3, 3, 1)), nn.BatchNorm3d(3)))
    with pytest.warns(sl.SpikeloomWarning, match="other axes than Conv2d"):
        assert norms(assert_same(conv, torch.randn(4, 3, 3, 5, 5, dtype=torch.float64))) == ["1"]
    neuron = ready(nn.Sequential(nn.Conv3d(2, 3, 1), sl.NormNeuron(nn.BatchNorm2d(3), sl.LIF())))
    with pytest.warns(sl.SpikeloomWarning, match="'1.norm' as it is: it works on other axes than Conv3d"):
        assert norms(assert_same(neuron, torch.randn(4, 2, 3, 5, 5, dtype=torch.float64))) == ["1.norm"]


def test_weights_that_are_shared_are_not_changed_elsewhere() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1))
    net[2].weight = net[0].weight
    assert not norms(assert_same(ready(net), torch.randn(5, 3, 4, 4, dtype=torch.float64)))


def test_channels_last_and_single_precision() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    net = ready(net).float().to(memory_format=torch.channels_last)
    folded, x = sl.fold(net), torch.randn(5, 3, 6, 6)
    assert folded[0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(folded(x), net(x))


def test_misuse() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    with pytest.raises(RuntimeError, match=r"is in training mode.*call net.eval\(\) first"):
        sl.fold(net)
    net.eval()[1].train()
    with pytest.raises(RuntimeError, match="BatchNorm2d '1' is in training mode"):
        sl.fold(net)
    with pytest.raises(TypeError, match="fold takes a network, not Tensor"):
        sl.fold(torch.zeros(2))  # type: ignore[arg-type]
