"""PerStep: ordinary layers over all steps at once, and never over the wrong axes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import spikeloom as sl


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def looped(module: nn.Module, x: Tensor) -> Tensor:
    return torch.stack([module(x_t) for x_t in x])


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels-last": lambda x: x.movedim(2, -1).contiguous().movedim(-1, 2),
    "batch first": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "every other": lambda x: x.repeat_interleave(2, 0)[::2],
    "static image": lambda x: x[:1].expand(len(x), -1, -1, -1, -1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_is_the_layers_at_every_step(layout: str) -> None:
    module = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(20, 7))
    x = LAYOUTS[layout](torch.randn(3, 2, 3, 6, 7, dtype=torch.float64)).requires_grad_()
    module.double()
    for net in (sl.PerStep(*module), sl.PerStep(module), sl.PerStep(module[:2], nn.Sequential(*module[2:]))):
        y, want = net(x), looped(module, x)
        torch.testing.assert_close(y, want)
        torch.testing.assert_close(*(torch.autograd.grad(out.sin().sum(), x)[0] for out in (y, want)))


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("dims", [2, 3])
def test_channels_last_stays(dims: int, static: bool) -> None:
    seen: list[Tensor] = []
    x = torch.randn(4, 2, 3, *[6] * dims).movedim(2, -1).contiguous().movedim(-1, 2)
    if static:
        x = x[:1].expand_as(x)
    conv = nn.Conv2d(3, 5, 3) if dims == 2 else nn.Conv3d(3, 5, 3)
    conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    last = torch.channels_last if dims == 2 else torch.channels_last_3d
    conv = conv.to(memory_format=last)
    y = sl.PerStep(conv)(x)
    (folded,) = seen
    assert folded.is_contiguous(memory_format=last)
    assert (folded.data_ptr() == x.data_ptr()) is not static  # nothing is copied but what has to be
    assert y.flatten(0, 1).is_contiguous(memory_format=last)
    assert y.flatten(0, 1).data_ptr() == y.data_ptr()


def test_contiguous_folds_without_copying() -> None:
    x = torch.randn(4, 2, 3, 6, 6)
    y = sl.PerStep(nn.Identity())(x)
    assert y.data_ptr() == x.data_ptr()
    assert y.stride() == x.stride()


def test_empty_and_nested() -> None:
    x = torch.randn(4, 2, 3)
    assert torch.equal(sl.PerStep()(x), x)
    assert torch.equal(sl.PerStep(nn.Sequential())(x), x)
    inner = nn.Sequential(nn.Sequential(nn.Linear(3, 3)), nn.Tanh())
    assert list(sl.PerStep(inner).state_dict()) == ["0.0.0.weight", "0.0.0.bias"]


def test_batch_norm_sees_all_steps() -> None:
    x = torch.randn(4, 2, 3, 5, 5)
    norm = nn.BatchNorm2d(3)
    y = sl.PerStep(norm)(x)
    torch.testing.assert_close(y.mean((0, 1, 3, 4)), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(norm.running_mean, 0.1 * x.mean((0, 1, 3, 4)))


def test_modules_are_called_as_modules() -> None:
    calls: list[str] = []
    net = sl.PerStep(nn.Linear(3, 3), nn.Sequential(nn.ReLU()))
    for name, module in net.named_modules():
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
    net(torch.randn(4, 2, 3))
    assert calls == ["0", "1.0", "1", ""]


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Conv2d(2, 3, 3), (1, 2, 5, 5)),
        (nn.Sequential(nn.ReLU(), nn.Dropout(), nn.Conv2d(2, 3, 3)), (1, 2, 5, 5)),
        (nn.Sequential(nn.Sequential(nn.MaxPool2d(2))), (3, 2, 6, 6)),
        (nn.AdaptiveAvgPool2d(1), (3, 2, 6, 6)),
        (nn.ConvTranspose2d(6, 3, 3), (3, 2, 6, 6)),
        (nn.ZeroPad2d(1), (3, 2, 6, 6)),
        (nn.InstanceNorm2d(6), (3, 2, 6, 6)),
        (nn.Conv1d(2, 3, 3), (1, 2, 5)),
        (nn.Conv3d(2, 3, 3), (1, 2, 5, 5, 5)),
    ],
)
def test_a_missing_axis_raises(module: nn.Module, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"was given shape .* \[T, B, C, \.\.\.\].*x\.unsqueeze\(0\)"):
        sl.PerStep(module)(torch.randn(*shape))


def test_a_missing_axis_raises_behind_other_layers() -> None:
    net = sl.PerStep(nn.BatchNorm1d(5), nn.Conv2d(2, 3, 3))
    with pytest.raises(ValueError, match="Conv2d would see"):
        net(torch.randn(1, 2, 5, 5))


def test_too_few_axes_and_no_tensor_raise() -> None:
    with pytest.raises(ValueError, match=r"was given shape \(2, 3\); add the missing axes"):
        sl.PerStep(nn.Linear(3, 3))(torch.randn(2, 3))
    with pytest.raises(TypeError, match="not list"):
        sl.PerStep(nn.Linear(3, 3))([torch.randn(2, 3)])


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean()


@pytest.mark.parametrize(
    ("module", "match"),
    [
        (Pair(), r"folded \(4, 2, 3\) to 8 samples, but its modules returned a tuple"),
        (Mean(), r"returned shape \(\)"),
        (nn.Flatten(0), r"returned shape \(24,\)"),
    ],
)
def test_what_loses_the_samples_raises(module: nn.Module, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        sl.PerStep(module)(torch.randn(4, 2, 3))


@pytest.mark.parametrize(
    ("make", "seen"),
    [
        (lambda: sl.PerStep(nn.Linear(3, 3), sl.LIF()), r"LIF \(in module '1'\)"),
        (lambda: sl.PerStep(nn.Sequential(nn.ReLU(), sl.LIF())), r"LIF '1' \(in module '0'\)"),
        (lambda: sl.PerStep(sl.PerStep(nn.ReLU())), "PerStep"),
        (lambda: sl.PerStep(nn.GRU(3, 3)), "GRU"),
        (lambda: sl.PerStep(sl.Recurrent(sl.LIF(), nn.Linear(3, 3))), "Recurrent"),
    ],
)
def test_what_sees_time_raises_at_construction(make: Callable[[], nn.Module], seen: str) -> None:
    with pytest.raises(TypeError, match=f"PerStep holds {seen}.*which sees time"):
        make()


def test_it_compiles_in_one_graph() -> None:
    net = sl.PerStep(
        nn.Conv2d(3, 5, 3), nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), nn.Flatten(), nn.Linear(20, 2)
    )
    x = torch.randn(3, 2, 3, 6, 7)
    torch.testing.assert_close(torch.compile(net, backend="aot_eager", fullgraph=True)(x), net(x))
