"""The data sets, by name."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from ..names import unknown
from .base import Dataset, Images
from .idx import find, load_idx

_FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def load_data(name: str) -> Dataset:
    """Return the data set of that name, found in `$SPIKELOOM_DATA`, in the cache, or downloaded.

    Raises:
        UnknownName: no such data set; the message gives the nearest.
        DataError: its files are damaged or out of reach.
    """
    if name not in _LOADERS:
        raise unknown("data set", name, _LOADERS)
    return _LOADERS[name]()


def list_data() -> list[str]:
    """Return the names that `load_data` knows."""
    return sorted(_LOADERS)


def locate(name: str) -> str:
    """Return where the data set of that name is on this machine, or an empty string if nowhere."""
    if name == "digits":
        return "in scikit-learn"
    path = find(name.replace("-", "_"), f"{_FILES[0]}-ubyte.gz")
    return str(path.parent) if path else ""


def digits() -> Dataset:
    """Return scikit-learn's 1,797 scans of handwritten digits, 8x8, values 0 to 16.

    From the UCI "Optical Recognition of Handwritten Digits" data (Alpaydin & Kaynak 1998), in scikit-learn's
    wheel. The split is fixed: 1,437 to train and 360 to test, stratified by digit (`train_test_split` with
    `test_size=360, random_state=0`).
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    values, labels = load_digits(return_X_y=True)
    parts = train_test_split(values.astype("uint8"), labels, test_size=360, random_state=0, stratify=labels)
    x_train, x_test, y_train, y_test = (torch.from_numpy(part) for part in parts)
    return Dataset(
        "digits",
        Images(x_train.reshape(-1, 1, 8, 8), y_train.long()),
        Images(x_test.reshape(-1, 1, 8, 8), y_test.long()),
        tuple("0123456789"),
        white=16.0,
    )


def _mnist_like(
    name: str, classes: tuple[str, ...], addresses: tuple[str, ...], sums: tuple[str, ...]
) -> Dataset:
    """Return a data set in MNIST's four files, whose unpacked sha256 are `sums`."""
    folder = name.replace("-", "_")
    x_train, y_train, x_test, y_test = (
        load_idx(folder, f"{file}-ubyte.gz", sha256, addresses)
        for file, sha256 in zip(_FILES, sums, strict=True)
    )
    train, test = Images(x_train.unsqueeze(1), y_train.long()), Images(x_test.unsqueeze(1), y_test.long())
    return Dataset(name, train, test, tuple(classes))


_LOADERS: dict[str, Callable[[], Dataset]] = {
    "digits": digits,
    # 60,000 + 10,000 handwritten digits, 28x28 (LeCun, Bottou, Bengio & Haffner 1998)
    "mnist": functools.partial(
        _mnist_like,
        "mnist",
        tuple("0123456789"),
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    # 60,000 + 10,000 articles of clothing, 28x28 (Xiao, Rasul & Vollgraf 2017)
    "fashion-mnist": functools.partial(
        _mnist_like,
        "fashion-mnist",
        (
            "T-shirt",
            "trouser",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankle boot",
        ),
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
}
