"""Training: recipes, the loop, the losses, and the run folder that it leaves."""

from .loop import Interrupted, Result, TrainingFailed, build, evaluate, load_net, train
from .losses import (
    READOUTS,
    count_mse,
    cross_entropy,
    first_spike_cross_entropy,
    first_spike_time,
    last_step,
    max_over_time,
    mean_over_time,
    rate_mse,
    sum_over_time,
    tet,
)
from .recipes import RECIPES, Recipe, find_recipe
from .regularisers import Spikes, distillation, feature_distillation, firing_rate_penalty, sparsity
from .run_folder import RunError, RunFolder
from .samples import load_samples
from .spike_trains import van_rossum, victor_purpura, victor_purpura_times

__all__ = [
    "READOUTS",
    "RECIPES",
    "Interrupted",
    "Recipe",
    "Result",
    "RunError",
    "RunFolder",
    "Spikes",
    "TrainingFailed",
    "build",
    "count_mse",
    "cross_entropy",
    "distillation",
    "evaluate",
    "feature_distillation",
    "find_recipe",
    "firing_rate_penalty",
    "first_spike_cross_entropy",
    "first_spike_time",
    "last_step",
    "load_net",
    "load_samples",
    "max_over_time",
    "mean_over_time",
    "rate_mse",
    "sparsity",
    "sum_over_time",
    "tet",
    "train",
    "van_rossum",
    "victor_purpura",
    "victor_purpura_times",
]
