"""What every published network of the registry keeps: time, sizes, features, neurons, files, bad input.

A new network needs no line here: its class says by `small` how it is built small.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.models import Backbone, example_input, find_model, from_pretrained, save_pretrained
from spikeloom.names import UnknownName


def families() -> list[str]:
    """Return a name of each class, since variants differ in numbers alone."""
    classes = {find_model(name).cls: name for name in sl.list_models()}
    return sorted(name for cls, name in classes.items() if issubclass(cls, Backbone))


def network(name: str) -> type[Backbone]:
    cls = find_model(name).cls
    assert issubclass(cls, Backbone)
    return cls


def small(name: str, **more: Any) -> Backbone:
    """Return the network small, in evaluation, its running statistics not those that it was built with."""
    torch.manual_seed(0)
    cls = network(name)
    assert cls.small, f"{cls.__name__}.small has no arguments of a small network"
    net = sl.create_model(name, **{**cls.small, **more})
    assert isinstance(net, Backbone)
    x = in_time(net, 4)
    for _ in range(3):
        net(x)
    return net.eval()


def in_time(net: Backbone, batch: int) -> Tensor:
    """Return an input that changes from step to step."""
    steps = net.T if net.fixed_T else 3
    return torch.stack([3 * example_input(net, batch) for _ in range(steps)])


@pytest.fixture(params=families(), scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def arguments(name: str) -> Mapping[str, Any]:
    return find_model(name).arguments


def test_arguments_have_the_same_names_everywhere(name: str) -> None:
    fixed = {"num_classes", "in_channels", "image_size", "T", "neuron", "neuron_options", "norm", "readout"}
    assert fixed <= set(arguments(name))
    doc = inspect.getdoc(find_model(name).cls) or ""
    assert "Arguments:" in doc
    assert "Raises:" in doc
    assert find_model(name).paper


def test_a_static_image_is_shown_for_T_steps(name: str) -> None:
    net = small(name)
    x = 3 * example_input(net, 2)
    torch.testing.assert_close(net(x), net(x.expand(net.T, *x.shape)))


def test_each_steps_scores_and_their_mean(name: str) -> None:
    if network(name).one_score:
        with pytest.raises(ValueError, match="no scores of each step; take readout='mean'"):
            small(name, readout="none")
        return
    mean, each = small(name), small(name, readout="none")
    x = in_time(mean, 2)
    scores = each(x)
    assert scores.shape == (len(x), 2, network(name).small.get("num_classes", 5))
    torch.testing.assert_close(scores.mean(0), mean(x))


def test_features_of_each_stage(name: str) -> None:
    net = small(name)
    x = in_time(net, 2)
    stages = net.forward_intermediates(x)
    assert len(stages) == len(net.stages)
    assert all(stage.shape[:2] == x.shape[:2] and stage.ndim == 5 for stage in stages)
    torch.testing.assert_close(stages[-1], net.forward_features(x))
    torch.testing.assert_close(net.forward_head(stages[-1]), net(x))


def test_no_sample_meets_another(name: str) -> None:
    net = small(name)
    x = in_time(net, 3)
    alone = torch.cat([net(x[:, i : i + 1]) for i in range(3)])
    torch.testing.assert_close(alone, net(x), rtol=1e-4, atol=1e-5)


def test_every_parameter_learns(name: str) -> None:
    net = small(name).train()
    # random weights in what may start at 0, so that gradients pass
    for parameter in net.parameters():
        if parameter.ndim == 1 and not parameter.any():
            nn.init.normal_(parameter, 0.0, 0.5)
    scores = net(in_time(net, 4))
    (scores * torch.randn_like(scores)).sum().backward()  # not their square: rates may all be 0
    learning = [(n, p) for n, p in net.named_parameters() if p.requires_grad]
    without = [n for n, p in learning if p.grad is None or not p.grad.isfinite().all()]
    assert not without
    # a bias before a batch norm has a gradient of nothing but rounding
    assert sum(bool(p.grad.any()) for p in net.parameters() if p.grad is not None) >= 2


def test_a_stream_of_chunks_is_the_whole(name: str) -> None:
    net = small(name)
    if net.fixed_T:
        pytest.skip("its weights belong to steps")
    each = small(name, readout="none")
    x = in_time(net, 2)
    stream = sl.Stream(each)
    torch.testing.assert_close(torch.cat([stream(x[:1]), stream(x[1:])]), each(x), rtol=1e-4, atol=1e-5)


class Own(sl.Neuron):
    """A neuron of a researcher's own, which knows neither thresholds nor axes."""

    states = ("v",)

    def __init__(self) -> None:
        super().__init__(surrogate=sl.surrogate.Triangle())

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        h = 0.5 * v + x
        s = self.spike(h - 0.7)
        return s, h - 0.7 * s


