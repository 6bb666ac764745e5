"""Operations counted while a network runs: by hand, by naive loops, by PyTorch's own counter."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import spikeloom as sl
from spikeloom.measure import Profile, Profiler, Row, profile


def spikes(*shape: int, rate: float = 0.3, seed: int = 0) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def row(found: Profile, path: str) -> Row:
    return next(row for row in found.rows if row.path == path)


class Function(nn.Module):
    """A function of an input as a network, with weights of its own if any."""

    def __init__(self, function: Any, **weights: Tensor) -> None:
        super().__init__()
        self.function = function
        for name, weight in weights.items():
            self.register_parameter(name, nn.Parameter(weight))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, **self._parameters)


def test_convolutions_by_hand() -> None:
    x = torch.zeros(1, 2, 4, 4)
    x[0, 0, 0, 0] = 1  # a corner: with padding 1, 4 of the windows of a 3x3 kernel hold it
    x[0, 1, 0, 1] = 1  # an edge: 6
    x[0, 1, 2, 2] = 1  # inside: 9
    found = profile(nn.Conv2d(2, 5, 3, padding=1), x).rows[0]
    assert (found.dense, found.acs, found.macs) == (4 * 4 * 2 * 5 * 9, 5 * (4 + 6 + 9), 0)
    assert (found.path, found.kind, found.output, found.parameters) == ("(itself)", "Conv2d", (5, 4, 4), 95)
    assert (found.input, found.density) == ("binary", 3 / 32)
    strided = profile(nn.Conv2d(2, 5, 3, stride=2), x).rows[0]  # one window, rows and columns 0 to 2
    assert (strided.dense, strided.acs) == (2 * 5 * 9, 5 * 3)
    grouped = profile(nn.Conv2d(2, 6, 3, padding=1, groups=2), x).rows[0]
    assert (grouped.dense, grouped.acs) == (4 * 4 * 6 * 9, 3 * (4 + 6 + 9))
    transposed = profile(nn.ConvTranspose2d(2, 5, 3, padding=1), x).rows[0]  # what is cropped is no work
    assert (transposed.dense, transposed.acs) == (32 * 5 * 9, 5 * (4 + 6 + 9))


def test_linear_layers_by_hand() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(4)[:, :3])
        net[0].bias.zero_()
    found = profile(net, torch.tensor([[1.0, 0.5, -1.0], [0.0, 2.5, 0.0]]))
    assert found.samples == 2
    first, second = found.rows
    assert (first.dense_total, first.effective_total, first.density) == (24, 4 * 4, 4 / 6)
    assert (second.dense_total, second.effective_total, second.density) == (16, 2 * 3, 3 / 8)
    assert (found.dense, found.macs, found.acs) == (20, 11, 0)
    assert found.parameters == sum(row.parameters for row in found.rows) == 16 + 8
    assert found.energy.picojoules == pytest.approx(4.6 * 20)
    assert found.price(sl.measure.Convention(macs="nonzero")).picojoules == pytest.approx(4.6 * 11)


def naive(x: Tensor, weight: Tensor, stride: int, padding: int, dilation: int, groups: int) -> int:
    """Count the products of a convolution whose data is not zero, one by one."""
    made = functional.conv2d(x, weight, None, stride, padding, dilation, groups)
    count = 0
    for n, o, i, j in itertools.product(*map(range, made.shape)):
        for c, a, b in itertools.product(*map(range, weight.shape[1:])):
            channel = o // (weight.shape[0] // groups) * weight.shape[1] + c
            u, v = i * stride + a * dilation - padding, j * stride + b * dilation - padding
            inside = 0 <= u < x.shape[2] and 0 <= v < x.shape[3]
            count += bool(inside and x[n, channel, u, v] != 0)
    return count


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"),
    [(1, 0, 1, 1), (2, 1, 1, 1), (3, 2, 1, 2), (1, 2, 2, 1), (2, 3, 2, 4)],
)
def test_convolutions_by_naive_loops(stride: int, padding: int, dilation: int, groups: int) -> None:
    net = nn.Conv2d(4, 8, 3, stride, padding, dilation, groups)
    x = spikes(2, 4, 7, 6)
    assert profile(net, x).rows[0].effective_total == naive(x, net.weight, stride, padding, dilation, groups)


OPTIONS = list(itertools.product((1, 2, 3), (1, 2, 4), (0, 2), (1, 3), (1, 2), (False, True)))


@pytest.mark.parametrize("d", [1, 2, 3])
def test_convolutions_by_convolving_the_mask_with_ones(d: int) -> None:
    """All that a product needs is that its data is not zero: so count them by the convolution itself."""
    shape = {1: (13,), 2: (9, 8), 3: (7, 6, 9)}[d]
    x = normal(2, 4, *shape) * spikes(2, 4, *shape, rate=0.4)
    mask = (x != 0).double()
    for kernel, stride, padding, dilation, groups, transposed in OPTIONS:
        if transposed:
            options: dict[str, Any] = {"output_padding": min(stride, 2) - 1}
            name = f"ConvTranspose{d}d"
        else:
            options, name = {"padding_mode": "zeros"}, f"Conv{d}d"
        net = getattr(nn, name)(
            4,
            6,
            kernel,
            stride,
            min(padding, kernel // 2),
            dilation=dilation,
            groups=groups,
            **options,
        )
        if dilation * (kernel - 1) + 1 > min(shape) + 2 * net.padding[0]:
            continue
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(x)
        found = profile(net, x).rows[0]
        assert 2 * found.dense_total == counter.get_total_flops(), net
        with torch.no_grad():
            net.weight.fill_(1)
            net.bias.zero_()
            expected = net.double()(mask).sum()
        assert found.effective_total == expected, net
        assert found.kind == name
        assert found.input == "graded"
        assert found.density == pytest.approx(float(mask.mean()))


@pytest.mark.parametrize(
    "net",
    [
        nn.Conv2d(3, 4, 3, padding="same"),
        nn.Conv2d(3, 4, (3, 5), padding="same"),
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"),
        nn.Sequential(
            nn.Conv2d(3, 6, 3, groups=3),
            nn.Conv2d(6, 5, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(5, 2),
        ),
    ],
)
def test_dense_operations_are_those_of_pytorch(net: nn.Module) -> None:
    x = normal(2, 3, 8, 8)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(x)
    assert 2 * 2 * profile(net, x).dense == counter.get_total_flops()


@pytest.mark.parametrize(("rate", "share"), [(0.0, 0), (2.0, 1)])
def test_no_input_and_all_of_it(rate: float, share: int) -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(3 * 4 * 4, 5))
    with torch.no_grad():
        net[0].weight.fill_(1)
        net[0].bias.zero_()
    found = profile(net, spikes(3, 2, 6, 6, rate=rate))
    for layer in found.rows:
        assert layer.density == share
        assert layer.effective == share * layer.dense
    assert (found.macs + found.acs) == share * found.dense
    assert found.rows[1].input == ("integer" if share else "binary")


PRODUCTS = {
    "at": lambda a, b: a @ b.transpose(-1, -2),
    "matmul": lambda a, b: torch.matmul(a, b.mT),
    "einsum": lambda a, b: torch.einsum("thnd,thmd->thnm", a, b),
    "bmm": lambda a, b: torch.bmm(a.flatten(0, 1), b.flatten(0, 1).mT),
    "baddbmm": lambda a, b: torch.baddbmm(torch.ones(1), a.flatten(0, 1), b.flatten(0, 1).mT),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_data_by_data_count_pairs(name: str) -> None:
    x = torch.cat([spikes(2, 3, 5, 4), spikes(2, 3, 5, 4, rate=0.5, seed=1)], -1)
    a, b = x.chunk(2, -1)
    pairs = sum(
        bool(a[t, h, i, k] and b[t, h, j, k])
        for t, h, i, j, k in itertools.product(range(2), range(3), range(5), range(5), range(4))
    )
    found = profile(Function(lambda x: PRODUCTS[name](*x.chunk(2, -1))), x).rows[0]
    assert (found.kind, found.input) == ("matmul", "binary x binary")
    assert (found.dense_total, found.effective_total, found.acs) == (2 * 3 * 5 * 5 * 4, pairs, pairs / 2)
    assert found.densities == (int(a.sum()) / a.numel(), int(b.sum()) / b.numel())
    assert found.output[-2:] == (5, 5)


WEIGHED = {
    "linear": lambda x, w: functional.linear(x, w),
    "at": lambda x, w: x @ w.t(),
    "einsum": lambda x, w: torch.einsum("bd,nd->bn", x, w),
    "left": lambda x, w: (w @ x.t()).t(),
    "cast": lambda x, w: x.double() @ w.double().t(),
    "normalised": lambda x, w: functional.linear(x, (w - w.mean()) / w.std()),
    "addmm": lambda x, w: torch.addmm(torch.zeros(6), x, w.t()),
    "vectors": lambda x, w: torch.stack([torch.mv(w, row) for row in x]),
    "per head": lambda x, w: torch.bmm(x[None], w.t()[None])[0],
    "made": lambda x, w: functional.linear(x, w @ torch.matmul(w.t(), w)),  # weights alone: no work
}


@pytest.mark.parametrize("name", WEIGHED)
def test_functions_of_weights_are_layers(name: str) -> None:
    x = spikes(5, 4)
    found = profile(Function(WEIGHED[name], w=normal(6, 4)), x)
    assert len(found.rows) == 1
    assert found.rows[0].kinds == ("binary",)
    assert (found.rows[0].dense_total, found.rows[0].effective_total) == (5 * 6 * 4, 6 * int(x.sum()))
    assert (found.rows[0].kind, found.rows[0].parameters) == ("Function", 24)


def test_functional_convolutions_and_a_weight_that_data_overwrites() -> None:
    found = profile(Function(lambda x, w: functional.conv1d(x, w.abs()), w=normal(2, 3, 2)), spikes(1, 3, 5))
    assert found.dense == 2 * 3 * 2 * 4

    def written(x: Tensor, w: Tensor) -> Tensor:
        state = torch.zeros_like(w)  # made of a weight, but data from here on
        state.copy_(x)
        return state @ x.t()

    found = profile(Function(written, w=normal(5, 4)), spikes(5, 4))
    assert found.rows[0].input == "binary x binary"


class Attention(nn.Module):
    """Spiking self-attention (Zhou et al. 2023, Spikformer), its heads apart, Q (K^T V) as given."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.neuron = nn.Linear(width, 3 * width), sl.LIF()

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.neuron(self.qkv(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)
        return x + (q @ (k.mT @ v)).transpose(2, 3).flatten(-2)


def test_attention_and_residuals() -> None:
    T, B, N, H, d = 3, 2, 5, 2, 4
    torch.manual_seed(0)
    attention = Attention(H * d, H)
    with torch.no_grad():
        attention.qkv.weight.normal_(std=2)
    net = nn.Sequential(attention, sl.PerStep(nn.Linear(H * d, 3)))
    x = spikes(T, B, N, H * d, rate=0.5)
    kept: dict[str, Tensor] = {}
    with torch.no_grad():
        handle = attention.neuron.register_forward_hook(lambda m, i, o: kept.update(s=o))
        y = attention(x)
        handle.remove()
    found = profile(net, x)
    assert [r.path for r in found.rows] == ["0.qkv", "0.neuron", "0", "0 (2)", "1.0"]
    q, k, v = kept["s"].unflatten(-1, (3, H, d)).permute(3, 0, 1, 4, 2, 5)
    kv = k.mT @ v
    first, second, residual = found.rows[2:]
    assert first.effective_total == int(kv.sum())  # of 0 and 1 the products are the pairs
    assert second.effective_total == int((q @ (kv != 0).float()).sum())
    assert (first.input, second.input, residual.input) == (
        "binary x binary",
        "binary x integer",
        "integer",
    )
    assert first.dense == second.dense == T * H * N * d * d
    assert residual.effective_total == 3 * int(torch.count_nonzero(y))
    assert residual.levels_total == 3 * int(y.sum())
    # the rule of Spikingformer's script: T H N d^2 (min(fr_K, fr_V) + fr_Q)
    rates = [float(part.mean()) for part in (k, v, q)]
    convention = sl.measure.CONVENTIONS["spikingformer"]
    charged = [cost.acs for r, cost in found.costs(convention) if r.kind == "matmul"]
    assert sum(charged) == pytest.approx(T * H * N * d * d * (min(rates[:2]) + rates[2]))


def test_loops_and_helpers_within_a_module() -> None:
    """A place in a loop is one row; a helper called from two places is two."""

    class Net(nn.Module):
        def times(self, a: Tensor, b: Tensor) -> Tensor:
            return a @ b

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(3):
                x = (self.times(x, x.mT) > 0).float()
            return self.times(x * 0.5, x)

    found = profile(Net(), spikes(2, 4, 4))
    assert [(r.path, r.dense) for r in found.rows] == [("(itself)", 3 * 64), ("(itself) (2)", 64)]
    assert [r.input for r in found.rows] == ["binary x binary", "graded x binary"]


def test_a_module_called_twice() -> None:
    shared = nn.Linear(4, 4)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.neuron = shared, shared, sl.IF(v_threshold=0.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.neuron(self.b(self.neuron(self.a(x))))

    with torch.no_grad():
        shared.weight.copy_(torch.eye(4))
        shared.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 1.0]))
    x = torch.zeros(2, 1, 4)
    x[0, 0, 0] = 1
    found = profile(Net(), x)
    assert [(r.path, r.dense, r.acs, r.parameters) for r in found.rows if r.kinds] == [("a", 64, 4 + 12, 20)]
    neuron = row(found, "neuron")
    assert (neuron.spikes, neuron.chances) == (3 + 3, 16)
    assert (neuron.silent, neuron.saturated) == (0.5, 0.25)  # of 8 neurons, 4 in each call


