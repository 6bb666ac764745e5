"""Pieces of C source: numbers, tables, loops."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable
from typing import Any

import numpy as np


def real(value: float) -> str:
    """Return an fp32 literal that reads back exactly."""
    if not math.isfinite(value):  # of equations' constants, as torch.where(x > 0, y, inf)
        return "(0.0f / 0.0f)" if math.isnan(value) else f"({'-' if value < 0 else ''}HUGE_VALF)"
    text = str(np.float32(value))
    return (text if "." in text or "e" in text else f"{text}.0") + "f"


def whole(value: int) -> str:
    """Return an integer literal."""
    return str(int(value))


def table(kind: str, name: str, values: Iterable[Any]) -> str:
    """Return a constant array."""
    array = np.asarray(values).ravel()
    written = [real(v) if kind == "float" else whole(v) for v in array.tolist()]
    body = textwrap.fill(", ".join(written), 110, break_long_words=False)
    return f"static const {kind} {name}[{len(array)}] = {{\n{textwrap.indent(body, '  ')}\n}};"


def holder(peak: int) -> str:
    """Return the smallest type of C that holds whole numbers from -peak to peak."""
    return "int8_t" if peak <= 127 else "int16_t" if peak <= 32767 else "int32_t"


def block(text: str, **values: Any) -> str:
    """Return a template with @name@ replaced; lines of an empty value are left out."""
    lines = []
    for line in textwrap.dedent(text).strip("\n").splitlines():
        for name, value in values.items():
            mark = f"@{name}@"
            if line.strip() == mark:
                gap = line[: len(line) - len(line.lstrip())]
                line = textwrap.indent(str(value), gap) if str(value) else "\0"
            else:
                line = line.replace(mark, str(value))
        if line != "\0":
            lines.append(line)
    return "\n".join(lines)
