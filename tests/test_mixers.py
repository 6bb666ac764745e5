"""Token mixer, channel mixer and spiking patch encoding, against loops over steps, samples, positions."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import spikeloom as sl
from spikeloom.nn import ChannelMixer, SpikingPatchEncoding, TokenMixer

T, B, C, H, W = 3, 2, 6, 4, 2


def spikes() -> Tensor:
    torch.manual_seed(1)
    return (torch.rand(T, B, C, H, W, dtype=torch.float64) < 0.4).double()


def ready(layer: nn.Module) -> nn.Module:
    """Return the layer in double precision, in evaluation, all its numbers drawn from one seed."""
    torch.manual_seed(2)
    layer = layer.double()
    for module in layer.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            module.reset_parameters()
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for value, low in ((module.weight, 1.0), (module.bias, 0.2), (module.running_mean, -0.2)):
                assert value is not None
                nn.init.uniform_(value, low, low + 0.5)
            assert module.running_var is not None
            nn.init.uniform_(module.running_var, 0.05, 0.2)
    return layer.eval()


def norms(layer: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in layer.modules() if isinstance(m, nn.BatchNorm2d)]


def weights(layer: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Return weight and bias of each linear layer and convolution, in the order of their making."""
    found = [m for m in layer.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    return [(m.weight, torch.zeros(len(m.weight)) if m.bias is None else m.bias) for m in found]


def normed(norm: nn.BatchNorm2d, i: int, x: Tensor) -> Tensor:
    """Return x as the norm's channel i has it."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight[i] / torch.sqrt(norm.running_var[i] + norm.eps)
    return scale * (x - norm.running_mean[i]) + norm.bias[i]


def fires(x: Tensor) -> Tensor:
    """Return a LIF's spikes: tau 2, threshold 1, hard reset to 0."""
    out, v = [], torch.zeros_like(x[0])
    for x_t in x:
        h = v + (x_t - v) / 2
        s = (h >= 1).double()
        out.append(s)
        v = (1 - s) * h
    return torch.stack(out)


def each(shape: tuple[int, ...], value: Callable[..., Tensor]) -> Tensor:
    """Return a tensor of that shape, each entry computed alone."""
    return torch.stack([value(*i) for i in torch.cartesian_prod(*map(torch.arange, shape)).tolist()]).view(
        shape
    )


@pytest.mark.parametrize("fire", [False, True])
def test_token_mixer_is_its_equation(fire: bool) -> None:
    layer = ready(TokenMixer(C, H, W, fire=fire))
    x = spikes()
    (rows, alpha), (columns, beta), (fuse, _) = weights(layer)
    by_rows, by_columns, *own, last = norms(layer)
    shape = T, B, C, H, W

    def row(t: int, b: int, c: int, h: int, w: int) -> Tensor:
        return normed(by_rows, h, alpha[h] + rows[h, :, 0, 0] @ x[t, b, c, :, w])

    def column(t: int, b: int, c: int, h: int, w: int) -> Tensor:
        return normed(by_columns, w, beta[w] + columns[w, :, 0, 0] @ x[t, b, c, h])

    a, b_ = fires(each(shape, row)), fires(each(shape, column))
    x_ = fires(each(shape, lambda t, b, c, h, w: normed(own[0], c, x[t, b, c, h, w]))) if fire else x
    three = torch.cat((x_, a, b_), 2)

    def mixed(t: int, b: int, c: int, h: int, w: int) -> Tensor:
        return normed(last, c, fuse[c, :, 0, 0] @ three[t, b, :, h, w])

    assert 0 < a.mean() < 1
    assert 0 < b_.mean() < 1
    torch.testing.assert_close(layer(x), each(shape, mixed))


def test_channel_mixer_is_its_equation() -> None:
    hidden = 5
    layer = ready(ChannelMixer(C, H, W, hidden))
    x = spikes()
    (first, bias1), (second, bias2) = weights(layer)
    expand, reduce = norms(layer)

    def inner(t: int, b: int, c: int, h: int, w: int) -> Tensor:
        return normed(expand, h * W + w, bias1[c] + first[c] @ x[t, b, :, h, w])

    s = fires(each((T, B, hidden, H, W), inner))

    def outer(t: int, b: int, c: int, h: int, w: int) -> Tensor:
        return normed(reduce, h * W + w, bias2[c] + second[c] @ s[t, b, :, h, w])

    assert 0 < s.mean() < 1
    torch.testing.assert_close(layer(x), each((T, B, C, H, W), outer))


def test_patch_encoding_is_its_equation() -> None:
    layer = ready(SpikingPatchEncoding(C, 9))
    x = spikes()
    (enter, _), (first, _), (second, _) = weights(layer)
    norm, *inner = norms(layer)

    def convolved(x: Tensor, weight: Tensor, stride: int, norm: nn.BatchNorm2d, start: int = 0) -> Tensor:
        height, width = -(-x.shape[3] // stride), -(-x.shape[4] // stride)
        padded = nn.functional.pad(x, (1, 1, 1, 1))

        def one(t: int, b: int, c: int, h: int, w: int) -> Tensor:
            window = padded[t, b, :, h * stride : h * stride + 3, w * stride : w * stride + 3]
            return normed(norm, start + c, (weight[c] * window).sum())

        return each((T, B, len(weight), height, width), one)

    nodes = [convolved(x, enter[3 * i : 3 * i + 3], 2, norm, 3 * i) for i in range(3)]
    n1 = nodes[0]
    n2 = nodes[1] + convolved(fires(n1), first, 1, inner[0])
    n3 = nodes[2] + n1 + convolved(fires(n2), second, 1, inner[1])
    assert 0 < fires(n1).mean() < 1
    assert 0 < fires(n2).mean() < 1
    y = layer(x)
    assert y.shape == (T, B, 9, H // 2, W // 2)
    torch.testing.assert_close(y, torch.cat((n1, n2, n3), 2))


LAYERS: dict[str, Callable[..., nn.Module]] = {
    "token": lambda **o: TokenMixer(C, H, W, **o),
    "token, fires": lambda **o: TokenMixer(C, H, W, fire=True, **o),
    "channel": lambda **o: ChannelMixer(C, H, W, 4, **o),
    "patch": lambda **o: SpikingPatchEncoding(C, 6, **o),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients(name: str) -> None:
    """With smooth neurons the gradients are those of finite differences, statistics of the batch included."""
    torch.manual_seed(3)
    layer = LAYERS[name](neuron=nn.Tanh).double().train()
    x = spikes().requires_grad_()
    parameters = [p for p in layer.parameters() if p.ndim == 1]

    def run(x: Tensor, *_: Tensor) -> Tensor:
        y: Tensor = layer(x)
        return y

    assert torch.autograd.gradcheck(run, (x, *parameters), fast_mode=True)


@pytest.mark.parametrize("name", LAYERS)
def test_of_spikes_every_product_sees_spikes(name: str) -> None:
    layer = LAYERS[name]().double().eval()
    found = sl.measure.profile(layer, spikes())
    assert {kind for row in found.rows for kind in row.kinds} == {"binary"}


@pytest.mark.parametrize("name", LAYERS)
def test_memory_formats_and_norms(name: str) -> None:
    x = spikes()
    layer = ready(LAYERS[name]())
    last = x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    torch.testing.assert_close(layer(last), layer(x))
    threshold = sl.nn.ThresholdDependentBatchNorm2d
    scaled = LAYERS[name](norm=lambda c: threshold(c, v_threshold=0.5)).double()
    assert scaled(x).isfinite().all()


# norms that no layer of the same axes stands in front of stay as they are
LEFT = {"token, fires": ["identity"], "channel": ["expand", "reduce"]}


@pytest.mark.parametrize("name", LAYERS)
def test_a_folded_mixer_gives_the_same(name: str) -> None:
    layer, x = ready(LAYERS[name]()), spikes()
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        folded = sl.nn.fold(layer)
    left = sorted({path.split(".")[0] for path, m in folded.named_modules() if isinstance(m, nn.BatchNorm2d)})
    assert left == LEFT.get(name, [])
    torch.testing.assert_close(folded(x), layer(x))


@pytest.mark.parametrize("name", ["token", "token, fires"])
def test_a_neurons_channels_are_the_maps(name: str) -> None:
    """Also where rows or columns stand in the channels' place for the convolution."""
    tau = torch.linspace(1.5, 4.0, C).double()
    layer = ready(LAYERS[name](neuron=functools.partial(sl.LIF, tau=tau)))
    x = spikes()
    inputs: list[Tensor] = []
    layer.get_submodule("fuse").register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    layer(x)
    rows = inputs[0][:, :, C : 2 * C]
    for c in range(C):
        alone = ready(LAYERS[name](neuron=functools.partial(sl.LIF, tau=float(tau[c]))))
        alone.load_state_dict({k: v for k, v in layer.state_dict().items() if not k.endswith("tau")})
        alone.get_submodule("fuse").register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
        alone(x)
        torch.testing.assert_close(inputs[-1][:, :, C + c], rows[:, :, c])


def test_other_sizes_are_refused() -> None:
    x = spikes()
    for layer in (TokenMixer(C, W, H), ChannelMixer(C, W, H, 4)):
        with pytest.raises(ValueError, match=r"\[T, B, 6, 2, 4\], but was given shape \(3, 2, 6, 4, 2\)"):
            layer.double()(x)
    with pytest.raises(ValueError, match=r"out = 8 channels; .* a multiple of 3 is needed, as 9"):
        SpikingPatchEncoding(C, 8)
