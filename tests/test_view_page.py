"""The page that plays a recording, in a real browser."""

from __future__ import annotations

import importlib.util
import re
import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikeloom import SpikeloomWarning, events
from spikeloom.events import Events
from spikeloom.events.view.html import pack
from spikeloom.events.view.palette import PALETTES

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
needs_browser = pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None,
    reason="needs a browser: apt-get install chromium; pip install 'spikeloom[dev]'",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


class Page:
    """An opened page; whatever it asked for, or complained of, is kept."""

    def __init__(self, browser: Any, path: Path, **how: Any) -> None:
        how = {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark", **how}
        self.context = browser.new_context(**how)
        self.tab = self.context.new_page()
        self.trouble: list[str] = []
        self.asked: list[str] = []
        self.tab.on("console", self._hear)
        self.tab.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(path.resolve().as_uri())
        self.until("document.documentElement.dataset.state !== 'loading'")

    def _hear(self, message: Any) -> None:
        if "willReadFrequently" not in message.text:  # it is the test that reads
            self.trouble.append(message.text)

    def until(self, expression: str) -> None:
        """Wait for it; from here, since the page lets no one evaluate strings in it."""
        end = time.monotonic() + 60
        while not self.tab.evaluate(expression):
            assert time.monotonic() < end, expression
            time.sleep(0.02)

    @property
    def now(self) -> int:
        return int(self.tab.eval_on_selector("#seek", "e => Number(e.value)"))

    def say(self, id: str) -> str:
        return str(self.tab.text_content(f"#{id}"))

    def press(self, *keys: str) -> None:
        for key in keys:
            self.tab.keyboard.press(key)
        self.rest()

    def rest(self) -> None:
        """Wait until what was asked for is drawn."""
        self.tab.evaluate("() => new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")

    def seek(self, at: int) -> None:
        self.tab.eval_on_selector(
            "#seek", "(e, at) => { e.value = at; e.dispatchEvent(new Event('input')); }", at
        )
        self.rest()

    def choose(self, name: str, value: str) -> None:
        self.tab.check(f"input[name={name}][value='{value}']")
        self.rest()

    def pixels(self, id: str) -> Any:
        """Return a canvas as uint8 [H, W, 3]."""
        width, height, data = self.tab.eval_on_selector(
            f"#{id}",
            """e => { const image = e.getContext('2d').getImageData(0, 0, e.width, e.height).data;
                 let text = ''; for (let i = 0; i < image.length; i += 8192)
                     text += String.fromCharCode(...image.subarray(i, i + 8192));
                 return [e.width, e.height, btoa(text)]; }""",
        )
        import base64

        return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)[..., :3]

    def done(self) -> None:
        """Close it; it asked for nothing but itself, and had nothing to complain of."""
        state = self.tab.evaluate("document.documentElement.dataset.state")
        self.context.close()
        assert state == "ready"
        assert self.trouble == []
        assert len(self.asked) == 1
        assert self.asked[0].startswith("file://")


def disc(count: int = 20_000, width: int = 64, height: int = 48, length: int = 1_000_000) -> Events:
    """Return what a disc gives that goes round, ON before it and OFF behind it, more and more."""
    rng = np.random.default_rng(0)
    t = np.sort((rng.random(count) ** 0.7 * length).astype(np.int64))
    angle = t / length * 4 * np.pi
    side = rng.integers(0, 2, count)
    around = angle + 0.5 * (2 * side - 1) + rng.normal(0, 0.08, count)
    x = (width * (0.5 + 0.3 * np.cos(around))).astype(int)
    y = (height * (0.5 + 0.3 * np.sin(around))).astype(int)
    return Events.of(t + 77_000_000, x, y, side, width=width, height=height)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "disc.html"
    events.page(disc(), path)
    return path


