"""What a run's network does and costs, measured on its test set: operations, traffic, energy, latency."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..data import Dataset
from ..measure import EnergyRange, Latency, Profile, latency, profile
from ..models.registry import find_model
from .course import Result
from .learning import make_rule
from .objective import scores_of
from .recipes import Recipe
from .run_folder import RunFolder
from .runs import build, evaluate, load_net
from .samples import load_samples

SAMPLES, BATCH = 1000, 100
_SAME = 0.99  # of the answers; the rest may be ties that rounding decides

# what a network's own readout gives of the scores of the steps so far, by its name
_RUNNING: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda scores: scores.cumsum(0),  # the divisor moves no greatest score
    "sum": lambda scores: scores.cumsum(0),
    "last": lambda scores: scores,
    "max": lambda scores: scores.cummax(0).values,
    "softmax": lambda scores: scores.softmax(-1).cumsum(0),
}


@dataclass(frozen=True)
class Measured:
    """What was found.

    Attributes:
        result: accuracy, loss and firing rates on the whole test set, as after training.
        profile: what flowed, on its first samples.
        energy: what that costs.
        latency: how early the network decides, on the same samples; None where that cannot be said.
        why: why not.
    """

    result: Result
    profile: Profile
    energy: EnergyRange
    latency: Latency | None
    why: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON."""
        return {
            **_plain(asdict(self.result)),
            "profile": self.profile.to_dict(),
            "energy": self.energy.to_dict(),
            "latency": None if self.latency is None else self.latency.to_dict(),
            "latency_unknown": self.why,
        }


def measure(
    run: RunFolder,
    samples: int | None = SAMPLES,
    convention: str = "counted",
    passes: float | None = None,
) -> Measured:
    """Measure the network of a run folder: its accuracy, and what it does and costs.

    Arguments:
        run: the run's folder.
        samples: of the test set, the first so many are profiled; None takes all.
        convention: how operations are priced; a name in `sl.measure.CONVENTIONS`.
        passes: how many times the network without spikes runs that it is compared with, see
            `Profile.energy_range`; None: once, but T times where each step has an answer of its own.

    Raises:
        RunError: the folder is damaged, or of a network of one's own.
        ValueError: a number of samples below 1, an unknown convention, passes that are no number above 0.
    """
    if samples is not None and (isinstance(samples, bool) or samples < 1):
        raise ValueError(f"samples = {samples!r}; at least 1 is needed, or None for all")
    _, recipe = run.config()
    net, data = load_net(run).eval(), load_samples(recipe)
    found = profile(net, _inputs(net, recipe, data, samples), convention=convention)
    if passes is None:
        each_step = data.in_time and data.test.labels.shape[1:2] == data.test.pixels.shape[1:2]
        passes = found.steps if each_step else 1.0
    energy = found.energy_range(passes=passes)
    early, why = _latency(run, net, recipe, data, samples)
    return Measured(evaluate(run), found, energy, early, why)


def _inputs(net: nn.Module, recipe: Recipe, data: Dataset, samples: int | None) -> Iterator[Tensor]:
    """Go through the first samples of the test set, as the network takes them."""
    if recipe.precision == "fp64":
        net.double()
    dtype = torch.float64 if recipe.precision == "fp64" else torch.float32
    rule = make_rule(recipe.learning, net, **recipe.learning_options)

    def batches() -> Iterator[Tensor]:
        for pixels in data.test.pixels[:samples].split(BATCH):
            x = data.inputs(pixels).to(dtype)
            yield x.expand(recipe.T, *x.shape) if rule.needs_time and not data.in_time else x

    return batches()


def _latency(
    run: RunFolder, net: nn.Module, recipe: Recipe, data: Dataset, samples: int | None
) -> tuple[Latency | None, str]:
    """Return how early a network decides, or why that cannot be said."""
    if recipe.loss == "mse":
        return None, "it gives numbers, and decides nothing"
    y = data.test.labels
    if y.ndim != 1 or y.is_floating_point():
        return None, f"the labels of {recipe.data} are no classes, one a sample"
    arguments = find_model(recipe.model).arguments
    own = recipe.model_options.get("readout", arguments.get("readout", "none"))
    stepwise = net
    if own != "none":
        if own not in _RUNNING:
            return None, f"the readout {own!r} of {recipe.model} is none of each step's scores so far"
        options = {**recipe.model_options, "readout": "none"}
        stepwise = build(replace(recipe, model_options=options), data).eval()
        stepwise.load_state_dict(net.state_dict())
    running, same, count = [], 0, 0
    with torch.inference_mode():
        for x in _inputs(stepwise, recipe, data, samples):
            each, answer = stepwise(x), scores_of(net(x), recipe)
            if not isinstance(each, Tensor) or each.ndim != 3 or answer.ndim != 2:
                return None, f"{recipe.model} gives no scores of each step"
            so_far = _so_far(each, own, recipe)
            same += int((so_far[-1].argmax(1) == answer.argmax(1)).sum())
            count += len(answer)
            running.append(so_far)
    if same < _SAME * count:
        return None, f"the answers of {recipe.model} are no running {own} of its steps' scores"
    return latency(torch.cat(running, 1), y[:count]), ""


def _so_far(each: Tensor, own: str, recipe: Recipe) -> Tensor:
    """Return `[T, B, K]`, what the network would answer after each step."""
    if own != "none":
        return _RUNNING[own](each)
    if recipe.loss != "first-spike" and recipe.readout in _RUNNING:
        return _RUNNING[recipe.readout](each)
    return torch.stack([scores_of(each[: t + 1], recipe) for t in range(len(each))])


def _plain(value: Any) -> Any:
    """Return a value for JSON, which knows no nan."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
