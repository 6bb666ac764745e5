"""The kernels behind the textures of spike cameras, each for 32 pixels over some planes."""

# Written for Numba's compiler, which infers the types of kernels.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ...kernels import source
from . import vectors
from .vectors import BYTES, PIXELS, Group, Lanes

AT_ONCE = 128  # planes that are worked on before the next 32 pixels are
NEVER = 65535  # planes since a pixel fired last, if it never did
START = {  # what a pixel remembers before the first plane, 16-bit numbers
    "tfw": (0,),
    "tfi": (NEVER - 1,),
    "fsr": (NEVER, NEVER, 0, 0, 0),
    "ssr": (NEVER, NEVER, 0, 0, 0, 0, 0, NEVER - 1, NEVER - 1, 0, 0),
}
KEPT = 4 * BYTES + 4  # bytes kept of each plane while a segment's end is unknown

ARGUMENTS = ("words", "stride", "planes", "size", "state", "apart", "scratch", "out", "image", "shown")

SOURCE = '''"""Made by spikeloom; safe to delete."""

from numba import njit

from spikeloom.events.spike_camera import kernels

group = kernels.group({method!r}, {bytes})


@njit("{signature}", nogil=True, cache=True)
def run(words, stride, planes, size, state, apart, scratch, out, image, shown, gain, start, stop):
    """Make the images of some planes, of the words start ... stop - 1."""
    for done in range(0, planes, {step}):
        part = min({step}, planes - done)
        for w in range(start, stop):
            group(
                words + done * stride + 4 * w, stride, part, size, state + {row} * w, apart, scratch,
                out + {item} * w, image, shown + 8 * done, gain,
            )
'''


@functools.cache
def made(method: str, bytes: bool) -> Any:
    """Return the kernel of a method, for images of float32 or of bytes.

    It takes addresses, and sizes in bytes: `run(words, stride, planes, size, state, apart, scratch, out,
    image, shown, gain, start, stop)`:

    * words, stride: the planes, and how far they are apart; planes: how many are done with.
    * size: TFW: planes of a window; else how many planes there are behind those, to look ahead.
    * state, apart: what the pixels remember, and how far its fields are apart.
    * scratch: `scratch_size(size)` bytes.
    * out, image: the images, and how far they are apart; shown: `[planes]`, int64: which image, or -1.
    * gain: what a spike in every plane is shown as.
    * start, stop: of each plane's words of 32 pixels, which.
    """
    signature = f"void({', '.join(['int64'] * len(ARGUMENTS))}, float32, int64, int64)"
    item = PIXELS * (1 if bytes else 4)
    text = SOURCE.format(method=method, bytes=bytes, signature=signature, step=AT_ONCE, row=BYTES, item=item)
    written = Path(__file__).read_bytes() + Path(vectors.__file__).read_bytes()
    digest = hashlib.sha256(text.encode() + written).hexdigest()[:24]
    return source.load(f"spikeloom_texture_{digest}", text).run


def scratch_size(size: int) -> int:
    """Return how many bytes a kernel works in."""
    return (AT_ONCE + size) * KEPT


def group(method: str, bytes: bool) -> Any:
    """Return `group(*ARGUMENTS, gain)`, which makes the images of 32 pixels over some planes."""
    emit = EMIT[method]

    @intrinsic
    def group(typingctx, words, stride, planes, size, state, apart, scratch, out, image, shown, gain):
        def codegen(context, builder, signature, args):
            named = SimpleNamespace(**dict(zip((*ARGUMENTS, "gain"), args, strict=True)))
            emit(Group(builder), named, bytes)
            return context.get_dummy_value()

        return types.void(*[types.int64] * len(ARGUMENTS), types.float32), codegen

    return group


def _whole(value: int) -> Any:
    return ir.Constant(ir.IntType(64), value)


def _shown(g: Group, a: Any, plane: Any) -> tuple[Any, Any]:
    """Return whether there is an image of a plane, and its address."""
    build = g.builder
    place = build.inttoptr(g.at(a.shown, plane, 8), ir.PointerType(ir.IntType(64)))
    number = build.load(place)
    return build.icmp_signed(">=", number, _whole(0)), g.at(a.out, number, a.image)


