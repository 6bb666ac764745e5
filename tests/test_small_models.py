"""The small networks: the same numbers as layers written out by hand, for static samples and in time."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import spikeloom as sl
from spikeloom.models.fitting import model_for
from spikeloom.models.parts import RectifiedRecurrent
from spikeloom.names import UnknownName

SMALL = {"image_size": 8, "channels": (4, 6), "T": 3}


def rectified_by_hand(net: nn.Module, x: Tensor) -> Tensor:
    """Return what a conv_snn of ReLU makes of images `[B, C, H, W]`, in evaluation, with torch alone."""
    for synapse in net.synapses:  # type: ignore[union-attr]
        conv, norm = synapse[0], synapse[1]
        x = functional.conv2d(x, conv.weight, padding=1)
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        x = (x - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]
        x = functional.max_pool2d(x, 2).clamp(min=0)
    linear = net.head[-1]  # type: ignore[index]
    return x.flatten(1) @ linear.weight.T + linear.bias


def settled(net: nn.Module, x: Tensor) -> nn.Module:
    """Return the network in evaluation, with running statistics that are not those it was built with."""
    net.train()
    for _ in range(3):
        net(x)
    return net.eval()


def test_relu_is_the_same_network_without_time() -> None:
    torch.manual_seed(0)
    x = torch.rand(5, 1, 8, 8)
    net = settled(sl.create_model("conv_snn", **SMALL, neuron="ReLU"), x)
    torch.testing.assert_close(net(x), rectified_by_hand(net, x))
    spiking = sl.create_model("conv_snn", **SMALL)
    assert [(n, p.shape) for n, p in net.named_parameters()] == [
        (n, p.shape) for n, p in spiking.named_parameters()
    ]
    # frames pass step by step, and are averaged
    frames = torch.rand(4, 5, 1, 8, 8)
    each = torch.stack([rectified_by_hand(net, frame) for frame in frames])
    torch.testing.assert_close(net(frames), each.mean(0))


@pytest.mark.parametrize("name", ["conv_snn", "dense_snn"])
@pytest.mark.parametrize("neuron", ["LIF", "ReLU"])
def test_each_steps_scores_and_their_mean(name: str, neuron: str) -> None:
    torch.manual_seed(0)
    net = sl.create_model(name, T=3, neuron=neuron, num_classes=7).eval()
    each = copy.deepcopy(net)
    each.readout = "none"  # type: ignore[assignment]
    x = torch.rand(5, 2, *net.input_shape)  # type: ignore[misc]
    assert each(x).shape == (5, 2, 7)
    torch.testing.assert_close(each(x).mean(0), net(x))
    assert each(x[0]).shape == (1 if neuron == "ReLU" else 3, 2, 7)
    asked = sl.create_model(name, readout="none", num_classes=7)
    assert asked(x).shape == (5, 2, 7)


def test_dense_layers_by_hand() -> None:
    torch.manual_seed(0)
    x = torch.rand(6, 3, 8)
    net = settled(sl.create_model("dense_snn", in_features=8, hidden=(5,), num_classes=3), x)
    linear, norm = net.synapses[0]  # type: ignore[index,misc]
    nn.init.constant_(norm.bias, 1.5)  # enough input for some of the neurons to fire
    y = norm(x.flatten(0, 1) @ linear.weight.T).reshape(6, 3, 5)
    v, spikes = torch.zeros(3, 5), []
    for y_t in y:  # sl.LIF(): tau 2, threshold 1, reset to 0
        v = v + (y_t - v) / 2
        s = (v >= 1).float()
        v = v * (1 - s)
        spikes.append(s)
    assert 0 < torch.stack(spikes).mean() < 1
    head = net.head[-1]  # type: ignore[index]
    torch.testing.assert_close(net(x), (torch.stack(spikes) @ head.weight.T + head.bias).mean(0))


class Slow(sl.LIF):
    """A neuron of a researcher's own."""

    def __init__(self) -> None:
        super().__init__(tau=3.0)


@pytest.mark.parametrize("name", ["conv_snn", "dense_snn"])
def test_a_neuron_of_ones_own(name: str) -> None:
    torch.manual_seed(0)
    net = sl.create_model(name, neuron=Slow).eval()
    assert {type(m) for m in net.modules() if isinstance(m, sl.Neuron)} == {Slow}
    named = sl.create_model(name, neuron_options={"tau": 3.0}).eval()
    named.load_state_dict(net.state_dict())
    x = 3 * torch.rand(5, 2, *net.input_shape)  # type: ignore[misc]
    torch.testing.assert_close(net(x), named(x))


