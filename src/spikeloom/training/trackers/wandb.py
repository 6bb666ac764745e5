"""Weights & Biases."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .shared import flat, imported, remembered


class WandB:
    """Weights & Biases, project `$WANDB_PROJECT` or "spikeloom"; `WANDB_MODE=offline` needs no account."""

    remedy = "WANDB_MODE=offline keeps them here, and `wandb sync` sends them later"

    def __init__(self, folder: Path | None) -> None:
        self._wandb = imported("wandb", "pip install wandb")
        self._folder = folder
        self._run: Any = None

    def start(self, name: str, config: Mapping[str, Any]) -> None:  # noqa: D102
        known, kept = remembered(self._folder, "wandb", lambda: {"id": secrets.token_hex(4)})
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", "spikeloom"),
            name=name,
            id=kept["id"],
            resume="allow" if known else None,
            dir=None if self._folder is None else str(self._folder),
            config=dict(config),
        )
        # against epochs, not wandb's own steps, which may not go back to where a run is resumed
        self._run.define_metric("epoch")
        self._run.define_metric("*", step_metric="epoch")

    def log(self, metrics: Mapping[str, float], epoch: int) -> None:  # noqa: D102
        self._run.log({**metrics, "epoch": epoch})

    def finish(self, result: Mapping[str, Any] | None) -> None:  # noqa: D102
        if result is not None:
            self._run.summary.update({f"result/{k}": v for k, v in flat(result).items()})
        self._run.finish(exit_code=0 if result is not None else 1)
