"""What the site needs beyond its configuration: equations without a script, and pages that may be absent."""

from __future__ import annotations

import html
import logging
import re
from pathlib import Path
from typing import Any

log = logging.getLogger("mkdocs.spikeloom")
_MATH = re.compile(r'<(span|div) class="arithmatex">(?:\\\((.*?)\\\)|\\\[(.*?)\\\])</\1>', re.DOTALL)
_WORD = re.compile(r"_\{(?=[a-z]*[aeiou])([a-z]{3,})\}")  # v_{reset}: a word, no product of letters
_PRIME = re.compile(
    r"<msup>(<mi>\w+</mi>)<mi>&#x02032;</mi></msup>"
)  # its glyph is raised, and small, already
_TIGHT = re.compile(
    r"<mo( stretchy=\"false\")?>(&#x0007C;|&#x0002F;)</mo>"
)  # | and / have no room beside them
_OPTIONAL = {"deploy.md"}  # written apart from the site


def on_config(config: Any) -> Any:
    """Leave out of the navigation what is not written yet."""
    docs = Path(config.docs_dir)
    config.nav = _present(config.nav, {page for page in _OPTIONAL if not (docs / page).exists()})
    return config


def _present(nav: Any, absent: set[str]) -> Any:
    if isinstance(nav, list):
        return [kept for kept in (_present(entry, absent) for entry in nav) if kept is not None]
    if isinstance(nav, dict):
        kept = {title: _present(entry, absent) for title, entry in nav.items()}
        return kept if None not in kept.values() else None
    return None if nav in absent else nav


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Turn LaTeX into MathML; one that cannot be turned is a warning, which ends a strict build."""
    for item in page.toc.items:
        _without_methods(item)
    return _MATH.sub(lambda found: mathml(found, page.file.src_uri), content)


def _without_methods(item: Any) -> None:
    """Leave a class's methods out of the table of contents, whose page may have a hundred classes."""
    item.children = [child for child in item.children if not child.id.startswith(f"{item.id}.")]
    for child in item.children:
        _without_methods(child)


def mathml(found: re.Match[str], where: str) -> str:
    """Return the MathML of a formula."""
    from latex2mathml.converter import convert

    inline, block = found.group(2), found.group(3)
    latex = html.unescape(inline if block is None else block)
    latex = _WORD.sub(r"_{\\text{\1}}", latex).replace(r"\_", "_").replace(r"\arg", r"\operatorname{arg}")
    try:
        made = convert(latex, display="inline" if block is None else "block")
    except Exception as error:
        log.warning("%s: %s cannot be read as a formula: %r", where, latex, error)
        return found.group(0)
    if "\\" in html.unescape(re.sub(r"<annotation.*?</annotation>", "", made, flags=re.DOTALL)):
        log.warning("%s: %s holds a command that is not known", where, latex)
    made = _PRIME.sub(r"<mrow>\1<mo lspace='0' rspace='0.1em'>&#x02032;</mo></mrow>", made)
    made = _TIGHT.sub(r"<mo\1 lspace='0.06em' rspace='0.06em'>\2</mo>", made)
    return made if block is None else f'<div class="formula">{made}</div>'
