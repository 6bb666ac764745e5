"""Trackio."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .shared import flat, imported, remembered


class Trackio:
    """Trackio's local dashboard, project "spikeloom": `trackio show`."""

    remedy = "TRACKIO_DIR chooses where Trackio writes"

    def __init__(self, folder: Path | None) -> None:
        self._trackio = imported("trackio", "pip install trackio")
        self._folder = folder
        self._run: Any = None

    def start(self, name: str, config: Mapping[str, Any]) -> None:  # noqa: D102
        # Trackio finds a run by its name, which other folders may share
        new = {"name": f"{name}-{secrets.token_hex(3)}"}
        known, kept = remembered(self._folder, "trackio", lambda: new)
        self._run = self._trackio.init(
            project="spikeloom",
            name=kept["name"],
            config=json.loads(json.dumps(config, default=str)),
            resume="allow" if known else "never",
            embed=False,
        )

    def log(self, metrics: Mapping[str, float], epoch: int) -> None:  # noqa: D102
        self._run.log(dict(metrics), step=epoch)

    def finish(self, result: Mapping[str, Any] | None) -> None:  # noqa: D102
        if result is not None:
            self._run.log({f"result/{k}": v for k, v in flat(result).items()})
        self._run.finish()