@pytest.mark.parametrize("neuron", ["PLIF", "ReLU", Own])
def test_any_neuron(name: str, neuron: Any) -> None:
    net = small(name, neuron=neuron)
    kinds = {type(m).__name__ for m in net.modules() if isinstance(m, (sl.Neuron, nn.ReLU))}
    wanted = neuron if isinstance(neuron, str) else neuron.__name__
    assert wanted in kinds
    assert net(in_time(net, 2)).isfinite().all()
    options = {"surrogate": {"Sigmoid": {"alpha": 3.0}}}
    if neuron == "PLIF":
        chosen = small(name, neuron=neuron, neuron_options=options)
        found = {repr(m.surrogate) for m in chosen.modules() if isinstance(m, sl.PLIF)}
        assert found == {"Sigmoid(alpha=3.0)"}


@pytest.mark.parametrize("norm", ["tdBN", "TEBN", "BNTT"])
def test_any_norm(name: str, norm: str) -> None:
    net = small(name, norm=norm)
    x = in_time(net, 2)
    assert net(x).isfinite().all()
    if norm != "tdBN":  # it has weights of each step
        assert net.fixed_T
        with pytest.raises(ValueError, match=r"build it with T="):
            net(torch.cat([x, x]))


def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    net = small(name)
    x = in_time(net, 2)
    save_pretrained(net, tmp_path / "net")
    torch.testing.assert_close(from_pretrained(tmp_path / "net")(x), net(x))


def test_bad_input(name: str) -> None:
    small_arguments = dict(network(name).small)
    with pytest.raises(ValueError, match="T = 0; a static image is shown for at least 1 step"):
        sl.create_model(name, **{**small_arguments, "T": 0})
    with pytest.raises(UnknownName, match="no neuron 'PLFI'; did you mean 'PLIF'"):
        sl.create_model(name, **{**small_arguments, "neuron": "PLFI"})
    with pytest.raises(UnknownName, match="no norm 'tdNB'; did you mean 'tdBN'"):
        sl.create_model(name, **{**small_arguments, "norm": "tdNB"})
    with pytest.raises(UnknownName, match="num_classes"):
        sl.create_model(name, **small_arguments, num_clases=3)
    net = small(name)
    x = in_time(net, 2)
    with pytest.raises(ValueError, match="takes images"):
        net(x[:, :, :0])
    with pytest.raises(ValueError, match="takes images"):
        net(x.flatten(-3))
    if net.multiple_of > 1 or net.fixed_size:
        with pytest.raises(ValueError, match=r"its strides take multiples of|weights of each of"):
            net(x[..., :-1])
    else:
        assert net(x[..., :-1]).isfinite().all()
    if net.fixed_T:
        with pytest.raises(ValueError, match="build it with T="):
            net(torch.cat([x, x]))


def test_an_unknown_variant_is_answered_with_the_nearest(name: str) -> None:
    with pytest.raises(UnknownName, match=f"did you mean '{name}'"):
        sl.create_model(name + "x")
