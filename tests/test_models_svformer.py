"""SVFormer: published parameters and operations, its blocks by hand, and what is multiplied."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_cases import parameters
from torch import Tensor, nn
from torch.nn import functional

import spikeloom as sl
from spikeloom.models.svformer import SVFormer

COUNTED = {"timeBN": 13_801_612, "BN": 13_352_332}


def small(**more: Any) -> SVFormer:
    """Return it in double precision and evaluation, with norms that let neurons fire."""
    torch.manual_seed(0)
    net = SVFormer(**{**SVFormer.small, **more}).double()
    with torch.no_grad():
        for module in net.modules():
            if hasattr(module, "running_mean"):
                module.momentum = 1.0  # type: ignore[assignment]  # the last batch's statistics
                nn.init.uniform_(module.weight, 1.0, 2.0)  # type: ignore[arg-type]
                nn.init.uniform_(module.bias, 0.5, 1.5)  # type: ignore[arg-type]
        for _ in range(3):
            net(video(net, 4))
    return net.eval()


def video(net: SVFormer, batch: int = 2) -> Tensor:
    return 2 * torch.randn(net.T, batch, *net.input_shape, dtype=torch.float64)


@pytest.mark.parametrize("norm", COUNTED)
def test_parameters(norm: str) -> None:
    assert parameters("svformer", norm=norm) == COUNTED[norm]


def test_neurons_are_the_papers() -> None:
    with torch.device("meta"):
        net = sl.create_model("svformer")
    neurons = [m for m in net.modules() if isinstance(m, sl.Neuron)]
    assert len(neurons) == 39  # as the authors' log counts them
    assert {type(n) for n in neurons} == {sl.PLIF}
    assert {repr(n.surrogate) for n in neurons} == {"ATan(alpha=2.0)"}
    assert {(n.v_threshold, n.detach_reset) for n in neurons if isinstance(n, sl.PLIF)} == {(1.0, True)}
    weaker = sl.create_model("svformer", **SVFormer.small, neuron_options={"v_threshold": 0.7})
    assert {n.v_threshold for n in weaker.modules() if isinstance(n, sl.PLIF)} == {0.7}


def test_operations_of_the_authors_log() -> None:
    """38.346109952 G, of which 2 are a normalised value's; attention always as Q (K^T V)."""
    net = sl.create_model("svformer", T=1, norm="BN").eval()
    torch.manual_seed(0)
    found = sl.measure.profile(net, torch.rand(1, 1, 3, 224, 224))
    frame = sum(row.dense_total for row in found.rows)
    classifier = 1024 * 101  # once a video; the head's convolution has as many weights a frame for each frame
    counted = 16 * (frame - classifier) + classifier
    # of 49 tokens and heads of 64 channels, (Q K^T) V takes less
    saved = 16 * 2 * 512 * 49 * (64 - 49)
    values = 16 * normalised_values() + 1024
    assert counted + saved + 2 * values == 38_346_109_952


def normalised_values() -> int:
    """Return the values that a frame's norms see, at 224x224."""
    total = 0
    for dim, positions, depth, norms in (
        (128, 56**2, 1, 4),
        (256, 28**2, 1, 4),
        (384, 14**2, 3, 7),
        (512, 7**2, 1, 7),
    ):
        total += dim * positions * (1 + depth * norms)
    return total + 512 * 7**2  # and the local pathway's


