"""`spikeloom export RUN --to nir`: a run's network, written for others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import tyro
from torch import Tensor, nn

from ..models import create_model, example_input
from ..names import unknown
from ..training import RunFolder, load_net
from .arguments import Misuse, parse


@dataclass(frozen=True)
class Options:
    """Write the network of a run for another simulator or a device.

    Attributes:
        network: the run folder that `spikeloom train` left; or a model's name, for one without training.
        to: what to write: nir.
        out: the file; by default "model" and the format's ending, in the run folder.
        overwrite: replace the file if it exists.
        dt: nir: the length of a time step, in seconds.
        discretisation: nir: how a step stands for a differential equation, euler or exponential.
    """

    network: tyro.conf.Positional[str]
    to: str
    out: Path | None = None
    overwrite: bool = False
    dt: float = 1e-4
    discretisation: str = "euler"


def run(argv: Sequence[str]) -> int:
    """Run the verb; return the exit code."""
    options = parse(Options, "export", argv)
    if options.to not in TARGETS:
        raise unknown("target of export", options.to, TARGETS)
    target, folder = TARGETS[options.to], Path(options.network)
    is_run = folder.is_dir()
    out = options.out or (
        folder / f"model{target.suffix}" if is_run else Path(f"{options.network}{target.suffix}")
    )
    if out.exists() and not options.overwrite:
        raise Misuse(f"export: {out} exists; --overwrite replaces it")
    net = load_net(RunFolder(folder)) if is_run else create_model(options.network)
    x = example_input(net, 1)
    x = x.new_zeros(int(getattr(net, "T", 1)), *x.shape)  # in time, as a device gets it
    try:
        lines = target.write(net.eval(), x, out, options)
    except (ValueError, ModuleNotFoundError) as error:
        raise Misuse(f"export: {error}") from error
    print("\n".join(lines))
    return 0


def _nir(net: nn.Module, x: Tensor, out: Path, options: Options) -> list[str]:
    from ..deploy.nir_export import to_nir

    graph = to_nir(net, x, out, dt=options.dt, discretisation=options.discretisation)  # type: ignore[arg-type]
    about = graph.metadata
    return [
        f"{out}: {len(graph.nodes)} nodes, {len(graph.edges)} edges",
        f"a step is {about['dt']:g} s, by {about['discretisation']}; a neuron fires where v "
        f"{about['fires']} v_threshold",
        f"read it: sl.from_nir({str(out)!r})",
    ]


class Target(NamedTuple):
    """What writes a format: the ending of its files, and a function that writes one and tells of it."""

    suffix: str
    write: Callable[[nn.Module, Tensor, Path, Options], list[str]]


TARGETS = {
    "nir": Target(".nir", _nir),
}
