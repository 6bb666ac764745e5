"""Motion by heterogeneous delays: the layer against loops, in streams, pruned; moving textures; learned."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import spikeloom as sl
from spikeloom.data import Dataset, Images
from spikeloom.events import EventsError
from spikeloom.events.synthesis import moving_texture, video_to_events
from spikeloom.models.hd_snn import HDSNN
from spikeloom.training import build, find_recipe


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def small(**more: Any) -> HDSNN:
    net = HDSNN(**{"num_classes": 4, "image_size": 5, "delays": 3, "kernel": 3, "T": 6, **more}).double()
    torch.nn.init.normal_(net.weight)
    torch.nn.init.normal_(net.bias)
    return net


def events(seed: int = 0) -> Tensor:
    """Return sparse events [6, 2, 2, 5, 4]."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(6, 2, 2, 5, 4, generator=generator) < 0.3).double()


def naive(net: HDSNN, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the evidence at each event, 0 elsewhere, and where they are, a synapse at a time."""
    K, D, side = net.weight * net.mask, net.delays, net.weight.shape[-1] // 2
    T, B, _, H, W = x.shape
    out = torch.zeros(T, B, 2, len(net.bias), H, W, dtype=x.dtype)
    for t, b, q, h, w in x.nonzero().tolist():
        out[t, b, q, :, h, w] = net.bias
        for p, lag, i, j in itertools.product(range(2), range(D), *map(range, K.shape[-2:])):
            at = (h + i - side, w + j - side)
            if t >= lag and 0 <= at[0] < H and 0 <= at[1] < W:
                out[t, b, q, :, h, w] += K[:, p, D - 1 - lag, i, j] * x[t - lag, b, p ^ q, at[0], at[1]]
    return out, (x > 0).unsqueeze(3)


def test_sizes() -> None:
    net: Any = sl.create_model("hd_snn")
    assert net.weight.shape == (36, 2, 21, 17, 17)
    assert net.weight.numel() == 436_968
    assert sum(p.numel() for p in net.parameters()) == 436_968 + 36
    inside = net.mask[0, 0].sum((1, 2)).tolist()  # the past first
    assert inside == sorted(inside, reverse=True)
    assert inside[-1] == 1
    # a disk of radius 8.5
    assert inside[0] == sum(i * i + j * j <= 8.5**2 for i in range(-8, 9) for j in range(-8, 9))
    assert HDSNN(cone=False).mask.all()


@pytest.mark.parametrize("cone", [True, False])
def test_the_equation_and_its_readouts(cone: bool) -> None:
    net, x = small(cone=cone), events()
    x[3] = 0  # a step without
    with torch.no_grad():
        want, here = naive(net, x)
        evidence, found = net.evidence(x)
        assert torch.equal(found.bool(), here)
        torch.testing.assert_close(evidence * found, want)
        torch.testing.assert_close(net(x), want.sum((0, 2, 4, 5)) / here.sum((0, 2, 4, 5)))
        net.readout = "none"
        torch.testing.assert_close(net(x), want.sum((2, 4, 5)) / here.sum((2, 4, 5)).clamp(min=1))
        assert not net(x)[3].any()
        net.readout = "mean"
        torch.testing.assert_close(net(x[0]), net(x[:1].expand(6, 2, 2, 5, 4)))
        # ON for OFF and OFF for ON is the same motion
        torch.testing.assert_close(net(x.flip(2)), net(x))
        # nothing of the future
        later = x.clone()
        later[4:] = 0
        torch.testing.assert_close(net.evidence(later)[0][:4], evidence[:4])
        one = small(in_channels=1)
        assert one(x[:, :, :1]).shape == (2, 4)


def test_the_loss_is_of_each_event() -> None:
    net, y, x = small(), torch.tensor([3, 0]), events()
    evidence, here = naive(net, x)
    p = evidence.sigmoid()
    right = torch.zeros_like(p)
    right[:, 0, :, 3], right[:, 1, :, 0] = 1, 1
    each = -(right * p.log() + (1 - right) * (1 - p).log())
    torch.testing.assert_close(net.loss(x, y), each[here.expand(each.shape)].mean())
    net.loss(x, y).backward()
    assert net.weight.grad is not None
    assert torch.equal(net.weight.grad != 0, net.mask)


@pytest.mark.parametrize("cuts", [[1] * 6, [4, 2], [6]])
def test_a_stream_of_chunks_is_the_whole(cuts: list[int]) -> None:
    net = small(readout="none")
    x, stream = events(), sl.Stream(net)
    torch.testing.assert_close(torch.cat([stream(part) for part in x.split(cuts)]), net(x))


def test_pruned_to_the_strongest() -> None:
    net = small(cone=False)
    order = net.weight.detach().abs().flatten().argsort(descending=True)
    net.keep(10)
    assert sorted(net.mask.flatten().nonzero().flatten().tolist()) == sorted(order[:10].tolist())
    net.keep(net.weight.numel())  # what is gone stays so
    assert int(net.mask.sum()) == 10
    net.keep(0)
    torch.testing.assert_close(net(events()), net.bias.expand(2, 4))


def test_spikes_at_a_rate() -> None:
    net, x = small(), events()
    threshold = net.threshold(x, 0.05)
    with torch.no_grad():
        evidence, here = naive(net, x)
    p = (evidence.sigmoid() * here).amax(2)
    assert float((p >= threshold).double().mean()) == pytest.approx(0.05, abs=1e-3)
    spikes = net.spikes(x, threshold)
    assert spikes.sum(2).max() == 1
    assert torch.equal(spikes.bool(), (p >= threshold) & (p == p.amax(2, keepdim=True)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small(kernel=4), "kernel = 4; an odd number .* as 5"),
        (lambda: small(in_channels=3), "in_channels = 3; events of 1 or 2"),
        (lambda: small(delays=7), "delays = 7 for T = 6"),
        (lambda: small()(torch.rand(2, 1, 2, 5, 5).double()), "hears 3 steps, .* has 2"),
        (lambda: small()(torch.rand(6, 1, 3, 5, 5).double()), r"takes \[T, B, 2, H, W\]"),
        (lambda: small().keep(-1), "keep -1 of"),
        (lambda: small().threshold(torch.rand(6, 1, 2, 5, 5).double(), 0.0), "share = 0.0"),
    ],
)
def test_what_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# -- moving textures ------------------------------------------------------------------------------


@pytest.mark.parametrize(("direction", "shift"), [(0.0, (0, 2)), (math.pi / 2, (2, 0)), (math.pi, (0, -2))])
def test_a_texture_moves(direction: float, shift: tuple[int, int]) -> None:
    movie = moving_texture(32, 24, 48, direction=direction, speed=2.0, spread=0.02, seed=1)
    assert movie.shape == (48, 24, 32)
    assert movie.dtype == np.float32
    assert 0 <= movie.min() < 0.1 or 0.9 < movie.max() <= 1

    def likeness(by: tuple[int, int]) -> float:
        return float(np.corrcoef(np.roll(movie[:-1], by, (1, 2)).ravel(), movie[1:].ravel())[0, 1])

    assert likeness(shift) > 0.97
    for other in itertools.product((-2, -1, 0, 1, 2), (-2, -1, 0, 1, 2)):
        assert other == shift or likeness(other) < likeness(shift)


def test_a_texture_is_of_its_scale_and_its_seed() -> None:
    movie = moving_texture(64, 64, 16, frequency=0.125, bandwidth=0.02, seed=3)
    power = np.abs(np.fft.rfft2(movie - movie.mean())) ** 2
    f = np.hypot(np.fft.rfftfreq(64), np.fft.fftfreq(64)[:, None])
    assert (power.sum(0) * f).sum() / power.sum() == pytest.approx(0.125, abs=0.02)
    np.testing.assert_array_equal(movie, moving_texture(64, 64, 16, frequency=0.125, bandwidth=0.02, seed=3))
    assert not np.array_equal(movie, moving_texture(64, 64, 16, frequency=0.125, bandwidth=0.02, seed=4))
    faint = moving_texture(16, 16, 8, contrast=0.2)
    assert np.abs(faint - 0.5).max() == pytest.approx(0.1, rel=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"frequency": 0.6},
        {"bandwidth": 0},
        {"spread": 0},
        {"contrast": 2},
        {"speed": math.inf},
        {"frames": 1},
    ],
)
def test_no_such_texture(wrong: dict[str, Any]) -> None:
    with pytest.raises(EventsError, match="moving_texture"):
        moving_texture(**{"width": 16, "height": 9, "frames": 8, **wrong})


def test_the_direction_of_events_is_learned() -> None:
    """Four directions from events of 16 x 16 pixels, by a kernel of 5 x 5 and 5 delays."""
    cut = sl.events.representations.Frames(T=24, us=1000, start=0, binary=True)

    def seen(k: int, seed: int) -> Tensor:
        movie = moving_texture(16, 16, 25, direction=k * math.pi / 2, frequency=0.15, seed=seed)
        return cut(video_to_events(movie, range(0, 25_000, 1000)))

    x = torch.stack([seen(n % 4, n) for n in range(48)], 1)
    y = torch.arange(48) % 4
    net = HDSNN(4, 2, 16, delays=5, kernel=5, T=24)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(12):
        optimizer.zero_grad()
        net.loss(x[:, :32], y[:32]).backward()
        optimizer.step()
    right = (net(x[:, 32:]).argmax(1) == y[32:]).float().mean()
    assert right >= 0.8  # chance is 0.25


def test_it_is_trained_by_its_recipe() -> None:
    recipe = dataclasses.replace(find_recipe("dvs128-gesture-clips-hd_snn"), T=4)
    recipe = recipe.with_options("model_options", {"delays": 2, "kernel": 3})
    frames = (torch.rand(8, 4, 2, 5, 5) < 0.3).to(torch.uint8)
    some = Images(frames, torch.arange(8) % 10)
    data = Dataset("clips", some, some, tuple("0123456789"), 1.0, in_time=True)
    net = build(recipe, data)
    assert isinstance(net, HDSNN)
    assert net.weight.shape == (10, 2, 2, 3, 3)
