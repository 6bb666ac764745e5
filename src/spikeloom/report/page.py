"""The page: one file of HTML that needs no network and opens from a disk."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import string
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from ..whole import whole
from .gather import Choice, gather

_SCRIPTS = ("dom", "chart", "spikes", "sections", "app")


def write(folders: Sequence[Path | str], path: Path | str, choice: Choice | None = None, **how: Any) -> Path:
    """Gather what runs did and write the page of it, whole or not at all; return its path.

    Arguments:
        folders: run folders.
        path: the file.
        choice: what to look at.
        how: further arguments of `gather`.

    Raises:
        ValueError: a path that does not end in .html, or what `gather` raises.
        RunError: a path that holds no run.
    """
    path = Path(path)
    if path.suffix != ".html":
        raise ValueError(f"report: {path}; a page ends in .html")
    text = fill(gather(folders, choice, **how))
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def fill(report: dict[str, Any]) -> str:
    """Return the page of a report. What comes from a run is text in it, and never part of its HTML."""
    assets = resources.files(__package__) / "assets"
    read = {name: (assets / name).read_text(encoding="utf-8") for name in ("page.html", "style.css")}
    scripts = "\n".join((assets / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS)
    script = f'"use strict";\n(() => {{\n{scripts}}})();\n'
    # the browser runs these two, known by their digests, and asks for nothing from anywhere
    policy = (
        f"default-src 'none'; img-src data:; script-src {_digest(script)}; "
        f"style-src {_digest(read['style.css'])}"
    )
    text = json.dumps(report, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return string.Template(read["page.html"]).substitute(
        policy=policy, title=html.escape(report["title"]), style=read["style.css"], report=text, script=script
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
