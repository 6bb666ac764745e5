"""Never silent, never twice: what a user should know is warned once a process."""

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
    warnings.warn(message, SpikeloomWarning, stacklevel=3)


def forget() -> None:
    """Let every announcement be made again (for tests)."""
    _said.clear()
