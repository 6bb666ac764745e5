"""TA-SNN: published numbers of parameters, its neuron by hand, its layers in their order."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from model_cases import parameters
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.models import from_pretrained, save_pretrained
from spikeloom.names import UnknownName
from spikeloom.nn import TemporalAttention

COUNTED: list[tuple[str, dict[str, Any], int]] = [
    ("ta_snn_dvs_gesture", {"attention": "none"}, 2_324_065),
    ("ta_snn_dvs_gesture", {"T": 10, "reduction": 5}, 2_324_325),
    ("ta_snn_dvs_gesture", {}, 2_324_520),
    ("ta_snn_dvs_gesture", {"T": 60}, 2_326_180),
    ("ta_snn_cifar10_dvs", {}, 2_098_282),
    ("ta_snn_shd", {}, 109_528),
]
SHD: dict[str, Any] = {"in_features": 12, "hidden": (8, 6), "num_classes": 5, "T": 4, "reduction": 2}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(("name", "arguments", "count"), COUNTED)
def test_parameters(name: str, arguments: dict[str, Any], count: int) -> None:
    assert parameters(name, **arguments) == count


def small(**more: Any) -> nn.Module:
    """Return the image network small, its running statistics those of data."""
    given = {"channels": (4, 8), "pools": (1, 2), "hidden": 16, "image_size": 8, "num_classes": 5}
    net = sl.create_model("ta_snn_dvs_gesture", **{**given, "T": 4, "reduction": 2, **more})
    for _ in range(10):
        net(3 * torch.rand(4, 6, 2, 8, 8))
    return net.eval()


# -- the neuron -----------------------------------------------------------------------------------


def series(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1)


def test_the_neuron_by_hand() -> None:
    """Decay 0.3, threshold 0.3: a spike leaves 0.3 behind, so 0.09 at the next step, whatever h was."""
    x = series(0.2, 0.25, 1.0, 0.2, 0.21, -1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sl.SpikeloomWarning)  # that recording is slower
        out, _, traces = sl.ClampedLIF().run(x, record=("v",))
    # h = 0.2 | 0.06 + 0.25 = 0.31 | 0.09 + 1 | 0.09 + 0.2 = 0.29 | 0.087 + 0.21 = 0.297 | 0.0891 - 1
    assert out.flatten().tolist() == [0, 1, 1, 0, 0, 0]
    torch.testing.assert_close(traces["v"], series(0.2, 0.3, 0.3, 0.29, 0.297, 0.0891 - 1))
    h = series(0.2, 0.31, 1.09, 0.29, 0.297, 0.0891 - 1)
    torch.testing.assert_close(sl.ClampedLIF(output="NTR")(x), h.clamp(min=0))
    torch.testing.assert_close(sl.ClampedLIF(output="TR")(x), (h - 0.3).clamp(min=0))
    assert sl.ClampedLIF(v_threshold=0.5)(series(0.5)).item() == 1  # at the threshold, too


@pytest.mark.parametrize("output", ["spike", "NTR", "TR"])
def test_the_neuron_as_the_code_writes_it(output: Any) -> None:
    """u = m + x, s = [u >= 0.3], m' = 0.3 (0.3 s + (1 - s) u), with a rectangular stand-in derivative."""

    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, u: Tensor) -> Tensor:
            ctx.save_for_backward(u)
            return (u >= 0).to(u.dtype)

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            (u,) = ctx.saved_tensors
            return g * (u.abs() < 0.25) / 0.5

    x = (0.2 + 0.4 * torch.randn(12, 5, 7, dtype=torch.float64)).requires_grad_()
    m, outs = torch.zeros(5, 7, dtype=torch.float64), []
    for x_t in x:
        u = m + x_t
        s = Spike.apply(u - 0.3)
        m = 0.3 * (0.3 * s + (1 - s) * u)
        outs.append({"spike": s, "NTR": u.relu(), "TR": (u - 0.3).relu()}[output])
    want, g = torch.stack(outs), torch.randn(12, 5, 7, dtype=torch.float64)
    y = sl.ClampedLIF(output=output, surrogate=sl.surrogate.Rect(0.25))(x)
    torch.testing.assert_close(y, want)
    torch.testing.assert_close(torch.autograd.grad(y, x, g), torch.autograd.grad(want, x, g))


def test_the_neuron_refuses() -> None:
    with pytest.raises(UnknownName, match="no output 'TNR'; did you mean"):
        sl.ClampedLIF(output="TNR")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"tau = 0.5; it must be >= 1 time steps"):
        sl.ClampedLIF(0.5)


# -- the networks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["T", "none"])
def test_conv_norm_pool_attention_neuron(attention: str) -> None:
    """The network against torch, a layer after the other in the paper's order."""
    net = small(attention=attention, norm="timeBN")
    x = 3 * torch.rand(4, 3, 2, 8, 8)
    attentions = [m for m in net.modules() if isinstance(m, TemporalAttention)]
    norms = [m for m in net.modules() if isinstance(m, sl.nn.TimeDependentBatchNorm)]
    layers = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    for norm in norms:
        nn.init.uniform_(norm.bias, 0.0, 0.8)  # so that each step's is its own, and the last layer fires
    inner = {m for a in attentions for m in a.modules()}
    layers = [m for m in layers if m not in inner]
    assert len(layers) == len(norms) == 4
    assert len(attentions) == (4 if attention == "T" else 0)
    y = x
    for i, (layer, norm) in enumerate(zip(layers, norms, strict=True)):
        if i == 2:
            y = y.flatten(2)
        y = norm(torch.stack([layer(step) for step in y]))
        if i == 1:
            y = torch.stack([nn.functional.avg_pool2d(step, 2) for step in y])
        if attentions:
            y = attentions[i](y)
        y = sl.ClampedLIF(10 / 7, v_threshold=0.3)(y)
    assert 0 < y.mean() < 1
    torch.testing.assert_close(net(x), y.mean(0))