def test_recurrent_layers_are_of_neurons_or_relu() -> None:
    net = sl.create_model("dense_snn", neuron=Slow, recurrent=True)
    assert sum(isinstance(m, sl.Recurrent) for m in net.modules()) == 2
    with pytest.raises(TypeError, match="Recurrent takes a neuron first, not Tanh"):
        sl.create_model("dense_snn", neuron=nn.Tanh, recurrent=True)


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("neuron", ["LIF", "ReLU"])
def test_a_static_sample_is_the_sample_repeated(neuron: str, recurrent: bool) -> None:
    net = sl.create_model("dense_snn", T=3, neuron=neuron, recurrent=recurrent).eval()
    x = torch.rand(4, 64)
    torch.testing.assert_close(net(x), net(x.expand(3, 4, 64)))


def test_rectified_recurrence_is_that_of_torch() -> None:
    torch.manual_seed(0)
    synapse, x = nn.Linear(4, 4), torch.randn(6, 3, 4)
    truth = nn.RNN(4, 4, nonlinearity="relu")
    with torch.no_grad():
        truth.weight_ih_l0.copy_(torch.eye(4))
        truth.bias_ih_l0.zero_()
        truth.weight_hh_l0.copy_(synapse.weight)
        truth.bias_hh_l0.copy_(synapse.bias)
    torch.testing.assert_close(RectifiedRecurrent(synapse)(x), truth(x)[0])


def test_recurrent_layers_hear_themselves() -> None:
    torch.manual_seed(0)
    net = sl.create_model("dense_snn", hidden=(16,), recurrent=True, readout="none").eval()
    x = 4 * torch.rand(6, 2, 64)
    heard = net(x)
    with torch.no_grad():
        net.neurons[0].synapse.weight.zero_()  # type: ignore[index,union-attr]
        net.neurons[0].synapse.bias.zero_()  # type: ignore[index,union-attr]
    alone = net(x)
    torch.testing.assert_close(heard[0], alone[0], atol=0.2, rtol=0)  # nothing to hear yet, but a bias
    assert not torch.allclose(heard[1:], alone[1:])


def test_dropout_is_for_training_alone() -> None:
    for name in ("conv_snn", "dense_snn"):
        net = sl.create_model(name, dropout=0.5, neuron="ReLU")
        x = torch.rand(8, *net.input_shape)  # type: ignore[misc]
        assert not torch.equal(net(x), net(x))
        net.eval()
        assert torch.equal(net(x), net(x))


def test_a_network_fits_its_samples() -> None:
    conv = model_for("conv_snn", (2, 16, 16), 11, 5, channels=(4, 4))
    assert conv(torch.rand(3, 2, 2, 16, 16)).shape == (2, 11)
    assert conv.T == 5
    dense = model_for("dense_snn", (64,), 10, 5, hidden=(8,))
    assert dense(torch.rand(3, 2, 64)).shape == (2, 10)
    flat = model_for("dense_snn", (2, 8, 8), 10, 5)
    images = torch.rand(2, 2, 8, 8)
    torch.testing.assert_close(flat.eval()(images), flat(images.expand(5, 2, 2, 8, 8)))
    for shape in ((64,), (2, 16, 8)):
        with pytest.raises(ValueError, match="dense_snn"):
            model_for("conv_snn", shape, 10, 5)
    with pytest.raises(UnknownName, match="did you mean 'conv_snn'"):
        model_for("conv_snm", (64,), 10, 5)
    with pytest.raises(UnknownName, match="did you mean 'hidden'"):
        model_for("dense_snn", (64,), 10, 5, hiden=(8,))


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("dense_snn", {"hidden": ()}, "at least one layer"),
        ("dense_snn", {"hidden": (0,)}, "at least 1 neuron"),
        ("dense_snn", {"T": 0}, "T = 0"),
        ("dense_snn", {"neuron": "Lif"}, "did you mean 'LIF'"),
        ("dense_snn", {"readout": "non"}, "did you mean 'none'"),
        ("conv_snn", {"readout": "last"}, "there are: mean, none"),
        ("conv_snn", {"neuron": "relu"}, "did you mean 'ReLU'"),
        ("conv_snn", {"neuron": "ReLU", "neuron_options": {"tau": 2.0}}, "takes no neuron_options"),
    ],
)
def test_what_cannot_be_built(name: str, wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sl.create_model(name, **wrong)
