"""What is measured leaves the network as it was, and is the same however the network runs."""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import spikeloom as sl
from spikeloom.measure import Profile, Profiler, profile
from spikeloom.measure.values import look


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        sl.PerStep(nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6)),
        sl.LIF(v_threshold=0.5),
        sl.PerStep(nn.Dropout(0.5), nn.AvgPool2d(2), nn.Conv2d(6, 4, 3, bias=False)),
        sl.NormNeuron(nn.BatchNorm2d(4), sl.LIF(v_threshold=0.2)),
        sl.PerStep(nn.Flatten(), nn.Linear(16, 12)),
        sl.Recurrent(sl.LIF(v_threshold=0.2), nn.Linear(12, 12)),
        sl.PerStep(nn.Linear(12, 3)),
    )


def data(T: int = 3, B: int = 4, seed: int = 1) -> Tensor:
    return torch.randn(T, B, 2, 8, 8, generator=torch.Generator().manual_seed(seed))


def same(a: Profile, b: Profile) -> bool:
    return a.to_dict() == b.to_dict()


class Counting(nn.Module):
    """Keeps a count and a random draw in its buffers, in evaluation, too."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.tensor(0))
        self.register_buffer("last", torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = torch.rand(2)
        return x


def test_the_network_stays_as_it_was() -> None:
    net = nn.Sequential(network(), Counting())
    net.train()
    net[0][2].eval()
    modes = {name: m.training for name, m in net.named_modules()}
    state = {name: value.clone() for name, value in net.state_dict().items()}
    random = torch.get_rng_state()
    expected = net.eval()(data())
    for name, m in net.named_modules():
        m.training = modes[name]
    net.load_state_dict(state)
    torch.set_rng_state(random)
    buffers = dict(net.named_buffers())
    profile(net, data())
    assert {name: m.training for name, m in net.named_modules()} == modes
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(buffers[name] is value for name, value in net.named_buffers())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(p.grad is None for p in net.parameters())
    assert torch.equal(net.eval()(data()), expected)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_an_error_leaves_nothing_behind() -> None:
    net = network().train()
    fast = torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(RuntimeError, match="channels"):
        profile(net, torch.randn(3, 4, 5, 8, 8))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert all(m.training for m in net.modules())
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None
    profiler = Profiler(net.eval())
    with profiler, torch.no_grad():
        with pytest.raises(RuntimeError, match="channels"):
            net(torch.randn(3, 4, 5, 8, 8))
        net(data())
    assert same(profiler.profile(), profile(net, data()))


def test_the_same_in_inference_mode_with_gradients_and_channels_last() -> None:
    net, x = network().eval(), data()
    expected = profile(net, x)
    assert expected.samples == 4
    assert expected.firing_rate > 0.05
    with torch.inference_mode():
        assert same(profile(net, x), expected)
    with torch.inference_mode(), Profiler(net) as profiler:
        net(x)
    assert same(profiler.profile(), expected)
    with Profiler(net) as profiler:
        net(x.requires_grad_()).sum().backward()
    assert same(profiler.profile(), expected)
    again = sl.recompute(net)
    with Profiler(again) as profiler:
        again(x).sum().backward()  # runs it a second time
    assert profiler.profile().acs == expected.acs
    whole = x.detach()
    last = whole.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, x.shape[:2])
    convolution = sl.PerStep(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3)).eval()
    one = nn.Sequential(sl.IF(), convolution)
    assert same(profile(one.to(memory_format=torch.channels_last), last), profile(one, whole))


@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16(autocast: bool) -> None:
    net, x = network().eval(), data()
    if not autocast:
        net, x = net.bfloat16(), x.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        net(x)  # leaves weights in autocast's cache
        found = profile(net, x)
        with sl.measure.FiringRates(net) as rates, torch.no_grad():
            net(x)
    assert [r.kinds for r in found.rows if r.kinds] == [("graded",), ("graded",), *[("binary",)] * 3]
    assert found.firing_rate == rates.mean()
    assert {r.path: r.firing_rate for r in found.rows if r.chances} == rates.layers()


def test_static_images_and_steps() -> None:
    net = sl.create_model("conv_snn", T=5, channels=(4, 6), image_size=12)
    x = torch.rand(3, 1, 12, 12)
    static, shown = profile(net, x), profile(net, x.expand(5, *x.shape))
    assert (static.samples, static.steps, shown.samples, shown.steps) == (3, 5, 3, 5)
    assert shown.rows[0].dense == 5 * static.rows[0].dense == 5 * 144 * 4 * 9
    assert (static.rows[0].evaluations, shown.rows[0].evaluations) == (1, 5)
    assert [r.output for r in static.rows] == [r.output for r in shown.rows]
    assert [r.effective for r in static.rows[1:]] == [r.effective for r in shown.rows[1:]]
    for convention in ("papers", "spikingformer"):
        assert static.price(convention) == shown.price(convention)
    assert static.price("spikingformer").macs == 5 * static.price("papers").macs == 5 * 144 * 4 * 9


def test_batches_are_the_whole() -> None:
    net, x = network().eval(), data(B=6)
    whole = profile(net, x)
    loader = [(part, torch.zeros(part.shape[1])) for part in x.split(4, 1)]
    parts = profile(net, iter(loader))
    assert parts.samples == 6
    # the convolutions differ in rounding, so that a spike might
    assert parts.acs == pytest.approx(whole.acs, rel=0.01)
    assert parts.dense == whole.dense
    assert [r.silent for r in parts.rows] == pytest.approx([r.silent for r in whole.rows], abs=0.01)
    profiler = Profiler(net)
    for part, _ in loader:
        with profiler, torch.no_grad():
            net(part)
    assert same(profiler.profile(), parts)


def test_chunks_of_a_stream() -> None:
    net, x = network().eval(), data(T=6)
    stream = sl.Stream(net)
    with Profiler(net) as profiler, torch.no_grad():
        for chunk in x.split(2):
            stream(chunk)
    found, whole = profiler.profile(samples=4), profile(net, x)
    assert found.steps == 6
    assert found.dense == whole.dense
    assert found.acs == pytest.approx(whole.acs, rel=0.01)


def test_only_this_network_and_thread() -> None:
    net, x = network().eval(), data()
    other = nn.Linear(3, 3)
    with Profiler(net) as profiler, torch.no_grad():
        other(net(x)) @ torch.ones(3, 2)
        thread = threading.Thread(target=lambda: net(x))
        thread.start()
        thread.join()
    assert same(profiler.profile(), profile(net, x))


def test_parts_without_the_whole() -> None:
    net, x = network().eval(), data()
    with Profiler(net) as profiler, torch.no_grad():
        y = x
        for part in net:
            y = part(y)
    with pytest.raises(ValueError, match=r"profiler\.profile\(samples=\.\.\.\)"):
        profiler.profile()
    found = profiler.profile(samples=4)
    assert found.acs == profile(net, x).acs


def test_torch_attention() -> None:
    torch.manual_seed(0)
    heads = nn.MultiheadAttention(8, 2, batch_first=True).eval()

    class Self(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads = heads

        def forward(self, x: Tensor) -> Tensor:
            return self.heads(x, x, x, need_weights=False)[0]

    x = torch.randn(3, 5, 8)
    found = profile(Self(), x)
    assert [(r.kind, r.dense) for r in found.rows] == [
        ("MultiheadAttention", 5 * 8 * 24),
        ("matmul", 2 * 5 * 5 * 4),
        ("matmul", 2 * 5 * 5 * 4),
        ("linear", 5 * 8 * 8),
    ]
    assert sum(r.parameters for r in found.rows) == found.parameters
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    expected = 5 * 8 * 24 + 2 * 2 * 5 * 5 * 4 + 5 * 8 * 8 + 2 * 5 * 8 * 16
    for run in (torch.no_grad, torch.enable_grad, torch.inference_mode):
        with run():
            found = profile(encoder, x)
        assert found.dense == expected
        assert len(found.rows) == 2 + 4 + 2


def test_torch_recurrent_layers_are_refused_or_seen() -> None:
    net = nn.LSTM(4, 6)
    x = torch.randn(5, 2, 4)

    def found() -> Profile:
        with Profiler(net) as profiler, torch.no_grad():
            net(x)
        return profiler.profile(samples=2)

    with (
        torch.backends.mkldnn.flags(enabled=True),
        pytest.raises(ValueError, match=r"mkldnn\.flags\(enabled=F"),
    ):
        found()
    with torch.backends.mkldnn.flags(enabled=False):
        assert found().dense == 5 * 4 * 6 * (4 + 6)


def test_compiled_parts_run_uncompiled() -> None:
    net, x = network().eval(), data()
    expected = profile(net, x)
    compiled = torch.compile(net, backend="eager")
    with torch.no_grad():
        compiled(x)
    found = profile(compiled, x)
    assert (found.dense, found.macs, found.acs) == (expected.dense, expected.macs, expected.acs)


def test_activations_are_not_kept_nor_copied() -> None:
    net, made = network().eval(), []

    def note(module: nn.Module, args: Any, out: Tensor) -> None:
        made.append(weakref.ref(out.untyped_storage()))

    handles = [module.register_forward_hook(note) for module in (net[0], net[1], net[2], net[4])]
    with Profiler(net) as profiler, torch.no_grad():
        net(data())
        assert len(made) == 4
        assert all(storage() is None for storage in made)
    assert profiler.profile().acs > 0
    for handle in handles:
        handle.remove()
    x = torch.randn(64, 8, 64, 64)
    sizes = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            views = {a.untyped_storage().data_ptr() for a in args if isinstance(a, Tensor)}
            if isinstance(out, Tensor) and out.untyped_storage().data_ptr() not in views:
                sizes.append(out.numel())
            return out

    for given in (x, x.round(), (x > 0).float()):
        with Sizes():
            values = look(given, (2, 3))
        assert torch.equal(values.nonzero, (given != 0).sum((0, 1)))
    assert 0 < max(sizes) <= x.numel() / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int32, torch.uint8])
@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0, 1, 1], "binary"),
        ([0, 0, 0], "binary"),
        ([1, -1, 0], "ternary"),
        ([-1, 0, 0], "ternary"),
        ([3, 0, 1], "integer"),
    ],
)
def test_kinds_of_values(values: list[int], kind: str, dtype: torch.dtype) -> None:
    if dtype == torch.uint8 and min(values) < 0:
        pytest.skip("no such value")
    found = look(torch.tensor(values, dtype=dtype))
    assert (found.kind, found.elements, int(found.nonzero)) == (kind, 3, sum(map(bool, values)))
    assert int(found.magnitude) == sum(map(abs, values))


def test_odd_values() -> None:
    inf, nan = float("inf"), float("nan")
    for values in ([0.5, 0], [nan, 0], [inf, 0], [1e-30, 0], [-0.0, 2.5]):
        found = look(torch.tensor(values))
        assert (found.kind, int(found.nonzero)) == ("graded", 1)
    assert look(torch.tensor([True, False])).kind == "binary"
    assert look(torch.tensor([1j, 0])).kind == "graded"
    assert look(torch.tensor(1.0)).nonzero == 1
    assert look(torch.zeros(0, 3), (1,)).nonzero.tolist() == [0, 0, 0]
    many = look(torch.ones(300_000, dtype=torch.float16))  # more than it counts to
    assert (many.kind, int(many.nonzero)) == ("binary", 300_000)
    big = torch.full((5, 1), 2.0**30)  # sums beyond what single precision holds
    assert int(look(torch.cat([big, torch.ones(1, 1)])).magnitude) == 5 * 2**30 + 1


@pytest.mark.parametrize("along", [(), (0,), (1,), (2, 3), (3, 1), (0, 1, 2, 3)])
def test_places_in_any_layout(along: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikeloom.measure.values._PIECE", 50)
    generator = torch.Generator().manual_seed(0)
    plain = torch.randint(-2, 3, (3, 4, 5, 6), generator=generator).float()
    layouts = (
        plain,
        plain.contiguous(memory_format=torch.channels_last),
        plain.permute(3, 1, 0, 2),
        plain[:, ::2, 1:],
        plain[:1].expand(7, 4, 5, 6),
        (plain > 1).float().transpose(1, 3),
    )
    for x in layouts:
        over = [axis for axis in range(4) if axis not in along]
        found = look(x, along)
        shown = sorted(along)
        for count, values in ((found.nonzero, (x != 0).long()), (found.magnitude, x.abs().long())):
            expected = values.sum(over) if over else values
            assert torch.equal(count, expected.permute([shown.index(axis) for axis in along]))
        assert found.kind == ("binary" if x is layouts[-1] else "integer")


def batches() -> Iterator[Tensor]:
    yield from ()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda net: profile(lambda x: x, data()), TypeError, "takes a network, not function"),
        (lambda net: profile(net, []), ValueError, "no input; at least one batch"),
        (lambda net: profile(net, batches()), ValueError, "no input; at least one batch"),
        (lambda net: profile(net, 3), TypeError, "an iterable of inputs, not int"),
        (lambda net: profile(net, [("a", 1)]), TypeError, "a batch of type tuple; a tensor, or a tuple"),
        (
            lambda net: profile(net, torch.zeros(3, 0, 2, 8, 8)),
            ValueError,
            r"empty input, of the shape \(3, 0",
        ),
        (lambda net: profile(nn.Identity(), data()), ValueError, "no layer of Identity ran"),
        (lambda net: profile(net, data(), convention="paper"), ValueError, "did you mean 'papers'"),
        (lambda net: Profiler(net).profile(), ValueError, "no layer of Sequential ran"),
        (lambda net: profile(nn.Linear(2, 2), torch.eye(2).to_sparse()), ValueError, "sparse"),
    ],
)
def test_errors_say_what_is_needed(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(network())


def test_entered_twice_at_once() -> None:
    profiler = Profiler(network())
    with profiler, pytest.raises(RuntimeError, match="entered already"), profiler:
        pass
    assert not any(m._forward_hooks for m in profiler._net.modules())
    with pytest.raises(ValueError, match="no layer"):
        profiler.profile()


def test_reports() -> None:
    found = profile(network(), data())
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["acs"] == found.acs
    assert plain["rows"][0]["kinds"] == ["graded"]
    assert sum(r["energy"]["picojoules"] for r in plain["rows"]) == pytest.approx(
        plain["energy"]["picojoules"]
    )
    assert sum(r["parameters"] for r in plain["rows"]) == plain["parameters"] == found.parameters
    shown = str(found)
    assert max(map(len, shown.splitlines())) <= 110
    for text in ("0.0", "Conv2d", "NormNeuron(LIF)", "5.synapse", "binary", "45 nm", "4.6 pJ a MAC"):
        assert text in shown
    deep: nn.Module = nn.Linear(3, 3)
    for name in ("encoder", "blocks_of_the_first_stage", "attention_with_many_heads", "projection"):
        deep = _named(name, deep)
    assert max(map(len, str(profile(deep, torch.ones(2, 3))).splitlines())) <= 110
    assert profile(nn.Linear(3, 3), torch.ones(2, 3)).to_dict()["firing_rate"] is None


def _named(name: str, module: nn.Module) -> nn.Module:
    outer = nn.Sequential()
    outer.add_module(name, module)
    return outer
