"""Several processes that train together, and end together: the first that fails ends all, and says why."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing import connection
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.spawn import start_processes

from .interrupt import Interrupted, StopSignal

_GRACE = 30.0  # seconds from a wish to stop to its end: a checkpoint may have to be written


class RankFailed(RuntimeError):  # noqa: N818
    """One of the processes that trained together failed; the message is its cause."""


def launch(worker: Callable[..., None], args: tuple[Any, ...], devices: int) -> None:
    """Run `worker(*args)` in so many new processes, of which torch.distributed can make a group.

    The CPU's cores are shared among them. SIGINT and SIGTERM are handed on.

    Arguments:
        worker: a function of a module, called in each.
        args: what it takes; it is pickled.
        devices: how many processes.

    Raises:
        RankFailed: one of them failed; the others were ended.
        Interrupted: they ended by a signal, their state saved.
    """
    with tempfile.TemporaryDirectory(prefix="spikeloom-") as folder, StopSignal() as stop:
        notes = Path(folder)
        context = start_processes(
            _enter,
            (worker, args, devices, _free_port(), folder, max(1, (os.cpu_count() or 1) // devices)),
            nprocs=devices,
            join=False,
            start_method="spawn",
        )
        assert context is not None
        try:
            ended = _wait(context.processes, stop)
        finally:  # of an impatient second signal, too
            for process in context.processes:
                process.kill()
        _tell(context.processes, ended, notes, stop)


def _enter(
    rank: int,
    worker: Callable[..., None],
    args: tuple[Any, ...],
    world: int,
    port: int,
    notes: str,
    cores: int,
) -> None:
    for name, value in (
        ("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", world), ("LOCAL_WORLD_SIZE", world),
        ("NODE_RANK", 0), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", port),
    ):  # fmt: skip
        os.environ[name] = str(value)
    torch.set_num_threads(cores)
    note = Path(notes) / f"{rank}.json"
    try:
        worker(*args)
    except Interrupted as stop:
        note.write_text(json.dumps({"signal": int(stop.caught), "where": stop.where}))
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)  # it came before training did
    except BaseException as error:
        kind = "" if isinstance(error, (ValueError, RuntimeError, OSError)) else f"{type(error).__name__}: "
        text = {"time": time.monotonic(), "rank": rank, "cause": f"{kind}{error}"}
        note.write_text(json.dumps(text))
        if kind:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # without waiting for ranks that wait for this one
    # the end of a gloo group joins threads that may wait for this one; the process ends it, too
    if torch.distributed.is_initialized() and torch.distributed.get_backend() != "gloo":
        torch.distributed.destroy_process_group()
    gc.collect()  # so that workers that prepare samples end
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # an interpreter that ends takes seconds to look through all that was imported, many times


def _wait(processes: list[Any], stop: StopSignal) -> set[int]:
    """Wait until all have ended; end the rest once one failed. Return the ranks that had to be ended."""
    told, deadline = False, float("inf")
    ended: set[int] = set()
    while any(p.exitcode is None for p in processes):
        running = {rank: p for rank, p in enumerate(processes) if p.exitcode is None}
        connection.wait([p.sentinel for p in running.values()], timeout=0.2)
        if stop.caught and not told:
            told, deadline = True, time.monotonic() + _GRACE
            for process in running.values():
                os.kill(process.pid, stop.caught)
        if any(p.exitcode for p in processes):
            # a rank whose connection broke ends by itself; one that waits for an answer does not
            deadline = min(deadline, time.monotonic() + 1.0)
        if time.monotonic() > deadline:
            ended.update(rank for rank, process in running.items() if process.exitcode is None)
            for process in running.values():
                process.kill()
            deadline = float("inf")
    return ended


def _tell(processes: list[Any], ended: set[int], notes: Path, stop: StopSignal) -> None:
    """Raise the first cause of a failure, if there was one."""
    early = {-stop.caught, 128 + stop.caught} if stop.caught else set()
    for rank, process in enumerate(processes):
        code = process.exitcode
        if code in early:
            assert stop.caught
            raise Interrupted(stop.caught, "while its processes started")
        if code < 0 and rank not in ended:
            name = signal.Signals(-code).name
            more = " (the system does so when memory runs out)" if name == "SIGKILL" else ""
            raise RankFailed(f"rank {rank} of {len(processes)} was ended by {name}{more}")
    found = [json.loads(path.read_text()) for path in notes.glob("*.json")]
    causes = sorted((note for note in found if "cause" in note), key=lambda note: note["time"])
    if causes:
        raise RankFailed(f"rank {causes[0]['rank']} of {len(processes)}: {causes[0]['cause']}")
    if stop.caught and not found and len(ended) < len(processes):
        raise Interrupted(stop.caught, "while its processes started")
    if ended:
        raise RankFailed(f"ranks {sorted(ended)} of {len(processes)} did not stop when they were told to")
    for rank, process in enumerate(processes):
        if process.exitcode:
            raise RankFailed(
                f"rank {rank} of {len(processes)} ended with exit code {process.exitcode} and could not say "
                "why; what it printed above may tell"
            )
    for note in found:
        raise Interrupted(signal.Signals(note["signal"]), note["where"])


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