def _emit_tfw(g: Group, a: Any, bytes: bool) -> None:
    """Count the spikes of `size` planes: add the newest, show, take away the oldest."""
    count = g.variable(g.load(a.state))
    newest = g.builder.add(a.words, g.builder.mul(a.stride, g.builder.sub(a.size, _whole(1))))
    window = g.spread(a.size).real()
    with g.upwards(a.planes) as loop:
        held = count.get()
        held = g.load_bits(g.at(newest, loop.index, a.stride)).choose(held + 1, held)
        asked, place = _shown(g, a, loop.index)
        with g.when(asked):
            g.store_light(held.real(), window, a.gain, place, bytes)
        count.set(g.load_bits(g.at(a.words, loop.index, a.stride)).choose(held - 1, held))
    g.store(count.get(), a.state)


def _emit_tfi(g: Group, a: Any, bytes: bool) -> None:
    """Find how long ago the last spike was, going up; how soon the next is, going down, and show."""
    build = g.builder
    half = g.spread(a.size)
    since = g.variable(g.load(a.state))
    with g.upwards(a.planes) as loop:
        fire = g.load_bits(g.at(a.words, loop.index, a.stride))
        since.set(fire.choose(0, (since.get() + 1).least(NEVER - 1)))
        g.store(since.get(), g.at(a.scratch, loop.index, BYTES))
    g.store(since.get(), a.state)
    until = g.variable(g.number(NEVER - 1))
    with g.downwards(build.add(a.planes, a.size), a.planes) as plane:
        soon = (until.get() + 1).least(NEVER - 1)
        until.set(g.load_bits(g.at(a.words, plane, a.stride)).choose(0, soon))
    with g.downwards(a.planes) as plane:
        soon = (until.get() + 1).least(NEVER - 1)
        asked, place = _shown(g, a, plane)
        with g.when(asked):
            ago = g.load(g.at(a.scratch, plane, BYTES))
            found = (ago <= half) & (soon <= half)
            length = found.choose(ago + soon, half + half)
            g.store_light(g.number(1).real(), length.real(), a.gain, place, bytes)
        until.set(g.load_bits(g.at(a.words, plane, a.stride)).choose(0, soon))


class _Segment:
    """The stable segment that a pixel is in: what `START` lists, as variables."""

    def __init__(self, g: Group, a: Any, order: int) -> None:
        self.g, self.a, self.order = g, a, order
        count = len(START["fsr" if order == 1 else "ssr"])
        self.fields = [g.variable(g.load(g.at(a.state, _whole(k), a.apart))) for k in range(count)]

    def save(self) -> None:
        for k, field in enumerate(self.fields):
            self.g.store(field.get(), self.g.at(self.a.state, _whole(k), self.a.apart))

    def see(self, plane: Any) -> None:
        """Take in a plane; keep what it left for `_emit_segments`."""
        g, a = self.g, self.a
        since, low, high, number, total = (field.get() for field in self.fields[:5])
        fire = g.load_bits(g.at(a.words, plane, a.stride))
        fired_before = since < NEVER
        interval = since + 1
        lower, higher = low.least(interval), high.most(interval)
        stable = (higher - lower) <= 1
        if self.order == 2:
            runs, fits = self._runs(interval)
            stable = stable & fits
        ended = fire & fired_before
        grows, breaks = ended & stable, ended & ~stable
        if self.order == 2:
            begun = [interval, g.number(1), *(g.number(NEVER - 1),) * 2, *self._single(interval)]
            for field, next_, fresh in zip(self.fields[5:], runs, begun, strict=True):
                field.set(grows.choose(next_, breaks.choose(fresh, field.get())))
        low = grows.choose(lower, breaks.choose(interval, low))
        high = grows.choose(higher, breaks.choose(interval, high))
        more = total + interval
        counts = grows & (more > total)  # a sum of 16 bits is full: the mean stays as it is
        number = counts.choose(number + 1, breaks.choose(1, number))
        total = counts.choose(more, breaks.choose(interval, total))
        since = fire.choose(0, fired_before.choose(interval.least(NEVER - 1), NEVER))
        for k, value in enumerate((since, low, high, number, total)):
            self.fields[k].set(value)
        row = g.at(a.scratch, plane, KEPT)
        for k, value in enumerate((since, low, number, total)):
            g.store(value, g.builder.add(row, _whole(k * BYTES)))
        g.store_bits(breaks, g.builder.add(row, _whole(4 * BYTES)))

    def _runs(self, interval: Lanes) -> tuple[list[Lanes], Lanes]:
        """Return the runs with one more interval, and whether they fit a constant light.

        Two adjacent intervals differ in their last bit, so that is the letter. Of each letter, `shortest` is
        its shortest run with both ends inside the segment, `longest` its longest run of all. One letter must
        stand alone, and the other's runs differ by at most 1.
        """
        last, run, *rest = (field.get() for field in self.fields[5:])
        number = self.fields[3].get()
        even = (interval & 1).same(0)
        again = (interval & 1).same(last & 1)
        whole = ~again & ~run.same(number)  # the run that just ended did not begin with the segment
        length = again.choose((run + 1).least(NEVER - 1), 1)
        shortest, longest = list(rest[:2]), list(rest[2:])
        for letter, here in enumerate((even, ~even)):
            ended = whole & ~here
            shortest[letter] = ended.choose(shortest[letter].least(run), shortest[letter])
            longest[letter] = here.choose(longest[letter].most(length), longest[letter])
        alone = [longest[k] <= 1 for k in range(2)]
        level = [longest[k] <= shortest[k] + 1 for k in range(2)]
        fits = (alone[1] & level[0]) | (alone[0] & level[1])
        return [interval, length, *shortest, *longest], fits

    def _single(self, interval: Lanes) -> list[Lanes]:
        even = (interval & 1).same(0)
        return [even.choose(1, 0), even.choose(0, 1)]


