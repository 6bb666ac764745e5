"""One trial of a search, in whatever process: its run folder is made, or gone on with, and trained."""

from __future__ import annotations

import errno
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import filelock

from ...allocator import keep_freed_memory
from ..course import TrainingFailed
from ..interrupt import Interrupted
from ..ray_launcher import one_line
from ..run_folder import RunFolder
from ..runs import train_run
from .settings import Settings


class SearchFailed(TrainingFailed):
    """A search that cannot go on, or in which nothing succeeded; the message is the cause and the remedy."""


Trainer = Callable[[RunFolder, bool, Callable[[Mapping[str, Any]], None] | None], object]
STUDY = "search"
_NO_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        state: done; ended early, since others were better by then; impossible or failed; told to stop; its
            process ended; or a reason for which no trial could be made, as a full disk.
        value: accuracy on the held-out part of the weights that are kept.
        cause: of a failure, in one line.
    """

    state: Literal["complete", "pruned", "failed", "stopped", "died", "broken"]
    value: float | None = None
    cause: str = ""


def run_trial(folder: Path, number: int, trainer: Trainer = train_run) -> Outcome:
    """Train the trial of that number, which the study in `folder` has drawn, and say how it ended.

    A trial whose process was ended goes on from its checkpoint. Nothing but Ctrl-C is raised.
    """
    optuna = imported()
    keep_freed_memory()
    try:
        with quiet():
            return _train(optuna, folder, number, trainer)
    except Interrupted as stop:
        return Outcome("stopped", cause=str(stop))
    except Exception as error:
        return Outcome("broken" if _no_disk(error) else "failed", cause=one_line(error))


def _train(optuna: Any, folder: Path, number: int, trainer: Trainer) -> Outcome:
    settings = Settings.read(folder)
    study = open_study(folder, settings, optuna.samplers.RandomSampler())  # it draws nothing here
    trial = optuna.trial.Trial(study, trial_id(study, number))
    recipe = settings.recipe(trial.params)
    known = set(study.trials[number].intermediate_values)

    def report(record: Mapping[str, Any]) -> None:
        epoch, accuracy = int(record["epoch"]), held_out(record)
        if accuracy is not None and epoch not in known:
            known.add(epoch)
            trial.report(accuracy, epoch)

    def on_epoch(record: Mapping[str, Any]) -> None:
        report(record)
        if record["epoch"] < recipe.epochs and trial.should_prune():
            raise optuna.TrialPruned

    path = trial_folder(folder, number)
    run = RunFolder(path)
    resume = path.exists() and bool(run.checkpoints())
    if not resume:
        shutil.rmtree(path, ignore_errors=True)  # of a process that ended before it had saved anything
        run = RunFolder.create(path, settings.name, recipe)
    for record in run.metrics():
        report(record)
    try:
        # several devices train in processes of their own, which report to nobody
        trainer(run, resume, on_epoch if recipe.devices == 1 else None)
    except optuna.TrialPruned:
        return Outcome("pruned", accuracies(run)[-1])
    measured = accuracies(run)
    if not measured:
        raise ValueError("no accuracy on the held-out part was measured; give a smaller --evaluate-every")
    return Outcome("complete", max(measured) if recipe.select == "best" else measured[-1])


def held_out(record: Mapping[str, Any]) -> float | None:
    """Return the accuracy on the held-out part in an epoch's metrics, if it was measured."""
    measured = record.get("validation")
    return None if measured is None else float(measured["accuracy"])


def accuracies(run: RunFolder) -> list[float]:
    """Return the accuracies on the held-out part in a run's metrics."""
    return [value for value in map(held_out, run.metrics()) if value is not None]


def trial_folder(folder: Path, number: int) -> Path:
    """Return the run folder of a trial."""
    return folder / f"trial-{number:04}"


def _no_disk(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_DISK:
            return True
        error = error.__cause__
    return False


# -- the study --------------------------------------------------------------------------------------


def imported() -> Any:
    """Return the module `optuna`; SearchFailed, with the remedy, if it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise SearchFailed(f"a search needs Optuna ({error}): pip install 'spikeloom[search]'") from error
    return optuna


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna's remarks on each trial; errors are raised anyway."""
    optuna = imported()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="optuna")
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        try:
            yield
        finally:
            optuna.logging.set_verbosity(before)


class _Lock:
    """The journal's lock, held by the system: it ends with the process that has it, however that ends."""

    def __init__(self, path: Path) -> None:
        self._lock = filelock.FileLock(path)

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


def open_study(folder: Path, settings: Settings, sampler: Any) -> Any:
    """Return the study whose journal is in the folder; it is made if there is none.

    The journal is a file of JSON lines, one a change, to which several processes append. Of Optuna's
    storages that several processes can share, it is the one that needs no database and pickles nothing.
    """
    optuna = imported()
    journal = optuna.storages.journal.JournalFileBackend(
        str(folder / "journal.jsonl"), lock_obj=_Lock(folder / ".journal.lock")
    )
    return optuna.create_study(
        study_name=STUDY,
        storage=optuna.storages.JournalStorage(journal),
        sampler=sampler,
        pruner=settings.pruner(optuna),
        direction="maximize",
        load_if_exists=True,
    )


def trial_id(study: Any, number: int) -> int:
    """Return the storage's number of a trial."""
    storage = study._storage
    found: int = storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
    return found
