"""Programs that show the metrics of runs, by name; each is imported when it is used."""

from typing import Any

from .mlflow import MLflow
from .tensorboard import TensorBoard
from .trackio import Trackio
from .wandb import WandB

# each is made for a run's folder or None, and has a remedy for when it fails
TRACKERS: dict[str, Any] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "trackio": Trackio,
    "mlflow": MLflow,
}

__all__ = ["TRACKERS", "MLflow", "TensorBoard", "Trackio", "WandB"]