def _emit_segments(order: int) -> Callable[[Group, Any, bool], None]:
    def emit(g: Group, a: Any, bytes: bool) -> None:
        """Cut segments going up, `size` planes ahead of the images; going down, tell each plane its
        segment's.

        A segment that breaks at plane b did so by an interval that began at a spike p: planes from p on are
        the next one's, and it ends at p with what was kept there. At plane t only what is known at t + size
        counts.
        """
        build = g.builder
        segment = _Segment(g, a, order)
        with g.upwards(a.planes) as loop:
            segment.see(loop.index)
        segment.save()
        with g.upwards(a.size) as loop:
            segment.see(build.add(loop.index, a.planes))
        ahead = g.spread(a.size)
        number, total = g.variable(g.number(0)), g.variable(g.number(0))
        broken, breaks = g.variable(g.number(NEVER)), g.variable(g.number(NEVER))  # at which planes

        def pass_by(plane: Any) -> None:
            row = g.at(a.scratch, plane, KEPT)
            fire = g.load_bits(g.at(a.words, plane, a.stride))
            ends = fire & (breaks.get() < NEVER)  # the next segment began here
            number.set(ends.choose(g.load(build.add(row, _whole(2 * BYTES))), number.get()))
            total.set(ends.choose(g.load(build.add(row, _whole(3 * BYTES))), total.get()))
            broken.set(ends.choose(breaks.get(), broken.get()))
            found = g.load_bits(build.add(row, _whole(4 * BYTES)))
            breaks.set(found.choose(g.spread(plane), ends.choose(NEVER, breaks.get())))

        with g.downwards(build.add(a.planes, a.size), a.planes) as plane:
            pass_by(plane)
        with g.downwards(a.planes) as plane:
            asked, place = _shown(g, a, plane)
            with g.when(asked):
                horizon = build.add(plane, a.size)
                then = g.at(a.scratch, horizon, KEPT)
                since, low, n, s = (g.load(build.add(then, _whole(k * BYTES))) for k in range(4))
                # an interval that is not over, and too long already: the light fell
                overdue = (ahead <= since) & (since > low)
                n, s = overdue.choose(1, n), overdue.choose(since + 1, s)
                over = broken.get() <= g.spread(horizon)
                n, s = over.choose(number.get(), n), over.choose(total.get(), s)
                g.store_light(n.real(), s.real(), a.gain, place, bytes)
            pass_by(plane)

    return emit


EMIT = {"tfw": _emit_tfw, "tfi": _emit_tfi, "fsr": _emit_segments(1), "ssr": _emit_segments(2)}