def test_what_it_is_made_of() -> None:
    for name, window in (("dvs_gesture", 0.25), ("cifar10_dvs", 0.5), ("shd", 0.125)):
        with torch.device("meta"):
            net = sl.create_model(f"ta_snn_{name}")
        found = [m for m in net.modules() if isinstance(m, sl.ClampedLIF)]
        assert len(found) == {"dvs_gesture": 5, "cifar10_dvs": 7, "shd": 3}[name]
        for neuron in found:
            assert neuron.tau == pytest.approx(1 / 0.7)
            assert neuron.v_threshold == 0.3
            assert repr(neuron.surrogate) == f"Rect(a={window})"
        assert sum(isinstance(m, TemporalAttention) for m in net.modules()) == len(found)


def test_the_baseline_takes_any_number_of_steps_and_streams() -> None:
    net = small(attention="none", readout="none")
    x = 3 * torch.rand(7, 2, 2, 8, 8)
    stream = sl.Stream(net)
    torch.testing.assert_close(torch.cat([stream(x[:3]), stream(x[3:])]), net(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(RuntimeError, match="TemporalAttention looks ahead"):
        sl.Stream(small())(x[:4])
    with pytest.raises(ValueError, match="its T = 4 steps, but was given 7 steps; build it with T=7"):
        small()(x)


def test_between_neurons_there_are_spikes() -> None:
    rows = [row for row in sl.measure.profile(small(), 3 * torch.rand(4, 2, 2, 8, 8)).rows if row.kinds]
    kinds = {row.path: row.kinds for row in rows if ".scores." not in row.path}
    assert len(kinds) == 4
    assert kinds.pop("stem.0") == ("graded",)
    assert set(kinds.values()) == {("binary",)}
    # two small layers to an attention see means
    assert [row.kinds for row in rows if ".scores." in row.path] == [("graded",)] * 8


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"pools \(1,\); one of each a convolution"):
        small(pools=(1,))
    with pytest.raises(UnknownName, match="no attention 'TA'; did you mean 'T'"):
        small(attention="TA")
    with pytest.raises(ValueError, match=r"T = 4, reduction = 5; .* from 1 to 4"):
        small(reduction=5)


# -- sound ----------------------------------------------------------------------------------------


def test_sound() -> None:
    net = sl.create_model("ta_snn_shd", **SHD)
    assert net.input_shape == (12,)
    assert net.fixed_T
    assert not sl.create_model("ta_snn_shd", **SHD, attention="none").fixed_T
    x = 3 * torch.rand(4, 6, 12)
    net(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    net.eval()
    assert net(x).shape == (6, 5)
    torch.testing.assert_close(net(x[0]), net(x[:1].expand(4, -1, -1)))
    torch.testing.assert_close(torch.cat([net(x[:, b : b + 1]) for b in range(6)]), net(x))
    each = sl.create_model("ta_snn_shd", **SHD, readout="none").eval()
    each.load_state_dict(net.state_dict())
    scores = each(x)
    assert scores.shape == (4, 6, 5)
    assert set(scores.unique().tolist()) <= {0.0, 1.0}
    torch.testing.assert_close(scores.mean(0), net(x))


@pytest.mark.parametrize(
    "more",
    [
        {"attention": "none"},
        {"norm": "tdBN"},
        {"norm": "TEBN"},
        {"norm": "BNTT", "attention": "none"},
        {"neuron": "ReLU"},
        {"neuron": "PLIF"},
        {"neuron_options": {"output": "TR"}},
        {"dropout": 0.0},
    ],
)
def test_sound_with_other_parts(more: dict[str, Any], tmp_path: Any) -> None:
    net = sl.create_model("ta_snn_shd", **SHD, **more)
    x = 3 * torch.rand(4, 6, 12)
    for _ in range(3):
        assert net(x).isfinite().all()
    net.eval()
    save_pretrained(net, tmp_path / "net")
    torch.testing.assert_close(from_pretrained(tmp_path / "net")(x), net(x))


def test_sound_refuses() -> None:
    net = sl.create_model("ta_snn_shd", **SHD)
    for shape in ((4, 6, 11), (12,), (0, 6, 12), (4, 6, 3, 4)):
        with pytest.raises(ValueError, match=r"takes \[B, 12\] or \[T, B, 12\]"):
            net(torch.rand(shape))
    with pytest.raises(ValueError, match="build it with T=3"):
        net(torch.rand(3, 6, 12))
    with pytest.raises(RuntimeError, match="looks ahead"):
        sl.Stream(net.eval())(torch.rand(4, 6, 12))
    for options, why in (
        ({"T": 0}, "T = 0"),
        ({"hidden": ()}, "at least one layer"),
        ({"norm": "B"}, "no norm"),
    ):
        with pytest.raises(ValueError, match=why):
            sl.create_model("ta_snn_shd", **{**SHD, **options})
