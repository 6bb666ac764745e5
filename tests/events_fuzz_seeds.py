"""Small valid files of each format, from which the fuzzer makes wrong ones."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spikeloom import events
from spikeloom.events import Events, Motion, Triggers

DATA = Path(os.environ.get("SPIKELOOM_DATA", "/nowhere"))
CUT = 6000  # bytes that are kept of a recording


@dataclass
class Seed:
    """A file's content, and what its reader must be told.

    Attributes:
        content: the bytes.
        more: arguments of `events.open`.
        suffix: the file's ending.
    """

    content: bytes
    more: dict[str, Any] = field(default_factory=dict)
    suffix: str = ".bin"


Seeds = Callable[[Path], list[Seed]]


def some(*, triggers: bool = False, motion: bool = False, n: int = 300) -> Events:
    """Return events of 34x30 pixels, some at one time and side by side, whose times pass 2^24 us."""
    rng = np.random.default_rng(n)
    t = np.sort(rng.integers(0, 40_000_000, n // 10)).repeat(10)
    x, y, p = (
        np.sort(rng.integers(0, 34, (n // 10, 10))).ravel(),
        rng.integers(0, 30, n // 10),
        rng.integers(0, 2, n),
    )
    found = Events.of(t, x, y.repeat(10), p, width=34, height=30)
    if triggers:
        at = np.sort(rng.integers(0, 40_000_000, 9))
        found = found.replace(
            triggers=Triggers(at, np.arange(9, dtype=np.uint8) % 2 * 3, np.arange(9, dtype=np.uint8) % 4 // 2)
        )
    if motion:
        at, numbers = np.sort(rng.integers(0, 40_000_000, 7)), rng.normal(size=(7, 7)).astype(np.float32)
        found = found.replace(motion=Motion(at, numbers[:, :3], numbers[:, 3:6], numbers[:, 6]))
    return found


def written(
    name: str, *, triggers: bool = False, motion: bool = False, suffix: str = "", **more: Any
) -> Seeds:
    """Return seeds that `events.write` makes: of events, and of none."""

    def make(folder: Path) -> list[Seed]:
        seeds = []
        for n in (300, 0):
            held = some(triggers=triggers, motion=motion) if n else Events.empty(34, 30)
            path = folder / f"seed{suffix or '.bin'}"
            events.write(path, held, format=name)
            seeds.append(Seed(path.read_bytes(), more, path.suffix))
        return seeds

    return make


def recorded(name: str, head: int = CUT, **more: Any) -> Seeds:
    """Return the beginning of a recording, if it is at hand."""

    def make(folder: Path) -> list[Seed]:
        path = DATA / name
        return (
            [Seed(path.read_bytes()[:head], {"partial": True, **more}, path.suffix)] if path.is_file() else []
        )

    return make


def fixed(*contents: bytes, **more: Any) -> Seeds:
    """Return seeds of given bytes."""
    return lambda folder: [Seed(content, more) for content in contents]


def raw(head: str, content: str) -> bytes:
    """Return a header and words in hexadecimal, many times over."""
    return head.encode() + bytes.fromhex(content) * 20


def _aedat2(chip: str, *addresses: int) -> bytes:
    head = f"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# AEChip: {chip}\r\n"
    scales = (
        '#   <entry key="ImuGyroScale" value="GyroFullScaleDegPerSec500"/>\r\n'
        '#   <entry key="ImuAccelScale" value="ImuAccelScaleG4"/>\r\n'
    )
    words = (struct.pack(">Ii", address, 7 * i) for i, address in enumerate(addresses * 9))
    return (head + scales).encode() + b"".join(words)


DVS128 = _aedat2("ch.unizh.ini.jaer.chip.retina.DVS128", *range(0, 1 << 15, 1111), 0x8000)
DAVIS = _aedat2(
    "eu.seebetter.ini.chips.davis.DAVIS240C",
    *(y << 22 | y << 12 | (y & 1) << 11 for y in range(0, 180, 11)),
    *(0x80000C00 | which << 28 | 99 * which << 12 for which in range(7)),
    0x400,
    0x80000123,
)


def _aedat3() -> bytes:
    def packet(kind: int, rows: list[bytes], overflow: int = 0, offset: int = 4) -> bytes:
        size = len(rows[0])
        return struct.pack("<hhiiiiii", kind, 1, size, offset, overflow, *[len(rows)] * 3) + b"".join(rows)

    pixels = [struct.pack("<Ii", i % 128 << 17 | i % 100 << 2 | i % 2 << 1 | 1, 5 * i) for i in range(100)]
    return (
        b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#Start-Time: 2017-01-23 10:20:30 (TZ+0100)\r\n"
        b"#!END-HEADER\r\n"
        + packet(1, pixels)
        + packet(0, [struct.pack("<Ii", kind << 1 | 1, 500) for kind in range(2, 7)])
        + packet(3, [struct.pack("<Ii7f", 1, 600 + i, *range(7)) for i in range(5)])
        + packet(2, [bytes(300)], offset=20)
        + packet(1, pixels, overflow=1)
    )


def _bags(folder: Path) -> list[Seed]:
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    from spikeloom.events.files.ros2bag import DEFINITION, TYPE

    store = get_typestore(Stores.ROS2_HUMBLE)
    store.register(get_types_from_msg(DEFINITION, TYPE))
    content = written("evt3", triggers=True)(folder)[0].content.partition(b"% end\n")[2]
    seeds = []
    for storage, suffix in ((StoragePlugin.MCAP, ".mcap"), (StoragePlugin.SQLITE3, ".db3")):
        shutil.rmtree(folder / "bag", ignore_errors=True)
        with Writer(folder / "bag", version=9, storage_plugin=storage) as writer:
            connection = writer.add_connection("/events", TYPE, typestore=store)
            for seq in range(4):
                stamp = store.types["builtin_interfaces/msg/Time"](sec=seq, nanosec=0)
                head = store.types["std_msgs/msg/Header"](stamp=stamp, frame_id="")
                part = content[seq * len(content) // 8 * 2 : (seq + 1) * len(content) // 8 * 2]
                message = store.types[TYPE](
                    head, 30, 34, seq, 0, "evt3", False, np.frombuffer(part, np.uint8)
                )
                writer.write(connection, seq, store.serialize_cdr(message, TYPE))
        [file] = (folder / "bag").glob(f"*{suffix}")
        seeds.append(Seed(file.read_bytes(), suffix=suffix))
    return seeds


def _text(folder: Path) -> list[Seed]:
    rows = some(n=100).to_array().tolist()
    lines = "".join(f"{t},{x},{y},{p}\n" for t, x, y, p in rows)
    seconds = "".join(f"{t / 1e6:.6f} {x} {y} {2 * p - 1}\n" for t, x, y, p in rows)
    told = {"format": "text", "width": 34, "height": 30}
    return [
        *written("text", suffix=".csv", **told)(folder),
        Seed(f"t_us,x,y,p\n{lines}".encode(), told, ".csv"),
        Seed(f"# a recording\n{seconds}".encode(), {**told, "columns": "t,x,y,p", "time_unit": "s"}, ".txt"),
    ]


_EVT2 = "02000080 c8604911 c868c90f 0101c0a1 04000080 c8604901 000000e0 000000f0"
_EVT3 = "0180 0560 0a00 6428 6520 c838 0540 0140 8050 14e0 23f1 56f4 0170 0660 01a1 0280"
_LITTLE = "0000000002000080 09000000c8004211 000000800a008301 000000000103c0a1"
_LEGACY = "0200008000000000 c800421109000000 0a00830100000080 0103c0a100000000"
_PLANES = {"format": "spike-camera", "width": 34, "height": 20, "rate": 20000, "partial": True}

SEEDS: dict[str, list[Seeds]] = {
    "aedat2": [fixed(DVS128, DAVIS), recorded("events_aedat/dvs128_neal_walking.aedat")],
    "aedat2-davis": [
        fixed(DAVIS, format="aedat2-davis", width=240, height=180),
    ],
    "aedat2-dvs128": [fixed(DVS128, format="aedat2-dvs128")],
    "aedat3": [fixed(_aedat3())],
    "aedat4": [
        written("aedat4", triggers=True, motion=True),
        recorded("events_aedat/dvxplorer_320x240.aedat4", 60_000),
    ],
    "dat": [written("dat"), recorded("events_prophesee/ncars_b.dat", width=100, height=100)],
    "es": [written("es"), recorded("events_es/dvs.es")],
    "evt2": [
        written("evt2", triggers=True),
        fixed(raw("% evt 2.0\n% plugin_name hal_plugin_gen3_fx3\n", _EVT2)),
        recorded("events_prophesee/evt2_gen3_sparklers.raw"),
    ],
    "evt21": [
        written("evt21", triggers=True),
        fixed(raw("% format EVT21;endianness=legacy;height=720;width=1280\n% end\n", _LEGACY)),
    ],
    "evt21-little": [
        written("evt21-little", triggers=True, format="evt21-little"),
        fixed(raw("% evt 2.1\n% geometry 1280x720\n% end\n", _LITTLE), format="evt21-little"),
    ],
    "evt21-legacy": [
        written("evt21-legacy", triggers=True, format="evt21-legacy"),
        fixed(raw("% evt 2.1\n% geometry 1280x720\n% end\n", _LEGACY), format="evt21-legacy"),
    ],
    "evt3": [
        written("evt3", triggers=True),
        fixed(raw("% evt 3.0\n% geometry 1280x720\n% end\n", _EVT3)),
        recorded("events_prophesee/evt3_gen41_sample.raw"),
        recorded("events_prophesee/evt3_gen41_pedestrians_5000ev.raw"),
    ],
    "hdf5": [written("hdf5", triggers=True, motion=True, suffix=".h5")],
    "hdf5-prophesee": [written("hdf5-prophesee", triggers=True, suffix=".hdf5")],
    "nmnist": [
        written("nmnist", format="nmnist", width=34, height=30),
        recorded("events_misc/nmnist_sample.bin", format="nmnist", width=34, height=34),
    ],
    "npz": [written("npz", triggers=True, motion=True, suffix=".npz")],
    "ros2bag": [_bags],
    "spike-camera": [fixed(np.random.default_rng(0).bytes(85 * 30), bytes(85 * 9), **_PLANES)],
    "text": [_text],
}


def seeds_of(name: str, folder: Path) -> list[Seed]:
    """Return a format's seeds; each is read once, for a wrong one would test nothing."""
    seeds = [seed for make in SEEDS[name] for seed in make(folder)]
    for i, seed in enumerate(seeds):
        path = folder / f"valid{i}{seed.suffix}"
        path.write_bytes(seed.content)
        recording = events.open(path, **seed.more)
        if recording.format != name:
            raise ValueError(f"seed {i} of {name} is read as {recording.format}")
        recording.read()
    return seeds
