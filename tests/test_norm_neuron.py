"""NormNeuron: the numbers of PerStep(norm) and then the neuron, from one kernel each way."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from zoo import NEURONS

import spikeloom as sl
from spikeloom import kernels
from spikeloom.kernels import channels
from spikeloom.measure import FiringRates

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels-last": lambda x: x.movedim(2, -1).contiguous().movedim(-1, 2),
    "batch first": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "every other": lambda x: x.repeat_interleave(2, 0)[::2],
    "every other column": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "static image": lambda x: x[:1].expand_as(x),
}
SHAPES = {
    nn.BatchNorm1d: [(4, 6, 5), (3, 2, 5, 7)],
    nn.BatchNorm2d: [(4, 3, 5, 3, 4)],
    nn.BatchNorm3d: [(2, 3, 5, 2, 3, 2)],
}
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def shaken(norm: nn.Module) -> nn.Module:
    """Return the norm with weights, biases and running statistics that are no defaults."""
    for value in [*norm.parameters(), *norm.buffers()]:
        if value.is_floating_point():
            value.data.uniform_(0.5, 1.5)
    return norm


class Apart(nn.Module):
    """The truth: the same norm and neuron one after the other, on the eager backend."""

    def __init__(self, both: sl.NormNeuron) -> None:
        super().__init__()
        self.norm, self.neuron = both.norm, both.neuron
        self.last = both.channel_axis == -1

    def forward(self, x: Tensor, *inputs: Tensor) -> Tensor:
        with sl.backend("eager"):
            if self.last:
                y = sl.PerStep(self.norm)(x.movedim(-1, 2)).movedim(2, -1)
            else:
                y = sl.PerStep(self.norm)(x)
            return self.neuron(y, *inputs)


def passed(net: nn.Module, x: Tensor, *inputs: Tensor, calls: int = 1) -> dict[str, Tensor]:
    """Return the output, the gradients and the buffers after some calls, by name."""
    net = copy.deepcopy(net)
    leaves = [t.detach().requires_grad_() for t in (x, *inputs)]
    for _ in range(calls):
        y = net(*leaves)
        generator = torch.Generator().manual_seed(1)
        y.backward(torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.dtype))
    grads = {f"gradient of {k}": p.grad for k, p in net.named_parameters() if p.grad is not None}
    of_inputs = {f"gradient of input {i}": leaf.grad for i, leaf in enumerate(leaves)}
    return {"out": y.detach(), **of_inputs, **grads, **dict(net.named_buffers())}


def assert_alike(both: sl.NormNeuron, x: Tensor, *inputs: Tensor, calls: int = 1) -> None:
    found, truth = passed(both, x, *inputs, calls=calls), passed(Apart(both), x, *inputs, calls=calls)
    assert found.keys() == truth.keys()
    close = TOLERANCE[x.dtype]
    for name, value in truth.items():
        torch.testing.assert_close(
            found[name], value, rtol=close, atol=close, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", SHAPES)
def test_it_is_the_norm_and_then_the_neuron(
    kind: type[nn.Module], training: bool, dtype: torch.dtype
) -> None:
    for shape in SHAPES[kind]:
        both = sl.NormNeuron(shaken(kind(5)), sl.PLIF()).to(dtype).train(training)
        assert_alike(both, 1 + 2 * torch.randn(shape, dtype=dtype), calls=2)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("training", [True, False])
def test_any_layout(layout: str, training: bool) -> None:
    both = sl.NormNeuron(shaken(nn.BatchNorm2d(5)), sl.LIF()).double().train(training)
    assert_alike(both, LAYOUTS[layout](torch.randn(4, 3, 5, 6, 4, dtype=torch.float64)))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"affine": False},
        {"track_running_stats": False},
        {"affine": False, "track_running_stats": False},
        {"momentum": None},
        {"momentum": 0.3, "eps": 0.1},
    ],
    ids=str,
)
def test_every_option_of_the_norm(options: dict[str, Any], training: bool) -> None:
    both = sl.NormNeuron(shaken(nn.BatchNorm1d(5, **options)), sl.LIF()).double().train(training)
    assert_alike(both, torch.randn(4, 3, 5, 6, dtype=torch.float64), calls=3)


@pytest.mark.parametrize("name", NEURONS)
def test_every_neuron(name: str) -> None:
    entry = NEURONS[name]
    neuron = entry.make(**entry.tensors("channel", [3, 5, 4]), learnable=entry.params())
    norm = nn.BatchNorm1d(5)
    with torch.no_grad():
        norm.weight.fill_(entry.scale)
        norm.bias.fill_(entry.mean)
    x, *further = entry.inputs(5, 3, 5, 4, dtype=torch.float64)
    assert_alike(sl.NormNeuron(norm, neuron).double(), x, *further)


@pytest.mark.parametrize("shape", [(4, 3, 5), (4, 3, 7, 5), (2, 3, 2, 4, 5)])
@pytest.mark.parametrize("training", [True, False])
def test_channels_on_the_last_axis(shape: tuple[int, ...], training: bool) -> None:
    neuron = sl.LIF(tau=torch.rand(5) + 1.5, learnable="tau", channel_axis=-1)
    both = sl.NormNeuron(shaken(nn.BatchNorm1d(5)), neuron, channel_axis=-1).double().train(training)
    x = torch.randn(shape, dtype=torch.float64)
    if len(shape) < 5:
        assert_alike(both, x)
    torch.testing.assert_close(both(x), both.neuron(both.normalise(x)))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_threshold_dependent(training: bool, affine: bool) -> None:
    made = sl.nn.ThresholdDependentBatchNorm2d(5, v_threshold=0.5, alpha=2**-0.5, affine=affine)
    norm = shaken(made).double().train(training)
    x = 2 + 3 * torch.randn(4, 3, 5, 3, 4, dtype=torch.float64)
    mean, var = norm.running_mean.clone(), norm.running_var.clone()
    if training:
        var, mean = torch.var_mean(x, (0, 1, 3, 4), correction=0)
    mean, var = (value[:, None, None] for value in (mean, var))
    want = 2**-0.5 * 0.5 * (x - mean) / (var + norm.eps).sqrt()
    if affine:
        want = norm.weight[:, None, None] * want + norm.bias[:, None, None]
    torch.testing.assert_close(sl.PerStep(norm)(x), want)
    plain = nn.BatchNorm2d(5).double()
    plain.load_state_dict(nn.BatchNorm2d(5).state_dict())
    assert_alike(sl.NormNeuron(norm, sl.LIF(v_threshold=0.5)), x, calls=2)


def test_threshold_dependent_counts_as_torch_does() -> None:
    for options in ({}, {"momentum": None}, {"track_running_stats": False}):
        norm = sl.nn.ThresholdDependentBatchNorm1d(5, **options)
        plain = nn.BatchNorm1d(5, **options)
        for x in torch.randn(3, 8, 5):
            torch.testing.assert_close(norm(x), plain(x))
        for a, b in zip(norm.buffers(), plain.buffers(), strict=True):
            torch.testing.assert_close(a, b)
    with pytest.raises(ValueError, match="v_threshold = 0; it must be > 0"):
        sl.nn.ThresholdDependentBatchNorm2d(5, v_threshold=0)


@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
def test_a_mean_of_a_hundred_deviations_costs_no_digits(layout: str) -> None:
    """In fp32 no further from float64 than batch norm itself has to be, since x is rounded."""
    x = LAYOUTS[layout](100 + torch.randn(4, 8, 5, 12, 12))
    both = sl.NormNeuron(shaken(nn.BatchNorm2d(5)), sl.LI())  # no spike, so that rounding stays rounding
    found = passed(both, x)
    truth = passed(Apart(copy.deepcopy(both).double()), x.double())
    for name, value in truth.items():
        error = (found[name].double() - value).norm() / value.double().norm()
        assert error < 1e-5, f"{name} is off by {error:.1e}"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
def test_half_precision_is_the_truth_of_the_rounded_input(dtype: torch.dtype, layout: str) -> None:
    x = LAYOUTS[layout]((1 + 2 * torch.randn(4, 6, 5, 8, 8)).to(dtype))
    both = sl.NormNeuron(shaken(nn.BatchNorm2d(5)), sl.PLIF())
    found, truth = passed(both, x), passed(both, x.float())
    assert found["out"].dtype == dtype
    assert torch.equal(found["out"].float(), truth["out"])
    for name, value in truth.items():
        close = 2e-2 if name == "gradient of input 0" else 1e-2 if "gradient" in name else 1e-6
        error = (found[name].float() - value).norm() / value.float().norm()
        assert error < close, f"{name} is off by {error:.1e}"


def test_autocast_keeps_statistics_and_state_in_single_precision() -> None:
    conv, norm = nn.Conv2d(2, 5, 3, bias=False), shaken(nn.BatchNorm2d(5))
    fused = nn.Sequential(sl.PerStep(conv), sl.NormNeuron(norm, sl.LIF()))
    apart = nn.Sequential(sl.PerStep(conv, norm), sl.LIF())
    x = torch.randn(4, 6, 2, 12, 12)
    means, outs, grads = [], [], []
    for net in (fused, apart):
        norm.running_mean.zero_()
        with torch.autocast("cpu", torch.bfloat16):
            out = net(x)
        assert out.dtype == torch.bfloat16
        (grad,) = torch.autograd.grad(out.float().sum(), conv.weight)
        assert norm.running_mean.dtype == torch.float32
        means.append(norm.running_mean.clone())
        outs.append(out.float())
        grads.append(grad)
    torch.testing.assert_close(*means)
    assert (outs[0] != outs[1]).float().mean() < 0.01  # apart, the normalised value is rounded to bf16
    assert (grads[0] - grads[1]).norm() < 0.05 * grads[1].norm()
    _, state, _ = fused[1].run(torch.randn(4, 6, 5, 3, 3).bfloat16())
    assert state["v"].dtype == torch.float32


@pytest.mark.parametrize("training", [True, False])
def test_states_in_and_out(training: bool) -> None:
    both = sl.NormNeuron(shaken(nn.BatchNorm1d(5)), sl.ALIF()).double().train(training)
    x = torch.randn(6, 3, 5, dtype=torch.float64, requires_grad=True)
    start = {k: torch.randn(3, 5, dtype=torch.float64, requires_grad=True) for k in both.states}
    found = []
    for backend in ("numba", "eager"):
        with sl.backend(backend):
            out, final, traces = copy.deepcopy(both).run(x, state=start)
            assert traces == {}
            loss = out.sum() + sum(value.sin().sum() for value in final.values())
            grads = torch.autograd.grad(loss, [x, *start.values()])
        found.append([out, *final.values(), *grads])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.filterwarnings("ignore:ALIF.run.record")
def test_recording() -> None:
    both = sl.NormNeuron(shaken(nn.BatchNorm1d(5)), sl.ALIF()).eval()
    x = torch.randn(6, 3, 5)
    out, final, traces = both.run(x, record=("v",))
    torch.testing.assert_close(out, both(x))
    assert traces["v"].shape == x.shape
    torch.testing.assert_close(traces["v"][-1], final["v"])


def test_a_stream_is_exact_in_eval() -> None:
    net = nn.Sequential(
        sl.PerStep(nn.Linear(4, 5)), sl.NormNeuron(shaken(nn.BatchNorm1d(5)), sl.LIF()), sl.LIF()
    ).eval()
    x = torch.randn(7, 3, 4, dtype=torch.float64)
    net.double()
    stream = sl.Stream(net)
    chunks = torch.cat([stream(chunk) for chunk in x.split([2, 1, 4])])
    assert torch.equal(chunks, net(x))
    assert set(stream.state) == {"1#0.v", "2#0.v"}
    with pytest.warns(
        sl.SpikeloomWarning, match=r"BatchNorm1d '1.norm' takes its statistics from each chunk"
    ):
        sl.Stream(net.train())(x)


def test_backward_keeps_x_alone() -> None:
    both, kept = sl.NormNeuron(nn.BatchNorm2d(5), sl.LIF()), {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    x = torch.randn(4, 8, 5, 16, 16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        both(x)
    assert x.nbytes <= sum(kept.values()) <= x.nbytes + 200


@pytest.mark.filterwarnings("ignore:a double backward")
@pytest.mark.parametrize("training", [True, False])
def test_double_backward(training: bool) -> None:
    neuron = sl.LIF(surrogate=sl.surrogate.Smooth(sl.surrogate.Sigmoid(2.0)))
    both = sl.NormNeuron(shaken(nn.BatchNorm1d(2)), neuron).double().train(training)
    x = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    parameters = tuple(both.norm.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: both(x), (x, *parameters))
    assert torch.autograd.gradgradcheck(lambda x, *_: both(x), (x, *parameters))


def test_gradients_of_some_alone() -> None:
    x = torch.randn(4, 3, 5, dtype=torch.float64)
    for frozen in ("norm.weight", "norm.bias", "neuron.w"):
        both = sl.NormNeuron(shaken(nn.BatchNorm1d(5)), sl.PLIF()).double()
        both.get_parameter(frozen).requires_grad_(False)
        assert_alike(both, x)
    both(x).sum().backward()  # x needs none
    with torch.no_grad():
        assert torch.equal(both(x), both(x.clone().requires_grad_()))


# -- what compilers see ---------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"momentum": None}], ids=str)
def test_it_compiles_whole(training: bool, options: dict[str, Any]) -> None:
    torch._dynamo.reset()
    both = sl.NormNeuron(shaken(nn.BatchNorm2d(5, **options)), sl.PLIF()).double().train(training)
    x = torch.randn(4, 3, 5, 6, 4, dtype=torch.float64)
    twin = copy.deepcopy(both)
    twin.compile(fullgraph=True, backend="aot_eager")
    found, truth = passed_in_place(twin, x), passed_in_place(both, x)
    for name, value in truth.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}"
        )


def passed_in_place(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    leaf = x.clone().requires_grad_()
    y = net(leaf)
    y.square().sum().backward()
    grads = {f"gradient of {k}": p.grad for k, p in net.named_parameters()}
    return {"out": y, "gradient of input": leaf.grad, **grads, **dict(net.named_buffers())}


def test_steps_and_batch_compile_once() -> None:
    torch._dynamo.reset()
    graphs: list[Any] = []

    def count(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    net = nn.Sequential(sl.PerStep(nn.Linear(6, 5)), sl.NormNeuron(nn.BatchNorm1d(5), sl.LIF())).double()
    compiled = torch.compile(net, fullgraph=True, backend=count, dynamic=True)
    for steps, batch in ((3, 2), (4, 2), (7, 9), (20, 3)):
        x = torch.randn(steps, batch, 6, dtype=torch.float64)
        assert torch.equal(compiled(x), net(x))
    assert len(graphs) == 1


def test_ensembles_and_gradients_of_each_sample() -> None:
    members = [sl.NormNeuron(shaken(nn.BatchNorm1d(5)), sl.PLIF()).double() for _ in range(3)]
    parameters, buffers = torch.func.stack_module_state(members)
    x = torch.randn(4, 6, 5, dtype=torch.float64)

    def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(copy.deepcopy(members[0]), (parameters, buffers), (x,)).sum()

    found = torch.func.vmap(torch.func.grad(loss), in_dims=(0, 0, None))(parameters, buffers, x)
    for i, member in enumerate(members):
        member(x).sum().backward()
        for name, parameter in member.named_parameters():
            torch.testing.assert_close(found[name][i], parameter.grad)
        torch.testing.assert_close(buffers["norm.running_var"][i], member.norm.running_var)


# -- when they run one after the other ------------------------------------------------------------


def test_hooks_are_called() -> None:
    both, seen = sl.NormNeuron(shaken(nn.BatchNorm1d(5)), sl.LIF()).double(), []
    x = torch.randn(4, 3, 5, dtype=torch.float64)
    want = both(x)
    both.norm.register_forward_hook(lambda module, inputs, out: seen.append("norm"))
    both.neuron.register_forward_hook(lambda module, inputs, out: seen.append("neuron"))
    with pytest.warns(sl.SpikeloomWarning, match="BatchNorm1d has hooks"):
        torch.testing.assert_close(both(x), want)
    assert seen == ["norm", "neuron"]


class Branching(sl.Neuron):
    eager = True

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        s = self.spike(v + x - 1) if float(v.detach().sum()) < 1e9 else x
        return s, (v + x) * (1 - s)


@pytest.mark.filterwarnings("ignore:(NormNeuron|Branching) runs")
def test_a_neuron_without_a_kernel() -> None:
    assert_alike(
        sl.NormNeuron(shaken(nn.BatchNorm1d(5)), Branching()).double(), torch.randn(4, 3, 5).double()
    )


def test_equations_that_change_are_read_again() -> None:
    both = sl.NormNeuron(shaken(nn.BatchNorm1d(5)), sl.LIF())
    x = torch.randn(4, 3, 5, dtype=torch.float64)
    both.double()(x)
    both.neuron.surrogate = sl.surrogate.Sigmoid(3.0)
    assert_alike(both, x)
    both.neuron = sl.ALIF()
    assert both.states == sl.ALIF.states
    assert_alike(both, x)


# -- what it refuses ------------------------------------------------------------------------------


class Other(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


@pytest.mark.parametrize(
    "norm", [nn.SyncBatchNorm(3), nn.GroupNorm(1, 3), nn.LazyBatchNorm2d(), nn.LayerNorm(3), Other(3)]
)
def test_other_norms_are_refused(norm: nn.Module) -> None:
    with pytest.raises(TypeError, match=rf"not {type(norm).__name__}; put another norm in front"):
        sl.NormNeuron(norm, sl.LIF())  # type: ignore[arg-type]


def test_a_norm_that_was_replaced_is_refused() -> None:
    net = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(sl.NormNeuron(nn.BatchNorm2d(3), sl.LIF())))
    with pytest.raises(TypeError, match="not SyncBatchNorm"):
        net(torch.randn(2, 2, 3, 4, 4))


def test_misuse() -> None:
    both = sl.NormNeuron(nn.BatchNorm2d(3), sl.LIF())
    with pytest.raises(TypeError, match="takes a neuron second, not ReLU"):
        sl.NormNeuron(nn.BatchNorm2d(3), nn.ReLU())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="channel_axis is 3"):
        sl.NormNeuron(nn.BatchNorm2d(3), sl.LIF(), channel_axis=3)
    with pytest.raises(TypeError, match=r"use nn.BatchNorm1d\(3\)"):
        sl.NormNeuron(nn.BatchNorm2d(3), sl.LIF(), channel_axis=-1)
    with pytest.raises(ValueError, match=r"of 5 axes, but was given shape \(2, 3, 4, 4\)"):
        both(torch.randn(2, 3, 4, 4))
    with pytest.raises(ValueError, match="has 3 features, but axis 2 of x"):
        both(torch.randn(2, 2, 4, 4, 4))
    with pytest.raises(ValueError, match="the norm is on meta, but x is on cpu"):
        sl.NormNeuron(nn.BatchNorm2d(3, device="meta"), sl.LIF())(torch.randn(2, 2, 3, 4, 4))
    with pytest.raises(ValueError, match="one value a channel"):
        both(torch.randn(1, 1, 3, 1, 1))
    both.eval()(torch.randn(1, 1, 3, 1, 1))
    with pytest.raises(TypeError, match="sees time"):
        sl.PerStep(both)
    with pytest.raises(TypeError, match="floating-point"):
        both(torch.ones(2, 2, 3, 4, 4, dtype=torch.long))


# -- the two passes of its own --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    "shape", [(4, 8, 5, 9, 9), (3, 5, 1, 4, 4), (2, 3, 70, 1, 1), (5, 7, 2), (40, 40, 3, 16, 16)], ids=str
)
@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
def test_moments_and_correction(
    dtype: torch.dtype, shape: tuple[int, ...], layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = LAYOUTS[layout]((3 + torch.randn(shape)).to(dtype))
    dims = [i for i in range(x.ndim) if i != 2]
    compute = kernels.compute_dtype(dtype)
    mean, var = channels.moments(x, 2)
    assert mean.dtype == var.dtype == compute
    want_var, want_mean = torch.var_mean(x.double(), dims, correction=0)
    close = 1e-12 if dtype == torch.float64 else 1e-6
    torch.testing.assert_close(mean.double(), want_mean, rtol=close, atol=close)
    torch.testing.assert_close(var.double(), want_var, rtol=close, atol=close)
    g = torch.empty_strided(x.shape, x.stride(), dtype=dtype).copy_(torch.randn(shape))
    slope, offset = torch.randn(2, shape[2]).to(compute)
    m, a, b = (channels.along(v.double(), x, 2) for v in (mean, slope, offset))
    want = (g.double() + (x.double() - m) * a + b).to(dtype)
    got = channels.correct(g, x, mean, slope, offset, 2)
    assert got is g
    close = {8: 1e-12, 4: 1e-5, 2: 2e-2}[dtype.itemsize]
    torch.testing.assert_close(got, want, rtol=close, atol=close)


# -- what others see of it ------------------------------------------------------------------------


def test_explain_and_rates_see_one_layer() -> None:
    both = sl.NormNeuron(nn.BatchNorm1d(5), sl.LIF(tau=3.0))
    net, x = nn.Sequential(both, sl.LIF()), torch.randn(4, 30, 5)
    before = both.norm.running_mean.clone()
    first, second = sl.explain(net, x).rows
    assert (first.layer, first.backend, second.layer) == ("0", "numba", "1")
    assert first.neuron == "NormNeuron(BatchNorm1d, LIF(v_threshold=1, v_reset=0, tau=3))"
    assert 4.0 <= first.bytes_per_neuron_step < 4.5  # x, and values by channel
    assert torch.equal(both.norm.running_mean, before)
    with FiringRates(net) as rates:
        y = both(x)
        net(x)
    assert set(rates.layers()) == {"0", "1"}
    assert rates.layers()["0"] == y.mean()


@pytest.mark.filterwarnings("ignore:NormNeuron runs")
def test_explain_says_when_they_run_apart() -> None:
    both = sl.NormNeuron(nn.BatchNorm1d(5), sl.LIF())
    both.norm.register_forward_hook(lambda module, inputs, out: None)
    (row,) = sl.explain(both, torch.randn(4, 3, 5)).rows
    assert "BatchNorm1d has hooks" in row.why
