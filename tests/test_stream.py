"""A stream is the whole, in chunks; and nothing but the stream remembers."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import spikeloom as sl
from spikeloom import announce, stream


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, params=["eager", "numba"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    # by the environment: inside `with sl.backend(...)` nothing is compiled
    monkeypatch.setenv("SPIKELOOM_BACKEND", request.param)
    return str(request.param)


def spikes(*shape: int, seed: int = 1) -> Tensor:
    return 1 + 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def weights() -> nn.Linear:
    """Return weights whose sums over spikes are exact, in whatever order they are added."""
    layer = nn.Linear(4, 4, bias=False)
    nn.init.constant_(layer.weight, 0.75)
    layer.weight.data.diagonal().fill_(1.5)
    return layer


def small() -> nn.Sequential:
    return nn.Sequential(sl.LIF(), sl.PerStep(weights()), sl.PLIF(reset="soft"))


class Twice(nn.Module):
    """One neuron, called at two places."""

    def __init__(self) -> None:
        super().__init__()
        self.neuron, self.lin = sl.LIF(tau=3.0), sl.PerStep(weights())

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(2 * self.lin(self.neuron(x)))


class Count(nn.Module):
    """A plain module with a state of its own: the steps that it has seen."""

    def forward(self, x: Tensor) -> Tensor:
        steps = torch.arange(1.0, len(x) + 1).view(-1, *[1] * (x.ndim - 1)).expand_as(x)
        where = stream.current()
        if where is not None:
            key = where.key(self)
            state = where.load(key, ("n",), x[0])
            steps = steps if state is None else steps + state["n"]
            where.store(key, {"n": steps[-1]})
        return x + steps


class Ahead(nn.Module):
    """A layer that looks ahead."""

    def forward(self, x: Tensor) -> Tensor:
        stream.refuse(self, "looks ahead in time")
        return x.flip(0)


class Hard(sl.Neuron):
    """s = H(x): a neuron without a state."""

    states = ()

    def step(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.spike(x),)


class Noisy(sl.Neuron):
    """h = v/2 + x + noise; s = H(h - 1); v' = h (1 - s)."""

    inputs = ("noise",)

    def step(self, x: Tensor, noise: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        h = v / 2 + x + noise
        s = self.spike(h - 1)
        return s, h * (1 - s)


class Delay(sl.Neuron):
    """out = last; last' = x: its state is a view of the chunk."""

    states = ("last",)

    def step(self, x: Tensor, last: Tensor) -> tuple[Tensor, ...]:
        return last, x


NETS: dict[str, Callable[[], nn.Module]] = {
    "neuron": sl.LIF,
    "net": small,
    "twice": Twice,
    "own state": Count,
    "stateless": Hard,
    "delay": Delay,
    "recurrent": lambda: sl.Recurrent(sl.LIF(), weights()),
}


@pytest.mark.parametrize("name", NETS)
@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(1, 11), max_size=5, unique=True))
def test_chunks_add_up_to_the_whole(name: str, cuts: list[int]) -> None:
    net, x = NETS[name](), spikes(12, 2, 4)
    run = sl.Stream(net)
    got = torch.cat([run(chunk) for chunk in x.tensor_split(sorted(cuts))])
    assert torch.equal(got, net(x))
    assert got.abs().sum() > 0


def test_a_chunk_changes_nothing_outside() -> None:
    net, x = small(), torch.full((2, 2, 4), 1.2)  # too weak to fire within one chunk
    before = copy.deepcopy(net.state_dict())
    run = sl.Stream(net)
    first = run(x)
    assert not torch.equal(run(x), first)
    assert torch.equal(net(x), first)
    assert net.state_dict().keys() == before.keys() == {"1.0.weight", "2.w"}
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_a_module_called_twice_has_two_states() -> None:
    run = sl.Stream(Twice())
    run(spikes(3, 2, 4))
    assert set(run.state) == {"neuron#0.v", "neuron#1.v"}
    assert not torch.equal(run.state["neuron#0.v"], run.state["neuron#1.v"])


