"""Ctrl-C and SIGTERM as a wish to stop, which the loop grants between two batches."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Interrupted(Exception):  # noqa: N818
    """A signal ended the run, after its state was saved.

    Arguments:
        caught: the signal.
        where: how far the run came, in words.
    """

    def __init__(self, caught: signal.Signals, where: str) -> None:
        super().__init__(f"stopped by {caught.name} {where}")
        self.caught, self.where = caught, where


class StopSignal:
    """While the `with` lasts, the first SIGINT or SIGTERM only sets `caught`; a second acts as always.

    Outside of the main thread, where Python allows no handlers, signals act as always.

    Arguments:
        patient: take any number of signals as the first, as one of several processes does: a Ctrl-C reaches
            all of them, and is handed on by the one that started them, which sees to their end.
    """

    def __init__(self, patient: bool = False) -> None:
        self.patient = patient
        self.caught: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            for which in (signal.SIGINT, signal.SIGTERM):
                self._before[which] = signal.signal(which, self._catch)
        return self

    def agree(self, number: int) -> None:
        """Take the signal that another rank caught; 0 if none did."""
        if number:
            self.caught = signal.Signals(number)

    def __exit__(self, *error: object) -> None:
        for which, handler in self._before.items():
            signal.signal(which, handler)
        self._before.clear()

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self.caught = signal.Signals(number)
        if not self.patient:
            self.__exit__()
