"""The colours of events. Each pair is told apart with any kind of colour blindness, and in print."""

from __future__ import annotations

from typing import NamedTuple

from ...names import unknown


class Colours(NamedTuple):
    """Three colours, each (red, green, blue) from 0 to 255."""

    on: tuple[int, int, int]
    off: tuple[int, int, int]
    background: tuple[int, int, int]


_WHITE, _NIGHT = (255, 255, 255), (11, 14, 20)

PALETTES: dict[str, dict[str, Colours]] = {
    "blue-orange": {
        "light": Colours((0, 106, 182), (213, 94, 0), _WHITE),
        "dark": Colours((86, 180, 245), (240, 140, 40), _NIGHT),
    },
    "green-purple": {
        "light": Colours((0, 120, 70), (140, 60, 170), _WHITE),
        "dark": Colours((90, 210, 140), (196, 130, 240), _NIGHT),
    },
    "white-black": {
        "light": Colours((255, 255, 255), (0, 0, 0), (150, 154, 160)),
        "dark": Colours((255, 255, 255), (0, 0, 0), (84, 88, 94)),
    },
}


def colours_of(palette: str, theme: str) -> Colours:
    """Return a palette's colours on a light or a dark ground."""
    if palette not in PALETTES:
        raise unknown("palette", palette, PALETTES)
    if theme not in PALETTES[palette]:
        raise unknown("theme", theme, PALETTES[palette])
    return PALETTES[palette][theme]