def test_streams_are_independent() -> None:
    net, a, b = small(), spikes(6, 2, 4, seed=1), spikes(6, 3, 4, seed=2)
    one, two = sl.Stream(net), sl.Stream(net)
    outs = [(one(a[t : t + 2]), two(b[t : t + 2])) for t in (0, 2, 4)]
    assert torch.equal(torch.cat([o for o, _ in outs]), net(a))
    assert torch.equal(torch.cat([o for _, o in outs]), net(b))


def test_threads_stream_at_the_same_time() -> None:
    net, xs = small(), [spikes(20, 2, 4, seed=i) for i in range(4)]
    want = [net(x) for x in xs]
    meet = threading.Barrier(len(xs))

    def work(x: Tensor) -> Tensor:
        run, outs = sl.Stream(net), []
        for chunk in x.split(1):
            meet.wait(timeout=30)
            outs.append(run(chunk))
        return torch.cat(outs)

    with ThreadPoolExecutor(len(xs)) as pool:
        for got, expected in zip(pool.map(work, xs), want, strict=True):
            assert torch.equal(got, expected)


def test_reset_starts_anew() -> None:
    net, x = small(), spikes(3, 2, 4)
    run = sl.Stream(net)
    first = run(x)
    run(x)
    run.reset()
    assert run.state == {}
    assert torch.equal(run(x), first)


@pytest.mark.parametrize("channels_last", [False, True])
def test_state_goes_through_safetensors(tmp_path: Path, channels_last: bool) -> None:
    net = nn.Sequential(sl.LIF(), sl.Recurrent(sl.LIF(), nn.Conv2d(2, 2, 1)), Delay())
    x = spikes(6, 2, 2, 3, 3)
    if channels_last:
        x = x.movedim(2, -1).contiguous().movedim(-1, 2)
    one, two = sl.Stream(net), sl.Stream(net)
    with torch.no_grad():
        one(x[:3])
        save_file(one.state, tmp_path / "state.safetensors")
        two.state = load_file(tmp_path / "state.safetensors")
        assert torch.equal(two(x[3:]), one(x[3:]))
    assert set(two.state) == {"0#0.v", "1#0.v", "1#0.feedback", "2#0.last"}


def test_a_snapshot_is_not_changed_by_what_follows() -> None:
    run, buffer = sl.Stream(Delay()), spikes(1, 2, 4)
    run(buffer)
    snapshot, value = run.state, buffer[0].clone()
    buffer.zero_()  # the caller fills its chunk anew
    assert torch.equal(run(buffer)[0], value)
    assert torch.equal(snapshot["#0.last"], value)


def test_detach_truncates_back_propagation() -> None:
    net, x = sl.PLIF(), spikes(6, 2, 4)
    run = sl.Stream(net)
    run(x[:3]).sum().backward()
    run.detach()
    run(x[3:]).sum().backward()
    streamed, net.w.grad = net.w.grad, None
    out, state, _ = net.run(x[:3])
    rest, _, _ = net.run(x[3:], state={"v": state["v"].detach()})
    (out.sum() + rest.sum()).backward()
    torch.testing.assert_close(streamed, net.w.grad, rtol=1e-6, atol=1e-7)


def test_without_detach_gradients_cross_chunks() -> None:
    net, x = sl.PLIF(), spikes(6, 2, 4)
    run = sl.Stream(net)
    torch.cat([run(x[:3]), run(x[3:])]).sum().backward()
    streamed, net.w.grad = net.w.grad, None
    net(x).sum().backward()
    torch.testing.assert_close(streamed, net.w.grad, rtol=1e-6, atol=1e-7)


def test_a_noisy_neuron_draws_what_the_whole_draws() -> None:
    class Seeded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron = Noisy()

        def forward(self, x: Tensor, generator: torch.Generator) -> Tensor:
            return self.neuron(x, generator=generator)

    net, x = Seeded(), spikes(6, 2, 4)
    whole = net(x, torch.Generator().manual_seed(3))
    run, generator = sl.Stream(net), torch.Generator().manual_seed(3)
    assert torch.equal(torch.cat([run(c, generator) for c in x.split([1, 3, 2])]), whole)
    noise = spikes(6, 2, 4, seed=5)
    run = sl.Stream(neuron := Noisy())
    parts = zip(x.split(2), noise.split(2), strict=True)
    assert torch.equal(torch.cat([run(c, n) for c, n in parts]), neuron(x, noise))


