"""Spikes kept as bits: exact, shared, and never those of other memory."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear
from torch.utils.checkpoint import checkpoint
from zoo import NEURONS

import spikeloom as sl
from spikeloom import packed
from spikeloom.kernels import bits
from spikeloom.kernels.cpu import bits as bits_numba

GRADED = {"LI", "LIAF", "TernaryLIF", "ILIF"}


def kept(forward: Callable[[], Any]) -> dict[str, int]:
    """Return the bytes that autograd keeps, packed and whole, each memory once."""
    held: list[Any] = []
    keep = packed._keep

    def watch(tensor: Tensor) -> Any:
        held.append(keep(tensor))
        return held[-1]

    packed._keep = watch
    try:
        with sl.packed_spikes():
            result = forward()
    finally:
        packed._keep = keep
    del result
    whole = {k.tensor.data_ptr(): k.tensor.untyped_storage() for k in held if isinstance(k, packed._Whole)}
    words = {id(k.bits): k.bits.words for k in held if isinstance(k, packed._Packed)}
    return {
        "packed": sum(w.numel() * 8 for w in words.values()),
        "whole": sum(s.nbytes() for s in whole.values()),
        "times": sum(isinstance(k, packed._Packed) for k in held),
    }


def spikes(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """Return what an IF neuron says to [T, B, ...]; some of it 1."""
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    out = sl.IF(v_threshold=0.5)(x)
    assert out.unique().tolist() == [0, 1]
    return out


def gradients(loss: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, leaves))


# -- which neurons --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NEURONS)
def test_a_neuron_fires_bits_if_its_equations_say_so(name: str) -> None:
    entry = NEURONS[name]
    for options in entry.variants():
        plan = entry.make(**options)._plan
        assert plan is not None
        assert plan.fires is (name not in GRADED and options.get("output", "spike") == "spike")
        with sl.backend("eager"):
            out = entry.make(**options)(*entry.inputs(6, 3, 40))
        if plan.fires:
            assert set(out.unique().tolist()) <= {0.0, 1.0}
            assert not torch.signbit(out).any()


class Gated(sl.Neuron):
    """Says 1 - s times a second spike, by where and a comparison."""

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        h = v + x
        s = self.spike(h - 1)
        return (1 - s) * torch.where(x > 0, torch.ones_like(x), 0.0).detach(), h * (1 - s)


class Scaled(Gated):
    """Says twice that."""

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        s, v = super().step(x, v)
        return 2 * s, v


class Negative(sl.Neuron):
    """Says 0 or -0: two numbers that one bit would take for two others."""

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        return torch.where(x > 0, -0.0, 0.0), v


@pytest.mark.parametrize(("neuron", "fires"), [(Gated, True), (Scaled, False), (Negative, False)])
def test_a_users_neuron_is_judged_by_its_equations(neuron: type[sl.Neuron], fires: bool) -> None:
    assert neuron()._plan.fires is fires  # type: ignore[union-attr]


def test_the_surrogate_decides_and_may_change() -> None:
    assert not sl.LIF(surrogate=sl.surrogate.Smooth(sl.surrogate.ATan()))._plan.fires  # type: ignore[union-attr]
    neuron = sl.LIF()
    neuron.surrogate = sl.surrogate.MultiLevel(3)
    assert not neuron._plan.fires  # type: ignore[union-attr]


# -- bits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", list(bits.ONE))
@pytest.mark.parametrize("count", [1, 63, 64, 65, 777, 300_001])
def test_packing_is_exact_by_every_way(dtype: torch.dtype, count: int) -> None:
    row = (torch.rand(count, generator=torch.Generator().manual_seed(count)) < 0.3).to(dtype)
    words = bits.pack(row)
    assert words is not None
    assert words.numel() == -(-count // 64)
    assert torch.equal(words, bits.pack_by_torch(row))
    for unpack in (bits.unpack, bits.unpack_by_torch):
        back = unpack(words, dtype)
        assert back.dtype == dtype
        assert torch.equal(back[:count], row)
        assert not back[count:].any()
        assert not torch.signbit(back).any()


@pytest.mark.parametrize("strange", [-0.0, 0.5, -1.0, 2.0, float("nan"), 1e-6])
@pytest.mark.parametrize("at", [0, 70, 199])
def test_on_cpu_what_is_no_spike_is_not_packed(strange: float, at: int) -> None:
    for dtype in bits.ONE:
        row = torch.ones(200, dtype=dtype)
        row[at] = strange
        assert bits_numba.pack(row) is None


TRITON = """
import torch
from spikeloom.kernels import bits
from spikeloom.kernels.gpu import bits as bits_triton
for dtype in bits.ONE:
    for count in (1, 63, 64, 65, 5000):
        row = (torch.rand(count) < 0.3).to(dtype)
        words = bits_triton.pack(row)
        assert torch.equal(words, bits.pack_by_torch(row)), (dtype, count)
        back = bits_triton.unpack(words, dtype)
        assert torch.equal(back, bits.unpack_by_torch(words, dtype)), (dtype, count)
