"""Recurrent's kernels equal the eager loop: outputs, final states, and every gradient."""

from __future__ import annotations

import copy
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from pairs import all_pairs
from torch import Tensor, nn
from truth import assert_same, run
from zoo import NEURONS

import spikeloom as sl
from spikeloom.announce import SpikeloomWarning
from spikeloom.kernels import recur_run, recur_steps
from spikeloom.kernels.cpu import numba_backend, pool
from spikeloom.kernels.cpu import recur as recur_numba
from spikeloom.kernels.gpu import triton_backend

F64 = torch.float64


pytestmark = pytest.mark.usefixtures("poison")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small runs be shared among threads, too."""
    torch.manual_seed(0)
    monkeypatch.setattr(numba_backend, "SERIAL", 0)


@pytest.fixture(params=["fused", "step by step"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the kernel of all steps, or what a GPU runs: a kernel a step."""
    if request.param == "step by step":
        monkeypatch.setattr(recur_run, "_kernels", lambda device: recur_steps)
    return str(request.param)


def layout(x: Tensor, name: str) -> Tensor:
    if name == "transposed":
        return x.transpose(0, 1).contiguous().transpose(0, 1)
    if name == "strided":
        return torch.stack([x, torch.full_like(x, torch.nan)], -1)[..., 0]
    return x[:1].expand_as(x) if name == "expanded" else x


AXES: dict[str, Any] = {
    "neuron": ("LIF", "PLIF", "ALIF", "NoisyLIF", "LIAF"),
    "parameters": ("scalar", "channel", "neuron"),
    "steps": (1, 2, 20),
    "shape": ((3, 1), (1, 5), (13, 33), (9, 40), (2, 3, 7)),
    "layout": ("contiguous", "transposed", "strided", "expanded"),
    "bias": (True, False),
    "state": (True, False),
}


@pytest.mark.parametrize("case", all_pairs(AXES), ids=lambda case: "-".join(str(v) for v in case.values()))
def test_kernels_equal_the_truth(case: dict[str, Any], path: str) -> None:
    entry, steps, shape = NEURONS[case["neuron"]], case["steps"], case["shape"]
    neuron = entry.make(**entry.tensors(case["parameters"], shape), learnable=entry.params())
    if len(shape) == 3 and case["parameters"] == "channel":
        neuron.channel_axis = 2
    net = sl.Recurrent(neuron, nn.Linear(shape[-1], shape[-1], bias=case["bias"])).double()
    inputs = [layout(x, case["layout"]) for x in entry.inputs(steps, *shape, dtype=F64)]
    state = g_final = None
    if case["state"]:
        state = {name: torch.rand(shape, dtype=F64) for name in net.states}
        g_final = {name: torch.randn(shape, dtype=F64) for name in net.states}
    g = torch.randn(steps, *shape, dtype=F64)
    got, want = (run(net, name, inputs, g, state, g_final) for name in ("numba", "eager"))
    assert_same(got, want, F64)


@pytest.mark.parametrize("wanted", ["x", "weight", "tau", "state"])
def test_each_gradient_alone(wanted: str, path: str) -> None:
    net = sl.Recurrent(sl.LIF(tau=2.0, learnable="tau"), nn.Linear(5, 5)).double()
    x = 2 * torch.randn(6, 3, 5, dtype=F64)
    state = {name: torch.rand(3, 5, dtype=F64) for name in net.states}
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    leaf = {"x": x, "weight": net.synapse.weight, "tau": net.neuron.tau, "state": state["feedback"]}[wanted]
    leaf.requires_grad_()
    found = []
    for backend in ("numba", "eager"):
        with sl.backend(backend):
            out, _, _ = net.run(x, state=state)
            found += torch.autograd.grad(out.square().sum() + out[2].sum(), leaf)
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


# fp16's eager sums of weight gradients, step by step in fp16, are rounded more often than ours
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_data(dtype: torch.dtype, path: str) -> None:
    net = sl.Recurrent(sl.LIF(tau=2.0, learnable="tau"), nn.Linear(40, 40)).to(dtype)
    with torch.no_grad():
        net.synapse.weight.mul_(0.3)  # a chaotic net would amplify rounding
    x, g = (0.6 + torch.randn(12, 9, 40)).to(dtype), torch.randn(12, 9, 40).to(dtype)
    state = {"v": torch.rand(9, 40), "feedback": torch.randint(0, 2, (9, 40)).to(dtype)}
    g_final = {"v": torch.randn(9, 40), "feedback": torch.randn(9, 40).to(dtype)}
    got, want = (run(net, name, [x], g, state, g_final) for name in ("numba", "eager"))
    assert_same(got, want, dtype)


