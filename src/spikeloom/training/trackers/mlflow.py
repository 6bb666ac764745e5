"""MLflow."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .shared import flat, imported, leaves, remembered


class MLflow:
    """MLflow, experiment `$MLFLOW_EXPERIMENT_NAME` or "spikeloom", at `$MLFLOW_TRACKING_URI`."""

    remedy = (
        "is the server of MLFLOW_TRACKING_URI up? Without a server, MLFLOW_TRACKING_URI=sqlite:///mlflow.db "
        "and `pip install mlflow` (mlflow-skinny alone has no database)"
    )

    def __init__(self, folder: Path | None) -> None:
        self._mlflow = imported("mlflow", "pip install mlflow")
        self._entities = importlib.import_module("mlflow.entities")
        self._folder, self._run, self._epoch = folder, "", 0
        self._client: Any = None

    def start(self, name: str, config: Mapping[str, Any]) -> None:  # noqa: D102
        self._client = client = self._mlflow.MlflowClient()

        def create() -> dict[str, str]:
            title = os.environ.get("MLFLOW_EXPERIMENT_NAME", "spikeloom")
            found = client.get_experiment_by_name(title)
            experiment = found.experiment_id if found else client.create_experiment(title)
            return {"run_id": client.create_run(experiment, run_name=name).info.run_id}

        known, kept = remembered(self._folder, "mlflow", create)
        self._run = kept["run_id"]
        if known:
            client.update_run(self._run, status="RUNNING")
        else:
            params = [self._entities.Param(k, str(v)[:6000]) for k, v in leaves(config)]
            for some in _hundreds(params):
                client.log_batch(self._run, params=some)

    def log(self, metrics: Mapping[str, float], epoch: int) -> None:  # noqa: D102
        now = int(time.time() * 1000)
        entries = [self._entities.Metric(name, value, now, epoch) for name, value in metrics.items()]
        for some in _hundreds(entries):
            self._client.log_batch(self._run, metrics=some)
        self._epoch = epoch

    def finish(self, result: Mapping[str, Any] | None) -> None:  # noqa: D102
        if result is not None:
            self.log({f"result/{k}": v for k, v in flat(result).items()}, self._epoch)
        self._client.set_terminated(self._run, "FINISHED" if result is not None else "KILLED")


def _hundreds(values: list[Any]) -> Iterable[list[Any]]:
    """MLflow takes 100 parameters at a time."""
    return (values[i : i + 100] for i in range(0, len(values), 100))
