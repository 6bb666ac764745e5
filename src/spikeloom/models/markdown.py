"""Pieces of a Markdown page with metadata in front, safe for any text."""

from __future__ import annotations

import io
from typing import Any


def line(text: str) -> str:
    """Return a text in one line."""
    return " ".join(text.split())


def table(rows: list[tuple[str, str]], head: tuple[str, str] = ("", "")) -> str:
    """Return rows of two cells as a table."""
    return "\n".join(cells(*row) for row in [head, ("---", "---"), *rows])


def cells(*texts: str) -> str:
    """Return a row of a table."""
    return "| " + " | ".join(line(text).replace("|", "\\|") for text in texts) + " |"


def code(text: str) -> str:
    """Return a command as a block that nothing in it ends."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}sh\n{text.strip()}\n{fence}"


def yaml_of(value: Any) -> str:
    """Return plain values as YAML that readers of 1.1 and 1.2 take for the same."""
    from ruamel.yaml import YAML  # here, as importing spikeloom imports this file
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    def quoted(item: Any) -> Any:
        # in quotes no word is a number, a date or a truth value to a reader of another YAML version
        if isinstance(item, str):
            return DoubleQuotedScalarString(item)
        if isinstance(item, dict):
            return {key: quoted(inner) for key, inner in item.items()}
        return [quoted(inner) for inner in item] if isinstance(item, list) else item

    yaml, text = YAML(), io.StringIO()
    yaml.width = 1 << 16
    yaml.dump(quoted(value), text)
    return text.getvalue()
