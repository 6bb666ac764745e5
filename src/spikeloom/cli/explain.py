"""`spikeloom explain MODEL|RUN`: which kernel runs for which neuron, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from ..explain import explain
from ..models import create_model, example_input
from ..training import RunFolder, load_net
from .arguments import parse


@dataclass(frozen=True)
class Options:
    """Tell which kernel runs for which neuron of a network, and why.

    Attributes:
        network: a model's name, or the folder of a run.
        batch: how many samples the network is shown.
    """

    network: tyro.conf.Positional[str]
    batch: int = 1


def run(argv: Sequence[str]) -> int:
    """Run the verb; return the exit code."""
    options = parse(Options, "explain", argv)
    is_run = Path(options.network).is_dir()
    net = load_net(RunFolder(options.network)) if is_run else create_model(options.network)
    Console().print(explain(net, example_input(net, options.batch)))
    return 0
