"""Wrong files for every decoder: 2,000 each, made from small valid ones; the nightly script has 100,000."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from events_fuzz import check, fuzz_in_child, made, mutated
from events_fuzz_seeds import SEEDS, Seed

from spikeloom import events

INPUTS = 2000


def test_every_format_has_seeds() -> None:
    assert set(SEEDS) == set(events.formats())


@pytest.mark.parametrize("name", sorted(SEEDS))
def test_wrong_files(name: str) -> None:
    report = fuzz_in_child(name, INPUTS)
    assert not report.failures, "\n".join(report.failures)
    assert report.inputs == INPUTS
    # neither all nothing but noise, nor all but what it was made from
    assert INPUTS // 50 < report.read < INPUTS


def test_inputs_come_from_their_number() -> None:
    seeds = [Seed(bytes(range(200))), Seed(b"% key 5\n" * 20)]
    assert [made(i, seeds)[1] for i in range(50)] == [made(i, seeds)[1] for i in range(50)]
    kinds = {mutated(np.random.default_rng(i), seeds[1].content, seeds[0].content) for i in range(500)}
    assert len(kinds) > 300


def test_a_wrong_decoder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose chunks lack an event, and one that lets a pixel outside pass."""
    path = tmp_path / "file.raw"
    events.write(path, events.Events.of([1, 2], [0, 5], [0, 5], [0, 1], width=8, height=8))
    assert check(path, {}) == 2
    chunks = events.Recording.chunks
    with monkeypatch.context() as patch:
        patch.setattr(events.Recording, "chunks", lambda self: (chunk[1:] for chunk in chunks(self)))
        with pytest.raises(AssertionError, match="not what is read whole"):
            check(path, {})
    with monkeypatch.context() as patch:
        patch.setattr("spikeloom.events.files.words.Check.take", lambda *_: None)
        path.write_bytes(path.read_bytes().replace(b"8", b"3"))
        with pytest.raises(AssertionError, match="outside the sensor"):
            check(path, {})
