"""The pixel of an event camera: the serial kernels behind `VideoToEvents`.

A pixel holds a reference level. Where its level (log intensity) has moved from there by a threshold, it fires
and moves the reference by that threshold. Between two frames the level moves in a straight line.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..compiled import kernel

ENOUGH = (
    1.0 - 1e-9
)  # of a threshold: light that goes and comes back fires as often both ways, however rounded


@kernel
def looked_up(frame: Any, table: Any, start: int, stop: int, level: Any) -> None:
    """Write the levels of bytes."""
    for i in range(start, stop):
        level[i] = table[frame[i]]


@kernel
def logarithm(frame: Any, knee: float, start: int, stop: int, level: Any) -> None:
    """Write the levels of numbers in [0, 1]: log(255 f), linear from 0 to the knee."""
    slope = math.log(knee) / knee
    for i in range(start, stop):
        light = 255.0 * frame[i]
        level[i] = math.log(light) if light > knee else light * slope


@kernel
def low_pass(light: Any, reach: float, last: Any, start: int, stop: int, level: Any) -> None:
    """Replace levels by what a photoreceptor lets through; its bandwidth grows with the light.

    Arguments:
        light: of each pixel, 0 ... 1.
        reach: 2 pi times bandwidth at full light times the time that passed.
        last: the levels that it let through last.
        start: first pixel.
        stop: behind the last pixel.
        level: where it is heading; becomes where it is.
    """
    for i in range(start, stop):
        level[i] = last[i] + passed(light[i], reach) * (level[i] - last[i])


@kernel
def low_pass_bytes(frame: Any, reach: float, last: Any, start: int, stop: int, level: Any) -> None:
    """As `low_pass`, for light that is a byte: one exponential for each that there can be."""
    table = np.empty(256)
    for light in range(256):
        table[light] = passed(light / 255.0, reach)
    for i in range(start, stop):
        level[i] = last[i] + table[frame[i]] * (level[i] - last[i])


@kernel
def passed(light: float, reach: float) -> float:
    """Return the part of a change that a photoreceptor lets through."""
    return -math.expm1(-reach * (255.0 * light + 20.0) / 275.0)


@kernel
def uniform(states: Any, i: int) -> float:
    """Return the next number of pixel i's own stream, in (0, 1): splitmix64."""
    states[i] += np.uint64(0x9E3779B97F4A7C15)
    z = states[i]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (np.float64(z >> np.uint64(12)) + 0.5) / 4503599627370496.0  # 52 bits


@kernel
def first_noise(mean: float, t: int, states: Any, noise: Any) -> None:
    """Draw when each pixel first fires without cause, after t."""
    for i in range(len(noise)):
        noise[i] = t - mean * math.log(uniform(states, i))


@kernel
def advance(  # type: ignore[no-untyped-def]
    level: Any,
    last: Any,
    reference: Any,
    on: Any,
    off: Any,
    fired: Any,
    noise: Any,
    states: Any,
    leak: float,
    mean: float,
    refractory: int,
    t0: int,
    t1: int,
    start: int,
    stop: int,
    out_t: Any,
    out_i: Any,
    out_p: Any,
    n: int,
):
    """Move pixels start ... stop - 1 from one frame to the next; write the events, pixel by pixel.

    Arguments:
        level: `[P]`, at t1.
        last: `[P]`, at t0.
        reference: `[P]`, moved.
        on: `[P]`, thresholds.
        off: `[P]`, thresholds.
        fired: `[P]`, when a pixel fired last, us; moved.
        noise: `[P]`, when it will fire without cause, us; moved.
        states: `[P]`, of the random streams; moved.
        leak: how far the reference falls in this time, in ON thresholds.
        mean: time between events without cause, us.
        refractory: us.
        t0: us.
        t1: us.
        start: first pixel.
        stop: behind the last pixel.
        out_t: events' times, us.
        out_i: events' pixels.
        out_p: events' polarities.
        n: how many events there are already.

    Returns:
        How many events there are now, and the first pixel that was not moved, for want of room.
    """
    span = t1 - t0
    for i in range(start, stop):
        fallen = leak * on[i]
        now = level[i] - reference[i] + fallen
        if -off[i] * ENOUGH < now < on[i] * ENOUGH and noise[i] > t1:
            reference[i] -= fallen
            continue
        before = last[i] - reference[i]
        rising = now > 0
        step = on[i] if rising else off[i]
        count = np.int64(math.floor(abs(now) / step + (1.0 - ENOUGH)))
        change = abs(now - before)
        begin = before if rising else -before  # how far it was towards the threshold
        k, written, quiet, due, stream = 1, n, fired[i], noise[i], states[i]
        while k <= count or noise[i] <= t1:
            part = 1.0
            if k <= count and change > 0:
                part = min(max((k * step - begin) / change, 0.0), 1.0)
            crossing = t0 + part * span
            if k <= count and crossing <= noise[i]:
                time, polarity = np.int64(math.floor(crossing + 0.5)), rising
                k += 1
            else:
                time, polarity = np.int64(math.floor(noise[i] + 0.5)), uniform(states, i) < 0.5
                noise[i] -= mean * math.log(uniform(states, i))
            if time - fired[i] >= refractory:
                if n == len(out_t):
                    fired[i], noise[i], states[i] = quiet, due, stream
                    return written, i
                out_t[n], out_i[n], out_p[n] = time, i, polarity
                fired[i] = time
                n += 1
        reference[i] += (count if rising else -count) * step - fallen
    return n, stop


@kernel
def ordered(
    times: Any,
    pixels: Any,
    polarities: Any,
    t0: int,
    width: int,
    count: bool,
    ends: Any,
    t: Any,
    x: Any,
    y: Any,
    p: Any,
) -> None:
    """Sort by counting: first count events by us into `ends[us + 1]`; when those are summed, write them."""
    if count:
        for k in range(len(times)):
            ends[times[k] - t0 + 1] += 1
        return
    for k in range(len(times)):
        slot = times[k] - t0
        n = ends[slot]
        ends[slot] = n + 1
        row = pixels[k] // width
        t[n], x[n], y[n], p[n] = times[k], pixels[k] - row * width, row, polarities[k]