print("equal")
"""


def test_the_gpu_kernels_are_exact_in_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    done = subprocess.run([sys.executable, "-c", TRITON], capture_output=True, text=True)
    assert done.stdout.strip() == "equal", done.stderr


# -- exact, in any layer and layout ---------------------------------------------------------------

VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda s: s,
    "folded": lambda s: s.flatten(0, 1),
    "channels-last": lambda s: s.movedim(2, -1),
    "transposed": lambda s: s.transpose(0, 4),
    "one step": lambda s: s[1],
    "some steps": lambda s: s[1:3],
    "one of the batch": lambda s: s[:, 1],
    "every other": lambda s: s[..., ::2],
    "one spike": lambda s: s[1, 1, 1, 1, 1],
    "expanded": lambda s: s[:1].expand(7, -1, -1, -1, -1),
    "overlapping": lambda s: s.unfold(4, 3, 1),
    "no steps": lambda s: s[:0],
    "detached": lambda s: s.detach(),
}
PACKED = set(VIEWS) - {"no steps"}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", list(bits.ONE))
def test_every_view_is_restored_in_its_layout(view: str, dtype: torch.dtype) -> None:
    with sl.packed_spikes():
        whole = spikes(4, 2, 3, 4, 6, dtype=dtype)
        part = VIEWS[view](whole)
        held = packed._keep(part)
    assert isinstance(held, packed._Packed) is (view in PACKED)
    back = packed._restore(held)
    assert torch.equal(back, part)
    assert back.dtype == dtype
    assert view in ("one of the batch", "every other", "detached") or back.stride() == part.stride()
    if isinstance(held, packed._Packed):
        assert held.bits.words.numel() * 8 <= max(part.numel(), 64) // 8 * 2


def net(memory_format: torch.memory_format = torch.contiguous_format) -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(
        sl.PerStep(nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)),
        sl.LIF(tau=torch.rand(8) + 1.5, learnable="tau"),
        sl.PerStep(nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)),
        sl.PLIF(),
        sl.PerStep(nn.ConvTranspose2d(8, 4, 2), nn.GroupNorm(2, 4)),
        sl.ALIF(),
        sl.LIF(),
        sl.PerStep(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 10), nn.Dropout(0.3)),
    )
    return made.to(memory_format=memory_format)  # type: ignore[call-overload]


@pytest.mark.parametrize("backend", ["numba", "eager"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradients_are_those_without(memory_format: torch.memory_format, backend: str) -> None:
    made, found = net(memory_format), []
    x = torch.randn(5, 2, 2, 8, 8).flatten(0, 1).contiguous(memory_format=memory_format).unflatten(0, (5, 2))
    for context in (nullcontext(), sl.packed_spikes()):
        torch.manual_seed(1)
        leaf = x.clone().requires_grad_()
        with sl.backend(backend), context:
            loss = made(leaf).square().mean()
        found.append([loss, *gradients(loss, [leaf, *made.parameters()])])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_layers_keep_bits_and_share_them() -> None:
    shapes = ((4, 3, 3, 3), (5, 3, 1, 1), (6, 6), (4, 5))
    weight, other, matrix, mixing = (torch.randn(*shape, requires_grad=True) for shape in shapes)

    def forward() -> Any:
        s = spikes(4, 2, 3, 6, 6)
        frames = s.flatten(0, 1)
        return conv2d(frames, weight), conv2d(frames, other), linear(s, matrix), s.flatten(1).T @ mixing

    found = kept(forward)
    size = 4 * 2 * 3 * 6 * 6
    assert found["times"] == 4
    assert found["packed"] == -(-size // 64) * 8
    assert found["whole"] == 4 * (weight.numel() + other.numel())


def test_bits_live_as_long_as_what_keeps_them() -> None:
    matrix = torch.randn(6, 6, requires_grad=True)
    with sl.packed_spikes():
        s = spikes(3, 2, 6)
        y = s @ matrix
        mark = sl.kernels.spikes.find(s)
    assert mark is not None
    assert len(mark.kept) == 1
    memory = weakref.ref(s.untyped_storage())
    del s
    gc.collect()
    assert memory() is None
    del y
    assert len(mark.kept) == 0


def test_graded_outputs_and_sums_are_kept_whole() -> None:
    matrix = torch.randn(6, 6, requires_grad=True)
    x = torch.randn(5, 2, 6)
    for make in (lambda: sl.TernaryLIF()(x), lambda: sl.LI()(x), lambda: spikes(5, 2, 6) + spikes(5, 2, 6)):
        found = kept(lambda make=make: make() @ matrix)
        assert found["times"] == 0


def test_an_eager_neuron_is_kept_whole() -> None:
    class Eager(sl.IF):
        eager = True

    x, matrix = torch.randn(5, 2, 6), torch.randn(6, 6, requires_grad=True)
    with pytest.warns(sl.SpikeloomWarning, match="plain PyTorch"):
        assert kept(lambda: Eager()(x) @ matrix)["times"] == 0


def test_a_norm_and_neuron_in_one_fires_bits() -> None:
    x, weight = torch.randn(5, 2, 3, 4, 4), torch.randn(3, 3, 1, 1, requires_grad=True)
    joint = sl.NormNeuron(nn.BatchNorm2d(3), sl.LIF())
    assert kept(lambda: conv2d(joint(x).flatten(0, 1), weight))["times"] == 1


def test_recorded_spikes_and_frozen_ones_are_packed() -> None:
    x, matrix = torch.randn(5, 2, 6), torch.randn(6, 6, requires_grad=True)

    def frozen() -> Tensor:
        with torch.no_grad():
            s = sl.LIF()(x)
        return s @ matrix

    assert kept(frozen)["times"] == 1
    with pytest.warns(sl.SpikeloomWarning, match="eager truth"):
        assert kept(lambda: sl.LIF().run(x, record=("v",))[0] @ matrix)["times"] == 1


# -- what is written to, and what comes after -----------------------------------------------------

WRITES: dict[str, Callable[[Tensor], Any]] = {
    "mul_": lambda s: s.mul_(0.5),
    "a view": lambda s: s[1].fill_(0.25),
    "a detached view": lambda s: s.detach().flatten().add_(1),
    "out=": lambda s: torch.mul(s, 0.5, out=s),
    "set item": lambda s: s.__setitem__((0, 0), 3.0),
    "foreach": lambda s: torch._foreach_mul_([s], 0.5),
    "data": lambda s: s.data.mul_(0.5),
    "numpy": lambda s: s.numpy().fill(0.5),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_write_ends_the_mark(write: str) -> None:
    found = []
    for context in (nullcontext(), sl.packed_spikes()):
        matrix = torch.ones(6, 6, requires_grad=True)
        with context:
            s = spikes(4, 2, 6)
            WRITES[write](s)
            y = s.flatten(0, 1) @ matrix
        found.append(gradients(y.square().sum(), [matrix])[0])
    assert torch.equal(*found)


def test_what_is_packed_is_as_it_was_when_saved() -> None:
    matrix = torch.ones(6, 6, requires_grad=True)
    with sl.packed_spikes():
        s = spikes(4, 2, 6)
        want = s.clone().flatten(0, 1).T @ torch.ones(8, 6)
        y = s.flatten(0, 1) @ matrix
        s.mul_(0.5)
    assert torch.equal(gradients(y.sum(), [matrix])[0], want)


def test_what_is_kept_whole_may_not_be_written_to() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    with sl.packed_spikes():
        y = x.clone()
        z = y * y
        with torch.no_grad():
            y.mul_(2)
    with pytest.raises(RuntimeError, match=r"\(3, 4\).*by an in-place operation: it is at version 1"):
        z.sum().backward()


def test_memory_that_is_used_again_has_no_mark() -> None:
    matrix = torch.randn(8, 8, requires_grad=True)
    with sl.packed_spikes():
        addresses = set()
        for _ in range(50):
            addresses.add(spikes(4, 2, 8).data_ptr())
            other = torch.full((4, 2, 8), 0.5)
            assert sl.kernels.spikes.find(other) is None
            assert isinstance(packed._keep(other), packed._Whole)
            addresses.discard(other.data_ptr())
        y = torch.full((4, 2, 8), 0.5) @ matrix
    assert gradients(y.sum(), [matrix])[0].eq(4.0).all()


def test_other_memory_in_a_marked_tensor_has_no_mark() -> None:
    with sl.packed_spikes():
        s = spikes(4, 2, 6)
        s.data = torch.full((4, 2, 6), 0.5)
        assert sl.kernels.spikes.find(s) is None
        s = spikes(4, 2, 6)
        assert sl.kernels.spikes.find(s.view(torch.int32)) is None
        assert sl.kernels.spikes.find(s.clone()) is None


def test_a_part_of_a_larger_memory_is_not_marked() -> None:
    part = torch.zeros(3, 4)[1:]
    sl.kernels.spikes.mark(part)
    assert sl.kernels.spikes.find(part) is None


@torch.inference_mode()
def test_inference_needs_no_mark() -> None:
    with sl.packed_spikes():
        assert sl.kernels.spikes.find(sl.IF()(torch.randn(3, 2, 4))) is None


def test_nothing_is_marked_outside() -> None:
    assert sl.kernels.spikes.find(spikes(4, 2, 6)) is None
    assert not sl.kernels.spikes.wanted()


# -- contexts -------------------------------------------------------------------------------------


def test_nested_contexts_and_errors_leave_all_as_it_was() -> None:
    matrix = torch.randn(6, 6, requires_grad=True)
    with pytest.raises(KeyError), sl.packed_spikes(), sl.packed_spikes():
        raise KeyError
    with sl.packed_spikes():
        with sl.packed_spikes():
            a = spikes(4, 2, 6) @ matrix
        assert sl.kernels.spikes.wanted()
        b = spikes(4, 2, 6) @ matrix
    assert not sl.kernels.spikes.wanted()
    assert torch.equal(*(gradients(y.sum(), [matrix])[0] for y in (a, b)))


def test_backward_inside_is_the_same_as_outside() -> None:
    made, x = nn.Sequential(sl.recompute(net()[:4]), net()[4:]), torch.randn(4, 2, 2, 8, 8)
    found = []
    for inside in (False, True):
        torch.manual_seed(1)
        with sl.packed_spikes():
            loss = made(x).square().sum()
            if inside:
                found.append(gradients(loss, list(made.parameters())))
        if not inside:
            found.append(gradients(loss, list(made.parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_as_a_decorator() -> None:
    @sl.packed_spikes()
    def run() -> bool:
        return sl.kernels.spikes.find(spikes(3, 2, 4)) is not None

    assert run()
    assert run()
    assert not sl.kernels.spikes.wanted()


def test_other_hooks_inside_are_obeyed() -> None:
    matrix = torch.randn(6, 6, requires_grad=True)
    with sl.packed_spikes(), torch.autograd.graph.save_on_cpu():
        y = spikes(4, 2, 6) @ matrix
    with sl.packed_spikes():
        z = spikes(4, 2, 6) @ matrix
    assert torch.equal(*(gradients(v.sum(), [matrix])[0] for v in (y, z)))


def test_two_threads() -> None:
    made, errors = net(), []
    made.eval()
    x = torch.randn(4, 2, 2, 8, 8)
    want = gradients(made(x).sum(), list(made.parameters()))

    def work(pack: bool) -> None:
        try:
            for _ in range(5):
                with sl.packed_spikes() if pack else nullcontext():
                    assert sl.kernels.spikes.wanted() is pack
                    loss = made(x).sum()
                for a, b in zip(gradients(loss, list(made.parameters())), want, strict=True):
                    assert torch.equal(a, b)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(pack,)) for pack in (True, False, True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


@pytest.mark.filterwarnings("ignore:a double backward")
def test_backward_twice_and_of_the_gradient() -> None:
    matrix = torch.randn(6, 6, dtype=torch.float64, requires_grad=True)
    x = torch.randn(4, 2, 6, dtype=torch.float64, requires_grad=True)
    found = []
    for context in (nullcontext(), sl.packed_spikes()):
        with context:
            loss = (sl.LIF(surrogate=sl.surrogate.Sigmoid())(x) @ matrix).tanh().square().sum()
        first = gradients_of(loss, [x, matrix], retain_graph=True)
        again = gradients_of(loss, [x, matrix], create_graph=True)
        for a, b in zip(first, again, strict=True):
            torch.testing.assert_close(a, b)
        found.append(gradients_of(again[0].square().sum() + again[1].square().sum(), [x, matrix]))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def gradients_of(loss: Tensor, leaves: list[Tensor], **options: bool) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, leaves, **options)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints(inside: bool, reentrant: bool) -> None:
    made, found = net(), []
    x = torch.randn(4, 2, 2, 8, 8, requires_grad=True)

    def middle(s: Tensor) -> Tensor:
        with sl.packed_spikes() if inside else nullcontext():
            return made[2:6](s)  # type: ignore[no-any-return]

    def forward() -> Tensor:
        torch.manual_seed(1)
        return made[6:](checkpoint(middle, made[:2](x), use_reentrant=reentrant)).square().sum()  # type: ignore[no-any-return]

    for context in (nullcontext(), sl.packed_spikes()):
        with context:
            loss = forward()
        found.append(gradients(loss, [x, *made.parameters()]) if not reentrant else _backward(loss, made, x))
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def _backward(loss: Tensor, made: nn.Module, x: Tensor) -> list[Tensor]:
    """A reentrant checkpoint knows no autograd.grad."""
    leaves = [x, *made.parameters()]
    for leaf in leaves:
        leaf.grad = None
    loss.backward()
    return [leaf.grad.clone() for leaf in leaves if leaf.grad is not None]


def test_a_checkpoint_keeps_its_input_as_bits() -> None:
    matrix = torch.randn(64, 64, requires_grad=True)

    def forward() -> Tensor:
        return checkpoint(lambda s: (s @ matrix).tanh(), spikes(8, 4, 64), use_reentrant=False)  # type: ignore[no-any-return]

    assert kept(forward) == {"packed": 8 * 4 * 64 // 8, "whole": 0, "times": 1}


def test_within_vmap() -> None:
    matrix = torch.randn(6, 6, requires_grad=True)
    x = torch.randn(3, 4, 2, 6)
    plain = torch.func.vmap(lambda x: sl.LIF()(x) @ matrix)(x)
    with sl.packed_spikes():
        y = torch.func.vmap(lambda x: sl.LIF()(x) @ matrix)(x)
    assert torch.equal(*(gradients(v.square().sum(), [matrix])[0] for v in (y, plain)))
    with pytest.raises(RuntimeError, match="saved tensor hooks"), sl.packed_spikes():
        torch.func.grad(lambda m: (sl.LIF()(x[0]) @ m).sum())(matrix.detach())


# -- compiled code --------------------------------------------------------------------------------


def test_around_compiled_code_its_inputs_are_packed_and_the_rest_is_announced() -> None:
    torch._dynamo.reset()
    made = nn.Sequential(nn.Linear(6, 6), sl.LIF(), nn.Linear(6, 6))
    compiled = torch.compile(made, fullgraph=True, backend="aot_eager")
    x = torch.randn(4, 2, 6)
    want = gradients(made(x).square().sum(), list(made.parameters()))
    with sl.packed_spikes(), pytest.warns(sl.SpikeloomWarning, match="does not reach into compiled code"):
        loss = compiled(x).square().sum()
    for a, b in zip(gradients(loss, list(made.parameters())), want, strict=True):
        torch.testing.assert_close(a, b)
    matrix = torch.randn(6, 6, requires_grad=True)
    product = torch.compile(lambda s: s @ matrix, fullgraph=True, backend="aot_eager")
    assert kept(lambda: product(spikes(4, 2, 6)))["times"] == 1


def test_compiled_code_that_writes_ends_the_mark() -> None:
    torch._dynamo.reset()
    halve = torch.compile(lambda s: s.mul_(0.5), fullgraph=True, backend="aot_eager")
    with sl.packed_spikes():
        s = spikes(4, 2, 6)
        halve(s)
        assert sl.kernels.spikes.find(s) is None


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_without_a_kernel_tensor_operations_pack(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(bits, "NUMBA_PROBLEM", "Numba is not installed")
    row = (torch.rand(100) < 0.3).float().to(device)
    with pytest.warns(sl.SpikeloomWarning, match="packed by tensor operations, slower than a kernel: "):
        words = bits.pack(row)
    assert words is not None
    back = bits.unpack(words, torch.float32)[:100]
    assert back.shape == row.shape if device == "meta" else torch.equal(back, row)


def test_inside_compiled_code_it_raises() -> None:
    torch._dynamo.reset()

    def run(x: Tensor) -> Tensor:
        with sl.packed_spikes():
            return x + 1

    with pytest.raises(Exception, match="put it around the call"):
        torch.compile(run, fullgraph=True, backend="eager")(torch.randn(3))
