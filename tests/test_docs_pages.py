"""The pages of the site: their code runs as printed, their commands are commands.

Blocks titled with another library's name run where that library is installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import spikeloom as sl
from spikeloom.cli import VERBS, main
from spikeloom.training import RunFolder, find_recipe, train_run

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = ["index", "concepts", "numbers", *sorted(f"how-to/{p.stem}" for p in (DOCS / "how-to").glob("*.md"))]
MIGRATIONS = {"migrate/spikingjelly": "SpikingJelly", "migrate/snntorch": "snnTorch"}
RUN = ("evaluate", "events", "data", "recipes", "explain", "models")  # the others are long: parsed alone


def blocks(page: str, language: str) -> list[tuple[str, str]]:
    """Return title and text of a page's blocks."""
    text = (DOCS / f"{page}.md").read_text()
    found = re.findall(rf"^```{language}([^\n]*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [("".join(re.findall(r'title="(.*?)"', info)), code) for info, code in found]


def run(page: str, titles: tuple[str, ...]) -> dict[str, Any]:
    space: dict[str, Any] = {"__name__": page}
    for number, (title, code) in enumerate(blocks(page, "python")):
        if title in titles:
            exec(compile(code, f"{page}.md, block {number + 1}", "exec"), space)
    return space


@pytest.mark.filterwarnings("ignore::spikeloom.SpikeloomWarning")
@pytest.mark.parametrize("page", PAGES)
def test_python_runs_as_printed(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space = run(page, ("",))
    if page == "index":
        assert space["right"].float().mean() > 0.8  # chance is 0.1


@pytest.mark.parametrize("page", MIGRATIONS)
def test_the_side_that_is_ours_runs_as_printed(page: str) -> None:
    run(page, ("",))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", MIGRATIONS)
def test_what_is_said_of_the_other_library_is_so(page: str) -> None:
    title = MIGRATIONS[page]
    if importlib.util.find_spec(title.lower()) is None:
        pytest.skip(f"{title} is not installed (benchmarks/requirements.txt)")
    run(page, ("", title))


class Parsed(BaseException):
    """A command's options; no verb catches it."""


def stopping(parse: Callable[..., Any]) -> Callable[..., Any]:
    def parsed(*given: Any) -> Any:
        raise Parsed(parse(*given))

    return parsed


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a folder that has what the commands are given."""
    monkeypatch.chdir(tmp_path)
    recipe = replace(find_recipe("digits"), epochs=1, model_options={"channels": [4], "pools": [2]})
    for name in ("a", "b"):
        made = RunFolder.create(f"runs/{name}", "digits", recipe)
        if name == "a":
            train_run(made)
    sl.events.write("recording.raw", sl.events.saccades(np.random.default_rng(0).random((28, 28))))
    ((_, space),) = blocks("how-to/search", "yaml")
    Path("space.yaml").write_text(space)
    return tmp_path


def test_commands_are_commands(
    folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    seen = set()
    for page in (*PAGES, *MIGRATIONS):
        for line in "".join(code for _, code in blocks(page, "sh")).splitlines():
            program, *given = shlex.split(line, comments=True)
            if program != "spikeloom":
                files = [word for word in given if re.search(r"\.(txt|py)$", word)]
                # a C file that is exported is compiled and run by tests/test_deploy_c.py
                assert program.rpartition("/")[2] in ("pip", "python", "cc", "eight"), line
                assert all((root / file).exists() for file in files), line
                continue
            verb, *options = given
            seen.add(verb)
            if verb == "bench":
                assert (root / "benchmarks" / f"{options[0]}.py").exists(), line
            elif verb == "models" and "*" in options[0]:
                assert sl.list_models(options[0]), line
            elif verb in RUN:
                assert main(given) == 0, (line, capsys.readouterr().err)
            else:
                module = importlib.import_module(f"spikeloom.cli.{verb}")
                with monkeypatch.context() as patch:
                    patch.setattr(module, "parse", stopping(module.parse))
                    with pytest.raises(Parsed):
                        module.run(options)
        for extra in re.findall(r"spikeloom\[([\w,]+)\]", (DOCS / f"{page}.md").read_text()):
            assert set(extra.split(",")) <= set(extras), (page, extra)
    written = {path.stem for path in (root / "docs/how-to").glob("*.md")} & set(VERBS)
    assert (
        seen
        >= written
        >= {"events", "data", "train", "evaluate", "models", "search", "report", "bench", "explain"}
    )
    assert (folder / "page.html").stat().st_size > 10_000


def test_makefile_has_what_the_pages_name(root: Path) -> None:
    makefile = (root / "Makefile").read_text()
    for page in PAGES:
        for target in re.findall(r"`make ([\w-]+)`", (DOCS / f"{page}.md").read_text()):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), (page, target)
