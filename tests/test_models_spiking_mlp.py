"""Spiking MLP: published parameters, the released forward by hand, sizes, and what is multiplied."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_cases import parameters
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.models.spiking_mlp import SpikingMLP
from spikeloom.names import UnknownName

COUNTED = {
    "spiking_mlp_spe_t": 25_229_180,
    "spiking_mlp_t": 24_110_512,
    "spiking_mlp_s": 34_507_408,
    "spiking_mlp_spe_s": 37_975_568,
}
ENCODINGS = ["spe", "convolution"]


def small(**more: Any) -> SpikingMLP:
    torch.manual_seed(0)
    net = SpikingMLP(**{**SpikingMLP.small, **more})
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 1.0, 2.0)
            nn.init.uniform_(module.bias, 0.0, 0.5)
    with torch.no_grad():
        for _ in range(3):
            net(images(net))
    return net.eval()


def images(net: SpikingMLP) -> Tensor:
    return 3 * torch.randn(2, 3, *net.input_shape)


@pytest.mark.parametrize("name", COUNTED)
def test_parameters(name: str) -> None:
    assert parameters(name) == COUNTED[name]


def test_the_inferred_sizes_give_the_published_number_of_parameters() -> None:
    assert round(parameters("spiking_mlp_spe_b") / 1e6, 2) == 65.61


@pytest.mark.parametrize("name", COUNTED)
def test_neurons_are_the_papers(name: str) -> None:
    with torch.device("meta"):
        net = sl.create_model(name)
    for neuron in (m for m in net.modules() if isinstance(m, sl.LIF)):
        assert (neuron.tau, neuron.v_threshold, neuron.detach_reset) == (2.0, 1.0, True)
        assert repr(neuron.surrogate) == "Sigmoid(alpha=4.0)"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_each_block_adds_to_what_the_stage_began_with(encoding: str) -> None:
    net = small(encoding=encoding)
    x = images(net)
    LIF = sl.LIF(tau=2.0)
    y = net.stem(x)
    for stage in net.stages:
        begin = stage.get_submodule("enter")(y)
        y = LIF(begin)
        for i in range(len(list(stage.get_submodule("blocks").children()))):
            block = stage.get_submodule(f"blocks.{i}")
            token = block.get_submodule("token")(y)
            y = LIF(begin + token)
            y = LIF(begin + token + block.get_submodule("channel")(y))
        assert 0 < y.mean() < 1
    torch.testing.assert_close(net.forward_features(x), y)
    norm, head = net.head[0][0][-1], net.head[1].linear  # type: ignore[index]
    pooled = nn.functional.batch_norm(
        y.flatten(0, 1), norm.running_mean, norm.running_var, norm.weight, norm.bias
    )
    scores = head(pooled.mean((-2, -1))).unflatten(0, y.shape[:2]).mean(0)
    torch.testing.assert_close(net(x), scores)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_behind_the_first_convolution_only_spikes_are_multiplied(encoding: str) -> None:
    """All but the classifier, which reads the mean over tokens, as the norm before it leaves it."""
    net = small(encoding=encoding)
    rows = [row for row in sl.measure.profile(net, images(net)).rows if row.kinds]
    first, *inner, last = rows
    assert first.path.startswith("stem")
    assert last.path.startswith("head")
    assert {row.kinds for row in inner} == {("binary",)}
    blocks = sum(SpikingMLP.small["depths"])
    halved = {"spe": 3, "convolution": 1}[encoding]
    assert len(inner) == 5 * blocks + halved * (len(net.stages) - 1)


@pytest.mark.parametrize("norm", ["BN", "tdBN", "TEBN", "BNTT"])
def test_patch_encoding_streams_with_any_norm(norm: str) -> None:
    net = small(norm=norm, readout="none")
    x = images(net)
    assert net.fixed_size
    stream = sl.Stream(net)
    torch.testing.assert_close(torch.cat([stream(x[:1]), stream(x[1:])]), net(x), rtol=1e-4, atol=1e-5)
    alone = torch.cat([net(x[:, i : i + 1]) for i in range(x.shape[1])], 1)
    torch.testing.assert_close(alone, net(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_it_learns_a_batch_by_heart(encoding: str) -> None:
    net = small(encoding=encoding).train()
    x, labels = torch.randn(10, *net.input_shape), torch.arange(10) % 5
    optimiser = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    for _ in range(25):
        loss = nn.functional.cross_entropy(net(x), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (net(x).argmax(1) == labels).all()


def test_sizes_and_patches() -> None:
    for options in ({"image_size": 32, "patch": 4}, {"image_size": 32, "patch": 1}, {"image_size": (16, 32)}):
        net = small(**options)
        features = net.forward_intermediates(images(net))
        stride = net.multiple_of // 2
        assert [f.shape[-2:] for f in features] == [
            (net.input_shape[1] // (stride * n), net.input_shape[2] // (stride * n)) for n in (1, 2)
        ]
        assert net(images(net)).shape == (3, 5)
    with pytest.raises(ValueError, match="images of 36x36 pixels; its strides take multiples of 8, as 32x32"):
        small(image_size=36)
    net = small()
    with pytest.raises(
        ValueError, match=r"weights of each of 16x16 pixels, .* build it with image_size=\(32, 32\)"
    ):
        net(torch.zeros(1, 3, 32, 32))


def test_bad_arguments() -> None:
    with pytest.raises(UnknownName, match="no encoding 'spee'; did you mean 'spe'"):
        small(encoding="spee")
    with pytest.raises(ValueError, match=r"out = 8 channels; .* multiple of 3 is needed, as 9"):
        small(width=4, encoding="spe")
    for wrong in ({"patch": 0}, {"depths": ()}, {"width": 0}, {"expansion": 0}):
        with pytest.raises(ValueError, match="each is at least 1"):
            small(**wrong)
