"""The page of a report, in a real browser."""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_report import made_run

from spikeloom.report import Choice, fill, gather

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None,
    reason="needs a browser: apt-get install chromium; pip install 'spikeloom[dev]'",
)
GROUNDS, TEXTS = ("page", "panel", "soft", "note"), ("text", "muted", "accent", "good", "bad")
SECTIONS = ["Runs", "Curves", "Firing", "Operations", "Confusion", "Hardest", "Spikes", "Settings"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("runs")
    made_run(root / "first")
    made_run(root / "second", seed=1, lr=1e-2, epochs=2, done=False)
    return gather([root / "first", root / "second"], Choice(title="Two <i>runs</i> & more", hardest=5))


@pytest.fixture(scope="module")
def path(report: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("page") / "report.html"
    made.write_text(fill(report), encoding="utf-8")
    return made


class Page:
    """An opened page; whatever it asked for, or complained of, is kept."""

    def __init__(self, browser: Any, path: Path, **how: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **how})
        self.tab = self.context.new_page()
        self.trouble: list[str] = []
        self.asked: list[str] = []
        self.tab.on("console", self._hear)
        self.tab.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(path.resolve().as_uri())
        end = time.monotonic() + 60
        while self.tab.evaluate("document.documentElement.dataset.state") != "ready":
            assert time.monotonic() < end, self.trouble
            time.sleep(0.02)
        self.rest()

    def _hear(self, message: Any) -> None:
        if "willReadFrequently" not in message.text:  # it is the test that reads
            self.trouble.append(message.text)

    def rest(self) -> None:
        """Wait until what was asked for is drawn."""
        self.tab.evaluate("() => new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")

    def texts(self, selector: str) -> list[str]:
        return [" ".join(text.split()) for text in self.tab.locator(selector).all_inner_texts()]

    def done(self) -> None:
        """Close it; it asked for nothing but itself and pictures within, and had nothing to complain of."""
        self.context.close()
        assert self.trouble == []
        assert [url[:8] for url in self.asked if not url.startswith("data:")] == ["file:///"]


def test_all_sections_are_there_and_nothing_is_asked_of_a_network(
    browser: Any, path: Path, report: dict[str, Any]
) -> None:
    page = Page(browser, path)
    assert page.tab.title() == "Two <i>runs</i> & more"
    assert page.texts("h1") == ["Two <i>runs</i> & more"]
    assert page.texts("#subtitle") == ["2 runs of digits"]
    assert page.texts("section h2") == page.texts("nav a") == SECTIONS
    rows = page.texts("#summary tbody tr")
    for row, run in zip(rows, report["runs"], strict=True):
        assert row.startswith(
            f"{run['name']} digits {run['state']} {100 * run['behaviour']['accuracy']:.2f} %"
        )
    warned = page.texts("#summary .notes li")
    assert warned[0] == "first, epoch 2: neurons.1: 95% of its neurons never fired; lower v_threshold"
    refused = page.tab.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')")
    assert refused == "refused"
    assert all("Content Security Policy" in text for text in page.trouble)
    page.trouble.clear()
    page.asked = [url for url in page.asked if "127.0.0.1" not in url]
    page.done()


def test_tables_and_matrices_have_the_reports_numbers(
    browser: Any, path: Path, report: dict[str, Any]
) -> None:
    page = Page(browser, path)
    for i, run in enumerate(report["runs"]):
        panel = page.tab.locator("#confusion .panel").nth(i)
        cells = panel.locator(".matrix td").all_text_contents()
        assert cells == [str(n) for row in run["behaviour"]["confusion"] for n in row]
        firing = page.tab.locator("#layers .panel").nth(i).locator("tbody tr")
        assert firing.count() == len(run["behaviour"]["layers"])
        figures = page.tab.locator("#hardest .panel").nth(i).locator("figure")
        assert figures.count() == 5
        shown = figures.first.locator("figcaption").inner_text().split("\n")
        worst = run["hardest"][0]
        assert shown[0] == f"{worst['label']} → {worst['answer']}"
        assert shown[2] == f"sample {worst['index']}"
        assert figures.first.locator("img").evaluate("e => e.naturalWidth") == 8
        operations = page.tab.locator("#operations .panel").nth(i).locator("tbody tr")
        assert operations.count() == len(run["operations"]["rows"]) + 1
    settings = page.texts("#settings > .panel > .scroll tbody tr")
    assert sorted(settings) == ["epochs 3 2", "lr 0.004 0.01", "seed 0 1"]
    page.done()


def test_runs_are_hidden_and_shown(browser: Any, path: Path) -> None:
    page = Page(browser, path)
    lines = page.tab.locator("#curves .panel").first.locator("path.line")
    assert lines.count() == 4  # loss: train and test of two runs
    button = page.tab.get_by_role("button", name="second", exact=True)
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    page.rest()
    assert button.get_attribute("aria-pressed") == "false"
    assert lines.count() == 2
    assert page.tab.locator("#summary tbody tr").count() == 1
    assert page.tab.locator("#confusion .panel").count() == 1
    page.tab.get_by_role("button", name="first", exact=True).press("Enter")
    page.rest()
    assert page.tab.locator("section").all_inner_texts() == ["All runs are hidden; choose one above."]
    button.press(" ")
    page.rest()
    assert page.texts("#summary tbody th") == ["second"]
    page.done()


def test_curves_are_read_by_pointer_and_keys(browser: Any, path: Path, report: dict[str, Any]) -> None:
    page = Page(browser, path)
    panel = page.tab.locator("#curves .panel").first
    svg, tip = panel.locator("svg[role=img]"), panel.locator(".tip")
    assert tip.is_hidden()
    box = svg.bounding_box()
    page.tab.mouse.move(box["x"] + box["width"] - 12, box["y"] + 60)
    page.rest()
    loss = report["runs"][0]["curves"]["loss"]

    def read() -> dict[str, str]:
        rows = panel.locator(".tip p").all_inner_texts()[1:]
        return dict(row.rsplit("\n", 1) if "\n" in row else row.rsplit(None, 1) for row in rows)

    assert panel.locator(".tip p").first.inner_text() == "epoch 3"
    assert list(read()) == ["first, train", "first, test"]  # the second run has two epochs
    assert float(read()["first, train"]) == pytest.approx(loss["train"][2][1], rel=1e-3)
    svg.focus()
    for key, epoch in (("ArrowLeft", 2), ("ArrowLeft", 1), ("ArrowLeft", 1), ("ArrowRight", 2)):
        page.tab.keyboard.press(key)
        assert panel.locator(".tip p").first.inner_text() == f"epoch {epoch}"
    assert len(read()) == 4
    page.tab.keyboard.press("Escape")
    assert tip.is_hidden()
    assert "first, train: from" in svg.get_attribute("aria-label")
    page.done()


def test_the_theme_follows_the_system_and_the_button(browser: Any, path: Path) -> None:
    grounds = {}
    for scheme in ("light", "dark"):
        page = Page(browser, path, color_scheme=scheme)
        assert page.tab.get_attribute("html", "data-theme") == scheme
        grounds[scheme] = page.tab.evaluate("getComputedStyle(document.body).backgroundColor")
        raster = page.tab.locator("canvas.raster").first
        raster.scroll_into_view_if_needed()
        page.rest()
        before = brightest(raster)
        page.tab.click("#theme")
        page.rest()
        other = {"light": "dark", "dark": "light"}[scheme]
        assert page.tab.get_attribute("html", "data-theme") == other
        assert page.tab.inner_text("#theme").lower() == scheme
        assert (brightest(raster) > before) == (other == "dark")  # strokes are drawn in the text's colour
        page.done()
    assert grounds["light"] != grounds["dark"]


def brightest(canvas: Any) -> int:
    """Return the highest red of what is drawn."""
    return int(
        canvas.evaluate(
            """e => { const d = e.getContext('2d').getImageData(0, 0, e.width, e.height).data; let m = 0;
                for (let i = 0; i < d.length; i += 4) if (d[i + 3] > 200) m = Math.max(m, d[i]);
                return m; }"""
        )
    )


def test_rasters_have_a_stroke_where_a_neuron_fired(browser: Any, path: Path, report: dict[str, Any]) -> None:
    import base64

    import numpy as np

    page = Page(browser, path, device_scale_factor=1)
    for place, name in enumerate(("Easiest", "Middle", "Hardest")):
        page.tab.get_by_role("radio", name=name).check(force=True)
        page.rest()
        for i, run in enumerate(report["runs"]):
            panel = page.tab.locator("#inside .panel").nth(i)
            answer = run["inside"][place]
            assert f"Test sample {answer['index']}: {answer['label']}" in panel.inner_text()
            for k, layer in enumerate(answer["layers"]):
                canvas = panel.locator("canvas.raster").nth(k)
                steps, rows = layer["steps"], len(layer["which"])
                lit = canvas.evaluate(
                    """(e, [rows, steps]) => {
                        const d = e.getContext('2d').getImageData(0, 0, e.width, e.height).data, lit = [];
                        for (let n = 0; n < rows; n++) for (let t = 0; t < steps; t++) {
                            const y = Math.floor((n + 0.5) * e.height / rows);
                            const x = Math.floor((t + 0.5) * e.width / steps);
                            lit.push(d[4 * (y * e.width + x) + 3] > 60 ? 1 : 0); }
                        return lit; }""",
                    [rows, steps],
                )
                packed = np.frombuffer(base64.b64decode(layer["spikes"]), np.uint8)
                bits = np.unpackbits(packed, bitorder="little")[: steps * rows]
                assert np.array_equal(lit, bits)
    page.done()


@pytest.mark.parametrize("width", [360, 720, 1280])
def test_nothing_is_wider_than_the_window(browser: Any, path: Path, width: int) -> None:
    page = Page(browser, path, viewport={"width": width, "height": 800})
    assert page.tab.evaluate("document.documentElement.scrollWidth") == width
    cut = page.tab.evaluate(
        """[...document.querySelectorAll('.chart text')].filter(e => { const r = e.getBoundingClientRect();
            return r.left < 0 || r.right > innerWidth; }).map(e => e.textContent)"""
    )
    assert cut == []
    for panel in page.tab.locator("#curves .panel").all():  # what the pointer reads stays in its chart
        box = panel.locator("svg[role=img]").bounding_box()
        for share in (0.2, 0.5, 0.97):
            panel.locator("svg[role=img]").hover(position={"x": share * box["width"], "y": 60})
            tip = panel.locator(".tip").bounding_box()
            assert box["x"] - 1 <= tip["x"]
            assert tip["x"] + tip["width"] <= box["x"] + box["width"] + 1
    page.done()


def test_text_stands_out_in_both_themes(browser: Any, path: Path) -> None:
    """WCAG: 4.5 to 1 for text, 3 to 1 for the colours of runs."""
    page = Page(browser, path)
    for theme in ("light", "dark"):
        if page.tab.get_attribute("html", "data-theme") != theme:
            page.tab.click("#theme")
        colours = page.tab.evaluate(
            """names => { const s = getComputedStyle(document.documentElement);
                return Object.fromEntries(names.map(n => [n, s.getPropertyValue('--' + n).trim()])); }""",
            [*GROUNDS, *TEXTS, "note-text", *(f"r{i}" for i in range(8))],
        )
        for text in TEXTS:
            for ground in ("page", "panel"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (theme, text, ground)
        assert contrast(colours["muted"], colours["soft"]) >= 4.5
        assert contrast(colours["note-text"], colours["note"]) >= 4.5
        for i in range(8):
            assert contrast(colours[f"r{i}"], colours["panel"]) >= 4.5, (theme, i)
    page.done()


def contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_a_run_of_which_little_is_left_has_a_page(browser: Any, tmp_path: Path) -> None:
    made_run(tmp_path / "torn", epochs=1)
    for name in ("model.safetensors", "metrics.jsonl"):
        (tmp_path / "torn" / name).unlink()
    (tmp_path / "page.html").write_text(fill(gather([tmp_path / "torn"])), encoding="utf-8")
    page = Page(browser, tmp_path / "page.html")
    assert page.texts("section h2") == ["Runs", "Settings"]
    assert page.texts("#summary .notes li")[0] == "torn: There are no curves: no epoch was finished."
    page.done()
