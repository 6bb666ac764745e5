"""ECF: chunks made by hand for each branch of the layout, and true recordings there and back."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spikeloom.events import Events, EventsError
from spikeloom.events.files.ecf import decode_into
from spikeloom.events.files.ecf_encoder import encode

MASKED, XP, YXP = 0, 1, 2


def decoded(chunk: bytes, room: int = 65535) -> list[tuple[int, ...]]:
    t, x, y = np.empty(room, np.int64), np.empty(room, np.uint16), np.empty(room, np.uint16)
    p = np.empty(room, np.uint8)
    n = decode_into("chunk", chunk, t, x, y, p)
    return [tuple(map(int, row)) for row in zip(t[:n], x[:n], y[:n], p[:n], strict=True)]


def head(n: int, packing: int, origin: int) -> bytes:
    return struct.pack("<Iq", n << 2 | packing, origin)


def packed_yxp(*events: tuple[int, int, int]) -> bytes:
    """Pack four (y, x, p), as the layout is published: 24 bits each in three u32."""
    v = [y << 12 | x << 1 | p for y, x, p in events] + [0] * (4 - len(events))
    return struct.pack(
        "<III", v[0] << 8 | v[1] & 0xFF, v[1] >> 8 << 16 | v[2] & 0xFFFF, v[2] >> 16 << 24 | v[3] & 0xFFFFFF
    )


def packed_xp(*events: tuple[int, int]) -> bytes:
    """Pack four (x, p): 12 bits each in three u16."""
    v = [x << 1 | p for x, p in events] + [0] * (4 - len(events))
    return struct.pack(
        "<HHH", v[0] << 4 | v[1] & 15, v[1] >> 4 << 8 | v[2] & 255, v[2] >> 8 << 12 | v[3] & 4095
    )


def u16(*words: int) -> bytes:
    return struct.pack(f"<{len(words)}H", *words)


def test_masks_and_runs() -> None:
    chunk = (
        head(6, MASKED, 1000)
        + bytes([0x02, 0x31, 0xE3])  # two at 1000, one at 1003, three at 1017
        + u16(7 << 5 | 4, 2047 << 5 | 2)  # four in row 7, two in row 2047
        + u16(100 << 5 | 0b10001, 9 << 5, 2000 << 5 | 0b01000)  # 100, 101, 105; 9; 2000, 2002
        + bytes([0x80 | 5, 1])
    )
    assert decoded(chunk) == [
        (1000, 100, 7, 1),
        (1000, 101, 7, 1),
        (1003, 105, 7, 1),
        (1017, 9, 7, 1),
        (1017, 2000, 2047, 1),
        (1017, 2002, 2047, 0),
    ]


def test_long_steps_come_with_the_lowest_bits_first() -> None:
    chunk = (
        head(2, YXP, -5)
        + bytes([0x01, 0xF4, 0xF3, 0xF2, 0xF1, 0x21])  # 0x1234 and then 2 more
        + packed_yxp((1, 2, 1), (3, 4, 0))
    )
    assert decoded(chunk) == [(-5, 2, 1, 1), (-5 + 0x1234 + 2, 4, 3, 0)]
    # two long steps are one if nothing is between them, and a step without events may be
    chunk = head(1, YXP, 0) + bytes([0xFF, 0x00, 0xF5, 0x10, 0x01]) + packed_yxp((0, 0, 0))
    assert decoded(chunk) == [(15 + 5 + 1, 0, 0, 0)]


def test_long_runs_have_a_word() -> None:
    n = 40000
    chunk = (
        head(n, XP, 77)
        + b"\x0f" + u16(39999) + b"\x11"
        + u16(5 << 5 | 31, 39000, 6 << 5 | 31, 31, 7 << 5 | 30, 8 << 5 | 31, 939)
        + packed_xp((1, 0), (2047, 1), (3, 1), (1000, 0)) * (n // 4)
    )  # fmt: skip
    found = decoded(chunk)
    assert [found[i] for i in (0, 1, 38999, 39000, 39030, 39031, 39060, 39061, 39998, 39999)] == [
        (77, 1, 5, 0),
        (77, 2047, 5, 1),
        (77, 1000, 5, 0),
        (77, 1, 6, 0),
        (77, 3, 6, 1),
        (77, 1000, 7, 0),
        (77, 1, 7, 0),
        (77, 2047, 8, 1),
        (77, 3, 8, 1),
        (78, 1000, 8, 0),
    ]
    chunk = (
        head(500, MASKED, 0) + b"\x0f" + u16(500) + u16(31, 500)
        + u16(*[12 << 5 | 31] * 83, 12 << 5 | 31)  # the last names 6, of which 2 are left
        + b"\xff" + u16(373) + b"\x7f" + u16(127)
    )  # fmt: skip
    assert [row[1] for row in decoded(chunk)] == ([12, 13, 14, 15, 16, 17] * 84)[:500]
    assert [row[3] for row in decoded(chunk)] == [1] * 373 + [0] * 127


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8])
def test_groups_of_four_are_filled_up(n: int) -> None:
    rows = [(11 * i, 2047 - i, i % 2) for i in range(n)]
    groups = [rows[i : i + 4] for i in range(0, n, 4)]
    yxp = head(n, YXP, 3) + bytes([n]) + b"".join(packed_yxp(*group) for group in groups)
    xp = head(n, XP, 3) + bytes([n]) + u16(*(y << 5 | 1 for y, _, _ in rows))
    xp += b"".join(packed_xp(*((x, p) for _, x, p in group)) for group in groups)
    for chunk in (yxp, xp):
        assert decoded(chunk) == [(3, x, y, p) for y, x, p in rows]
    # both bits set: y, x and p are packed
    assert decoded(bytes([yxp[0] | 1]) + yxp[1:]) == decoded(yxp)


def test_no_events() -> None:
    assert decoded(head(0, MASKED, 9)) == []


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (b"\0" * 11, "11 bytes are no chunk"),
        (head(65536, YXP, 0), "header says 65536 events"),
        (head(1, YXP, 0), "byte 12 of 12: it ends within"),
        (head(1, YXP, 0) + b"\x01" + packed_yxp((0, 0, 0))[:-1], "it ends within"),
        (head(1, YXP, 0) + b"\x02" + packed_yxp((0, 0, 0)), "a run is longer"),
        (head(1, YXP, 0) + b"\x0f\x01", "it ends within"),
        (head(1, YXP, 0) + b"\x0f" + u16(2), "a run is longer"),
        (head(1, YXP, 0) + b"\xf1" * 17 + b"\x01", "beyond 2"),
        (head(1, YXP, 1 << 62) + b"\xf1\x01", "beyond 2"),
        (head(1, YXP, (1 << 62) + 1) + b"\x01", "beyond 2"),
        (head(1, YXP, -(1 << 62) - 1) + b"\x01", "beyond 2"),
        (head(1, YXP, 0) + b"\xf1" * 40, "beyond 2"),
        (head(1, YXP, 0) + b"\x01" + packed_yxp((0, 0, 0)) + b"\0", "bytes follow"),
        (head(2, XP, 0) + b"\x02" + u16(3), "a run is longer"),
        (head(2, XP, 0) + b"\x02" + u16(31), "it ends within"),
        (head(2, XP, 0) + b"\x02" + u16(2) + b"\0" * 5, "it ends within"),
        (head(2, XP, 0) + b"\x02\x01", "it ends within"),
        (head(2, MASKED, 0) + b"\x02" + u16(2) + u16(0), "it ends within"),
        (head(2, MASKED, 0) + b"\x02" + u16(2) + u16(16), "it ends within"),
        (head(2, MASKED, 0) + b"\x02" + u16(2) + u16(16) + b"\x03", "a run is longer"),
        (head(2, MASKED, 0) + b"\x02" + u16(2) + u16(16) + b"\x7f\x01", "it ends within"),
    ],
)
def test_wrong_chunks(chunk: bytes, message: str) -> None:
    with pytest.raises(EventsError, match=message):
        decoded(chunk)


def test_no_more_than_there_is_room_for() -> None:
    with pytest.raises(EventsError, match="there are at most 3"):
        decoded(head(4, YXP, 0) + b"\x04" + packed_yxp(), room=3)


def made(n: int, seed: int, far: int, spread: int, rows: int) -> Events:
    rng = np.random.default_rng(seed)
    t = np.cumsum(rng.integers(0, far, n) * (rng.random(n) < 0.3)) - 1000
    x = rng.integers(0, spread, n) if seed % 2 else np.cumsum(rng.integers(1, 3, n)) % spread
    y = np.repeat(rng.integers(0, 2048, n), rows)[:n]
    return Events.of(t, x, y, np.repeat(rng.integers(0, 2, n), rows)[:n], width=2048, height=2048)


def rows(events: Events) -> list[tuple[int, ...]]:
    return [tuple(row) for row in events.to_array().tolist()]


@settings(max_examples=100, deadline=None)
@example(65535, 0, 2, 2048, 1000)
@example(16384, 1, 1 << 40, 4, 1)
@given(
    st.integers(1, 300),
    st.integers(0, 10**6),
    st.sampled_from([1, 2, 20, 1000, 1 << 50]),
    st.sampled_from([2, 20, 2048]),
    st.sampled_from([1, 3, 40, 200]),
)
def test_there_and_back(n: int, seed: int, far: int, spread: int, repeat: int) -> None:
    events = made(n, seed, far, spread, repeat)
    assert decoded(encode(events)) == rows(events)


def test_each_packing_is_used_where_it_is_smallest() -> None:
    n = 1000
    scattered = made(n, 1, 2, 2048, 1)
    in_rows = made(n, 1, 2, 2048, 200)
    line = Events.of(np.zeros(n), np.arange(n), np.zeros(n), np.ones(n), width=2048, height=2048)
    for events, packing in ((scattered, YXP), (in_rows, XP), (line, MASKED)):
        chunk = encode(events)
        assert chunk[0] & 3 == packing
        assert decoded(chunk) == rows(events)
    one = scattered[:1]
    t, x, y, p = rows(one)[0]
    assert encode(one) == head(1, MASKED, t) + b"\x01" + u16(y << 5 | 1, x << 5) + bytes([p << 7 | 1])


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 3), st.integers(0, 40), st.binary(max_size=120))
def test_any_bytes_are_events_or_an_error(packing: int, n: int, body: bytes) -> None:
    try:
        found: list[Any] = decoded(struct.pack("<I", n << 2 | packing) + body, room=40)
    except EventsError:
        return
    assert len(found) == n


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 3), st.lists(st.tuples(st.integers(0, 10**5), st.integers(0, 255)), min_size=1, max_size=4)
)
def test_mutated_chunks(kind: int, changes: list[tuple[int, int]]) -> None:
    chunk = bytearray(encode(made(200, kind, [2, 40, 1000, 1 << 40][kind], 300, 1 + 60 * (kind % 2))))
    for at, value in changes:
        chunk[at % len(chunk)] = value
    try:
        found = decoded(bytes(chunk), room=300)
    except EventsError:
        return
    assert len(found) <= 300
    assert all(-(1 << 63) <= t < 1 << 63 and x < 2053 and y < 2048 and p < 2 for t, x, y, p in found)