def test_its_blocks_are_their_equations() -> None:
    net = small(norm="BN", depths=(1, 1, 2, 1), image_size=64)
    x = video(net)
    plif = sl.PLIF(init_tau=2.0).double()

    def fire(y: Tensor) -> Tensor:
        spikes: Tensor = plif(y)
        assert 0 < spikes.mean() < 1
        return spikes

    state = net.state_dict()

    def part(path: str) -> list[Tensor]:
        """Return weight and bias of each layer below a path, and the norms' statistics, in order."""
        return [v for k, v in state.items() if k.startswith(path + ".") and not k.endswith((".w", "tracked"))]

    def normed(y: Tensor, numbers: list[Tensor], axis: int) -> Tensor:
        weight, bias, mean, var = (
            n.view([-1 if i == axis % y.ndim else 1 for i in range(y.ndim)]) for n in numbers
        )
        return weight * (y - mean) / torch.sqrt(var + 1e-5) + bias

    def conv(y: Tensor, weight: Tensor, bias: Tensor, **options: Any) -> Tensor:
        return functional.conv2d(y.flatten(0, 1), weight, bias, **options).unflatten(0, y.shape[:2])

    def perceptron(y: Tensor, path: str) -> Tensor:
        w1, b1, *n1, w2, b2, a, b, c, d = part(path)
        h = normed(fire(y) @ w1.mT + b1, n1, -1)
        return y + normed(fire(h) @ w2.mT + b2, [a, b, c, d], -1)

    def tokens(y: Tensor) -> Tensor:
        return y.flatten(3).transpose(2, 3)

    def map_(y: Tensor, like: Tensor) -> Tensor:
        return y.transpose(2, 3).unflatten(3, like.shape[-2:])

    def local(y: Tensor, path: str) -> Tensor:
        w1, b1, w5, b5, w3, b3, *norm = part(f"{path}.0")
        h = conv(conv(conv(fire(y), w1, b1), w5, b5, padding=2, groups=len(w5)), w3, b3)
        y = y + normed(h, norm, 2)
        return map_(perceptron(tokens(y), f"{path}.1"), y)

    def embedded(y: Tensor, path: str) -> Tensor:
        weight, bias, *norm = part(path)
        return normed(conv(fire(y), weight, bias, stride=2, padding=1), norm, 2)

    def attended(y: Tensor, path: str) -> Tensor:
        """Each step, sample and head alone."""
        wq, bq, *nq, wo, bo, a, b, c, d = part(f"{path}.0")
        q, k, v = (fire(h) for h in normed(fire(y) @ wq.mT + bq, nq, -1).chunk(3, -1))
        z = torch.empty_like(q)
        for t in range(len(z)):
            for n in range(z.shape[1]):
                for h in range(0, z.shape[-1], 4):
                    one = (t, n, slice(None), slice(h, h + 4))
                    z[one] = (q[one] @ k[one].mT) @ v[one] / 2
        y = y + normed(fire(z) @ wo.mT + bo, [a, b, c, d], -1)
        return perceptron(y, f"{path}.1")

    weight, bias, *norm = part("stem")
    y = normed(conv(x, weight, bias, stride=4, padding=1), norm, 2)
    y = local(y, "stages.0.0")
    third = embedded(local(embedded(y, "stages.1.1"), "stages.1.2"), "stages.2.1")
    way = "stages.3.global_way"
    z = map_(attended(attended(tokens(third), f"{way}.0.0"), f"{way}.0.1"), third)
    z = embedded(z, f"{way}.2")
    z = map_(attended(tokens(z), f"{way}.3.0"), z)
    w3, b3, w1, b1, *norm = part("stages.3.local_way")
    pathway = normed(conv(conv(fire(third), w3, b3, stride=2, padding=1, groups=len(w3)), w1, b1), norm, 2)
    last = torch.cat((pathway, z), 2)
    for found, wanted in zip(net.forward_intermediates(x)[2:], (third, last), strict=True):
        torch.testing.assert_close(found, wanted)
    # the head: each output channel sees two input channels of all frames and positions
    kernel, shift, *norm, readout, bias = part("head")
    s = fire(last)
    scores = []
    for n in range(2):
        groups = [(kernel[o] * s[:, n, o // 2 * 2 : o // 2 * 2 + 2].transpose(0, 1)).sum() for o in range(32)]
        scores.append(readout @ normed(torch.stack(groups) + shift, norm, 0) + bias)
    torch.testing.assert_close(net(x), torch.stack(scores))


def test_each_step_has_a_norm_of_its_own() -> None:
    net = small()
    x = video(net)
    norm = net.stages[0][0]  # type: ignore[index]
    assert isinstance(norm, sl.nn.TimeDependentBatchNorm)
    with torch.no_grad():
        before = net.forward_intermediates(x)[0]
        norm.bias[1] += 1.0  # type: ignore[index]
        after = net.forward_intermediates(x)[0]
    torch.testing.assert_close(after[0], before[0])
    assert not torch.equal(after[1], before[1])


def test_what_is_multiplied() -> None:
    """Between the convolutions of a local block and of the local pathway there is no neuron."""
    net = small(image_size=64)
    rows = [row for row in sl.measure.profile(net, video(net)).rows if row.kinds]
    assert all(min(row.densities) > 0 for row in rows)
    graded = {row.path for row in rows if "graded" in row.kinds}
    inner = {f"stages.{i}.{j}.0.branch.1.0.0.{k}" for i, j in ((0, 1), (1, 2)) for k in (1, 2)}
    assert graded == {"stem.0", *inner, "stages.3.local_way.1.0.0.1", "head.linear"}
    whole = [row for row in rows if "integer" in row.kinds]
    assert {row.kind for row in whole} == {"matmul"}
    assert all(set(row.kinds) == {"binary", "integer"} for row in whole)


def test_it_learns_what_changes_in_time() -> None:
    """Videos and the same backwards are told apart."""
    torch.manual_seed(0)
    net = sl.create_model("svformer", **{**SVFormer.small, "T": 3}).train()
    forwards = torch.randn(3, 8, 3, 32, 32)
    x, labels = torch.cat((forwards, forwards.flip(0)), 1), torch.arange(16) // 8
    optimiser = torch.optim.AdamW(net.parameters(), 1e-2)
    for _ in range(25):
        loss = functional.cross_entropy(net(x), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (net(x).argmax(1) == labels).double().mean() > 0.8


def test_sizes_and_steps() -> None:
    net = small(image_size=(32, 64), T=3)
    assert net(video(net)).shape == (2, 5)
    assert [f.shape[-2:] for f in net.forward_intermediates(video(net))] == [(8, 16), (4, 8), (2, 4), (1, 2)]
    with pytest.raises(ValueError, match="T = 3 steps, but was given 2 steps; build it with T=2"):
        net(video(net)[:2])
    with pytest.raises(ValueError, match="images of 48x48 pixels; its strides take multiples of 32"):
        small(image_size=48)
    with pytest.raises(RuntimeError, match="looks ahead: it weighs all frames"):
        sl.Stream(small(norm="BN"))(video(net)[:3, :, :, :, :32][:2])


def test_bad_arguments() -> None:
    with pytest.raises(
        ValueError, match="heads of 5 channels do not divide a width of 16; take multiples of 5"
    ):
        small(head_dim=5)
    for wrong in ({"dims": (8, 8, 16)}, {"depths": (1, 1, 1)}, {"depths": (0, 1, 1, 1)}, {"mlp_ratio": 0}):
        with pytest.raises(ValueError, match="four numbers of the first two, and each at least 1"):
            small(**wrong)
