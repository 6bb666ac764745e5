"""Photographs made one size and altered, and a data set of them that is read while it is trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

from spikeloom.data import DataError, load
from spikeloom.data.pictures import Altered, Middle, PictureOptions, RandAugment
from spikeloom.names import UnknownName
from spikeloom.training import Recipe, RunFolder, evaluate, load_samples
from spikeloom.training.feed import Feed, splits
from spikeloom.training.runs import train_run

GREY, RED = (3, 24, 36), (200, 30, 40)


def ramp(height: int, width: int) -> Tensor:
    """Return a picture whose red is its column and whose green its row."""
    picture = torch.zeros(3, height, width, dtype=torch.uint8)
    picture[0] = torch.arange(width, dtype=torch.uint8)
    picture[1] = torch.arange(height, dtype=torch.uint8)[:, None]
    return picture


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_middle_of_a_picture() -> None:
    picture = ramp(20, 40)
    # half of the shorter side is 10 pixels, which stay pixels
    assert torch.equal(Middle(10, 0.5)(picture), picture[:, 5:15, 15:25])
    assert Middle(0)(picture) is picture
    assert Middle(7, 1.0)(picture).shape == (3, 7, 7)
    assert Middle(7, 1.0)(picture[:1]).shape == (1, 7, 7)
    assert Middle(30, 0.3)(picture).shape == (3, 30, 30)


def test_a_part_cut_out_is_scaled() -> None:
    picture, altered = ramp(48, 64), Altered(PictureOptions(size=16, crop=0.25))
    parts = [altered(picture, rng(seed)) for seed in range(200)]
    assert all(part.shape == (3, 16, 16) and part.dtype == torch.float32 for part in parts)
    # a part's width and height, from how its columns and rows grow
    widths = torch.stack([(part[0, 8, 12] - part[0, 8, 4]) * 255 / 8 * 16 for part in parts])
    heights = torch.stack([(part[1, 12, 8] - part[1, 4, 8]) * 255 / 8 * 16 for part in parts])
    areas, ratios = widths * heights / (48 * 64), widths / heights
    assert 0.2 < float(areas.min()) < 0.35
    assert 0.85 < float(areas.max()) < 1.1
    assert 0.68 < float(ratios.min()) < 0.85
    assert 1.18 < float(ratios.max()) < 1.5


def test_what_is_drawn_depends_on_the_generator_alone() -> None:
    picture = ramp(20, 20)
    altered = Altered(PictureOptions(size=8, crop=0.3, rand_augment="m9-n3-mstd0.5-inc1", erase=0.5))
    torch.manual_seed(0)
    first = altered(picture, rng(3))
    torch.manual_seed(1)
    assert torch.equal(altered(picture, rng(3)), first)
    assert not torch.equal(altered(picture, rng(4)), first)


def test_erased_is_a_rectangle_of_noise() -> None:
    x = torch.full((3, 40, 50), 128, dtype=torch.uint8)
    altered = Altered(PictureOptions(erase=1.0))
    shares = []
    for seed in range(100):
        changed = (altered(x, rng(seed)) != 128 / 255).any(0)
        rows, columns = changed.any(1).nonzero(), changed.any(0).nonzero()
        box = changed[int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]
        assert box.float().mean() > 0.97  # noise may be 128 by chance
        shares.append(float(box.numel()) / (40 * 50))
    assert 0.015 < min(shares) < 0.08
    assert 0.25 < max(shares) < 0.35
    some = Altered(PictureOptions(erase=0.25))
    share = np.mean([bool((some(x, rng(seed)) != 128 / 255).any()) for seed in range(400)])
    assert 0.19 < share < 0.31


def test_operations_one_by_one() -> None:
    picture = ramp(GREY[1], GREY[2])
    seen = set()
    mirror = Image.fromarray(picture.movedim(0, -1).numpy())
    known = {
        "autocontrast": ImageOps.autocontrast(mirror),
        "equalize": ImageOps.equalize(mirror),
        "invert": ImageOps.invert(mirror),
        "posterize": ImageOps.posterize(mirror, 4),
        "moved": None,
    }
    expected = {name: np.asarray(image).transpose(2, 0, 1) for name, image in known.items() if image}
    left = picture.clone()
    shift = round(0.45 * GREY[2])
    for seed in range(400):
        out = RandAugment(10, 1)(picture, rng(seed)).numpy()
        assert out.shape == GREY
        seen |= {name for name, image in expected.items() if np.array_equal(out, image)}
        inside = np.array_equal(out[0, 5, : GREY[2] - shift - 1], left[0, 5, shift : GREY[2] - 1].numpy())
        seen |= {"moved"} if inside else set()
    assert seen == set(known)


def test_magnitude_0_does_little_and_half_is_left_alone() -> None:
    picture = ramp(24, 24)
    alone = [torch.equal(RandAugment(10, 1)(picture, rng(seed)), picture) for seed in range(400)]
    assert 0.45 < np.mean(alone) < 0.65
    geometric = RandAugment(0, 1, increasing=True)
    same = np.mean([torch.equal(geometric(picture, rng(seed)), picture) for seed in range(400)])
    assert same > 0.8  # but autocontrast, equalize and invert, posterize: they know no magnitude, or no 0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"size": -1}, "size and gap|size is 0 or more"),
        ({"crop": 0.08}, "crop = 0.08 needs a size to scale to, as size=224"),
        ({"size": 8, "crop": 1.5}, r"crop and erase are in \[0, 1\]"),
        ({"rand_augment": "m30"}, "rand_augment = 'm30'; m and a magnitude from 0 to 10"),
        ({"rand_augment": "9"}, '"m9-n2-mstd0.5-inc1"'),
    ],
)
def test_options_that_cannot_be(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PictureOptions(**values)  # type: ignore[arg-type]


# -- ImageNet's layout ------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an ImageNet of two classes, red and grey, of pictures of many sizes."""
    colours = {"n01": RED, "n02": (90, 90, 90)}
    for split, count in (("train", 12), ("val", 4)):
        for name, colour in colours.items():
            folder = tmp_path / "imagenet" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                image = Image.new("RGB", (20 + i, 34 - i), colour)
                image.save(folder / f"{i}.JPEG", quality=95)
            (folder / "notes.txt").write_text("no picture")
    monkeypatch.setenv("SPIKELOOM_DATA", str(tmp_path))
    return tmp_path


