"""Augmentation of batches, against loops over samples and pixels."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from spikeloom.training import Config
from spikeloom.training.augment import augmented

B, H, W, K = 7, 6, 5, 4
SHAPES = [((B, 3, H, W), 0), ((2, B, 3, H, W), 1), ((B, H, W), 0), ((2, B, H, W), 1)]


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(*shape: int) -> tuple[Tensor, Tensor]:
    """Return a batch of numbers of which no two are alike, none 0, and its labels."""
    x = torch.arange(1, 1 + math.prod(shape), dtype=torch.float64).reshape(shape)
    return x, torch.arange(B) % K


def made(x: Tensor, y: Tensor, axis: int, seed: int = 0, classes: int = K, **values: Any) -> Any:
    return augmented(x, y, axis, classes, Config(**values), drawn(seed))


def samples(x: Tensor, axis: int) -> list[Tensor]:
    """Return the samples of a batch, `[T, C, H, W]` each: T = 1 of static ones, C = 1 of those without."""
    return [s.reshape(x.shape[0] if axis else 1, -1, H, W) for s in x.unbind(axis)]


def moved(sample: Tensor, down: int, right: int) -> Tensor:
    """Move a sample `[T, C, H, W]` pixel by pixel; what comes in is 0."""
    out = torch.zeros_like(sample)
    for row in range(H):
        for column in range(W):
            if 0 <= row - down < H and 0 <= column - right < W:
                out[:, :, row, column] = sample[:, :, row - down, column - right]
    return out


# -- moved and mirrored ---------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)
@pytest.mark.parametrize("most", [1, 2, 8])
def test_each_sample_is_moved_by_an_offset_of_its_own(shape: tuple[int, ...], axis: int, most: int) -> None:
    x, y = batch(*shape)
    kept = x.clone()
    seen: set[tuple[int, int]] = set()
    for seed in range(6):
        out, labels = made(x, y, axis, seed, shift=most)
        assert out.shape == x.shape
        assert labels is y
        own = set()
        for before, after in zip(samples(x, axis), samples(out, axis), strict=True):
            steps = range(-most, most + 1)
            found = {(a, b) for a in steps for b in steps if torch.equal(after, moved(before, a, b))}
            assert found, "no one offset moves all steps and channels of the sample"
            if after.any():  # else it was moved out of sight
                assert len(found) == 1
                own |= found
        assert len(own) > 1 or most == 8
        seen |= own
    assert torch.equal(x, kept)
    if most < 3:  # each offset is drawn, in both directions
        assert {move[0] for move in seen} == {move[1] for move in seen} == set(range(-most, most + 1))


def test_moves_are_equally_likely() -> None:
    x = torch.zeros(9000, 1, 3, 3)
    x[:, :, 1, 1] = 1
    out, _ = augmented(x, torch.zeros(9000), 0, K, Config(shift=1), drawn())
    counts = out.sum((0, 1))
    assert counts.sum() == 9000
    # of nine places each has 1000 on average, with a standard deviation of 30
    assert (counts - 1000).abs().max() < 150


@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)
def test_half_of_the_samples_are_mirrored(shape: tuple[int, ...], axis: int) -> None:
    x, y = batch(*shape)
    mirrored = []
    for seed in range(40):
        out, labels = made(x, y, axis, seed, flip=True)
        assert labels is y
        for before, after in zip(samples(x, axis), samples(out, axis), strict=True):
            mirror = torch.stack([before[..., W - 1 - column] for column in range(W)], -1)
            assert torch.equal(after, before) or torch.equal(after, mirror)
            mirrored.append(torch.equal(after, mirror))
    assert 0.4 < sum(mirrored) / len(mirrored) < 0.6  # of 280


# -- mixed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)
def test_mixup_mixes_samples_and_labels_alike(shape: tuple[int, ...], axis: int) -> None:
    x, _ = batch(*shape)
    y = torch.arange(B)  # each sample is its own class, so that labels tell who was mixed
    shares = []
    for seed in range(8):
        out, labels = made(x, y, axis, seed, classes=B, mixup=0.7)
        assert labels.shape == (B, B)
        parts = samples(x, axis)
        for b, after in enumerate(samples(out, axis)):
            expected = sum(float(labels[b, j]) * parts[j] for j in range(B))
            torch.testing.assert_close(after, expected, rtol=1e-5, atol=1e-4)  # labels are float32
            assert float(labels[b].sum()) == pytest.approx(1, abs=1e-6)
            if int((labels[b] > 0).sum()) == 2:
                shares.append(round(float(labels[b, b]), 6))
    assert len(set(shares)) > 5  # a share a batch


def test_one_share_a_batch_and_partners_are_a_permutation() -> None:
    x, _ = batch(B, 1, H, W)
    _, labels = made(x, torch.arange(B), 0, 3, classes=B, mixup=1.0)
    own = labels.diagonal()
    mixed = own[own < 1]
    assert len(mixed) > 1
    assert mixed.unique().numel() == 1
    torch.testing.assert_close(labels.sum(0), torch.ones(B))


@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)
def test_cutmix_labels_are_the_area_that_was_replaced(shape: tuple[int, ...], axis: int) -> None:
    x, _ = batch(*shape)
    y = torch.arange(B)
    areas = set()
    for seed in range(20):
        out, labels = made(x, y, axis, seed, classes=B, cutmix=1.0)
        parts = samples(x, axis)
        for b, after in enumerate(samples(out, axis)):
            own, others = after == parts[b], [j for j in range(B) if j != b and float(labels[b, j]) > 0]
            replaced = (~own).any(0).any(0)  # [H, W]
            assert torch.equal(replaced, (~own).all(0).all(0))  # all steps and channels alike
            share = float(replaced.sum()) / (H * W)
            if not others:
                assert labels[b, b] == 1  # its partner is itself, or the patch is empty
                assert share == 0
                continue
            (j,) = others
            assert torch.equal(after[:, :, replaced], parts[j][:, :, replaced])
            assert float(labels[b, j]) == pytest.approx(share, abs=1e-6)
            assert float(labels[b, b]) == pytest.approx(1 - share, abs=1e-6)
            rows, columns = replaced.any(1).nonzero()[:, 0], replaced.any(0).nonzero()[:, 0]
            assert replaced[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()  # a rectangle
            areas.add(round(share * H * W))
    assert len(areas) > 4


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
@pytest.mark.parametrize(("share", "who"), [(1.0, "own"), (0.0, "other")])
def test_at_the_ends_of_the_share_a_sample_is_one_or_the_other(
    monkeypatch: pytest.MonkeyPatch, kind: str, share: float, who: str
) -> None:
    monkeypatch.setattr("spikeloom.training.augment._beta", lambda alpha, generator: share)
    x, _ = batch(B, 2, H, W)
    y = torch.arange(B)
    asked: dict[str, Any] = {kind: 1.0}
    out, labels = made(x, y, 0, classes=B, **asked)
    if who == "own":
        assert torch.equal(out, x)
        assert torch.equal(labels, torch.eye(B))
    elif kind == "mixup":
        other = labels.argmax(1)
        assert torch.equal(labels, torch.eye(B)[other])
        assert torch.equal(out, x[other])
        assert not torch.equal(other, y)
    else:  # the patch is as large as the image, and as much of it as lies within is replaced
        replaced = (out != x)[:, 0].double().mean((1, 2))
        torch.testing.assert_close(replaced, (1 - labels.diagonal()).double(), rtol=0, atol=1e-6)
        assert 0.25 <= replaced.max() <= 1


@pytest.mark.parametrize(("alpha", "variance"), [(0.2, 1 / 5.6), (1.0, 1 / 12), (5.0, 1 / 44)])
def test_shares_are_drawn_from_beta(alpha: float, variance: float) -> None:
    """Beta(a, a) has the mean 1/2 and the variance 1 / (4 (2 a + 1))."""
    from spikeloom.training.augment import _beta

    generator = drawn()
    shares = torch.tensor([_beta(alpha, generator) for _ in range(4000)], dtype=torch.float64)
    assert ((shares >= 0) & (shares <= 1)).all()
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(shares.var()) == pytest.approx(variance, rel=0.1)


def test_the_smallest_alpha_is_a_number_all_the_same() -> None:
    x, y = batch(B, 1, H, W)
    for seed in range(20):
        out, labels = made(x, y, 0, seed, mixup=1e-9)
        assert out.isfinite().all()
        assert labels.isfinite().all()


# -- all of it ------------------------------------------------------------------------------------

EVERYTHING: list[dict[str, Any]] = [
    {"shift": 2}, {"flip": True}, {"mixup": 0.5}, {"cutmix": 0.5}, {"shift": 1, "flip": True, "mixup": 1.0},
    {"mixup": 0.5, "cutmix": 0.5},
]  # fmt: skip


@pytest.mark.parametrize("values", EVERYTHING, ids=str)
def test_the_generator_alone_decides(values: dict[str, Any]) -> None:
    x, y = batch(2, B, 1, H, W)
    torch.manual_seed(0)
    first = made(x, y, 1, 5, **values)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    again, other = made(x, y, 1, 5, **values), made(x, y, 1, 6, **values)
    assert torch.equal(torch.get_rng_state(), state)  # no other generator is drawn from
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("values", EVERYTHING, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_and_the_given_batch_stay(values: dict[str, Any], dtype: torch.dtype) -> None:
    x, y = torch.rand(B, 1, H, W, dtype=dtype), torch.arange(B) % K
    kept = x.clone()
    out, _ = made(x, y, 0, **values)
    assert out.dtype == dtype
    assert torch.equal(x, kept)


def test_with_both_each_batch_is_mixed_one_way() -> None:
    x, y = batch(B, 1, H, W)
    ways = set()
    for seed in range(24):
        out, shares = made(x, y, 0, seed, mixup=0.8, cutmix=1.0)
        torch.testing.assert_close(shares.sum(1), torch.ones(B))
        ways.add("cutmix" if torch.isin(out, x).all() else "mixup")  # a patch has pixels that there were
    assert ways == {"mixup", "cutmix"}


def test_a_share_of_the_batches_in_the_first_epochs() -> None:
    x, y = batch(B, 1, H, W)
    config = Config(mixup=0.5, mix_share=0.6, mix_epochs=3)
    mixed = [augmented(x, y, 0, K, config, drawn(seed), 2)[1].ndim == 2 for seed in range(500)]
    assert 0.52 < sum(mixed) / 500 < 0.68
    assert all(augmented(x, y, 0, K, config, drawn(seed), 3)[1] is y for seed in range(20))


def test_nothing_asked_for_is_nothing_done() -> None:
    x, y = batch(B, 2, H, W)
    out, labels = made(x, y, 0)
    assert out is x
    assert labels is y


def test_a_batch_of_one_can_be_augmented() -> None:
    x, y = torch.rand(1, 1, H, W), torch.tensor([2])
    for values in EVERYTHING:
        out, labels = made(x, y, 0, **values)
        assert out.shape == x.shape
        assert labels.ndim == 1 or torch.allclose(labels, torch.eye(K)[[2]])


@pytest.mark.parametrize(
    ("shape", "axis", "values", "words"),
    [
        ((B, 5), 0, {"shift": 1}, r"shift moves pixels.*\(7, 5\).*set it to 0"),
        ((3, B, 5), 1, {"flip": True}, r"flip moves pixels.*\(3, 7, 5\)"),
        ((B, 5), 0, {"cutmix": 1.0}, "cutmix moves pixels"),
    ],
)
def test_what_has_no_pixels_is_not_moved(
    shape: tuple[int, ...], axis: int, values: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        made(*batch(*shape), axis, **values)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_what_has_no_classes_is_not_mixed(kind: str) -> None:
    x, y = torch.rand(B, 1, H, W), torch.arange(B) % K
    asked: dict[str, Any] = {kind: 1.0}
    with pytest.raises(ValueError, match=r"mixes classes, but labels have the shape \(7, 2\)"):
        made(x, torch.rand(B, 2), 0, **asked)
    with pytest.raises(ValueError, match=r"mixes classes, but labels .*\(7,\) and are float32"):
        made(x, torch.rand(B), 0, **asked)
    with pytest.raises(ValueError, match=rf"{kind} .*an attribute classes, as .*\["):
        made(x, y, 0, classes=0, **asked)
    with pytest.raises(ValueError, match=r"label 3, but the data name 3 classes"):
        made(x, y, 0, classes=3, **asked)


def test_vectors_can_be_mixed_up() -> None:
    x = torch.rand(B, 5)
    out, labels = made(x, torch.arange(B), 0, classes=B, mixup=1.0)
    torch.testing.assert_close(out, labels @ x)