@needs_browser
def test_it_opens_with_no_network_and_tells_facts(browser: Any, recording: Path, tmp_path: Path) -> None:
    page = Page(browser, recording)
    assert page.tab.title() == "Events"
    assert page.say("subtitle") == "64×48 · 20,000 events · 998.6 ms"
    terms, values = page.tab.locator("#facts dt"), page.tab.locator("#facts dd")
    facts = dict(zip(terms.all_text_contents(), values.all_text_contents(), strict=True))
    found = events.summary(disc())
    assert facts["Events"] == "20,000"
    assert facts["Sensor"] == "64 x 48"
    assert facts["First"] == f"{found.start:,} µs"
    assert facts["ON"].startswith(f"{found.on:,} (")
    shot = tmp_path / "shot.png"
    page.tab.screenshot(path=shot)
    from PIL import Image

    with Image.open(shot) as image:
        assert image.size == (1280, 800)
        assert len(np.unique(np.array(image.convert("RGB")).reshape(-1, 3), axis=0)) > 50
    refused = page.tab.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')")
    assert refused == "refused"
    assert all("Content Security Policy" in text for text in page.trouble)
    page.trouble.clear()
    page.done()


@needs_browser
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_a_frame_is_the_picture(browser: Any, recording: Path, scheme: str) -> None:
    e = disc()
    page = Page(browser, recording, color_scheme=scheme)
    length = int(page.tab.evaluate("JSON.parse(document.getElementById('meta').textContent).window"))
    for palette, times in (("blue-orange", (0, 123_456, 999_999)), ("white-black", (500_000,))):
        page.tab.select_option("#colours", palette)
        for at in times:
            page.seek(at)
            now = int(e.t[0]) + page.now
            for mode, window in (
                ("polarity", length),
                ("counts", length),
                ("decay", length),
                ("total", None),
            ):
                page.choose("mode", mode)
                shown = e.between(0, now + 1) if window is None else e
                wanted = events.picture(
                    shown,
                    at=now,
                    window=window,
                    mode="counts" if mode == "total" else mode,
                    colours=palette,
                    theme=scheme,
                )
                # exp and log may differ in their last bit
                assert np.abs(page.pixels("frame").astype(int) - wanted).max() <= (mode != "polarity"), mode
    page.done()


@needs_browser
def test_a_sensor_larger_than_its_place_loses_no_event(browser: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 1280, 200), rng.integers(0, 720, 200)
    e = Events.of(np.arange(200), x, y, rng.integers(0, 2, 200), width=1280, height=720)
    events.page(e, tmp_path / "a.html")
    page = Page(browser, tmp_path / "a.html")
    page.choose("mode", "total")
    page.press("End")
    found = page.pixels("frame")
    height, width, _ = found.shape
    assert width < 640
    lit = (found != np.array(PALETTES["blue-orange"]["dark"].background)).any(-1)
    wanted = np.zeros_like(lit)
    wanted[(y * (height / 720)).astype(int), (x * (width / 1280)).astype(int)] = True
    assert np.array_equal(lit, wanted)
    page.done()


@needs_browser
def test_it_plays_and_stops_and_repeats(browser: Any, recording: Path) -> None:
    page = Page(browser, recording)
    page.press("Home")
    assert page.now == 0
    button = page.tab.get_by_role("button", name="Play", exact=True)
    begun = time.monotonic()
    button.click()
    seen = [0]
    while len(seen) < 6:
        page.until(f"Number(document.getElementById('seek').value) > {seen[-1]}")
        seen.append(page.now)
    page.tab.get_by_role("button", name="Pause", exact=True).click()
    passed = time.monotonic() - begun
    stopped = page.now
    assert 0 < stopped <= passed * 0.1 * 1e6 + 1  # a recording of a second plays at a tenth of its speed
    page.tab.wait_for_timeout(150)
    assert page.now == stopped
    # it goes on from the start where it repeats, and stops where it does not
    page.tab.select_option("#speed", "10")
    page.press("Home", " ")
    page.tab.wait_for_timeout(400)
    assert page.tab.get_attribute("html", "data-playing") == "true"
    page.press("l")
    page.until("document.documentElement.dataset.playing === 'false'")
    end = page.now
    assert end == disc().duration
    page.press(" ")  # from the start again
    page.until("document.documentElement.dataset.playing === 'false'")
    page.done()