def test_spikes_by_hand() -> None:
    net = nn.Sequential(sl.IF(v_threshold=1.0), sl.PerStep(nn.Linear(4, 2)))
    x = torch.zeros(2, 2, 4)
    x[:, :, 0] = 1  # always
    x[1, 0, 1] = 1  # once
    x[0, 1, 2], x[1, 1, 2] = 0.5, 0.5  # at the second step
    found = profile(net, x)
    assert (found.samples, found.steps) == (2, 2)
    neurons, linear = found.rows
    assert (neurons.kind, neurons.output, neurons.firing_rate) == ("IF", (4,), 6 / 16)
    assert (neurons.silent, neurons.saturated) == (0.25, 0.25)
    assert (linear.acs, linear.dense) == (6, 16)
    assert found.firing_rate == 6 / 16
    with sl.measure.FiringRates(net) as rates:
        net(x)
    assert rates.layers() == {"0": neurons.firing_rate}


def test_a_recurrent_layer_hears_its_last_step() -> None:
    neuron = sl.IF(v_threshold=1.0)
    synapse = nn.Linear(3, 3, bias=False)
    nn.init.zeros_(synapse.weight)
    x = torch.zeros(4, 1, 3)
    x[0], x[1, 0, 0], x[3] = 1, 1, 1  # the last step's spikes are not heard any more
    found = profile(sl.Recurrent(neuron, synapse), x)
    fed, fired = found.rows
    assert (fed.path, fed.kind, fed.parameters, fed.input) == ("synapse", "Linear", 9, "binary")
    assert (fed.dense, fed.acs, fed.density) == (4 * 9, 4 * 3, 4 / 12)
    assert (fired.path, fired.kind, fired.spikes, fired.parameters) == ("(itself)", "Recurrent(IF)", 7, 0)


