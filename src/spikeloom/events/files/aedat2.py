"""AEDAT 2.0, of jAER: big-endian pairs of an address and a time; each camera has addresses of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...announce import announce
from ..compiled import kernel
from ..error import EventsError
from ..events import Motion, Triggers
from .aedat_header import AedatHeader, aedat_header
from .format import Format, Given, Source, sensor
from .packets import Packet, PacketSource
from .words import parts

# the decoder's state
EPOCH = 0  # what the 32-bit clock has counted in full turns, us
CLOCK = 1  # the clock at the last word; START before the first
EVENTS = 2  # out: how many there are of each
TRIGGERS = 3
MOTIONS = 4
BROKEN = 5  # samples of motion that began and did not end
UNKNOWN = 6  # edges of which it is not known whether they rise or fall
PROBLEM = 7  # out: 1 + the index of a word that is of no such camera, or 0
EXPECTED = 8  # which of a motion sample's seven words comes next
SAMPLE = 9  # those that came, and their time
SIZE = 17
START = 1 << 40

CHIPS = {  # jAER's classes; their addresses count from the lower right corner
    "dvs128": ("dvs128", (128, 128)),
    "davis240[abc]?": ("davis", (240, 180)),
    "davis346[a-z]*": ("davis", (346, 260)),
    "davis640": ("davis", (640, 480)),
}
# counts for a unit, by the full scale that the header tells (InvenSense MPU-6100 data sheet)
PER_DEGREE = {"250": 131.0, "500": 65.5, "1000": 32.8, "2000": 16.4}
PER_G = {"2": 16384.0, "4": 8192.0, "8": 4096.0, "16": 2048.0}


@kernel
def _swapped(word: Any) -> Any:
    """Return the low four bytes in the other order."""
    return (word & 255) << 24 | (word & 0xFF00) << 8 | word >> 8 & 0xFF00 | word >> 24 & 255


@kernel
def decode(  # type: ignore[no-untyped-def]
    words: Any,
    state: Any,
    davis: bool,
    right: int,
    top: int,
    t: Any,
    x: Any,
    y: Any,
    p: Any,
    trigger_t: Any,
    trigger_id: Any,
    trigger_value: Any,
    motion_t: Any,
    motion: Any,
):
    """Decode 8 bytes, read as a little-endian number: the address, then the time, high bytes first."""
    n, m, k = 0, 0, 0
    epoch, clock = state[EPOCH], state[CLOCK]
    for i in range(len(words)):
        word = np.int64(words[i])
        address, time = _swapped(word), _swapped(word >> 32)
        if time >= 1 << 31:  # it is signed
            time -= 1 << 32
        if clock != START and clock - time > 1 << 31:
            epoch += 1 << 32
        clock = time
        if not davis:  # DVS128: bit 15 external input, 14..8 row, 7..1 column, 0 OFF
            if address & 0x8000:
                trigger_t[m], trigger_id[m], trigger_value[m] = epoch + clock, 0, 0
                m += 1
                address &= 0x7FFFFFFF
            else:
                t[n], x[n], y[n] = epoch + clock, right - (address >> 1 & 127), top - (address >> 8 & 127)
                p[n] = 1 - (address & 1)
                n += 1
            if address >> 16:
                state[PROBLEM] = 1 + i
                break
        elif address >> 31 == 0:  # DAVIS: 30..22 row, 21..12 column, 11 ON, 10 external input
            if address & 0x400:
                edge = address & 7  # 2 falls, 3 rises, 4 is a pulse; others are of cameras that do not say
                trigger_t[m], trigger_id[m], trigger_value[m] = epoch + clock, 0, edge != 2
                state[UNKNOWN] += edge < 2 or edge > 4
                m += 1
            else:
                t[n], x[n], y[n] = epoch + clock, right - (address >> 12 & 1023), top - (address >> 22 & 511)
                p[n] = address >> 11 & 1
                n += 1
        elif address & 0xC00 == 0xC00:  # motion: 30..28 which of seven numbers, 27..12 the number
            which = address >> 28 & 7
            if which != state[EXPECTED]:
                state[BROKEN] += state[EXPECTED] > 0
                state[EXPECTED] = 0
            if which == state[EXPECTED]:
                value = address >> 12 & 0xFFFF
                state[SAMPLE + which] = value - (value >> 15 << 16)
                state[EXPECTED] += 1
                if which == 0:
                    state[SAMPLE + 7] = epoch + clock
                if which == 6:
                    motion_t[k] = state[SAMPLE + 7]
                    for j in range(7):
                        motion[k, j] = state[SAMPLE + j]
                    k += 1
                    state[EXPECTED] = 0
    state[EPOCH], state[CLOCK] = epoch, clock
    state[EVENTS], state[TRIGGERS], state[MOTIONS] = n, m, k


@dataclass(kw_only=True)
class _Aedat2(PacketSource):
    offset: int
    camera: str
    partial: bool
    scales: tuple[float, float] | None  # counts for a degree a second, and for a g

    def packets(self) -> Iterator[Packet]:
        state = np.zeros(SIZE, np.int64)
        state[CLOCK] = START
        motions = 0
        for start, words in parts(self.path, self.offset, "<u8", self.partial):
            packet, some = self._packet(words, state)
            if state[PROBLEM]:
                at = start + 8 * (int(state[PROBLEM]) - 1)
                raise EventsError(
                    f"{self.path}: at byte {at}: an address with bits that a DVS128 has not; if it is of "
                    "another camera, give format='aedat2-davis', width= and height="
                )
            motions += some
            yield packet
        self._say(state, motions)

    def _packet(self, words: NDArray[Any], state: NDArray[np.int64]) -> tuple[Packet, int]:
        count = len(words)
        t, edge_t, motion_t = (np.empty(size, np.int64) for size in (count, count, count // 7 + 1))
        x, y = np.empty(count, np.uint16), np.empty(count, np.uint16)
        p, edge_id, edge_value = (np.empty(count, np.uint8) for _ in range(3))
        raw = np.empty((len(motion_t), 7), np.int16)
        right, top = self.width - 1, self.height - 1
        edges = edge_t, edge_id, edge_value
        decode(words, state, self.camera == "davis", right, top, t, x, y, p, *edges, motion_t, raw)
        n, m, k = (int(state[which]) for which in (EVENTS, TRIGGERS, MOTIONS))
        triggers = Triggers(edge_t[:m], edge_id[:m], edge_value[:m])
        packet = Packet(t[:n], x[:n], y[:n], p[:n], triggers)
        if self.scales is not None:
            numbers = raw[:k].astype(np.float32)
            degree, g = (np.float32(scale) for scale in self.scales)
            temperature = numbers[:, 3] / np.float32(340) + np.float32(35)
            packet.motion = Motion(motion_t[:k], numbers[:, :3] / g, numbers[:, 4:] / degree, temperature)
        return packet, k

    def _say(self, state: NDArray[np.int64], motions: int) -> None:
        """Announce what a user would not expect."""
        if motions and self.scales is None:
            announce(
                f"{self.path}: its header does not tell the full scales of the motion sensor, so its "
                f"{motions} samples are left out"
            )
        if state[BROKEN]:
            announce(f"{self.path}: {state[BROKEN]} samples of motion are not whole and are left out")
        if state[UNKNOWN]:
            announce(
                f"{self.path}: {state[UNKNOWN]} edges of the external input do not say whether they rise or "
                "fall; they are given as rising"
            )


def _scales(header: AedatHeader) -> tuple[float, float] | None:
    text = "\n".join(header.lines)
    gyro = set(re.findall(r'ImuGyroScale" value="GyroFullScaleDegPerSec(\d+)"', text))
    accel = set(re.findall(r'ImuAccelScale" value="ImuAccelScaleG(\d+)"', text))
    if len(gyro) != 1 or len(accel) != 1:
        return None
    degree, g = PER_DEGREE.get(gyro.pop()), PER_G.get(accel.pop())
    return None if degree is None or g is None else (degree, g)


def _open(path: Path, given: Given, camera: str | None) -> Source:
    """Open a file as of a camera, or as of the one that its header names."""
    header = aedat_header(path)
    if header.version != "2.0" and (header.lines or camera is None):
        raise EventsError(
            f"{path}: its first line says AEDAT {header.version or 'nothing'}, not 2.0; leave out format="
        )
    chip = header.metadata.get("AEChip", "")
    name = chip.rpartition(".")[2].lower()
    found = next((value for pattern, value in CHIPS.items() if re.fullmatch(pattern, name)), None)
    if found is None and camera is None:
        raise EventsError(
            f"{path}: its header names {'the camera ' + chip if chip else 'no camera'}, and each has "
            "addresses of its own; if you know it to be like a DVS128, give format='aedat2-dvs128', if like "
            "a DAVIS, format='aedat2-davis', width= and height="
        )
    if found is not None and camera not in (None, found[0]):
        raise EventsError(
            f"{path}: its header says {chip}, but format='aedat2-{camera}' was given; leave it out"
        )
    camera = camera or (found[0] if found else "")
    size = found[1] if found else (128, 128) if camera == "dvs128" else None
    width, height = sensor(path, given, size, f"it names the camera {chip}" if chip else "")
    return _Aedat2(
        path=path,
        offset=header.length,
        camera=camera,
        partial=given.partial,
        scales=_scales(header),
        width=width,
        height=height,
        metadata=header.metadata,
    )


class Aedat2(Format):
    """AEDAT 2.0 of a DVS128 or a DAVIS, which the header names.

    x is from the left and y from the top as the scene is seen, and as jAER shows it. The addresses count
    columns from the right and rows from the bottom, so both are mirrored. A DVS128's lowest bit is 1 for OFF,
    a DAVIS's bit 11 is 1 for ON. Events of the external input become triggers of channel 0; those of a DVS128
    are falling edges. Motion is along the axes of the motion chip. Frames (APS) are left out.
    """

    name = "aedat2"
    title = "AEDAT 2.0 (jAER)"

    def sniff(self, path: Path, head: bytes) -> bool:
        """Tell by the first line."""
        return head.startswith(b"#!AER-DAT2.0")

    def open(self, path: Path, given: Given) -> Source:
        """Read the header, which must name the camera."""
        return _open(path, given, None)


class Aedat2Dvs128(Format):
    """AEDAT 2.0 with the addresses of a DVS128, where the header does not say so, or is missing."""

    name = "aedat2-dvs128"
    title = "AEDAT 2.0 of a DVS128"
    needs = ("format",)

    def sniff(self, path: Path, head: bytes) -> bool:
        """Tell nothing: it is for files that do not say."""
        return False

    def open(self, path: Path, given: Given) -> Source:
        """Read the header, which must not name another camera."""
        return _open(path, given, "dvs128")


class Aedat2Davis(Format):
    """AEDAT 2.0 with the addresses of a DAVIS, where the header does not say so, or is missing."""

    name = "aedat2-davis"
    title = "AEDAT 2.0 of a DAVIS"
    needs = ("format", "width", "height")

    def sniff(self, path: Path, head: bytes) -> bool:
        """Tell nothing: it is for files that do not say."""
        return False

    def open(self, path: Path, given: Given) -> Source:
        """Read the header, which must not name another camera."""
        return _open(path, given, "davis")
