"""Ray on this machine: the ranks of a program, and the trials of a search."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

from spikeloom.training import RankFailed, RunFolder, TrainingFailed, find_recipe, train_run
from spikeloom.training.ray_launcher import Place, cluster, environments, launch_ray
from spikeloom.training.search import RayLauncher, SearchFailed, create_search, search

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'spikeloom[ray]'")


@pytest.fixture(scope="module", autouse=True)
def two_workers() -> Iterator[None]:
    """One Ray of two workers for the whole file: starting one takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # workers import this file
        with cluster(2):
            yield
    assert not ray.is_initialized()


def add_up(rank: int, folder: Path, factor: int) -> None:
    distributed.init_process_group("gloo")  # reads the environment
    assert rank == distributed.get_rank() == int(os.environ["RANK"])
    total = torch.tensor([float(factor * (rank + 1))])
    distributed.all_reduce(total)
    keys = ("LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "LOCAL_WORLD_SIZE")
    values = " ".join(os.environ[key] for key in keys)
    (folder / str(rank)).write_text(f"{total.item()} {values}")
    distributed.destroy_process_group()


def test_two_ranks_add_up(tmp_path: Path) -> None:
    launch_ray(add_up, (tmp_path, 10), 2)
    assert [(tmp_path / str(rank)).read_text() for rank in range(2)] == ["30.0 0 2 0 2", "30.0 1 2 0 2"]


def test_a_recipe_on_two_ranks(tmp_path: Path) -> None:
    options = {"channels": [8, 8], "pools": [2, 2]}
    recipe = replace(find_recipe("digits"), model_options=options, epochs=2, devices=2, device="cpu")
    run = RunFolder.create(tmp_path / "run", "digits", recipe)
    result = train_run(run, launcher="ray")
    assert result.test_accuracy > 0.5
    assert [record["epoch"] for record in run.metrics()] == [1, 2]
    assert run.metrics()[-1]["step"] == 2 * 23  # of 1,437 samples, 64 of both ranks together


def fail(rank: int, how: str) -> None:
    distributed.init_process_group("gloo")
    if rank == 1:
        if how == "raise":
            raise FileNotFoundError("no sample 7\nin the folder")
        os._exit(3)
    distributed.all_reduce(torch.zeros(1))  # rank 1 never comes
    time.sleep(600)


@pytest.mark.parametrize(
    ("how", "said"),
    [("raise", "FileNotFoundError: no sample 7$"), ("die", "its process ended: .*")],
)
def test_a_rank_that_fails_ends_the_others(how: str, said: str) -> None:
    with pytest.raises(RankFailed, match=f"^rank 1 of 2 failed: {said}"):
        launch_ray(fail, (how,), 2)


def stay_away(rank: int) -> None:
    pass


def test_a_cluster_too_small_is_refused() -> None:
    here = int(ray.cluster_resources()["CPU"])
    with pytest.raises(TrainingFailed, match=rf"{here + 1} ranks need .* CPUs, and the cluster has {here}"):
        launch_ray(stay_away, (), here + 1)
    with pytest.raises(TrainingFailed, match="1 ranks need 1 GPUs, and the cluster has 0"):
        launch_ray(stay_away, (), 1, gpus=1)
    with pytest.raises(ValueError, match="devices = 0; a whole number >= 1"):
        launch_ray(stay_away, (), 0)


def test_ranks_of_two_nodes_by_hand() -> None:
    places = [
        Place("a", "10.0.0.1", 4001, ("0",)),
        Place("b", "10.0.0.2", 4002, ("2",)),
        Place("a", "10.0.0.1", 4003, ("3",)),
    ]
    got: list[tuple[Any, ...]] = []
    for i, env in environments(places):
        assert (env["WORLD_SIZE"], env["MASTER_ADDR"], env["MASTER_PORT"]) == ("3", "10.0.0.1", "4001")
        keys = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "CUDA_VISIBLE_DEVICES")
        got.append((i, *(env[key] for key in keys)))
    assert got == [
        (0, "0", "0", "2", "0", "0,3"),
        (2, "1", "1", "2", "0", "0,3"),
        (1, "2", "0", "1", "1", "2"),
    ]


# -- a search ---------------------------------------------------------------------------------------


def mortal(run: RunFolder, resume: bool, on_epoch: Callable[[Mapping[str, Any]], None] | None) -> None:
    """Train for real; in the first trial, die once."""

    def then(record: Mapping[str, Any]) -> None:
        assert on_epoch is not None
        on_epoch(record)
        if run.path.name == "trial-0000" and not resume:
            os.kill(os.getpid(), signal.SIGKILL)

    train_run(run, resume, then)


def test_trials_on_ray(tmp_path: Path) -> None:
    options = {"channels": [4, 4], "pools": [2, 2]}
    base = replace(find_recipe("digits"), epochs=2, batch_size=512, device="cpu", model_options=options)
    create_search(tmp_path, "digits", base, {"lr": {"log": [1e-3, 1e-1]}}, trials=3)
    lines: list[str] = []
    found = search(tmp_path, RayLauncher(2), trainer=mortal, say=lines.append)
    assert [row.state for row in found] == ["complete"] * 3
    (told,) = [line for line in lines if "its process ended" in line]
    assert re.match("trial 0  its process ended: WorkerCrashedError.*; it goes on from its checkpoint", told)
    for row in found:
        run = RunFolder(tmp_path / f"trial-{row.number:04}")
        assert row.value == run.metrics()[-1]["validation"]["accuracy"]
        assert len(run.metrics()) == 2


def test_what_ray_cannot_give_is_refused(tmp_path: Path) -> None:
    create_search(tmp_path, "digits", find_recipe("digits"), {"lr": {"log": [1e-3, 1e-1]}}, trials=1)
    with pytest.raises(SearchFailed, match="a trial needs 1 GPUs, and no node of the Ray cluster"):
        search(tmp_path, RayLauncher(gpus=1))
    assert ray.is_initialized()  # it was there before