@needs_browser
def test_the_plot_of_the_rate_seeks(browser: Any, recording: Path) -> None:
    e = disc()
    page = Page(browser, recording)
    box = page.tab.locator("#timeline").bounding_box()
    for share in (0.25, 0.8):
        page.tab.mouse.click(box["x"] + share * box["width"], box["y"] + 40)
        page.rest()
        assert abs(page.now - share * e.duration) <= e.duration / box["width"] + 1
    page.tab.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 40)
    page.tab.mouse.down()
    page.tab.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 300)  # a drag may leave the plot
    page.rest()
    assert abs(page.now - 0.1 * e.duration) <= e.duration / box["width"] + 1
    page.tab.mouse.move(box["x"] - 50, box["y"])
    page.tab.mouse.up()
    page.rest()
    assert page.now == 0
    # the tip says the rate of the bin at the pointer
    left = box["x"] + 0.5 * box["width"]
    page.tab.mouse.move(left, box["y"] + 30)
    bin = -(-(e.duration + 1) // 1000)
    k = int((left - box["x"]) / box["width"] * e.duration / bin)
    many = ((e.t - e.t[0]) // bin == k).sum() / bin * 1e6
    said = re.fullmatch(r"[\d.]+ ms: ([\d.]+) (k?)ev/s", page.say("tip"))
    assert said is not None
    assert float(said[1]) * (1000 if said[2] else 1) == pytest.approx(many, rel=0.006)
    # the plot is higher where more events are
    rate = page.pixels("rate")
    on, off, _ = (np.array(c) for c in PALETTES["blue-orange"]["dark"])
    coloured = ((rate == on).all(-1) | (rate == off).all(-1)).sum(0)
    assert coloured[: len(coloured) // 4].mean() < 0.8 * coloured[-len(coloured) // 4 :].mean()
    page.done()


@needs_browser
def test_keys(browser: Any, recording: Path) -> None:
    page = Page(browser, recording)
    page.press("Home")
    length = int(page.tab.evaluate("JSON.parse(document.getElementById('meta').textContent).window"))
    page.press("ArrowRight", "ArrowRight")
    assert page.now == 2 * length
    page.press("Shift+ArrowRight", "ArrowLeft")
    assert page.now == 11 * length
    page.press("End")
    assert page.now == disc().duration
    speed = page.tab.input_value("#speed")
    page.press("ArrowUp")
    assert float(page.tab.input_value("#speed")) > float(speed)
    page.press("ArrowDown", "ArrowDown")
    assert float(page.tab.input_value("#speed")) < float(speed)
    said = page.say("window-said")
    page.press("]", "]")
    longer = page.say("window-said")
    assert float(longer.split()[0]) > float(said.split()[0])
    for key, name in (("m", "mode"), ("v", "view")):
        before = page.tab.locator(f"input[name={name}]:checked").get_attribute("value")
        page.press(key)
        assert page.tab.locator(f"input[name={name}]:checked").get_attribute("value") != before
    assert page.tab.locator("#frame").is_hidden()  # from both to the cloud
    page.press("c")
    assert page.tab.input_value("#colours") == "green-purple"
    page.press("t")
    assert page.tab.get_attribute("html", "data-theme") == "light"
    page.press("l")
    assert page.tab.get_attribute("#loop", "aria-pressed") == "false"
    page.press("?")
    assert page.tab.get_by_role("dialog", name="Keys").is_visible()
    page.press("Home")  # the dialog's own
    assert page.now == disc().duration
    page.press("Escape")
    assert page.tab.get_by_role("dialog").count() == 0
    # a control keeps the keys that it uses
    page.tab.focus("#window")
    before = page.now
    page.press("ArrowLeft")
    assert page.now == before
    assert page.say("window-said") != longer
    page.tab.focus("#seek")
    page.press("Home")
    assert page.now == 0
    assert page.tab.get_attribute("#seek", "aria-valuetext") == "0.00 ms of 998.65 ms"
    page.done()


@needs_browser
def test_the_cloud_turns_and_zooms(browser: Any, recording: Path) -> None:
    page = Page(browser, recording)
    page.seek(700_000)
    first = page.pixels("cloud")
    ground = np.array(PALETTES["blue-orange"]["dark"].background)

    def near(colour: Any) -> int:
        away = first.astype(int) - ground
        return int(
            ((away @ (np.array(colour) - ground)) > 0.5 * ((np.array(colour) - ground) ** 2).sum()).sum()
        )

    assert near(PALETTES["blue-orange"]["dark"].on) > 100
    assert near(PALETTES["blue-orange"]["dark"].off) > 100
    box = page.tab.locator("#cloud").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def changed() -> Any:
        page.tab.wait_for_timeout(50)
        return not np.array_equal(page.pixels("cloud"), first)

    def reset() -> None:
        page.tab.dblclick("#cloud")
        assert not changed()

    page.tab.mouse.move(x, y)
    page.tab.mouse.down()
    page.tab.mouse.move(x + 60, y + 20)
    page.tab.mouse.up()
    assert changed()
    reset()
    page.tab.mouse.wheel(0, -300)
    assert changed()
    reset()
    page.tab.focus("#cloud")
    for key in ("ArrowLeft", "ArrowUp", "+"):
        before = page.now
        page.press(key)
        assert changed()
        assert page.now == before
        page.press("0")
        assert not changed()
    for span in ("1", "all"):
        page.choose("span", span)
        assert changed()
    assert page.say("cloud-said") == "20,000 events"
    page.done()


@needs_browser
def test_fingers_turn_and_zoom_the_cloud(browser: Any, recording: Path) -> None:
    page = Page(browser, recording, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.choose("view", "cloud")
    page.seek(700_000)
    box = page.tab.locator("#cloud").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    wire = page.context.new_cdp_session(page.tab)

    def touch(kind: str, *at: tuple[float, float]) -> None:
        points = [{"x": a, "y": b, "id": k} for k, (a, b) in enumerate(at)]
        wire.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def lit() -> int:
        page.tab.wait_for_timeout(50)
        ground = np.array(PALETTES["blue-orange"]["dark"].background)
        rows = (np.abs(page.pixels("cloud").astype(int) - ground).sum(-1) > 60).any(1)
        return int(rows.sum())

    before = lit()
    touch("touchStart", (x - 20, y), (x + 20, y))
    touch("touchMove", (x - 30, y), (x + 30, y))
    touch("touchMove", (x - 12, y), (x + 12, y))
    touch("touchEnd")
    assert lit() < before  # pinched
    small = page.pixels("cloud")
    touch("touchStart", (x, y))
    touch("touchMove", (x + 20, y + 30))
    touch("touchMove", (x + 40, y + 60))
    touch("touchEnd")
    page.tab.wait_for_timeout(50)
    assert not np.array_equal(page.pixels("cloud"), small)
    page.done()


@needs_browser
@pytest.mark.parametrize("width", [320, 390, 768, 1024, 1280, 1920])
def test_it_fits_every_width(browser: Any, recording: Path, width: int) -> None:
    page = Page(browser, recording, viewport={"width": width, "height": 800})
    for view in ("frame", "both", "cloud"):
        page.choose("view", view)
        assert page.tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        for name in ("frame", "cloud"):
            if view in (name, "both"):
                size = page.tab.locator(f"#{name}").bounding_box()
                assert min(size["width"], size["height"]) > 100
    page.done()


@needs_browser
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_controls_have_names_and_words_have_contrast(browser: Any, recording: Path, scheme: str) -> None:
    page = Page(browser, recording, color_scheme=scheme)
    tree = page.tab.locator("body").aria_snapshot()
    for wanted in ('button "Play"', 'slider "Time', 'slider "Window', 'radio "Polarity"', 'combobox "Speed"'):
        assert wanted in tree
    assert not re.search(r"- (button|slider|radio|combobox)(:|$)", tree, re.MULTILINE)  # one without a name

    def light(colour: str) -> float:
        parts = [int(n) / 255 for n in re.findall(r"\d+", colour)[:3]]
        red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    def seen(what: str, of: str) -> str:
        return str(page.tab.eval_on_selector(of, f"e => getComputedStyle(e).{what}"))

    pairs = [
        (seen("color", "#subtitle"), seen("backgroundColor", "body")),
        (seen("color", "#facts dt"), seen("backgroundColor", "aside")),
        (seen("color", "#facts dd"), seen("backgroundColor", "aside")),
        (seen("color", "#mode input:not(:checked) + span"), seen("backgroundColor", "#mode")),
        (seen("color", "#play"), seen("backgroundColor", "#play")),
    ]
    for front, back in pairs:
        high, low = sorted((light(front), light(back)), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (front, back)
    page.done()


def at_once(n: int) -> Events:
    return Events.of(np.full(n, 5), np.arange(n) % 9, np.arange(n) % 7, np.arange(n) % 2, width=9, height=7)


@needs_browser
@pytest.mark.parametrize(
    ("e", "said"),
    [
        (Events.empty(10, 5), "This recording has no events."),
        (Events.of([3], [0], [0], [1], width=10, height=5), ""),
        (at_once(50), ""),
        (Events.of(np.arange(99), [0] * 99, [0] * 99, [1] * 99, width=1, height=1), ""),
        (Events.of([0, 3_600_000_000], [0, 1], [0, 0], [1, 0], width=300, height=2), ""),
        (Events.of([-(1 << 52), 1 << 52], [0, 1], [0, 0], [1, 0], width=2, height=300), ""),
        (disc(500)[::-1], "Time runs backwards"),
    ],
    ids=["none", "one", "one time", "one pixel", "an hour", "285 years", "backwards"],
)
def test_strange_recordings(browser: Any, tmp_path: Path, e: Events, said: str) -> None:
    events.page(e, tmp_path / "a.html")
    page = Page(browser, tmp_path / "a.html")
    assert said in page.say("notes")
    assert bool(said) == bool(page.say("notes"))
    for mode in ("counts", "decay", "total", "polarity"):
        page.choose("mode", mode)
    page.choose("span", "all")
    page.press("End", "]", "[", " ")
    page.tab.wait_for_timeout(100)
    page.press(" ", "End")
    if len(e):
        page.choose("mode", "total")
        assert np.array_equal(page.pixels("frame"), events.picture(e.ordered(), mode="counts"))
    page.done()


@needs_browser
def test_five_million_events_load_and_play(browser: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n = 6_000_000
    t = np.sort(rng.integers(0, 3_000_000, n))
    x = ((t // 3000 + rng.integers(0, 60, n)) % 1280).astype(np.uint16)
    y = rng.integers(0, 720, n).astype(np.uint16)
    e = Events(t, x, y, rng.integers(0, 2, n).astype(np.uint8), 1280, 720)
    with pytest.warns(SpikeloomWarning, match="of 6,000,000 events"):
        made = events.page(e, tmp_path / "a.html")
    assert made.shown == 5_000_000
    assert made.path.stat().st_size < 40e6
    begun = time.monotonic()
    page = Page(browser, made.path)
    assert time.monotonic() - begun < 30
    assert f"has {made.shown:,} of 6,000,000 events" in page.say("notes")
    page.press("Home")
    page.tab.evaluate(
        """() => { window.drawn = 0; const see = () => { window.drawn++; requestAnimationFrame(see); };
            requestAnimationFrame(see); }"""
    )
    page.press(" ")
    page.tab.wait_for_timeout(2000)
    page.press(" ")
    assert page.tab.evaluate("window.drawn") >= 10  # in a browser without a GPU, beside other tests
    assert page.now > 0
    page.done()


@needs_browser
def test_the_pointer_reads_a_pixel_and_the_frame_is_saved(
    browser: Any, recording: Path, tmp_path: Path
) -> None:
    from PIL import Image

    e = disc()
    page = Page(browser, recording)
    page.choose("view", "frame")
    page.choose("mode", "total")
    page.press("End")
    column, row = int(e.x[7]), int(e.y[7])
    box = page.tab.locator("#frame").bounding_box()
    page.tab.mouse.move(
        box["x"] + (column + 0.5) / e.width * box["width"], box["y"] + (row + 0.5) / e.height * box["height"]
    )
    here = e.p[(e.x == column) & (e.y == row)]
    assert page.say("frame-said") == f"x {column}, y {row}: {(here == 1).sum()} ON, {(here == 0).sum()} OFF"
    page.choose("mode", "polarity")
    page.seek(300_000)
    length = int(page.tab.evaluate("JSON.parse(document.getElementById('meta').textContent).window"))
    with page.tab.expect_download() as got:
        page.press("s")
    assert got.value.suggested_filename == "Events-300000us.png"
    got.value.save_as(tmp_path / "saved.png")
    with Image.open(tmp_path / "saved.png") as image:
        wanted = events.picture(e, at=int(e.t[0]) + 300_000, window=length)
        assert np.array_equal(np.array(image.convert("RGB")), wanted)
    page.asked[1:] = [url for url in page.asked[1:] if not url.startswith("blob:file://")]
    page.done()


@needs_browser
def test_what_is_in_a_file_is_text_on_the_page(browser: Any, tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=document.title=1><script>document.title=2</script>"
    path = tmp_path / "<img src=x onerror=document.title=3>&amp;.raw"
    header = f"% evt 3.0\n% geometry 1280x720\n% note {evil}\n% <b>key&lt; {evil}\n% end\n"
    path.write_bytes(header.encode() + bytes.fromhex("0180 0560 0a00 6428"))
    events.page(events.open(path), tmp_path / "a.html")
    page = Page(browser, tmp_path / "a.html")
    assert page.tab.title() == path.name
    assert page.say("title") == path.name
    page.tab.click("summary")
    assert evil in page.tab.locator("#metadata dd").all_text_contents()
    assert "<b>key&lt;" in page.tab.locator("#metadata dt").all_text_contents()
    assert page.tab.locator("img, b").count() == 0
    page.done()


@pytest.mark.parametrize(("width", "height"), [(256, 257), (1, 65_536), (65_536, 1)])
def test_packed_columns_are_as_described(width: int, height: int) -> None:
    rng = np.random.default_rng(0)
    steps = np.concatenate([[0, 127, 128, 16_383, 16_384, 1 << 49], rng.integers(0, 300, 20)])
    t = steps.cumsum() - 1234
    n = len(t)
    x, y = rng.integers(0, width, n), rng.integers(0, height, n)
    e = Events.of(t, x, y, rng.integers(0, 2, n), width=width, height=height)
    data = iter(zlib.decompress(pack(e, -1234)))
    for i in range(n):
        step, place = 0, 0
        while (byte := next(data)) > 127:
            step |= (byte & 127) << place
            place += 7
        assert step | byte << place == steps[i]
    for column, size in ((x, width), (y, height)):
        planes = [[next(data) for _ in range(n)] for _ in range(2 if size > 256 else 1)]
        assert [sum(plane[i] << 8 * k for k, plane in enumerate(planes)) for i in range(n)] == column.tolist()
    bits = [byte >> k & 1 for byte in data for k in range(8)]
    assert bits[:n] == e.p.tolist()
    assert len(bits) - n < 8