@pytest.mark.parametrize(
    ("data", "synapse"),
    [
        (torch.float32, torch.bfloat16),
        (torch.float32, torch.float16),
        (torch.bfloat16, torch.bfloat16),
    ],
)
def test_autocast_rounds_what_the_eager_synapse_rounds(
    data: torch.dtype, synapse: torch.dtype, path: str
) -> None:
    net = sl.Recurrent(sl.LIF(tau=2.0), nn.Linear(40, 40))
    with torch.no_grad():
        net.synapse.weight.mul_(0.3)
    x, g = (0.6 + torch.randn(12, 9, 40)).to(data), torch.randn(12, 9, 40).to(data)
    found = []
    for backend in ("numba", "eager"):
        with torch.autocast("cpu", synapse):
            found.append(run(net, backend, [x], g))
    assert_same(found[0], found[1], torch.bfloat16)
    assert found[0].out.dtype == data


def test_autocast_leaves_doubles_alone() -> None:
    net, x = sl.Recurrent(sl.LIF(), nn.Linear(5, 5)).double(), torch.randn(4, 3, 5, dtype=F64)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(x), sl.Recurrent(net.neuron, net.synapse)(x))
        assert sl.explain(net, x).rows[0].backend == "numba"


def test_long_sequences_recompute_from_checkpoints() -> None:
    net = sl.Recurrent(sl.LIF(tau=2.0, learnable="tau"), nn.Linear(3, 3)).double()
    x, g = torch.randn(2500, 2, 3, dtype=F64), torch.randn(2500, 2, 3, dtype=F64)
    assert_same(run(net, "numba", [x], g), run(net, "eager", [x], g), F64)


@pytest.mark.skipif(bool(triton_backend.problem()[0]), reason=": ".join(triton_backend.problem()))
@pytest.mark.skipif(not triton_backend.interpreted(), reason="test_gpu.py has it on a GPU")
@pytest.mark.parametrize("dtype", [F64, torch.bfloat16])
def test_a_gpu_s_kernels_in_the_interpreter(dtype: torch.dtype) -> None:
    net = sl.Recurrent(sl.LIF(tau=2.0, learnable="tau"), nn.Linear(7, 7)).to(dtype)
    x, g = (0.6 + torch.randn(5, 3, 7)).to(dtype), torch.randn(5, 3, 7).to(dtype)
    assert_same(run(net, "triton", [x], g), run(net, "eager", [x], g), dtype)
    with sl.backend("triton"):
        assert explained(net, x) == ("triton", "forced; a product and a launch each step")


def test_empty_batch(path: str) -> None:
    net, x = sl.Recurrent(sl.LIF(), nn.Linear(4, 4)), torch.randn(3, 0, 4)
    assert_same(run(net, "numba", [x], x), run(net, "eager", [x], x), torch.float32)


def weights_and_input() -> tuple[sl.Recurrent, Tensor]:
    return sl.Recurrent(sl.LIF(tau=2.0), nn.Linear(70, 70)), 0.6 + torch.randn(9, 21, 70)


def test_neither_threads_nor_batch_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = weights_and_input()
    whole = run(net, "numba", [x], x)
    alone = run(net, "numba", [x[:, 4:7]], x[:, 4:7])
    monkeypatch.setattr(pool, "threads", lambda: 1)
    serial = run(net, "numba", [x], x)
    assert torch.equal(whole.out, serial.out)
    assert torch.equal(whole.of_inputs[0], serial.of_inputs[0])
    assert torch.equal(whole.out[:, 4:7], alone.out)
    assert torch.equal(whole.of_inputs[0][:, 4:7], alone.of_inputs[0])


def test_chunks_of_a_stream_are_the_whole_to_the_bit() -> None:
    net, x = weights_and_input()
    stream = sl.Stream(net)
    assert torch.equal(torch.cat([stream(chunk) for chunk in x.split([1, 5, 3])]), net(x))


def test_events_add_in_the_order_of_the_dense_product(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = weights_and_input()
    rare = run(net, "numba", [x], x)
    monkeypatch.setattr(recur_numba, "RARE", 0)
    dense = run(net, "numba", [x], x)
    assert torch.equal(rare.out, dense.out)
    assert torch.equal(rare.of_inputs[0], dense.of_inputs[0])


def test_zero_times_infinity_is_not_left_out() -> None:
    net, x = sl.Recurrent(sl.LIF(), nn.Linear(6, 6)), torch.randn(3, 5, 6)
    with torch.no_grad():
        net.synapse.weight[2, 3] = torch.inf
    traces = []
    for backend in ("numba", "eager"):
        with sl.backend(backend):
            traces.append(net.run(x)[1]["v"])
    assert traces[0][:, 2].isnan().all()
    torch.testing.assert_close(*traces, equal_nan=True)


def test_what_is_kept_is_z_and_the_output() -> None:
    net, x = sl.Recurrent(sl.LIF(), nn.Linear(64, 64)), torch.randn(50, 8, 64)
    kept = sl.explain(net, x).rows[0].bytes_per_neuron_step
    assert kept == pytest.approx(8 + 4 * 65 / (50 * 8), abs=0.01)  # and the weights


def second_gradients(net: sl.Recurrent, x: Tensor, state: dict[str, Tensor], backend: str) -> list[Tensor]:
    leaves = [x, *net.parameters(), *state.values()]
    with sl.backend(backend):
        out, final, _ = net.run(x, state=state)
        loss = (out * torch.arange(out.numel()).view_as(out)).sum() + final["v"].square().sum()
        first = torch.autograd.grad(loss, leaves, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), leaves, allow_unused=True)
    return [g for g in (*first, *second) if g is not None]


