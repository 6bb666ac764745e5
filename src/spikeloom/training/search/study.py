"""The search: draws trials, has them trained, keeps what came of them; stopped and gone on with at will."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ..interrupt import Interrupted, StopSignal
from ..recipes import Recipe
from ..run_folder import RunError, RunFolder
from ..runs import train_run
from . import results
from .launchers import Launcher
from .results import Row, rows
from .settings import HELD_OUT, Prune, Settings
from .space import check_space, parse_space
from .worker import Outcome, SearchFailed, Trainer, imported, open_study, quiet, run_trial, trial_id

DEATHS = 2  # of a trial's process, after which the trial has failed: what kills it once may kill it always


def create_search(
    folder: Path | str,
    name: str,
    base: Recipe,
    space: Any,
    *,
    trials: int = 20,
    seed: int = 0,
    prune: Prune = "median",
    possible: Callable[[Recipe], object] = lambda recipe: None,
) -> Settings:
    """Make the folder of a new search.

    Arguments:
        folder: where; it must not be a search already.
        name: the recipe's name.
        base: its values; where `validation` is 0, a share of 0.2 of the training set is held out.
        space: fields and distributions, as `{"lr": {"log": [1e-4, 1e-1]}}`.
        trials: how many are made, those that fail included.
        seed: of what is drawn.
        prune: "median", "hyperband" or "none".
        possible: raises for a recipe that cannot be trained, as one whose network cannot be built.

    Raises:
        SpaceError: the space cannot be searched.
        RunError: the folder is a search already, or cannot be written.
    """
    imported()
    folder = Path(folder)
    if not base.validation:
        base = dataclasses.replace(base, validation=HELD_OUT)
    settings = Settings(name, base, parse_space(space, base), trials, seed, prune)
    check_space(settings.space, base, possible)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder} cannot be written ({error}); choose another --folder") from error
    if any(folder.iterdir()):
        raise RunError(
            f"{folder} is not empty; go on with a search by --resume {folder}, or choose another --folder"
        )
    settings.write(folder)
    return settings


def search(
    folder: Path | str,
    launcher: Launcher,
    *,
    trials: int | None = None,
    say: Callable[[str], None] = print,
    trainer: Trainer = train_run,
) -> list[Row]:
    """Make the trials that a search's folder still lacks; return all of them, the best first.

    What is maximised is the accuracy, after the last epoch, on the part of the training set that is held out.
    The test set is not asked. A trial that fails is kept with its cause. One that ran when its process or the
    whole search was killed goes on from its checkpoint. What a trial draws depends on the seed, its number
    and the trials that ended before; with one at a time, a search that was stopped equals one that was not.

    Arguments:
        folder: made by `create_search`, and perhaps used by `search`.
        launcher: where trials run.
        trials: how many to make in all, in place of the number that the search was made with.
        say: called with a line when a trial ends.
        trainer: what trains a run folder: a function of a module, `(run, resume, on_epoch)`.

    Raises:
        Interrupted: SIGINT or SIGTERM; trials have saved their state.
        RunError: the folder is no search, or another process searches in it.
        SearchFailed: no trial succeeded; or none can be made, as on a full disk.
    """
    folder = Path(folder)
    Settings.read(folder)  # before a lock is left in a folder that is none of a search
    with StopSignal() as stop, RunFolder(folder).locked(), quiet():
        settings = Settings.read(folder)
        if trials is not None and trials != settings.trials:
            settings = dataclasses.replace(settings, trials=trials)
            settings.write(folder)
        _mend(folder / "journal.jsonl")
        study = open_study(folder, settings, None)
        for trial in study.trials:
            if not trial.state.is_finished():
                _again(study, trial.number)
        work = partial(run_trial, trainer=trainer)
        with launcher:
            while not stop.caught:
                while launcher.free() and (number := _next(study, settings)) is not None:
                    launcher.start(work, folder, number)
                if not launcher.running():
                    break
                for number, outcome in launcher.ended(0.2):
                    _keep(study, number, outcome)
                    found = rows(study, settings)
                    results.write(folder, found, settings)
                    say(_told(number, outcome, found))
        if stop.caught:
            raise Interrupted(stop.caught, f"after {_finished(study)} of {settings.trials} trials")
        found = rows(study, settings)
    results.write(folder, found, settings)
    if not any(row.state == "complete" for row in found):
        first = min((row for row in found if row.cause), key=lambda row: row.number, default=None)
        cause = f"; trial {first.number}: {first.cause}" if first else ""
        raise SearchFailed(f"none of {len(found)} trials of {folder} succeeded{cause}")
    return found


def _next(study: Any, settings: Settings) -> int | None:
    """Draw the next trial, or take one that waits to go on; return its number, None if there are enough."""
    optuna = imported()
    waiting = any(trial.state == optuna.trial.TrialState.WAITING for trial in study.trials)
    if not waiting and len(study.trials) >= settings.trials:
        return None
    # a sampler a trial: its seed is then the same in a search that goes on as in one that never stopped
    seed = (settings.seed << 20) + len(study.trials)
    study.sampler = optuna.samplers.TPESampler(
        seed=seed % 2**32, n_startup_trials=min(10, max(1, settings.trials // 3)), constant_liar=True
    )
    trial = study.ask()
    for name, distribution in settings.space.items():
        distribution.suggest(name, trial)
    number: int = trial.number
    return number


def _keep(study: Any, number: int, outcome: Outcome) -> None:
    """Write into the study how a trial ended."""
    states = imported().trial.TrialState
    if outcome.state == "broken":
        raise SearchFailed(f"trial {number}: {outcome.cause}; mend this, and go on with --resume")
    if outcome.state in ("died", "stopped"):
        deaths = study.trials[number].user_attrs.get("deaths", 0) + 1
        study._storage.set_trial_user_attr(trial_id(study, number), "deaths", deaths)
        if deaths < DEATHS:
            _again(study, number)
            return
    if outcome.cause:
        study._storage.set_trial_user_attr(trial_id(study, number), "cause", outcome.cause)
    if outcome.state == "complete":
        study.tell(number, outcome.value)
    else:
        study.tell(number, state=states.PRUNED if outcome.state == "pruned" else states.FAIL)


def _again(study: Any, number: int) -> None:
    """Have a trial go on: with the values that it has drawn, in the folder that it has."""
    waiting = imported().trial.TrialState.WAITING
    study._storage.set_trial_state_values(trial_id(study, number), waiting)


def _finished(study: Any) -> int:
    return sum(trial.state.is_finished() for trial in study.trials)


def _mend(journal: Path) -> None:
    """Cut off a last line that a process did not finish writing; no one has acted on it."""
    if not journal.exists():
        return
    with open(journal, "rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def _told(number: int, outcome: Outcome, found: list[Row]) -> str:
    row = next(row for row in found if row.number == number)
    drawn = " ".join(f"{name}={value}" for name, value in row.shown().items())
    if outcome.state in ("died", "stopped"):
        end = "failed" if row.state == "failed" else "goes on from its checkpoint"
        return f"trial {number}  {outcome.cause}; it {end}  {drawn}"
    value = "" if outcome.value is None else f" {outcome.value:.4f}"
    cause = f": {outcome.cause}" if outcome.cause else ""
    return f"trial {number}  {outcome.state}{value}{cause}  {drawn}"
