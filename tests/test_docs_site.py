"""The site: built without a warning, needs no other server, has every public name and draws its equations."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="the site is built by MkDocs: pip install 'spikeloom[docs]'")
pytest.importorskip("mkdocstrings_handlers.python", reason="pip install 'spikeloom[docs]'")

ROOMS = ["neurons", "surrogate", "nn", "encoding", "events", "data", "models", "measure", "training"]
ROOMS += ["training.learning", "viz", "report", "deploy"]


def built(root: Path, out: Path) -> Path:
    """Build the site; a warning ends the build."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-5000:]
    assert not re.search("WARNING|ERROR", done.stderr), done.stderr[-5000:]
    return out


def every_page_is_there_and_asks_no_other_server(site: Path, root: Path) -> None:
    sources = {str(p.relative_to(root / "docs").with_suffix("")) for p in (root / "docs").rglob("*.md")}
    pages = {str(p.relative_to(site).with_suffix("")) for p in site.rglob("*.html")}
    assert pages == sources | {"404"}
    for path in [*site.rglob("*.html"), *site.glob("assets/*.css")]:
        text = path.read_text()
        found = re.findall(r'<(?:script|img|iframe)[^>]*src="?(https?:[^" >]+)', text)
        found += re.findall(
            r'<link[^>]*rel="?(?:stylesheet|preconnect|preload)[^>]*href="?(https?:[^" >]+)', text
        )
        found += re.findall(r"@import[^;]*https?:[^;]*;", text)
        assert not found, (path.name, found)
    assert not list(site.rglob("*.py"))


def every_equation_is_drawn(site: Path) -> None:
    pages = {path.name: path.read_text() for path in site.rglob("*.html")}
    assert sum(page.count("<math") for page in pages.values()) > 300
    for name, page in pages.items():
        assert "arithmatex" not in page, name
        assert not re.search(
            r"\$\$|\\frac|\\text\{", re.sub(r"<(code|pre).*?</\1>", "", page, flags=re.DOTALL)
        ), name


def every_public_name_is_in_the_reference(site: Path) -> None:
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    known = {line.split()[0] for line in zlib.decompress(inventory).decode().splitlines()}
    ends = {name.rsplit(".", 1)[-1] for name in known if name.startswith("spikeloom.")}
    for room in ROOMS:
        module = importlib.import_module(f"spikeloom.{room}")
        # neither other names of a thing, nor constants, nor a class as a function
        own = {n for n in module.__all__ if getattr(getattr(module, n), "__name__", "") == n}
        as_function = {n for n in own if n.replace("_", "") in {m.lower() for m in module.__all__ if m != n}}
        missing = own - as_function - ends
        assert not missing, (room, sorted(missing))
    for name in ("Stream", "explain", "packed_spikes", "recompute", "checkpoint_time", "backend", "train"):
        assert name in ends, name


def test_the_site(root: Path, tmp_path: Path) -> None:
    """One test, since building takes most of its time."""
    site = built(root, tmp_path / "site")
    every_page_is_there_and_asks_no_other_server(site, root)
    every_equation_is_drawn(site)
    every_public_name_is_in_the_reference(site)