def test_a_double_backward_runs_the_truth() -> None:
    net = sl.Recurrent(sl.LIF(tau=2.0, learnable="tau"), nn.Linear(4, 4)).double()
    x = torch.randn(5, 3, 4, dtype=F64, requires_grad=True)
    state = {name: torch.rand(3, 4, dtype=F64, requires_grad=True) for name in net.states}
    with pytest.warns(SpikeloomWarning, match="double backward runs the eager truth"):
        got = second_gradients(net, x, state, "numba")
    want = second_gradients(net, x, state, "eager")
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing(reentrant: bool) -> None:
    net = sl.Recurrent(sl.LIF(), nn.Linear(4, 4)).double()
    x = torch.randn(5, 3, 4, dtype=F64, requires_grad=True)
    wanted = [x, *net.parameters()]

    def gradients(y: Tensor) -> list[Tensor]:
        for tensor in wanted:
            tensor.grad = None
        y.square().sum().backward()
        return [tensor.grad for tensor in wanted if tensor.grad is not None]

    again = torch.utils.checkpoint.checkpoint(net, x, use_reentrant=reentrant)
    for a, b in zip(gradients(again), gradients(net(x)), strict=True):
        assert torch.equal(a, b)


def test_two_threads_and_a_copy() -> None:
    net, x = weights_and_input()
    want = run(net, "numba", [x], x)
    found: dict[int, Any] = {}

    def work(i: int) -> None:
        found[i] = run(copy.deepcopy(net), "numba", [x], x)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(2):
        assert torch.equal(found[i].out, want.out)
        assert torch.equal(found[i].of_params["synapse.weight"], want.of_params["synapse.weight"])


# -- what runs, and why -------------------------------------------------------------------------------


def explained(net: nn.Module, x: Tensor) -> tuple[str, str]:
    (row,) = sl.explain(net, x).rows
    return row.backend, row.why


def test_explain_tells_what_runs() -> None:
    x = torch.randn(3, 2, 4)
    assert explained(sl.Recurrent(sl.LIF(), nn.Linear(4, 4)), x) == ("numba", "fused CPU kernel")
    assert explained(sl.Recurrent(sl.LIF(), nn.Identity()), x) == (
        "eager",
        "its synapse is a Identity, not a plain nn.Linear",
    )
    with sl.backend("eager"):
        assert explained(sl.Recurrent(sl.LIF(), nn.Linear(4, 4)), x) == ("eager", "forced")
    plain = type("Plain", (sl.LIF,), {"eager": True})
    assert explained(sl.Recurrent(plain(), nn.Linear(4, 4)), x) == ("eager", "its class says eager = True")


def test_a_synapse_that_is_more_than_its_weight_runs_the_loop_and_says_so() -> None:
    x, calls = torch.randn(3, 2, 4), []
    hooked, own, normed = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
    hooked.register_forward_hook(lambda *_: calls.append(1))
    own.forward = lambda x: 0 * x  # type: ignore[method-assign]
    nn.utils.parametrizations.spectral_norm(normed)
    for synapse, why in ((hooked, "hooks"), (own, "a forward of its own")):
        with pytest.warns(SpikeloomWarning, match=f"its synapse has {why}; take it off"):
            sl.Recurrent(sl.LIF(), synapse)(x)
    assert len(calls) == 3
    assert explained(sl.Recurrent(sl.LIF(), normed), x)[0] == "eager"


@pytest.mark.parametrize(
    ("synapse", "x", "message"),
    [
        (nn.Linear(4, 1), torch.randn(3, 2, 4), "must keep the shape"),
        (nn.Linear(5, 5), torch.randn(3, 2, 4), "shapes cannot be multiplied"),
        (nn.Linear(4, 4).double(), torch.randn(3, 2, 4), "dtype"),
        (nn.Linear(4, 4, device="meta"), torch.randn(3, 2, 4), "meta"),
    ],
)
def test_a_synapse_that_does_not_fit_raises_as_the_loop_does(
    synapse: nn.Linear, x: Tensor, message: str
) -> None:
    with pytest.raises((ValueError, RuntimeError), match=message):
        sl.Recurrent(sl.LIF(), synapse)(x)


