"""The model card of a trained run, from what its folder holds; and the run as a folder to publish."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from torch import nn

from ..data import DataError, Dataset, info
from ..measure import Profile, profile
from ..models import ModelCard, Operations, save_pretrained
from ..models.card import count, tags_of
from .recipes import Recipe
from .run_folder import RunError, RunFolder
from .runs import load_net
from .samples import load_samples

SAMPLES, BATCH = 2000, 100
_TASKS = {
    "images": "image-classification",
    "audio": "audio-classification",
    "text": "text-classification",
    "video": "video-classification",
    "graph": "graph-ml",
    "detection": "object-detection",
}
_ALWAYS = ("T", "epochs", "batch_size", "optimizer", "lr", "weight_decay", "schedule", "loss", "learning")
_ELSEWHERE = ("data", "model", "seed")  # the card says them anyway


def publish(
    run: RunFolder,
    folder: Path | str,
    others: Sequence[RunFolder] = (),
    *,
    samples: int = SAMPLES,
    **more: Any,
) -> ModelCard:
    """Write the network of a run, with its card, into a folder that `sl.models.from_pretrained` reads.

    Arguments:
        run: the run whose weights these are.
        folder: where; made if it does not exist.
        others: runs of other seeds, for the card.
        samples: as in `card_of`.
        more: values of the card, as license="apache-2.0".

    Returns:
        The card.

    Raises:
        RunError: as `card_of`.
        PretrainedError: as `sl.models.save_pretrained`.
    """
    net = load_net(run)
    card = card_of(run, others, net=net, samples=samples, **more)
    save_pretrained(net, folder, card)
    return card


def card_of(
    run: RunFolder,
    others: Sequence[RunFolder] = (),
    *,
    net: nn.Module | None = None,
    samples: int = SAMPLES,
    **more: Any,
) -> ModelCard:
    """Return what is known of a run's network; what the folder does not tell is left unknown.

    Accuracy and the layers' firing rates are those of `result.json`. Operations, energy and the mean firing
    rate are measured here, by `sl.measure.profile`, on the first samples of the test split.

    Arguments:
        run: the run whose weights these are.
        others: finished runs of the same recipe with other seeds: the card gives their accuracies, too.
        net: its network, if at hand.
        samples: how many test samples operations are measured on; 0 leaves them unmeasured.
        more: values of `ModelCard` in place of, or besides, those found; `limits` are added to them.

    Raises:
        RunError: a folder is damaged; one of the others is of another recipe, of a seed that is there
            already, or not finished.
        ValueError: a number of samples below 0, or a value that a card does not take.
    """
    if isinstance(samples, bool) or samples < 0:
        raise ValueError(f"samples = {samples!r}; a number of test samples >= 0 is needed")
    name, recipe = run.config()
    made, result = _table(run, "run.json"), _table(run, "result.json")
    net = load_net(run) if net is None else net
    accuracies = {recipe.seed: _number(result.get("test_accuracy"))}
    for other in others:
        seed, value = _accuracy_of(other, run, recipe)
        if seed in accuracies:
            raise RunError(
                f"{other.path} is of seed {seed}, as a run before it is; give a run of each seed once"
            )
        accuracies[seed] = value
    data = load_samples(recipe) if samples else None
    measured = _profile(net, data, samples) if data else None
    lines = run.metrics()
    title, task, in_time = _about(recipe)
    found: dict[str, Any] = {
        "name": f"{recipe.model}-{recipe.data}",
        "model": recipe.model,
        "data": recipe.data,
        "data_note": title,
        "task": task,
        "command": _command(made),
        "accuracy": {seed: value for seed, value in accuracies.items() if value is not None},
        "published_seed": recipe.seed,
        "firing_rate": _number(measured.firing_rate) if measured else None,
        "layers": {k: v for k, v in (result.get("firing_rates") or {}).items() if _number(v) is not None},
        "inputs": measured.inputs if measured else {},
        "operations": _operations(measured) if measured else None,
        "parameters": count(net),
        "hours": math.fsum(line.get("seconds", 0.0) for line in lines) / 3600 if lines else None,
        "hardware": _hardware(made, recipe),
        "versions": made.get("versions") or {},
        "config_hash": made.get("hash") or "",
        "revision": made.get("revision") or "",
        "settings": _settings(name, recipe),
        "tags": (*tags_of(net), recipe.model, recipe.data),
    }
    limits = _limits(recipe, made, result, lines, accuracies, measured, data)
    if in_time:
        limits.append(
            "Training and test samples are windows of the same recordings: accuracy does not tell how well "
            "the network does on others."
        )
    return ModelCard(**{**found, **more, "limits": (*limits, *more.get("limits", ()))})


def _accuracy_of(other: RunFolder, run: RunFolder, recipe: Recipe) -> tuple[int, float | None]:
    """Return seed and accuracy of a run, which must be of the same recipe in all but its seed."""
    _, theirs = other.config()
    mine, values = asdict(recipe), asdict(theirs)
    differ = [key for key in mine if key != "seed" and mine[key] != values[key]]
    if differ:
        shown = ", ".join(f"{key} = {values[key]!r}, not {mine[key]!r}" for key in differ[:3])
        raise RunError(
            f"{other.path} is of another recipe than {run.path} ({shown}); give runs that differ in seed"
        )
    result = _table(other, "result.json")
    if not result:
        raise RunError(
            f"{other.path} has no result.json: finish it with --resume {other.path}, or leave it out"
        )
    return theirs.seed, _number(result.get("test_accuracy"))


def _table(run: RunFolder, file: str) -> dict[str, Any]:
    """Return what a JSON file of the folder holds; nothing if it is not there."""
    found = run.read_json(file)
    if found is not None and not isinstance(found, dict):
        raise RunError(f"{run.path / file} holds a {type(found).__name__}, no table; train into a new folder")
    return found or {}


def _profile(net: nn.Module, data: Dataset, samples: int) -> Profile:
    pixels = data.test.pixels[:samples]
    return profile(net, (data.inputs(some) for some in pixels.split(BATCH)))


def _operations(measured: Profile) -> Operations:
    cost, convention = measured.energy, measured.convention
    return Operations(
        cost.macs, cost.acs, convention.e_mac, convention.e_ac, str(convention), samples=measured.samples
    )


def _about(recipe: Recipe) -> tuple[str, str, bool]:
    """Return what the data are, the hub's name of the task, and whether recordings are split in time."""
    try:
        about = info(recipe.data)
    except (DataError, ValueError):
        return "", "other", False
    in_time = about.kind == "events" and "train" not in about.splits  # as load_samples has it
    parts = [about.title, f"licence: {about.licence}" if about.licence else "", about.citation]
    return "; ".join(filter(None, parts)), _TASKS.get(about.kind, "other"), in_time


