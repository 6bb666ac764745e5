"""Never silent, never twice: what a user should know is warned once a process."""

import sys
import warnings

import torch


class SpikeloomWarning(UserWarning):
    """Something runs, but slower or otherwise than one would expect."""


_said: set[str] = set()


def announce(message: str) -> None:
    """Warn with `message`, once a process (and never while `torch.compile` traces)."""
    if torch.compiler.is_compiling() or message in _said:
        return
    _said.add(message)
    warnings.warn(message, SpikeloomWarning, stacklevel=_level())


def _level() -> int:
    """Return the `stacklevel` by which a warning shows the user's line, outside of this package and torch."""
    level, frame = 1, sys._getframe(1)
    while frame.f_globals.get("__name__", "").partition(".")[0] in (__package__, "torch"):
        if frame.f_back is None:
            break
        level, frame = level + 1, frame.f_back
    return level


def forget() -> None:
    """Let every announcement be made again (for tests)."""
    _said.clear()
