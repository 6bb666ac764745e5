"""docs/measure.md: its code runs as printed, its tables say what there is."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from spikeloom.measure import HARDWARE, Convention, Row


@pytest.fixture
def text(root: Path) -> str:
    return (root / "docs" / "measure.md").read_text()


def test_python_runs_as_printed(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    space: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(block, space)
    assert "near-memory" in capsys.readouterr().out


def table(text: str, head: str) -> dict[str, list[str]]:
    """Return the rows of a table by the names in their first cell."""
    lines = text.split(f"| {head} |")[1].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return {name: rest for first, *rest in cells for name in re.findall(r"`(\w+(?:-\w+)?)`", first)}


def test_choices_of_conventions(text: str) -> None:
    rows, hints = table(text, "option"), get_type_hints(Convention)
    assert set(rows) == {field.name for field in fields(Convention)} - {"e_mac", "e_ac"}
    for name, (choices, *_) in rows.items():
        assert set(re.findall(r"`([^`]+)`", choices)) == set(get_args(hints[name]))
        assert re.findall(r"\*\*`([^`]+)`\*\*", choices) == [getattr(Convention(), name)]


def test_counts_of_rows(text: str) -> None:
    known = {field.name for field in fields(Row)} | {n for n in dir(Row) if not n.startswith("_")}
    assert set(table(text, "of a row")) <= known


def test_hardware(text: str) -> None:
    rows = table(text, "`HARDWARE`")
    assert set(rows) == set(HARDWARE)
    for name, (add, multiply, address, bits, sram, dram) in rows.items():
        one = HARDWARE[name]
        assert (float(add), float(address)) == (one.add, one.address)
        assert float(multiply.split()[0]) == one.multiply
        widths = one.weight_bits, one.value_bits, one.state_bits, one.event_bits
        assert tuple(map(int, bits.split(", "))) == widths
        if name == "45nm-fp32":
            found = re.findall(r"(\d+) (KiB|MiB) (\d+)", sram)
            sizes = [(int(n) * (1024 if unit == "KiB" else 1 << 20), float(pj)) for n, unit, pj in found]
            assert tuple(sizes) == one.sram
            assert float(dram) == one.dram
