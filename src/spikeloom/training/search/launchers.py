"""Where trials run: processes of this machine, or tasks of a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import torch

from ..ray_launcher import cluster, one_line
from .worker import Outcome, SearchFailed

Work = Callable[[Path, int], Outcome]
GRACE = 30.0  # seconds that trials have to save their state, when they are told to stop


class Launcher(Protocol):
    """A place where several trials run at once. Leaving its `with` stops those that still run."""

    def __enter__(self) -> Self:
        """Make the place ready."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop what runs."""

    def running(self) -> int:
        """Return how many trials run."""

    def free(self) -> bool:
        """Tell whether one more may be started."""

    def start(self, work: Work, folder: Path, number: int) -> None:
        """Start a trial: `work(folder, number)`, in another process."""

    def ended(self, timeout: float) -> list[tuple[int, Outcome]]:
        """Wait up to so many seconds until a trial ends; return number and outcome of those that did."""


@dataclass
class _Process:
    """A process of ours, and the trial that it is at, if any."""

    process: Any
    channel: connection.Connection
    number: int | None = None


class LocalLauncher:
    """Processes of this machine, which take one trial after the other; the cores are shared among them.

    Arguments:
        processes: how many trials run at once.
    """

    def __init__(self, processes: int = 1) -> None:
        self._most = _at_least_one(processes)
        cores = int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count() or 1
        self._threads = max(1, cores // processes)
        self._processes: list[_Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for one in self._processes:
            with suppress(OSError):
                one.channel.send(None)  # for when the trial has saved its state
            one.process.terminate()
        deadline = time.monotonic() + GRACE
        for one in self._processes:
            one.process.join(max(0.0, deadline - time.monotonic()))
            self._end(one)
        self._processes.clear()

    def running(self) -> int:
        """Return how many trials run."""
        return sum(one.number is not None for one in self._processes)

    def free(self) -> bool:
        """Tell whether there may be one more."""
        return self.running() < self._most

    def start(self, work: Work, folder: Path, number: int) -> None:
        """Start a trial, in a process that is idle or in a new one."""
        self._processes = [one for one in self._processes if one.number is not None or one.process.is_alive()]
        one = next((one for one in self._processes if one.number is None), None)
        if one is None:
            one = self._begin()
            self._processes.append(one)
        one.number = number
        with suppress(OSError):  # it ended while it was idle, which `ended` will find
            one.channel.send((work, folder, number))

    def ended(self, timeout: float) -> list[tuple[int, Outcome]]:
        """Wait for trials to end."""
        # an answer, or an end without one, which a process that the trial started may hide from the channel
        busy = {one.channel: one for one in self._processes if one.number is not None}
        ready = connection.wait([*busy, *(one.process.sentinel for one in busy.values())], timeout)
        done = [one for one in busy.values() if one.channel in ready or one.process.sentinel in ready]
        return [self._outcome(one) for one in done]

    def _begin(self) -> _Process:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._threads))
        with _environment("OMP_NUM_THREADS", str(self._threads)):
            process.start()
        theirs.close()
        return _Process(process, ours)

    def _outcome(self, one: _Process) -> tuple[int, Outcome]:
        number, outcome = one.number, None
        assert number is not None
        one.number = None
        with suppress(EOFError, OSError):  # it ended before it wrote, or while it did
            if one.channel.poll():
                outcome = one.channel.recv()
        if outcome is None:
            self._processes.remove(one)
            one.process.join(1.0)
            self._end(one)
            outcome = Outcome("died", cause=f"its process {_death(one.process.exitcode)}")
        return number, outcome

    @staticmethod
    def _end(one: _Process) -> None:
        if one.process.is_alive():
            one.process.kill()
            one.process.join()
        one.channel.close()


def _death(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    name = signal.Signals(-code).name
    return f"was ended by {name}" + (" (as when memory runs out)" if name == "SIGKILL" else "")


def _serve(channel: connection.Connection, threads: int) -> None:
    """Run the trials that the channel brings; what each writes goes to a log beside its folder."""
    if os.name == "posix":
        os.setsid()  # Ctrl-C is for the search, which tells its trials
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    while (order := channel.recv()) is not None:
        work, folder, number = order
        with open(folder / f"trial-{number:04}.log", "ab", buffering=0) as log:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
                os.dup2(log.fileno(), stream.fileno())
        channel.send(work(folder, number))


def _end_with_parent() -> None:
    """End this process when the search ends without having said so: by SIGKILL."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _at_least_one(processes: object) -> int:
    if not isinstance(processes, int) or processes < 1:
        raise ValueError(f"search: processes = {processes!r}; a whole number >= 1 is needed")
    return processes


class RayLauncher:
    """Tasks of a Ray cluster: that of RAY_ADDRESS, or else a Ray of our own on this machine.

    All nodes must see the search's folder, at one path, and have the same packages.

    Arguments:
        processes: how many trials run at once; None for one a GPU if trials need GPUs, else one a node.
        gpus: GPUs a trial.
    """

    def __init__(self, processes: int | None = None, gpus: int = 0) -> None:
        self._processes = None if processes is None else _at_least_one(processes)
        self._gpus = gpus
        self._running: dict[Any, int] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._ray = ray = self._open.enter_context(cluster(self._processes or 1))
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cores, gpus = (sum(int(node.get(kind, 0)) for node in nodes) for kind in ("CPU", "GPU"))
        if self._gpus > max(int(node.get("GPU", 0)) for node in nodes):
            self._open.close()
            raise SearchFailed(f"a trial needs {self._gpus} GPUs, and no node of the Ray cluster has so many")
        self._most = self._processes or (gpus // self._gpus if self._gpus else len(nodes))
        largest = max(int(node.get("CPU", 0)) for node in nodes)
        self._threads = max(1, min(largest, cores // self._most))
        return self

    def __exit__(self, *error: object) -> None:
        for run in self._running:
            self._ray.cancel(run, force=True)
        self._running.clear()
        self._open.close()

    def running(self) -> int:
        """Return how many processes there are."""
        return len(self._running)

    def free(self) -> bool:
        """Tell whether there may be one more."""
        return len(self._running) < self._most

    def start(self, work: Work, folder: Path, number: int) -> None:
        """Start a trial."""
        options = {"num_cpus": self._threads, "num_gpus": self._gpus, "max_retries": 0}
        task = self._ray.remote(**options)(_run)
        self._running[task.remote(self._threads, work, folder.resolve(), number)] = number

    def ended(self, timeout: float) -> list[tuple[int, Outcome]]:
        """Wait for trials to end."""
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout)
        return [(self._running.pop(run), self._outcome(run)) for run in done]

    def _outcome(self, run: Any) -> Outcome:
        try:
            outcome: Outcome = self._ray.get(run)
        except self._ray.exceptions.RayError as error:
            return Outcome("died", cause=f"its process ended: {one_line(error)}")
        return outcome


def _run(threads: int, work: Work, folder: Path, number: int) -> Outcome:
    torch.set_num_threads(threads)
    return work(folder, number)
