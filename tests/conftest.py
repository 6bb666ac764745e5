"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from spikeloom import announce

if not torch.cuda.is_available():
    # read when Triton is first imported, by whichever test
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the whole product of options")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--full"):
        skip = pytest.mark.skip(reason="the whole product of options: make test-full")
        for item in items:
            if "full" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def _announcements() -> Iterator[None]:
    """Let each test hear every announcement afresh."""
    announce.forget()
    yield
    announce.forget()


@pytest.fixture
def root() -> Path:
    """Return the checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fill memory that is not initialised with NaN, tensors and scratch alike; give the pool 3 threads."""
    from spikeloom.kernels.cpu import numba_backend, pool, team

    allocate = numba_backend.np.empty

    def poisoned(*args: Any, **kwargs: Any) -> Any:
        made = allocate(*args, **kwargs)
        made.view("uint8").fill(0xFF)
        return made

    monkeypatch.setattr(numba_backend.np, "empty", poisoned)
    monkeypatch.setattr(team, "_scratch", team._Scratch())
    monkeypatch.setattr(pool, "threads", lambda: 3)  # however many PyTorch has
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)  # fills torch.empty with NaN
    yield
    torch.use_deterministic_algorithms(before)
