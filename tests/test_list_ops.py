"""ListOps, evaluated from its own tokens; images as sequences of pixels; texts; recipes of each."""

from __future__ import annotations

import math
import statistics
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from spikeloom.data import DataError, Dataset, Images, load, load_data
from spikeloom.data.sets.list_ops import SYMBOLS, apply
from spikeloom.names import UnknownName
from spikeloom.training import build, samples, texts
from spikeloom.training.loop import train_here
from spikeloom.training.recipes import Recipe
from spikeloom.training.samples import load_samples

FEW = {"samples": 300, "length": 60}


def value_of(text: str) -> int:
    """Return what a list comes to, by Python's own parser and functions."""
    known = {
        "[MAX": "max([",
        "[MIN": "min([",
        "[MED": "median([",
        "[SM": "modulo([",
        "]": "]),",
    }
    code = "".join(known.get(word, f"{word},") for word in text.split())
    names = {
        "max": max,
        "min": min,
        "median": lambda values: int(statistics.median(values)),
        "modulo": lambda values: sum(values) % 10,
    }
    return int(eval(code, names)[0])


def text_of(tokens: torch.Tensor) -> str:
    return " ".join(SYMBOLS[token] for token in tokens.flatten().tolist() if token)


def test_operators_by_hand() -> None:
    assert [apply(op, [3, 9, 4, 7]) for op in range(4)] == [9, 3, 5, 3]
    assert [apply(op, [8, 1, 5]) for op in range(4)] == [8, 1, 5, 4]
    assert value_of("[MAX 2 9 [MIN 4 7 ] 0 ]") == 9
    assert value_of("[SM [MED 3 9 4 7 ] 8 ]") == 3


@pytest.mark.parametrize("split", ["train", "test"])
def test_labels_are_what_the_lists_come_to(split: str) -> None:
    data = load("list-ops", split, **FEW)
    assert len(data) == (300 if split == "train" else 30)
    for tokens, label in (data[i] for i in range(len(data))):
        assert tokens.shape == (60, 1)
        assert tokens.dtype == torch.uint8
        used = int((tokens != 0).sum())
        assert 16 <= used <= 60
        assert not tokens[used:].any()
        assert value_of(text_of(tokens)) == label


def test_no_sequence_is_there_twice_and_seeds_repeat() -> None:
    parts = [load("list-ops", split, **FEW) for split in ("train", "test")]
    texts = [text_of(data[i][0]) for data in parts for i in range(len(data))]
    assert len(set(texts)) == len(texts) == 330
    again = load("list-ops", "train", **FEW)
    assert text_of(again[7][0]) == texts[7]
    assert text_of(load("list-ops", "train", **FEW, seed=1)[7][0]) != texts[7]
    labels = torch.tensor([data[i][1] for data in parts for i in range(len(data))])
    assert int(labels.bincount(minlength=10).max()) < 0.4 * len(labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shortest": 70, "length": 60}, "shortest = 70, length = 60"),
        ({"arguments": 1}, "arguments = 1"),
        ({"depth": 1, "shortest": 40}, "0 different ones of 40 to 128 tokens"),
    ],
)
def test_sizes_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load("list-ops", **options)


def test_a_recipe_of_tokens() -> None:
    recipe = Recipe(data="list-ops", data_options=FEW, model="spiking_ssm_listops")
    data = load_samples(recipe)
    assert data.in_time
    assert data.shape == (1,)
    x = data.inputs(data.train.pixels[:5])
    assert x.shape == (60, 5, 1)
    assert x.max() <= 15
    with pytest.raises(UnknownName, match="did you mean 'length'"):
        load_samples(Recipe(data="list-ops", data_options={"lenth": 3}))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Give the data set of two pictures of two colours and 2x3 pixels a split."""
    pixels = torch.arange(2 * 2 * 2 * 3, dtype=torch.uint8).reshape(2, 2, 2, 3)
    images = Images(pixels, torch.tensor([0, 1]))
    whole = Dataset("digits", images, images, ("a", "b"))
    monkeypatch.setattr(samples, "load_data", lambda name: whole)
    return whole


def test_pixels_in_time(tiny: Dataset) -> None:
    data = load_samples(Recipe(data="digits", data_options={"sequence": "raster"}))
    assert data.in_time
    assert data.shape == (2,)
    x = data.inputs(data.test.pixels)
    assert x.shape == (6, 2, 2)  # pixels, samples, colours
    assert (x[:, 0, 0] * 255).round().tolist() == [0, 1, 2, 3, 4, 5]
    assert (x[:, 1, 1] * 255).round().tolist() == [18, 19, 20, 21, 22, 23]


def test_pixels_permuted_alike(tiny: Dataset) -> None:
    def made(**more: Any) -> torch.Tensor:
        data = load_samples(Recipe(data="digits", data_options={"sequence": "permuted", **more}))
        assert torch.equal(data.train.pixels[:2], data.test.pixels[:2])
        return data.train.pixels[:2]

    first = made()
    assert sorted(first[0, :, 0].tolist()) == [0, 1, 2, 3, 4, 5]
    assert first[0, :, 0].tolist() != [0, 1, 2, 3, 4, 5]
    assert torch.equal(first[0] + 12, first[1])  # one order for all samples and colours
    assert torch.equal(first, made(permutation=0))
    assert any(not torch.equal(first, made(permutation=seed)) for seed in (1, 2, 3))


def test_sequences_of_digits() -> None:
    data = load_samples(Recipe(data="digits", data_options={"sequence": "raster"}))
    images = load_data("digits")
    assert data.train.pixels.shape == (1437, 64, 1)
    assert torch.equal(data.inputs(data.test.pixels[:3])[:, :, 0].mT, images.test.pixels[:3].flatten(1) / 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sequence": "random"}, "sequence = 'random'"),
        ({"sequence": "raster", "erase": 0.5}, "sequence = 'raster' takes pictures as they are"),
        ({"permutation": 3}, "permutation = 3 is of sequence='permuted'"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_samples(Recipe(data="digits", data_options=options))


def written(monkeypatch: pytest.MonkeyPatch, **parts: str) -> None:
    """Put these texts in the place of a data set's splits."""
    monkeypatch.setattr(texts, "load", lambda name, split: SimpleNamespace(text=parts[split]))


