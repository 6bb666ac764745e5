"""TensorBoard: event files in the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .shared import flat, imported


class TensorBoard:
    """Event files in the run folder's `tensorboard/`: `tensorboard --logdir runs`.

    A run that is resumed at an epoch hides what was written of this and later ones.
    """

    remedy = "is there room on the disk?"

    def __init__(self, folder: Path | None) -> None:
        if folder is None:
            raise ValueError("tracker 'tensorboard' writes into the run's folder: give the run one")
        imported("tensorboard", "pip install 'spikeloom[tensorboard]'")
        self._folder, self._epoch = folder / "tensorboard", 0
        self._config = ""
        self._writer: Any = None

    def start(self, name: str, config: Mapping[str, Any]) -> None:  # noqa: D102
        self._config = json.dumps(config, indent=2, default=str)

    def log(self, metrics: Mapping[str, float], epoch: int) -> None:  # noqa: D102
        writer, self._epoch = self._open(epoch), epoch
        for name, value in metrics.items():
            writer.add_scalar(name, value, epoch)
        writer.flush()

    def finish(self, result: Mapping[str, Any] | None) -> None:  # noqa: D102
        if result is not None:
            writer = self._open(None)
            for name, value in flat(result).items():
                writer.add_scalar(f"result/{name}", value, self._epoch)
        if self._writer is not None:
            self._writer.close()

    def _open(self, epoch: int | None) -> Any:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(self._folder, purge_step=epoch)
            # indented: Markdown's code
            text = "".join(f"    {line}\n" for line in self._config.splitlines())
            self._writer.add_text("config", text, (epoch or 1) - 1)
        return self._writer
