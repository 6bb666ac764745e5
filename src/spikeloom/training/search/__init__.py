"""Search for a recipe's values, by Optuna: resumable, in several processes, or on a Ray cluster."""

from .launchers import Launcher, LocalLauncher, RayLauncher
from .results import Row, final_recipe, table
from .settings import Settings
from .space import SpaceError
from .study import create_search, search
from .worker import SearchFailed

__all__ = [
    "Launcher",
    "LocalLauncher",
    "RayLauncher",
    "Row",
    "SearchFailed",
    "Settings",
    "SpaceError",
    "create_search",
    "final_recipe",
    "search",
    "table",
]