@pytest.mark.parametrize("backend", ["numba", "eager"])
@pytest.mark.parametrize("streamed", [False, True])
def test_recurrent_layers_by_kernel_and_loop(backend: str, streamed: bool) -> None:
    torch.manual_seed(0)
    plain, other = nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 6))
    other.load_state_dict({f"0.{name}": value for name, value in plain.state_dict().items()})
    x = 2 * normal(5, 3, 6)
    made = []
    for synapse in (plain, other):  # the second one runs step by step, and is seen at work
        net = sl.Recurrent(sl.LIF(), synapse)
        with (
            sl.backend(backend) if synapse is plain else sl.backend("eager"),
            Profiler(net) as profiler,
            torch.no_grad(),
        ):
            if streamed:
                stream = sl.Stream(net)
                for chunk in x.split(2):
                    stream(chunk)
            else:
                net(x)
        made.append(profiler.profile(samples=3))
    (fed, fired), (expected, _) = (found.rows for found in made)
    assert fed.effective_total == expected.effective_total > 0
    assert (fed.dense_total, fed.densities) == (expected.dense_total, expected.densities)
    assert fed.dense_total == 5 * 3 * 36
    assert made[0].steps == 5
    assert fired.chances == 5 * 3 * 6


def test_a_norm_neuron_stays_one_kernel() -> None:
    net = nn.Sequential(sl.PerStep(nn.Conv2d(2, 3, 3)), sl.NormNeuron(nn.BatchNorm2d(3), sl.PLIF())).eval()
    x = normal(3, 2, 2, 6, 6)  # an announcement, that norm and neuron run apart, would be an error
    found = profile(net, x)
    assert [(r.path, r.kind, r.parameters) for r in found.rows] == [
        ("0.0", "Conv2d", 57),
        ("1", "NormNeuron(PLIF)", 7),
    ]
    assert found.rows[1].spikes == int(net(x).sum())


class Mine(sl.Neuron):
    """v' = v + x, graded spikes of two signs."""

    states = ("v",)

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        h = v + x
        s = self.spike(h - 1.0) - self.spike(-h - 1.0)
        return s, h - s


def test_neurons_of_a_user() -> None:
    net = nn.Sequential(Mine(), sl.PerStep(nn.Linear(5, 4)))
    found = profile(net, 2 * normal(3, 2, 5))
    assert (found.rows[0].kind, found.rows[1].input) == ("Mine", "ternary")
    assert found.rows[1].macs == 0
    assert found.rows[1].acs == 4 * found.rows[0].spikes / 2

    class Mixing(sl.Neuron):
        eager = True

        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(5, 5)

        def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
            h = v + self.mix(x)
            return self.spike(h - 1.0), h

    with pytest.warns(sl.SpikeloomWarning, match="eager"):
        found = profile(Mixing(), normal(3, 2, 5))
    assert [(r.path, r.dense) for r in found.rows] == [("mix", 3 * 25), ("(itself)", 0)]
