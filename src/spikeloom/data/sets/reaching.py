"""What a monkey's motor cortex says while it reaches, and how fast its hand moves."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..base import Images
from ..error import DataError
from ..files import Files
from ..in_memory import InMemory
from ..info import File, Info
from ..registry import data_set
from ..windows import cut, whole

_FILE = "neural/chewie_demo.mat"
_SHAPES = {"train": (1200, 71), "test": (1818, 71)}


@data_set(
    Info(
        name="chewie-reaching",
        title="spikes of 71 units of a monkey's motor cortex, and the velocity of its hand",
        kind="series",
        splits={"train": None, "test": 1},
        classes=("x", "y"),
        licence="none stated",
        citation="Dyer et al., A cryptography-based approach for movement decoding, Nat. Biomed. Eng., 2017",
        homepage="https://github.com/KordingLab/DAD",
        files=(
            File(
                name=_FILE,
                addresses=(
                    "https://raw.githubusercontent.com/KordingLab/DAD/"
                    "9b88af1b6ab4a64e0d6d7771392d7a26763d2e25/data/demo/chewie_demo.mat",
                ),
                sha256="170c7db01cfa790de9e8700dfbdf3050b23c5f907131fdcfa3ae99e1c3ed3d32",
            ),
        ),
    )
)
class Reaching(InMemory):
    """Sample: uint8 `[T, 71]`, spikes of each unit a bin. Label: float32 `[T, 2]`, the hand's velocity.

    The file has a training part of 1,200 bins and a test part of 1,818, of reaches to four targets, 31 bins
    each, put end to end; that is the split. Velocities are in units of their root mean square in the
    training part. The test part is one sample, run through from begin to end, so that nobody tells where a
    reach begins; training has windows of `length=40` bins, `stride=7` apart, which begin anywhere in a reach.
    With `held_out=0.3`, the last 0.3 of the training part is "test", and what remains is trained on: to
    choose by, since the windows of one part overlap, and validation would see what was learned from.
    """

    white: ClassVar[float] = 1.0

    def __init__(
        self,
        info: Info,
        split: str,
        files: Files,
        *,
        length: int = 40,
        stride: int = 7,
        held_out: float = 0.0,
    ) -> None:
        super().__init__(info, split)
        if not 0 <= held_out < 1:
            raise DataError(f"{info.name}: held_out = {held_out}; a share of the training part, in [0, 1)")
        parts = read(files.path(_FILE))
        (spikes, velocity), test = parts["train"], parts["test"]
        if held_out:
            kept = round(len(spikes) * (1 - held_out))
            test = spikes[kept:], velocity[kept:]
            spikes, velocity = spikes[:kept], velocity[:kept]
        self.images: Images = (
            whole(*test) if split == "test" else cut(info.name, spikes, velocity, length, stride)
        )


def read(path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Return counts `[T, 71]` and velocities `[T, 2]` of the two parts of the file.

    Raises:
        DataError: it is no such file.
    """
    from scipy.io import loadmat

    found = {}
    try:
        file = loadmat(path)
        scale = np.sqrt(np.mean(np.square(file["Xtr"])))
        for part, (spikes, velocity) in {"train": ("Ytr", "Xtr"), "test": ("Yte", "Xte")}.items():
            counts, speeds = np.asarray(file[spikes]), np.asarray(file[velocity] / scale, np.float32)
            if counts.shape != _SHAPES[part] or speeds.shape != (len(counts), 2) or counts.dtype != np.uint8:
                raise ValueError(f"{spikes} is {counts.dtype} {counts.shape}, {velocity} {speeds.shape}")
            found[part] = torch.from_numpy(counts.copy()), torch.from_numpy(speeds)
    except Exception as error:  # of whatever kind the reader's is
        raise DataError(f"{path}: no recording of Chewie ({error}); get it again") from error
    return found
