"""The scans of digits that come with scikit-learn."""

from __future__ import annotations

from typing import ClassVar

import torch

from ..base import Images
from ..files import Files
from ..in_memory import InMemory
from ..info import Info
from ..registry import data_set


@data_set(
    Info(
        name="digits",
        title="1,797 scans of handwritten digits, 8x8, in scikit-learn's wheel",
        kind="images",
        splits={"train": 1437, "test": 360},
        classes=tuple("0123456789"),
        licence="CC BY 4.0",
        citation="Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998",
        homepage="https://archive.ics.uci.edu/dataset/80",
        bundled="in scikit-learn",
    )
)
class Digits(InMemory):
    """Sample: uint8 `[1, 8, 8]`, values 0 to 16. Label: the digit.

    The split is fixed: 1,437 to train and 360 to test, stratified by digit (`train_test_split` with
    `test_size=360, random_state=0`).
    """

    white: ClassVar[float] = 16.0

    def __init__(self, info: Info, split: str, files: Files) -> None:
        super().__init__(info, split)
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        values, labels = load_digits(return_X_y=True)
        parts = train_test_split(
            values.astype("uint8"), labels, test_size=360, random_state=0, stratify=labels
        )
        pixels, classes = parts[split == "test"], parts[2 + (split == "test")]
        self.images = Images(torch.from_numpy(pixels).reshape(-1, 1, 8, 8), torch.from_numpy(classes).long())
