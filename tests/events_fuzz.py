"""Wrong files for every decoder: each is to be refused by EventsError, or read as events that can be.

    python tests/events_fuzz.py --inputs 100000            # all decoders, as every night
    python tests/events_fuzz.py --formats evt3 --inputs 20 --first 4711   # some inputs again
    python tests/events_fuzz.py --formats aedat4 --atheris   # guided by coverage, if atheris is installed

An input is made from its number alone, so any can be made again. A decoder runs in a child process, which
ends with a report: a crash, a hang or memory beyond the limit is found, too, and the input is kept.
"""

from __future__ import annotations

import argparse
import faulthandler
import inspect
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from events_fuzz_seeds import SEEDS, Seed, seeds_of

from spikeloom import events
from spikeloom.events import Events, EventsError

SLOW = 10.0  # seconds that an input may take
HANG = 120.0  # seconds after which the process is ended
MEMORY = 3 << 30  # bytes of addresses that inputs may take beyond what the process has
MARKS = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 63,
    (1 << 64) - 1,
)


# -- inputs ---------------------------------------------------------------------------------------


def mutated(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    """Return a file with a few things wrong, or, seldom, none."""
    made = bytearray(content)
    for _ in range(int(rng.integers(0, 4))):
        made = MUTATIONS[int(rng.integers(len(MUTATIONS)))](rng, made, other)
    return bytes(made)


def _place(rng: np.random.Generator, made: bytearray) -> int:
    """Return a place, in half of all cases one near the beginning."""
    size = len(made) + 1
    return int(rng.integers(min(size, 256) if rng.random() < 0.5 else size))


def _flip(rng: np.random.Generator, made: bytearray, other: bytes) -> bytearray:
    for _ in range(int(rng.integers(1, 9))):
        at = _place(rng, made)
        made[at : at + 1] = bytes(byte ^ 1 << int(rng.integers(8)) for byte in made[at : at + 1])
    return made


def _mark(rng: np.random.Generator, made: bytearray, other: bytes) -> bytearray:
    """Write an extreme number of 1, 2, 4 or 8 bytes, in either order."""
    at, size = _place(rng, made), 1 << int(rng.integers(4))
    number = MARKS[int(rng.integers(len(MARKS)))] & ((1 << 8 * size) - 1)
    made[at : at + size] = number.to_bytes(size, ("little", "big")[int(rng.integers(2))])
    return made


def _noise(rng: np.random.Generator, made: bytearray, other: bytes) -> bytearray:
    at, size = _place(rng, made), int(rng.integers(1, 64))
    made[at : at + size * int(rng.integers(2))] = rng.bytes(size)
    return made


def _cut(rng: np.random.Generator, made: bytearray, other: bytes) -> bytearray:
    del made[_place(rng, made) :]
    return made


def _remove(rng: np.random.Generator, made: bytearray, other: bytes) -> bytearray:
    at = _place(rng, made)
    del made[at : at + int(rng.integers(1, 64))]
    return made


def _repeat(rng: np.random.Generator, made: bytearray, other: bytes) -> bytearray:
    at, size, times = _place(rng, made), int(rng.integers(1, 512)), int(rng.integers(1, 20))
    made[at:at] = made[at : at + size] * times
    return made


def _splice(rng: np.random.Generator, made: bytearray, other: bytes) -> bytearray:
    """Go on with another file of the format, or put a block of it here."""
    at, start = _place(rng, made), int(rng.integers(len(other) + 1))
    size = len(other) if rng.random() < 0.5 else int(rng.integers(1, 512))
    made[at : at + size] = other[start : start + size]
    return made


def _digits(rng: np.random.Generator, made: bytearray, other: bytes) -> bytearray:
    """Change a number in the text of a header."""
    places = [i for i, byte in enumerate(made[:1024]) if chr(byte).isdigit()]
    if places:
        at = places[int(rng.integers(len(places)))]
        numbers = (b"0", b"9", b"65536", b"-1", b"1e9", b"", b"x", b"99999999999999999999", b"%", b"\n")
        made[at : at + 1] = numbers[int(rng.integers(len(numbers)))]
    return made


def _line(rng: np.random.Generator, made: bytearray, other: bytes) -> bytearray:
    """Remove, repeat or swap a line of text."""
    lines = bytes(made[:1024]).split(b"\n")
    i, j = (int(rng.integers(len(lines))) for _ in range(2))
    what = int(rng.integers(3))
    if what == 0:
        del lines[i]
    elif what == 1:
        lines.insert(i, lines[j])
    else:
        lines[i], lines[j] = lines[j], lines[i]
    made[:1024] = b"\n".join(lines)
    return made


MUTATIONS = (_flip, _flip, _mark, _mark, _noise, _cut, _remove, _repeat, _splice, _digits, _line)


# -- what is asked of a decoder ---------------------------------------------------------------------


def check(path: Path, more: dict[str, Any]) -> int:
    """Read a file whole and in chunks; return how many events it has, -1 if it is refused.

    Raises:
        AssertionError: the events cannot be, or the two ways differ.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            recording = events.open(path, **more)
        except EventsError:
            return -1
        whole, refusal = None, None
        try:
            whole = recording.read()
        except EventsError as error:
            refusal = error
        parts = [Events.empty(recording.width, recording.height)]
        try:
            parts += recording.chunks()
        except EventsError as error:
            if whole is not None:
                raise AssertionError(f"read whole, but refused in chunks: {error}") from error
            return -1
    assert whole is not None, f"read in chunks, but refused whole: {refusal}"
    n = len(whole)
    assert all(len(column) == n for column in (whole.x, whole.y, whole.p))
    assert (whole.width, whole.height) == (recording.width, recording.height)
    if n:
        assert int(whole.x.max()) < whole.width, "a column outside the sensor"
        assert int(whole.y.max()) < whole.height, "a row outside the sensor"
        assert int(whole.p.max()) <= 1, "a polarity that is neither 0 nor 1"
    assert len({len(c) for c in (whole.triggers.t, whole.triggers.id, whole.triggers.value)}) == 1
    assert _same(events.join(parts), whole), "the chunks, joined, are not what is read whole"
    return n


def _same(a: Events, b: Events) -> bool:
    """Tell whether all fields are equal, NaN to NaN."""
    pairs = [(a, b, "txyp"), (a.triggers, b.triggers, ("t", "id", "value"))]
    pairs.append((a.motion, b.motion, ("t", "acceleration", "rotation", "temperature")))
    return all(
        np.array_equal(getattr(mine, name), getattr(theirs, name), equal_nan=name != "t" and len(name) > 5)
        for mine, theirs, names in pairs
        for name in names
    )


@dataclass
class Report:
    """How a decoder did.

    Attributes:
        format: its name.
        inputs: how many there were.
        read: how many of them were read.
        events: in all.
        slowest: seconds of the slowest.
        seconds: of all.
        failures: what went wrong, each with the input's number.
    """

    format: str
    inputs: int = 0
    read: int = 0
    events: int = 0
    slowest: float = 0.0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)


def fuzz(name: str, first: int, count: int, folder: Path) -> Report:
    """Try some inputs on a decoder, in this process."""
    seeds = seeds_of(name, folder)
    report = Report(name)
    begun = time.perf_counter()
    _limit_memory()
    at = os.open(folder / "number", os.O_CREAT | os.O_WRONLY)
    for number in range(first, first + count):
        if report.inputs % 50 == 0:
            faulthandler.dump_traceback_later(HANG, exit=True)
        seed, content, more = made(number, seeds)
        path = folder / f"input{seed.suffix}"  # left behind by a crash
        os.pwrite(at, number.to_bytes(8, "little"), 0)
        path.write_bytes(content)
        start = time.process_time()  # of this process: a busy machine is no slow decoder
        try:
            n = check(path, more)
        except (Exception, MemoryError):
            report.failures.append(f"input {number}: {traceback.format_exc(limit=-6)}")
            (folder / f"failure{number}{seed.suffix}").write_bytes(content)
            n = -1
        took = time.process_time() - start
        if took > SLOW:
            report.failures.append(f"input {number}: it took {took:.1f} s")
        report.inputs += 1
        report.read += n >= 0
        report.events += max(n, 0)
        report.slowest = max(report.slowest, took)
        if len(report.failures) >= 10:
            break
    os.close(at)
    faulthandler.cancel_dump_traceback_later()
    report.seconds = time.perf_counter() - begun
    return report


def made(number: int, seeds: list[Seed]) -> tuple[Seed, bytes, dict[str, Any]]:
    """Return an input: the seed that it is made from, its content, and what its reader is told."""
    rng = np.random.default_rng(number)
    seed, other = (seeds[int(i)] for i in rng.integers(len(seeds), size=2))
    more = dict(seed.more)
    if rng.random() < 0.25:
        more["partial"] = not more.get("partial", False)
    return seed, mutated(rng, seed.content, other.content), more


def _limit_memory() -> None:
    """Let the process have no more addresses than it has, and MEMORY."""
    status = Path("/proc/self/statm")
    if status.exists():
        used = int(status.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


def fuzz_in_child(name: str, count: int, *, first: int = 0, keep: Path | None = None) -> Report:
    """Try some inputs on a decoder in a process of its own, whose end is reported whatever it is."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as scratch:
        folder = keep / name if keep else Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, __file__, "--child", name, str(first), str(count), str(folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode == 0:
            return Report(**json.loads(done.stdout.splitlines()[-1]))
        at = folder / "number"
        number = int.from_bytes(at.read_bytes(), "little") if at.exists() else "none"
        said = f"input {number}: the process ended with {done.returncode}:\n{done.stderr[-3000:]}"
        return Report(name, inputs=count, failures=[said])


def guided(name: str, arguments: list[str]) -> None:
    """Let atheris look for inputs of a decoder; it ends at the first that fails."""
    import atheris

    folder = Path(tempfile.mkdtemp())
    seeds = seeds_of(name, folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    for i, seed in enumerate(seeds):
        (corpus / str(i)).write_bytes(bytes([i]) + seed.content)

    def one(content: bytes) -> None:
        seed = seeds[content[0] % len(seeds)] if content else seeds[0]
        path = folder / f"input{seed.suffix}"
        path.write_bytes(content[1:])
        check(path, seed.more)

    for module in [m for n, m in sys.modules.items() if n.startswith("spikeloom.events.files")]:
        for owner in (module, *(v for v in vars(module).values() if inspect.isclass(v))):
            for function in [v for v in vars(owner).values() if inspect.isfunction(v)]:
                if function.__module__ == module.__name__:
                    atheris.instrument_func(function)
    atheris.Setup([sys.argv[0], *arguments, str(corpus)], one)
    atheris.Fuzz()


def main() -> None:
    """Fuzz the decoders that are asked for, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=2000, help="inputs a decoder (2000)")
    parser.add_argument("--first", type=int, default=0, help="the number of the first input (0)")
    parser.add_argument(
        "--formats", nargs="*", default=sorted(SEEDS), choices=sorted(SEEDS), metavar="FORMAT"
    )
    parser.add_argument("--keep", type=Path, help="a folder for the inputs that fail")
    parser.add_argument(
        "--atheris", action="store_true", help="guided by coverage; further options are libFuzzer's"
    )
    options, more = parser.parse_known_args()
    if options.atheris:
        guided(options.formats[0], more)
        return
    print(
        f"{'format':16}{'inputs':>9}{'read':>9}{'events':>13}{'slowest':>9}{'a second':>10}  failures",
        flush=True,
    )
    failed = False
    for name in options.formats:
        report = fuzz_in_child(name, options.inputs, first=options.first, keep=options.keep)
        rate = report.inputs / max(report.seconds, 1e-9)
        print(
            f"{name:16}{report.inputs:9}{report.read:9}{report.events:13}{report.slowest:9.3f}{rate:10.0f}"
            f"  {len(report.failures)}",
            flush=True,
        )
        for failure in report.failures:
            print(f"  {name}: {failure}", flush=True)
        failed |= bool(report.failures)
    sys.exit(failed)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        which, begin, number, where = sys.argv[2:]
        faulthandler.enable()
        print(json.dumps(asdict(fuzz(which, int(begin), int(number), Path(where)))))
    else:
        main()
