"""Training: recipes, the loop, the losses, and the run folder that it leaves."""

from .card import card_of, publish
from .config import Config
from .course import Result, TrainingFailed
from .interrupt import Interrupted
from .launch import RankFailed
from .loop import Training
from .losses import (
    READOUTS,
    count_mse,
    cross_entropy,
    first_spike_cross_entropy,
    first_spike_time,
    last_step,
    max_over_time,
    mean_over_time,
    per_step_cross_entropy,
    rate_mse,
    sum_over_time,
    tet,
)
from .recipes import (
    EXPECTED,
    RECIPES,
    SERIES,
    SMALL,
    Expected,
    Recipe,
    find_recipe,
    overlay,
    published_recipes,
    read_recipe,
)
from .regression import mse
from .regularisers import Spikes, distillation, feature_distillation, firing_rate_penalty, sparsity
from .run_folder import RunError, RunFolder
from .runs import build, check, evaluate, load_net, train, train_run
from .samples import load_samples
from .spike_trains import van_rossum, victor_purpura, victor_purpura_times

__all__ = [
    "EXPECTED",
    "READOUTS",
    "RECIPES",
    "SERIES",
    "SMALL",
    "Config",
    "Expected",
    "Interrupted",
    "RankFailed",
    "Recipe",
    "Result",
    "RunError",
    "RunFolder",
    "Spikes",
    "Training",
    "TrainingFailed",
    "build",
    "card_of",
    "check",
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
    "mse",
    "overlay",
    "per_step_cross_entropy",
    "publish",
    "published_recipes",
    "rate_mse",
    "read_recipe",
    "sparsity",
    "sum_over_time",
    "tet",
    "train",
    "train_run",
    "van_rossum",
    "victor_purpura",
    "victor_purpura_times",
]
