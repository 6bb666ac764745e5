"""Ray: a program's ranks as actors on the nodes of a cluster, or of this machine."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .course import TrainingFailed
from .launch import RankFailed

GRACE = 2.0  # seconds in which a rank that died may be found, after another has failed because of it
STORE = 100 * 2**20  # bytes that a Ray of our own keeps objects in; ours are small


def imported() -> Any:
    """Return the module `ray`; TrainingFailed, with the remedy, if it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise TrainingFailed(
            f"Ray cannot be imported ({error}): pip install 'spikeloom[ray]', or leave --launcher ray out"
        ) from error
    return ray


@contextmanager
def cluster(cpus: int) -> Iterator[Any]:
    """Give `ray`, connected: to what is connected already, to RAY_ADDRESS, or else to a Ray of our own.

    One of our own has the machine's processors, or `cpus` if these are more; it has no dashboard, and ends
    with the `with`, whatever happens.
    """
    ray = imported()
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        address = "local"
        options |= {
            "num_cpus": max(cpus, os.cpu_count() or 1),
            "include_dashboard": False,
            "object_store_memory": STORE,
        }
    try:
        ray.init(address=address, **options)
    except ConnectionError as error:
        raise TrainingFailed(
            f"no Ray answers at RAY_ADDRESS={address} ({one_line(error)}); start it with `ray start --head`, "
            "or unset RAY_ADDRESS for a Ray on this machine alone"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def one_line(error: BaseException) -> str:
    """Return an error's kind and the first line of its message; of one within Ray's, the error within."""
    behind = getattr(error, "cause", None)
    if isinstance(behind, BaseException):
        error = behind
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@dataclass(frozen=True)
class Place:
    """Where an actor is: its node, the node's address, a port that is free there, and its GPUs."""

    node: str
    address: str
    port: int
    gpus: tuple[str, ...]


class _Rank:
    """One process of the program; an actor."""

    def place(self) -> Place:
        ray = imported()
        context = ray.get_runtime_context()
        gpus = tuple(context.get_accelerator_ids().get("GPU", ()))
        with socket.socket() as free:
            free.bind(("", 0))
            port = free.getsockname()[1]
        return Place(context.get_node_id(), ray.util.get_node_ip_address(), port, gpus)

    def run(self, worker: Callable[..., Any], args: tuple[Any, ...], environment: dict[str, str]) -> Any:
        """Run the worker; return None, or when it failed and of what."""
        os.environ.update(environment)
        try:
            worker(int(environment["RANK"]), *args)
        except Exception as error:
            return time.time(), one_line(error)
        return None


def environments(places: Sequence[Place]) -> list[tuple[int, dict[str, str]]]:
    """Return, by rank, the number of a place and what torch.distributed reads from the environment there.

    Ranks on one node follow each other, nodes in the order in which they are met; rank 0 is at places[0].
    A node's ranks see all of their GPUs, so that LOCAL_RANK is the number of each one's.
    """
    nodes: dict[str, list[int]] = {}
    for i, place in enumerate(places):
        nodes.setdefault(place.node, []).append(i)
    made: list[tuple[int, dict[str, str]]] = []
    for number, members in enumerate(nodes.values()):
        gpus = [gpu for i in members for gpu in places[i].gpus]
        for local, i in enumerate(members):
            values = {
                "RANK": len(made),
                "LOCAL_RANK": local,
                "WORLD_SIZE": len(places),
                "LOCAL_WORLD_SIZE": len(members),
                "NODE_RANK": number,
                "MASTER_ADDR": places[0].address,
                "MASTER_PORT": places[0].port,
            }
            if gpus:
                values["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
            made.append((i, {name: str(value) for name, value in values.items()}))
    return made


def launch_ray(worker: Callable[..., Any], args: tuple[Any, ...], devices: int, gpus: int = 0) -> None:
    """Run `worker(rank, *args)` in `devices` processes of a Ray cluster, and return when all are done.

    Each has RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, NODE_RANK, MASTER_ADDR and MASTER_PORT in its
    environment, as torch.distributed expects. The cluster is the one at RAY_ADDRESS; without that, this
    machine. Nodes need the same packages as this one, and must see what paths in `args` name.

    Arguments:
        worker: a function of a module, or one that cloudpickle can send.
        args: what it takes after the rank.
        devices: how many ranks.
        gpus: GPUs for each, 0 or 1.

    Raises:
        ValueError: `devices` is not a whole number >= 1, or `gpus` neither 0 nor 1.
        TrainingFailed: Ray is not installed, does not answer, or is too small.
        RankFailed: a rank failed; the others were ended.
    """
    if not isinstance(devices, int) or devices < 1:
        raise ValueError(f"devices = {devices!r}; a whole number >= 1 is needed")
    if gpus not in (0, 1):
        raise ValueError(f"gpus = {gpus!r}; 0 or 1 for each rank is needed")
    with cluster(devices) as ray:
        total = ray.cluster_resources()
        for kind, wanted in (("CPU", devices), ("GPU", devices * gpus)):
            if wanted > total.get(kind, 0):
                raise TrainingFailed(
                    f"{devices} ranks need {wanted} {kind}s, and the cluster has {total.get(kind, 0):g}; "
                    "give fewer --devices, or add nodes with `ray start --address=...`"
                )
        kind = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0, max_task_retries=0)(_Rank)
        actors = [kind.remote() for _ in range(devices)]
        try:
            order = environments(ray.get([actor.place.remote() for actor in actors]))
            _finish(ray, [actors[i].run.remote(worker, args, values) for i, values in order])
        finally:
            for actor in actors:
                ray.kill(actor)


def _finish(ray: Any, runs: list[Any]) -> None:
    """Wait for all ranks; RankFailed as soon as one has failed.

    A rank that dies may be noticed by the others, through a broken connection, before Ray notices. So those
    that follow within the grace are heard, and a death is taken for the cause, else the earliest failure.
    """
    waiting, failed, until = list(runs), {}, float("inf")
    while waiting and time.monotonic() < until:
        timeout = None if until == float("inf") else max(0.0, until - time.monotonic())
        done, waiting = ray.wait(waiting, num_returns=1, timeout=timeout)
        for run in done:
            try:
                failure = ray.get(run)
            except ray.exceptions.RayError as error:
                failure = (0.0, f"its process ended: {one_line(error)}")
            if failure is not None:
                failed[runs.index(run)] = failure
                until = min(until, time.monotonic() + GRACE)
    if failed:
        rank = min(failed, key=lambda i: failed[i][0])
        raise RankFailed(f"rank {rank} of {len(runs)} failed: {failed[rank][1]}")
