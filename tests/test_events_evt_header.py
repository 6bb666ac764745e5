"""What the header of a RAW file may say, and what is refused rather than guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from spikeloom import events
from spikeloom.events import EventsError

EVT2 = bytes.fromhex("02000080 c8604911")
PAIR = bytes.fromhex("0000000002000080 09000000c8004211")
TRIPLE = bytes.fromhex("0180 0560 0a00 6428")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vector.raw"


def open_(path: Path, header: str | bytes, content: bytes = TRIPLE, **more: object) -> events.Recording:
    path.write_bytes((header.encode() if isinstance(header, str) else header) + content)
    return events.open(path, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("header", "content", "name", "size"),
    [
        ("% evt 3.0\n% geometry 640x480\n% end\n", TRIPLE, "evt3", (640, 480)),
        ("% format EVT3;height=480;width=640\n% end\n", TRIPLE, "evt3", (640, 480)),
        (
            "% format EVT2;height=480;width=640\n% evt 2.0\n% geometry 640x480\n% end\n",
            EVT2,
            "evt2",
            (640, 480),
        ),
        ("% evt 2.0\n% plugin_name hal_plugin_gen3_fx3\n", EVT2, "evt2", (640, 480)),
        ("% evt 3.0\n% plugin_name hal_plugin_imx636_evk4\r\n", TRIPLE, "evt3", (1280, 720)),
        ("% evt 3.0\n% integrator_name Prophesee\n% system_ID 40\n", TRIPLE, "evt3", (640, 480)),
        (
            "% evt 3.0\n% camera_integrator_name Prophesee\n"
            "% plugin_integrator_name Prophesee\n% system_ID 49\n",
            TRIPLE,
            "evt3",
            (1280, 720),
        ),
        # the geometry that the header states goes before what the plugin's name means
        ("% evt 2.0\n% plugin_name hal_plugin_gen3_fx3\n% geometry 500x300\n", EVT2, "evt2", (500, 300)),
        ("% format EVT21;endianness=little;height=320;width=320\n% end\n", PAIR, "evt21", (320, 320)),
        # before EVK2 with the Saphir board (system 55) the upper half of a word came first
        (
            "% evt 2.1\n% integrator_name Prophesee\n% system_ID 49\n% end\n",
            PAIR[4:8] + PAIR[:4] + PAIR[12:] + PAIR[8:12],
            "evt21",
            (1280, 720),
        ),
        (
            "% evt 2.1\n% integrator_name Prophesee\n% system_ID 64\n% geometry 320x320\n% end\n",
            PAIR,
            "evt21",
            (320, 320),
        ),
    ],
)
def test_what_a_header_says(
    path: Path, header: str, content: bytes, name: str, size: tuple[int, int]
) -> None:
    recording = open_(path, header, content)
    assert (recording.format, recording.width, recording.height) == (name, *size)
    assert len(recording.read()) > 0


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "% geometry 640x480\n% end\n",
            "names no encoding .it has the keys geometry.*format='evt2', 'evt21-little'",
        ),
        ("% integrator_name Prophesee\n", "names no encoding"),
        ("% format HISTO3D;height=320;width=320\n% end\n", "names the encoding 'HISTO3D'"),
        ("% evt 4.0\n% geometry 640x480\n% end\n", "names the encoding '4.0'"),
        (
            "% evt 3.0\n% format EVT2;width=640;height=480\n% end\n",
            "contradicts itself: encodings evt2 and evt3",
        ),
        ("% evt 3.0\n% evt 2.0\n% end\n", "contradicts itself: evt is '3.0' and '2.0'"),
        (
            "% format EVT3;width=640;height=480\n% geometry 1280x720\n% end\n",
            r"contradicts itself: sensors of \(640, 480\) and \(1280, 720\)",
        ),
        (
            "% evt 3.0\n% integrator_name Prophesee\n% system_ID 49\n% plugin_name hal_plugin_gen3_fx3\n",
            r"contradicts itself: sensors of \(640, 480\) and \(1280, 720\)",
        ),
        ("% evt 3.0\n% end\n", "does not say how large the sensor is; give width= and height="),
        (
            "% evt 3.0\n% integrator_name Another\n% system_ID 49\n% end\n",
            "does not say how large the sensor is",
        ),
        ("% evt 3.0\n% geometry 640\n% end\n", "a sensor of '640' x '' pixels"),
        ("% evt 3.0\n% geometry 0x480\n% end\n", "each side is from 1 to 65536"),
        ("% evt 3.0\n% geometry 4096x480\n% end\n", "in a RAW file a side is at most 2048"),
        (f"% evt 3.0\n% geometry {'9' * 5000}x480\n% end\n", "a sensor of '999"),
        (
            "% evt 2.1\n% geometry 320x320\n% end\n",
            "which half of a word comes first.*evt21-little.*evt21-legacy",
        ),
        ("% evt 2.1\n% geometry 320x320\n% endianness big\n% end\n", "'big'; it is little or legacy"),
        (
            "% format EVT21;endianness=little;width=320;height=320\n% endianness legacy\n% end\n",
            "contradicts itself: byte orders legacy and little",
        ),
    ],
)
def test_what_is_refused(path: Path, header: str, message: str) -> None:
    with pytest.raises(EventsError, match=message):
        open_(path, header)


def test_a_header_that_is_cut_off(path: Path) -> None:
    with pytest.raises(EventsError, match="its header is cut off, in the line '% geometry 12'"):
        open_(path, "% evt 3.0\n% geometry 12", b"")
    with pytest.raises(EventsError, match="its header does not end within 65536 bytes"):
        open_(path, "% evt 3.0\n" + "% key value\n" * 10_000, b"")


def test_a_header_of_any_length_and_nothing_else(path: Path) -> None:
    for length in (0, 1, 4096 - 30, 4096 - 29, 4096 - 28, 10_000):
        header = "% evt 3.0\n% geometry 9x9\n% k" + " " * length + "\n"
        assert len(open_(path, header, b"").read()) == 0
        assert open_(path, header, bytes.fromhex("0180 0560 0300 0428")).read().x.tolist() == [4]


def test_content_may_begin_with_a_percent_sign(path: Path) -> None:
    """TIME_HIGH 0x125 lies in the file as the bytes 25 81; a later 0a is no end of a line of the header."""
    content = bytes.fromhex("2581 0560 0a00 6428")
    found = open_(path, "% evt 3.0\n% geometry 640x480\n", content).read()
    assert found.to_array().tolist() == [(0x125005, 100, 10, 1)]
    found = open_(path, "% evt 3.0\n% geometry 640x480\n", content.replace(b"\n", b"\x0b")).read()
    assert found.y.tolist() == [11]


def test_what_the_caller_says(path: Path) -> None:
    assert open_(path, "% evt 3.0\n% end\n", width=640, height=480).width == 640
    assert len(open_(path, b"", TRIPLE, format="evt3", width=640, height=480).read()) == 1
    assert len(open_(path, "% geometry 640x480\n", EVT2, format="evt2").read()) == 1
    with pytest.raises(EventsError, match="its header says that it is evt3, not evt2; leave out format="):
        open_(path, "% evt 3.0\n% geometry 640x480\n% end\n", format="evt2")
    with pytest.raises(EventsError, match="its header says 640x480 pixels, but width=1280"):
        open_(path, "% evt 3.0\n% geometry 640x480\n% end\n", width=1280)


def test_the_order_of_the_halves_may_be_said(path: Path) -> None:
    header = "% evt 2.1\n% geometry 320x320\n% end\n"
    turned = PAIR[4:8] + PAIR[:4] + PAIR[12:] + PAIR[8:12]
    assert open_(path, header, PAIR, format="evt21-little").read().x.tolist() == [64, 67]
    assert open_(path, header, turned, format="evt21-legacy").read().x.tolist() == [64, 67]
    with pytest.raises(EventsError, match="byte order 'legacy', not 'little'; leave out format="):
        open_(path, "% evt 2.1\n% geometry 9x9\n% endianness legacy\n% end\n", PAIR, format="evt21-little")


@pytest.mark.parametrize("before", [40, 4091, 4092, 4093, 4094, 4095])
def test_a_header_in_other_letters(path: Path, before: int) -> None:
    """Wherever the first 4 KiB end, within a character, too."""
    header = "% evt 3.0\n% geometry 9x9\n% k" + " " * (before - 29) + "café\n% serial 7\n"
    recording = open_(path, header.encode(), bytes.fromhex("0180 0560 0300 0428"))
    assert recording.metadata["k"] == "café"
    assert recording.metadata["serial"] == "7"
    assert recording.read().x.tolist() == [4]


def test_metadata(path: Path) -> None:
    recording = open_(path, "% Date 2020-09-14 14:18:29\n% evt 3.0\n% format EVT3;width=9;height=8\n% end\n")
    assert recording.metadata["Date"] == "2020-09-14 14:18:29"
    assert recording.metadata["format.width"] == "9"