def test_texts_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    written(monkeypatch, train="to be, or nöt", val="that is")
    data = load_samples(Recipe(data="tinyshakespeare", data_options={"length": 4}))
    assert data.in_time
    assert len(data.classes) == 256
    # ö is two bytes; the 14th has none after it, and the 13th is left over
    assert bytes(data.train.pixels[:].flatten().tolist()) == b"to be, or n\xc3"
    assert bytes(data.train.labels.flatten().tolist()) == b"o be, or n\xc3\xb6"
    x = data.inputs(data.test.pixels[:])
    assert x.shape == (4, 1, 1)
    assert bytes(x.flatten().int().tolist()) == b"that"
    assert bytes(data.test.labels.flatten().tolist()) == b"hat "


def test_texts_of_words(monkeypatch: pytest.MonkeyPatch) -> None:
    written(monkeypatch, valid="a a a\n a b\nb c", test="a c b d e")
    options = {"length": 2, "words": 5, "train": "valid"}
    data = load_samples(Recipe(data="wikitext-2", data_options=options))
    assert data.classes == ("", "(rare)", "a", "<eos>", "b")  # as frequent ones: in the text's order
    assert data.train.pixels[:, :, 0].tolist() == [[2, 2], [2, 3], [2, 4], [3, 4]]
    assert data.train.labels.tolist() == [[2, 2], [3, 2], [4, 3], [4, 1]]
    assert data.test.pixels[:, :, 0].tolist() == [[2, 1], [4, 1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"words": 2}, "words = 2; sequences of at least 1 token, and 0 .bytes. or more than 2 words"),
        ({"length": 0}, "length = 0"),
        ({"length": 500}, "length = 500, but a split of tinyshakespeare has 20 tokens"),
        ({"train": "vall"}, "did you mean 'val'"),
        ({"train": "val"}, "cannot be learned from 'val' and measured on it"),
        ({"lenth": 3}, "did you mean 'length'"),
    ],
)
def test_texts_that_cannot_be(options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written(monkeypatch, train="abcd" * 5, val="abcd")
    with pytest.raises(ValueError, match=message):
        load_samples(Recipe(data="tinyshakespeare", data_options=options))


def test_a_text_without_doubt_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    written(monkeypatch, train="abcd" * 129, val="cdab" * 17)
    options = {"features": 16, "depth": 1, "state": 4, "dropout": 0.0, "vocabulary": 256, "readout": "none"}
    recipe = Recipe(
        data="tinyshakespeare", data_options={"length": 32}, model="spiking_ssm", model_options=options,
        loss="per-step", batch_size=4, epochs=6, lr=2e-2, device="cpu",
    )  # fmt: skip
    data = load_samples(recipe)
    net = build(recipe, data)
    result = train_here(net, data, recipe, quiet=True)
    assert result.test_accuracy > 0.95
    assert result.test_loss < 0.5
    # what is told of the network, by hand
    right, nats = 0, 0.0
    net.eval()
    for tokens, labels in zip(data.test.pixels[:], data.test.labels, strict=True):
        for scores, label in zip(
            net(tokens.float().unsqueeze(1))[:, 0].tolist(), labels.tolist(), strict=True
        ):
            right += max(range(256), key=scores.__getitem__) == label
            nats += math.log(math.fsum(map(math.exp, scores))) - scores[label]
    assert right / 64 == result.test_accuracy
    assert nats / 64 == pytest.approx(result.test_loss, rel=1e-4)
