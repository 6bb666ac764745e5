"""EVT3 against the published byte vectors and recordings."""

from __future__ import annotations

from pathlib import Path

import pytest

from spikeloom import events

HEADER = b"% evt 3.0\n% geometry 1280x720\n% end\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "0180 0560 0a00 6428 6520 c838 0540 0140 8050",
            [(4101, x, 10, p) for x, p in ((100, 1), (101, 0), (200, 1), (202, 1), (212, 1), (231, 1))],
        ),
        (
            "0180 0560 0a00 c838 6420 0540 0040 0050",
            [(4101, 100, 10, 0), (4101, 200, 10, 1), (4101, 202, 10, 1)],
        ),
        (
            "ff8f ff6f 0100 0128 0080 0360 0100 0228 0180 0060 0320",
            [(16777215, 1, 1, 1), (16777219, 2, 1, 1), (16781312, 3, 1, 0)],
        ),
        ("0180 0560 0a00 0128 14e0 23f1 56f4 0170 0228", [(4101, 1, 10, 1), (4101, 2, 10, 1)]),
    ],
    ids=["basic", "vectors keep their polarity", "wrap", "skipped words"],
)
def test_vectors(tmp_path: Path, words: str, expected: list[tuple[int, ...]]) -> None:
    path = tmp_path / "vector.raw"
    path.write_bytes(HEADER + bytes.fromhex(words))
    found = events.read(path)
    assert found.to_array().tolist() == expected
    assert events.join(list(events.open(path))) == found
