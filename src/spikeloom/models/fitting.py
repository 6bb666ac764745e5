"""A network by name, for samples of a shape."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from .registry import create_model, find_model


def model_for(name: str, shape: tuple[int, ...], num_classes: int, T: int, /, **overrides: Any) -> nn.Module:
    """Build the network of that name for samples of a shape: what its class asks of them is filled in.

    These are the arguments `in_features`, `in_channels`, `image_size`, `input_shape`, `num_classes` and `T`,
    as far as it has them; `overrides` are in place of these, too.

    Arguments:
        name: one of `list_models()`.
        shape: the shape of one step of a sample, as (C, H, W) of an image.
        num_classes: how many classes there are.
        T: how many steps a static sample is shown.
        overrides: further arguments of its class.

    Raises:
        UnknownName: no such model, or no such argument; the message gives the nearest.
        ValueError: it takes square images, and the samples are none.
    """
    arguments = find_model(name).arguments
    filled: dict[str, Any] = {"in_features": math.prod(shape), "num_classes": num_classes, "T": T}
    filled["input_shape"] = shape
    if "image_size" in arguments and "image_size" not in overrides:
        if len(shape) != 3 or shape[1] != shape[2]:
            raise ValueError(
                f"{name} takes square images (C, H, W), but one step of a sample has the shape {shape}; "
                "choose a network that takes it, as dense_snn"
            )
        filled.update(in_channels=shape[0], image_size=shape[1])
    fitting = {key: value for key, value in filled.items() if key in arguments}
    return create_model(name, **{**fitting, **overrides})
