"""`spikeloom fit RUN --target NAME`: whether a run's network fits a device."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from ..models import create_model, example_input
from ..training import RunFolder, load_net
from .arguments import Misuse, parse


@dataclass(frozen=True)
class Options:
    """Tell whether a network fits a device: what each layer needs, what the device gives, what would mend it.

    The exit code is 1 where it does not fit.

    Attributes:
        network: the run folder that `spikeloom train` left; or a model's name.
        target: speck, xylo, loihi2, spinnaker2, or a YAML file of a device of your own.
        json: print JSON instead of a table.
    """

    network: tyro.conf.Positional[str]
    target: str
    json: bool = False


def run(argv: Sequence[str]) -> int:
    """Run the verb; return the exit code."""
    from ..deploy.fitting import fit

    options = parse(Options, "fit", argv)
    is_run = Path(options.network).is_dir()
    net = load_net(RunFolder(options.network)) if is_run else create_model(options.network)
    x = example_input(net, 1)
    x = x.new_zeros(int(getattr(net, "T", 1)), *x.shape)
    try:
        found = fit(net.eval(), x, options.target)
    except ValueError as error:
        raise Misuse(f"fit: {error}") from error
    if options.json:
        print(json.dumps(found.to_dict(), indent=2))
    else:
        Console().print(found)
    return 0 if found.fits else 1