def test_pictures_in_folders(folders: Path) -> None:
    data = load("imagenet", "train")
    assert (len(data), data.classes) == (24, ("n01", "n02"))
    picture, label = data[13]
    assert (label, picture.dtype, picture.shape[0]) == (1, torch.uint8, 3)
    assert abs(int(picture[0].float().mean()) - 90) < 4
    (folders / "imagenet/val/n02/2.JPEG").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"2\.JPEG cannot be decoded .*; replace it, or remove it"):
        load("imagenet", "test")[6]


OPTIONS = {"size": 16, "crop": 0.3, "rand_augment": "m5", "erase": 0.25}


def test_training_draws_anew_and_testing_does_not(folders: Path) -> None:
    data = load_samples(Recipe(data="imagenet", data_options=OPTIONS, validation=0.25))
    assert data.shape == (3, 16, 16)
    train, held, test = splits(data, 0.25, 0)
    sizes = [len(part) for part in (train, held, test)]  # type: ignore[arg-type]
    assert sizes == [18, 6, 8]

    def epoch(part: object, number: int) -> Tensor:
        feed = Feed(part, 4, shuffle=False, seed=0, workers=0, rank=0, world=1)  # type: ignore[arg-type]
        return torch.cat([x for x, *_ in feed.batches(number)])

    assert torch.equal(epoch(train, 0), epoch(train, 0))
    assert not torch.equal(epoch(train, 0), epoch(train, 1))
    assert torch.equal(epoch(held, 0), epoch(held, 1))
    assert torch.equal(epoch(test, 0), epoch(test, 1))


def test_a_recipe_of_pictures_trains(folders: Path) -> None:
    net = {"channels": [4], "pools": [4]}
    recipe = Recipe(
        data="imagenet", data_options=OPTIONS, model_options=net, T=2, epochs=3, batch_size=8, device="cpu",
        mixup=0.2, cutmix=1.0, mix_epochs=2,
    )  # fmt: skip
    run = RunFolder.create(folders / "run", "imagenet", recipe)
    result = train_run(run)
    assert len(run.metrics()) == 3
    assert evaluate(run).test_accuracy == result.test_accuracy


def test_pictures_without_a_size_are_refused(folders: Path) -> None:
    with pytest.raises(ValueError, match="pictures of many sizes; give data_options a size"):
        load_samples(Recipe(data="imagenet"))
    with pytest.raises(UnknownName, match="did you mean 'crop'"):
        load_samples(Recipe(data="imagenet", data_options={"size": 8, "crops": 0.3}))


def test_small_images_in_memory_may_be_altered_too() -> None:
    data = load_samples(Recipe(data="digits", data_options={"rand_augment": "m9-n1-mstd0.4-inc1"}))
    assert data.drawn is not None
    assert isinstance(data.test.pixels, Tensor)
    x, label = data.drawn[0]
    assert (x.shape, x.dtype, label) == ((1, 8, 8), torch.float32, int(data.train.labels[0]))