def test_torch_func_runs_the_loop() -> None:
    net, x = sl.Recurrent(sl.LIF(), nn.Linear(4, 4)).double(), torch.randn(5, 3, 4, dtype=F64)
    with pytest.warns(SpikeloomWarning, match=r"torch\.func"):
        got = torch.func.grad(lambda x: net(x).square().sum())(x)
    leaf = x.clone().requires_grad_()
    net(leaf).square().sum().backward()
    torch.testing.assert_close(got, leaf.grad, rtol=1e-9, atol=1e-9)


# -- compiled -----------------------------------------------------------------------------------------


def results(net: Any, wanted: list[Tensor], x: Tensor) -> list[Tensor]:
    leaf = x.clone().requires_grad_()
    y = net(leaf)
    return [y.detach(), *torch.autograd.grad(y.square().sum(), [leaf, *wanted])]


@pytest.mark.parametrize("bias", [True, False])
def test_it_compiles_whole(bias: bool) -> None:
    torch._dynamo.reset()
    net, x = sl.Recurrent(sl.PLIF(), nn.Linear(4, 4, bias=bias)).double(), torch.randn(6, 3, 4, dtype=F64)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    for a, b in zip(
        results(compiled, list(net.parameters()), x), results(net, list(net.parameters()), x), strict=True
    ):
        assert torch.equal(a, b)
    with torch.no_grad():
        assert torch.equal(compiled(x), net(x))


def test_steps_and_batch_compile_once() -> None:
    torch._dynamo.reset()
    graphs: list[Any] = []

    def count(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    net = sl.Recurrent(sl.LIF(), nn.Linear(4, 4))
    compiled = torch.compile(net, fullgraph=True, backend=count, dynamic=True)
    for steps, batch in ((3, 2), (4, 2), (7, 9), (20, 3)):
        x = torch.randn(steps, batch, 4)
        assert torch.equal(compiled(x), net(x))
    assert len(graphs) == 1


def test_it_compiles_under_autocast() -> None:
    torch._dynamo.reset()
    net, x = sl.Recurrent(sl.LIF(), nn.Linear(4, 4)), torch.randn(6, 3, 4)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(compiled(x), net(x))


def test_it_exports() -> None:
    net, x = nn.Sequential(sl.Recurrent(sl.LIF(), nn.Linear(4, 4))), torch.randn(6, 3, 4)
    exported = torch.export.export(net, (x,))
    assert torch.equal(exported.module()(x), net(x))
    assert [n for n in exported.graph.nodes if "spikeloom.recur" in str(n.target)]


def test_the_operators_pass_opcheck() -> None:
    neuron = sl.LIF(tau=2.0, learnable="tau")
    plan = neuron._plan
    assert plan is not None
    x = torch.randn(3, 2, 4)
    slots = plan.slots([neuron._value(name, x, torch.float32) for name in neuron._names()])
    tensors = [slot.detach().requires_grad_() for slot in slots if isinstance(slot, Tensor)]
    numbers = [slot for slot in slots if not isinstance(slot, Tensor)]
    kinds = "".join("t" if isinstance(slot, Tensor) else "n" for slot in slots)
    kind = plan.program, kinds, numbers, "float32"
    weight, bias = torch.randn(4, 4, requires_grad=True), torch.randn(4, requires_grad=True)
    step = torch.randn(2, 4)
    op, back = torch.ops.spikeloom.recur.default, torch.ops.spikeloom.recur_backward.default
    for states, fed in (([], []), ([step.clone().requires_grad_()], [step.clone().requires_grad_()])):
        for data in (x, x.transpose(0, 1).contiguous().transpose(0, 1)):
            parts = [data.detach().requires_grad_()], tensors, states, fed, [weight, bias]
            torch.library.opcheck(op, (*kind, *parts, True, True))
        plain = [[t.detach() for t in part] for part in ([x], tensors, states, fed, [weight, bias])]
        needs = [True] * sum(map(len, plain))
        torch.library.opcheck(back, (*kind, [torch.randn_like(x), step], x, *plain, needs))


def test_nothing_is_announced_where_a_kernel_runs() -> None:
    net, x = sl.Recurrent(sl.LIF(), nn.Linear(4, 4)), torch.randn(3, 2, 4, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net(x).sum().backward()


def test_the_benchmark_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import recurrent

    recurrent.main(["--units", "8", "--steps", "5", "--batch", "2", "--rounds", "1", "--markdown"])
    assert "| n=8, Spikeloom |" in capsys.readouterr().out
