"""Lines of numbers to columns and back: exact, and the same for every way to write a number."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compiled import kernel
from .columns import FARTHEST

# what a column holds
T, X, Y, P, OTHER = range(5)
# the parser's state, an int64 array
AT, EVENTS, LINE, PROBLEM, COLUMN, STRAY = range(6)
# what a line may have
FINE, NO_NUMBER, TOO_FEW, TOO_MANY, NOT_WHOLE, NO_PIXEL, NO_POLARITY, TOO_FAR = range(8)
PROBLEMS = {
    NO_NUMBER: "this is no number",
    TOO_FEW: "the line has fewer columns",
    TOO_MANY: "the line has more columns",
    NOT_WHOLE: "this is no whole number",
    NO_PIXEL: "a pixel has places from 0 to 65535",
    NO_POLARITY: "a polarity is 0 or 1, or -1 or 1",
    TOO_FAR: "a time is within 2^62 us of 0",
}
FINEST = 1000  # parts of a us in which STRAY counts

_NEWLINE, _RETURN, _SPACE, _TAB, _COMMA, _SEMICOLON = 10, 13, 32, 9, 44, 59
_HASH, _PERCENT, _PLUS, _MINUS, _POINT, _ZERO, _E, _SMALL_E = 35, 37, 43, 45, 46, 48, 69, 101
_ROOM = 922_337_203_685_477_580  # ten times as much and 9 is in int64
_TEN = tuple(10**k for k in range(19))


@kernel
def _blank(byte: int) -> bool:
    return byte in (_SPACE, _TAB, _RETURN)


@kernel
def _between(byte: int) -> bool:
    return byte in (_COMMA, _NEWLINE, _SPACE, _TAB, _RETURN, _SEMICOLON)


@kernel
def _digit(data: Any, at: int) -> Any:
    return np.int64(data[at]) - _ZERO


@kernel
def _number(data: Any, at: int) -> Any:
    """Read a decimal number; return (digits, power of ten, where it ends, whether it is one).

    Of more than 18 digits the last are cut off. A time within 10^17 us is still brought to the nearest us.
    """
    negative = data[at] == _MINUS
    if negative or data[at] == _PLUS:
        at += 1
    digits, power, count = 0, 0, 0
    d = _digit(data, at)
    while 0 <= d <= 9 and count < 18:
        digits = 10 * digits + d
        count += 1
        at += 1
        d = _digit(data, at)
    if count and data[at] in (_COMMA, _NEWLINE):  # most end here
        return -digits if negative else digits, power, at, True
    while True:
        d = _digit(data, at)
        if not 0 <= d <= 9:
            break
        if digits < _ROOM:
            digits = 10 * digits + d
        else:
            power += 1
        count += 1
        at += 1
    if data[at] == _POINT:
        at += 1
        while True:
            d = _digit(data, at)
            if not 0 <= d <= 9:
                break
            if digits < _ROOM:
                digits = 10 * digits + d
                power -= 1
            count += 1
            at += 1
    if count == 0:
        return digits, power, at, False
    if data[at] == _E or data[at] == _SMALL_E:
        at += 1
        less = data[at] == _MINUS
        if less or data[at] == _PLUS:
            at += 1
        more, count = 0, 0
        while True:
            d = _digit(data, at)
            if not 0 <= d <= 9:
                break
            more = min(10 * more + d, 1_000_000)
            count += 1
            at += 1
        if count == 0:
            return digits, power, at, False
        power += -more if less else more
    return -digits if negative else digits, power, at, _between(data[at])


@kernel
def _whole(digits: int, power: int) -> Any:
    """Return the whole number nearest to `digits * 10**power`, and how far that is in parts of FINEST.

    Beyond +-FARTHEST it is FARTHEST + 1.
    """
    size = abs(digits)
    if power == 0 and size <= FARTHEST:  # most are written so
        return digits, 0
    if power >= 0:
        if size == 0:
            return digits, 0
        if power > 18 or size > FARTHEST // _TEN[power]:
            return FARTHEST + 1, 0
        return digits * _TEN[power], 0
    lost = 0
    while power < -18 and size > 0:
        lost |= size % 10
        size, power = size // 10, power + 1
    if size == 0:
        return 0, min(lost, 1)
    ten = _TEN[-power]
    whole = size // ten
    rest = size - whole * ten
    if rest >= ten - rest:
        whole += 1
        rest = ten - rest
    if whole > FARTHEST:
        whole = FARTHEST + 1
    parts = rest // (ten // FINEST) if ten >= FINEST else rest * (FINEST // ten)
    if rest or lost:
        parts = max(parts, 1)
    return -whole if digits < 0 else whole, parts


@kernel
def parse(data: Any, stop: int, kinds: Any, unit: int, state: Any, t: Any, x: Any, y: Any, p: Any) -> None:
    """Read lines of `data[:stop]`, which ends with a newline, until there is no room for more events.

    Arguments:
        data: bytes.
        stop: how many of them are whole lines.
        kinds: what each column holds.
        unit: the power of ten by which times are to be multiplied to be us.
        state: see above; begins at AT, and stops there or in the line that has a PROBLEM.
        t: room for the times, us.
        x: room for the columns.
        y: room for the rows.
        p: room for the polarities.
    """
    at, n, line, stray = state[AT], state[EVENTS], state[LINE], state[STRAY]
    while at < stop and n < len(t):
        start = at
        while _blank(data[at]):
            at += 1
        if data[at] == _HASH or data[at] == _PERCENT:
            while data[at] != _NEWLINE:
                at += 1
        if data[at] == _NEWLINE:
            at += 1
            line += 1
            continue
        problem, column = FINE, 0
        while column < len(kinds):
            if column > 0:
                before = at
                while data[at] != _COMMA and _blank(data[at]):
                    at += 1
                if data[at] == _COMMA or data[at] == _SEMICOLON:
                    at += 1
                    while _blank(data[at]):
                        at += 1
                elif at == before and data[at] != _NEWLINE:
                    problem = NO_NUMBER
                    break
            if data[at] == _NEWLINE:
                problem = TOO_FEW
                break
            kind = kinds[column]
            if kind == OTHER:
                while not _between(data[at]):
                    at += 1
            else:
                digits, power, at, good = _number(data, at)
                if not good:
                    problem = NO_NUMBER
                    break
                value, parts = _whole(digits, power + unit if kind == T else power)
                if kind == T:
                    if value > FARTHEST:
                        problem = TOO_FAR
                        break
                    t[n] = value
                    stray = max(stray, parts)
                elif parts:
                    problem = NOT_WHOLE
                    break
                elif kind == P:
                    if not -1 <= value <= 1:
                        problem = NO_POLARITY
                        break
                    p[n] = value == 1
                else:
                    if not 0 <= value <= 65535:
                        problem = NO_PIXEL
                        break
                    if kind == X:
                        x[n] = value
                    else:
                        y[n] = value
            column += 1
        if problem == FINE:
            while _blank(data[at]):
                at += 1
            if data[at] != _NEWLINE:
                problem = TOO_MANY
        if problem != FINE:
            state[PROBLEM], state[COLUMN] = problem, column
            at = start
            break
        at += 1
        line += 1
        n += 1
    state[AT], state[EVENTS], state[LINE], state[STRAY] = at, n, line, stray


@kernel
def _put(out: Any, at: int, number: Any, end: int) -> int:
    """Write a number in decimal, and the byte that ends it; return where the next goes."""
    if number < 0:
        out[at] = _MINUS
        at += 1
        number = -number
    size, ten = 1, 10
    while size < 19 and number >= ten:
        size, ten = size + 1, 10 * ten
    rest = np.uint64(number)  # unsigned numbers are divided by a constant without a division
    for k in range(size):
        next_rest = rest // np.uint64(10)
        out[at + size - 1 - k] = np.uint64(_ZERO) + rest - next_rest * np.uint64(10)
        rest = next_rest
    out[at + size] = end
    return at + size + 1


@kernel
def print_rows(t: Any, x: Any, y: Any, p: Any, out: Any) -> int:
    """Write lines `t,x,y,p` into room for 35 bytes each; return how many bytes they are."""
    at = 0
    for i in range(len(t)):
        at = _put(out, at, t[i], _COMMA)
        at = _put(out, at, np.int64(x[i]), _COMMA)
        at = _put(out, at, np.int64(y[i]), _COMMA)
        at = _put(out, at, np.int64(p[i]), _NEWLINE)
    return at
