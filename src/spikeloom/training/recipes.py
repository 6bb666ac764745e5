"""Recipes: what is trained on what, and how; plain values that a run folder can hold."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from ..names import unknown


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a training run.

    Attributes:
        data: the data set's name.
        model: the network's name.
        model_options: its arguments, in place of the defaults.
        T: time steps that an image is shown, or frames that a recording of events is cut into.
        frames: how it is cut: into equal durations ("time"), or equal numbers of events ("count").
        epochs: passes through the training set.
        batch_size: samples a batch.
        lr: AdamW's learning rate at the start; it falls to 0 along a half cosine.
        weight_decay: AdamW's decoupled weight decay.
        shift: augmentation: each batch is moved by up to so many pixels in x and y.
        seed: of the initial weights, the order of samples, and the augmentation.
        device: where it runs, as "cpu" or "cuda".
    """

    data: str
    model: str = "conv_snn"
    model_options: dict[str, Any] = field(default_factory=dict)
    T: int = 4
    frames: Literal["time", "count"] = "time"
    epochs: int = 10
    batch_size: int = 64
    lr: float = 4e-3
    weight_decay: float = 1e-2
    shift: int = 0
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, least in (("T", 1), ("epochs", 1), ("batch_size", 2), ("shift", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"recipe: {name} = {value!r}; a whole number >= {least} is needed")
        if self.frames not in ("time", "count"):
            raise ValueError(f'recipe: frames = {self.frames!r}; "time" or "count" is needed')
        for name in ("lr", "weight_decay"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
                raise ValueError(f"recipe: {name} = {value!r}; a finite number >= 0 is needed")


RECIPES = {
    "digits": Recipe("digits", model_options={"channels": [32, 64, 64], "pools": [1, 2, 2]}, epochs=15),
    "mnist": Recipe("mnist", epochs=5, batch_size=128, shift=1),
    "fashion-mnist": Recipe("fashion-mnist", epochs=10, batch_size=128),
    "n-mnist": Recipe("n-mnist-1100", T=8, epochs=15, batch_size=32, shift=1),
}


def find_recipe(name: str) -> Recipe:
    """Return the recipe of that name; UnknownName, with the nearest, if there is none."""
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]