def _command(made: dict[str, Any]) -> str:
    words = made.get("command")
    if not isinstance(words, list) or not words:
        return ""
    # where the program lies on the machine that trained is of no use to others
    return shlex.join([Path(words[0]).name, *map(str, words[1:])])


def _hardware(made: dict[str, Any], recipe: Recipe) -> str:
    machine = made.get("machine")
    if not isinstance(machine, dict):
        return ""
    gpu = machine.get("gpu") if recipe.device in ("auto", "cuda") else None
    device = f"{recipe.devices} x {gpu}" if gpu else f"{recipe.devices} process(es) on the CPU"
    return ", ".join(filter(None, [device, f"{machine.get('cores')} cores", machine.get("system")]))


def _settings(name: str, recipe: Recipe) -> dict[str, Any]:
    """Return what of the recipe is not as it would be unasked, and what every reader wants to know."""
    said = {"recipe": name}
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        usual = field.default_factory() if field.default_factory is not MISSING else field.default
        if field.name not in _ELSEWHERE and (field.name in _ALWAYS or value != usual):
            said[field.name] = value
    return said


def _limits(
    recipe: Recipe,
    made: dict[str, Any],
    result: dict[str, Any],
    lines: Sequence[Any],
    accuracies: dict[int, float | None],
    measured: Profile | None,
    data: Dataset | None,
) -> list[str]:
    """Return what the folder tells of how far the card's figures go."""
    limits = []
    if not result:
        limits.append("The run was not finished: there is no measured accuracy.")
    elif len(lines) < recipe.epochs:
        limits.append(f"Trained for {len(lines)} of {recipe.epochs} epochs.")
    scores = ", ".join(f"{name} {value:.4f}" for name, value in (result.get("scores") or {}).items())
    if scores:
        limits.append(f"It gives numbers, not classes; of these, on the test split: {scores}.")
    if len(accuracies) == 1:
        limits.append("One seed: how far accuracy varies from seed to seed is not known.")
    if not recipe.validation:
        limits.append("Nothing was held out of the training data: progress was followed on the test split.")
    if measured is not None and data is not None and measured.samples < len(data.test):
        limits.append(
            f"Operations, energy and the mean firing rate are of the first {measured.samples:,} of "
            f"{len(data.test):,} test samples."
        )
    if measured is not None:
        limits.append(
            "Energy leaves out memory traffic, updates of neurons, biases, norms, pooling and routing: it "
            "was not measured on a chip."
        )
    if str(made.get("revision") or "").endswith("+"):
        limits.append("The source had changes that its revision does not hold.")
    return limits


def _number(value: Any) -> float | None:
    """Return a finite number; None for anything else, as the nan of labels that are no classes."""
    fine = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if fine else None
