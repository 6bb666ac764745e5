"""A thread pool of our own, for tasks in Python that hold no lock, and where `team` has no OpenMP.

Numba's parallel mode takes OpenMP, after which a forked data-loader worker that runs a parallel kernel dies;
its work queue refuses two threads at a time. Here a forked child starts without threads and makes its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

import torch


class _Job:
    """Some tasks that several threads take one by one; `wait` raises what a task raised."""

    def __init__(self, task: Callable[[int], None], count: int) -> None:
        self.task, self.count = task, count
        self._next = iter(range(count))  # next() on a range iterator is atomic under the GIL
        self._lock = threading.Lock()
        self._left = count
        self._done = threading.Event()
        self._error: BaseException | None = None

    def work(self) -> None:
        for index in self._next:
            try:
                self.task(index)
            except BaseException as error:
                self._error = error
            with self._lock:
                self._left -= 1
                if self._left == 0:
                    self._done.set()

    def wait(self) -> None:
        self._done.wait()
        if self._error is not None:
            raise self._error


_queue: SimpleQueue[_Job] = SimpleQueue()
_threads: list[threading.Thread] = []
_grow = threading.Lock()


def _serve(queue: SimpleQueue[_Job]) -> None:
    while True:
        queue.get().work()


def _forget() -> None:
    """A forked child has none of its parent's threads."""
    global _queue, _grow
    _queue, _grow = SimpleQueue(), threading.Lock()
    _threads.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def threads() -> int:
    """Return how many threads kernels use: PyTorch's number (`torch.set_num_threads`)."""
    return torch.get_num_threads()


def run(task: Callable[[int], None], count: int) -> None:
    """Call `task(0) ... task(count - 1)`, on up to `threads()` threads, this one among them."""
    helpers = min(threads(), count) - 1
    if helpers <= 0:
        for index in range(count):
            task(index)
        return
    with _grow:
        while len(_threads) < helpers:
            thread = threading.Thread(target=_serve, args=(_queue,), daemon=True, name="spikeloom")
            thread.start()
            _threads.append(thread)
    job = _Job(task, count)
    for _ in range(helpers):
        _queue.put(job)
    job.work()
    job.wait()