def test_deepcopy_inside_and_outside() -> None:
    net, x = small(), spikes(6, 2, 4)
    run = sl.Stream(net)
    with torch.no_grad():
        run(x[:3])
        other = copy.deepcopy(run)
        assert other.net is not net
        assert torch.equal(other(x[3:]), run(x[3:]))
        assert torch.equal(copy.deepcopy(net)(x), net(x))

    class Copies(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron = sl.LIF()

        def forward(self, x: Tensor) -> Tensor:
            return copy.deepcopy(self.neuron)(x)

    with pytest.raises(RuntimeError, match="is no submodule of the streamed network"):
        sl.Stream(Copies())(x)


def test_nested_streams_raise() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = sl.Stream(sl.LIF())

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)

    x = spikes(3, 2, 4)
    with pytest.raises(RuntimeError, match="one Stream around the outermost"):
        sl.Stream(Nested())(x)
    assert sl.Stream(sl.LIF())(x).shape == x.shape  # the thread has left the failed stream


@pytest.mark.parametrize("shape", [(3, 5, 4), (3, 2, 5), (3, 2, 4, 1)])
def test_another_shape_raises_and_leaves_the_state(shape: tuple[int, ...]) -> None:
    run = sl.Stream(sl.LIF())
    run(spikes(3, 2, 4))
    before = run.state
    with pytest.raises(ValueError, match=r"'#0.v' is \(2, 4\) on cpu.*call stream.reset\(\)"):
        run(spikes(*shape))
    assert run.state is before
    run.reset()
    run(spikes(*shape))


def test_another_device_raises() -> None:
    run = sl.Stream(sl.LIF())
    run(spikes(3, 2, 4))
    with pytest.raises(ValueError, match=r"on cpu, but this chunk's steps are \(2, 4\) on meta"):
        run(spikes(3, 2, 4).to("meta"))


def test_a_failing_chunk_leaves_the_state() -> None:
    class Fails(nn.Module):
        fail = False

        def forward(self, x: Tensor) -> Tensor:
            if self.fail:
                raise KeyError("lost")
            return x

    net, x = nn.Sequential(sl.LIF(), Fails(), sl.LIF()), spikes(3, 2, 4)
    run = sl.Stream(net)
    run(x)
    before = {key: value.clone() for key, value in run.state.items()}
    Fails.fail = True
    with pytest.raises(KeyError, match="lost"):
        run(x)
    assert run.state.keys() == before.keys()
    assert all(torch.equal(run.state[key], before[key]) for key in before)
    assert stream.current() is None


@pytest.mark.parametrize(
    ("state", "error", "match"),
    [
        ({"9#0.v": torch.zeros(2, 4)}, ValueError, "no module '9'"),
        ({"v": torch.zeros(2, 4)}, ValueError, "'path#call.name'"),
        ({"0#0.v": 0.0}, TypeError, "is a float, not a tensor"),
        ({"1#0.v": torch.zeros(2, 4)}, ValueError, "but no '1#0.feedback'"),
    ],
)
def test_a_foreign_state_raises(state: dict[str, Any], error: type[Exception], match: str) -> None:
    run = sl.Stream(nn.Sequential(sl.LIF(), sl.Recurrent(sl.LIF(), nn.Linear(4, 4))))
    run.state = state
    with pytest.raises(error, match=match):
        run(spikes(3, 2, 4))


def test_a_layer_that_looks_ahead_raises() -> None:
    net, x = nn.Sequential(sl.LIF(), Ahead()), spikes(3, 2, 4)
    assert net(x).shape == x.shape
    with pytest.raises(RuntimeError, match="Ahead looks ahead in time, so it cannot run inside a Stream"):
        sl.Stream(net)(x)


