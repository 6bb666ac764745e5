"""Training: recipes, the loop, and the run folder that it leaves."""

from .loop import Interrupted, Result, TrainingFailed, build, evaluate, load_net, train
from .recipes import RECIPES, Recipe, find_recipe
from .run_folder import RunError, RunFolder
from .samples import load_samples

__all__ = [
    "RECIPES",
    "Interrupted",
    "Recipe",
    "Result",
    "RunError",
    "RunFolder",
    "TrainingFailed",
    "build",
    "evaluate",
    "find_recipe",
    "load_net",
    "load_samples",
    "train",
]
