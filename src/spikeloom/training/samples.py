"""A recipe's samples, in memory: images as they are, recordings cut into frames."""

from __future__ import annotations

import torch

from ..data import Dataset, Images, Samples, info, load, load_data
from .recipes import Recipe


def load_samples(recipe: Recipe) -> Dataset:
    """Return the recipe's data.

    Events become frames of counts, `[N, T, 2, H, W]`, T a recording, whose numbers are taken as they are.

    Raises:
        DataError: the data are damaged or out of reach, or neither images nor events.
    """
    if info(recipe.data).kind != "events":
        return load_data(recipe.data)
    from ..events import Frames

    cut = Frames(T=recipe.T, by=recipe.frames, dtype=torch.uint8)
    train, test = load(recipe.data, "train", cut), load(recipe.data, "test", cut)
    return Dataset(recipe.data, _stacked(train), _stacked(test), train.classes, white=1.0)


def _stacked(samples: Samples) -> Images:
    frames, labels = zip(*(samples[i] for i in range(len(samples))), strict=True)
    return Images(torch.stack(frames), torch.tensor(labels))
