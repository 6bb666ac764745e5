"""Data sets: what is loaded, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import pytest
import torch

from spikeloom.data import DataError, idx, list_data, load_data, locate
from spikeloom.names import UnknownName

# a 2x2x3 IDX file, by hand: type 8, three axes, their lengths, twelve values
IDX = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3]) + bytes(range(12))
SHA256 = hashlib.sha256(IDX).hexdigest()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep data and cache in a folder of the test's own."""
    monkeypatch.setenv("SPIKELOOM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "data" / "toy").mkdir(parents=True)
    return tmp_path


def test_digits_have_a_fixed_stratified_split() -> None:
    data = load_data("digits")
    assert data.shape == (1, 8, 8)
    assert data.train.pixels.dtype == torch.uint8
    assert len(data.train) == 1437
    assert len(data.test) == 360
    counts = data.test.labels.bincount(minlength=10)
    assert counts.min() >= 35
    assert counts.max() <= 37
    assert torch.equal(load_data("digits").test.pixels, data.test.pixels)
    both = torch.cat([data.train.pixels, data.test.pixels])
    assert int(both.sum()) == 561718  # of all 1,797 scans, so none is lost or doubled
    assert data.intensity(both).max() == 1.0


def test_idx_by_hand() -> None:
    assert idx.read_idx(IDX, "toy").tolist() == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]


@pytest.mark.parametrize("content", [b"", b"\x00\x00\x0d\x01", IDX[:-1], IDX + b"\0"])
def test_idx_that_is_none_is_refused(content: bytes) -> None:
    with pytest.raises(DataError, match="toy: "):
        idx.read_idx(content, "toy")


def test_file_is_found_in_the_data_folder_first(here: Path) -> None:
    (here / "data/toy/a.gz").write_bytes(gzip.compress(IDX))
    assert idx.load_idx("toy", "a.gz", SHA256, ()).shape == (2, 2, 3)


@pytest.mark.parametrize(
    "content",
    [gzip.compress(IDX)[:-9], b"no gzip", gzip.compress(IDX[:-1] + b"x")],
    ids=["cut", "no", "changed"],
)
def test_damaged_file_is_refused(here: Path, content: bytes) -> None:
    file = here / "data/toy/a.gz"
    file.write_bytes(content)
    with pytest.raises(DataError) as error:
        idx.load_idx("toy", "a.gz", SHA256, ())
    assert str(file) in str(error.value)
    assert SHA256 in str(error.value)
    assert "remove the file" in str(error.value)


def test_download_takes_the_first_address_that_serves_the_right_bytes(here: Path) -> None:
    for folder, content in (("wrong", b"other"), ("right", IDX)):
        (here / folder).mkdir()
        (here / folder / "a.gz").write_bytes(gzip.compress(content))
    addresses = tuple(f"{(here / folder).as_uri()}/" for folder in ("absent", "wrong", "right"))
    assert idx.load_idx("toy", "a.gz", SHA256, addresses).shape == (2, 2, 3)
    assert os.listdir(here / "cache/spikeloom/toy") == ["a.gz"]
    assert idx.load_idx("toy", "a.gz", SHA256, ()).shape == (2, 2, 3)  # from the cache


def test_download_out_of_reach_says_where_to_put_the_file(here: Path) -> None:
    address = f"{(here / 'absent').as_uri()}/"
    with pytest.raises(DataError) as error:
        idx.load_idx("toy", "a.gz", SHA256, (address,))
    for part in (address, SHA256, "SPIKELOOM_DATA", str(here / "cache/spikeloom/toy/a.gz")):
        assert part in str(error.value)


def test_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'fashion-mnist'"):
        load_data("fashion_mnist")


@pytest.mark.parametrize("name", [name for name in list_data() if name != "digits"])
def test_mnist_and_fashion_mnist(name: str) -> None:
    if not os.environ.get("SPIKELOOM_DATA") or not locate(name):
        pytest.skip(f"SPIKELOOM_DATA names no folder with {name}")
    data = load_data(name)
    assert data.train.pixels.shape == (60000, 1, 28, 28)
    assert data.test.pixels.shape == (10000, 1, 28, 28)
    assert data.train.labels.bincount().sum() == 60000
    # the classes of Fashion-MNIST are balanced; MNIST's test set has 980 zeros and 1135 ones
    assert data.test.labels.bincount()[:2].tolist() == ([1000, 1000] if "fashion" in name else [980, 1135])