def test_no_module_raises() -> None:
    with pytest.raises(TypeError, match="not function"):
        sl.Stream(lambda x: x)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("layer", "training", "match"),
    [
        (nn.BatchNorm1d(4), True, "BatchNorm1d '0.0' .and 1 more. takes its statistics from each chunk"),
        (nn.BatchNorm1d(4, track_running_stats=False), False, "takes its statistics from each chunk"),
        (nn.Dropout(0.5), True, "draws a new mask in each chunk"),
        (nn.BatchNorm1d(4), False, None),
        (nn.Dropout(0.5), False, None),
        (nn.Dropout(0.0), True, None),
    ],
)
def test_what_does_not_add_up_is_announced_once(layer: nn.Module, training: bool, match: str | None) -> None:
    net = nn.Sequential(sl.PerStep(layer), sl.PerStep(copy.deepcopy(layer)), sl.LIF()).train(training)
    run, x = sl.Stream(net), spikes(3, 2, 4)
    if match:
        with pytest.warns(sl.SpikeloomWarning, match=match):
            run(x)
    run(x)  # says nothing more: a warning would be an error


def test_torch_recurrence_and_hidden_neurons_are_announced() -> None:
    class Cell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.neuron = nn.GRU(4, 4), sl.LIF()

        def forward(self, x: Tensor) -> Tensor:
            return self.neuron(self.gru(x)[0])

    with pytest.warns(sl.SpikeloomWarning, match="GRU 'gru' starts from its own initial state"):
        sl.Stream(Cell())(spikes(3, 2, 4))
    exported = torch.export.export(sl.LIF(), (spikes(3, 2, 4),)).module()
    with pytest.warns(sl.SpikeloomWarning, match="called no module that keeps a state"):
        sl.Stream(exported)(spikes(3, 2, 4))


@pytest.mark.parametrize("in_place", [False, True])
def test_compiled_networks_do_not_mix_graphs(in_place: bool) -> None:
    torch._dynamo.reset()
    net, x = small(), spikes(3, 2, 4)
    want, run = net(x), sl.Stream(net)
    streamed = [run(x) for _ in range(3)]
    graphs: list[Any] = []

    def count(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled: Any = copy.deepcopy(net)
    if in_place:
        compiled.compile(backend=count, fullgraph=True)
    else:
        compiled = torch.compile(compiled, backend=count, fullgraph=True)
    assert torch.equal(compiled(x), want)
    first = len(graphs)
    again = sl.Stream(compiled)
    with pytest.warns(sl.SpikeloomWarning, match="runs uncompiled in a Stream"):
        assert torch.equal(again(x), streamed[0])
    assert torch.equal(again(x), streamed[1])
    assert torch.equal(compiled(x), want)
    assert torch.equal(again(x), streamed[2])
    assert again.state.keys() == run.state.keys()
    assert len(graphs) == first > 0
    assert torch.equal(compiled(spikes(5, 2, 4)), net(spikes(5, 2, 4)))
    assert len(graphs) > first  # outside of the stream, compiling goes on


def test_compiled_code_runs_uncompiled_while_any_thread_streams() -> None:
    net, x = sl.LIF(), spikes(3, 2, 4)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    want = compiled(x)
    inside, leave = threading.Event(), threading.Event()

    class Waits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron = sl.LIF()

        def forward(self, x: Tensor) -> Tensor:
            inside.set()
            leave.wait(timeout=30)
            return self.neuron(x)

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(sl.Stream(Waits()), x)
        inside.wait(timeout=30)
        run = sl.Stream(net)
        assert torch.equal(run(x), want)  # begins and ends within the other one
        assert torch.equal(compiled(x), want)
        leave.set()
        assert torch.equal(slow.result(), want)
    assert torch._dynamo.eval_frame._stance.stance == "default"


def test_a_stream_inside_compiled_code_raises() -> None:
    run = sl.Stream(sl.LIF())
    with pytest.raises(RuntimeError, match=r"call it outside of torch\.compile"):
        torch.compile(lambda x: run(x) + 1, backend="eager")(spikes(3, 2, 4))
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(lambda x: run(x) + 1, backend="eager", fullgraph=True)(spikes(3, 2, 4))
    assert run.state == {}


def test_announcements_name_what_was_said() -> None:
    run, x = sl.Stream(nn.Sequential(sl.PerStep(nn.Dropout(0.5)), sl.LIF())), spikes(3, 2, 4)
    for _ in range(2):
        with pytest.warns(sl.SpikeloomWarning, match=r"Dropout '0.0' draws"):
            run(x)
        announce.forget()
