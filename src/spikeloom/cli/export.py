"""`spikeloom export RUN --to nir|onnx|torch`: a run's network, written for others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import tyro
from torch import Tensor, nn

from ..models import create_model, example_input
from ..names import unknown
from ..training import RunFolder, load_net
from ..training.samples import load_samples
from .arguments import Misuse, parse


@dataclass(frozen=True)
class Options:
    """Write the network of a run for another simulator or a device.

    Attributes:
        network: the run folder that `spikeloom train` left; or a model's name, for one without training.
        to: what to write: nir, onnx, torch or c.
        out: the file; by default "model" and the format's ending, in the run folder.
        overwrite: replace the file if it exists.
        dt: nir: the length of a time step, in seconds.
        discretisation: nir: how a step stands for a differential equation, euler or exponential.
        rewrite: nir: what it has no node for, but may be said with several: max_pool (of spikes), soft_reset.
        unrolled: onnx, torch: the loop over time, step by step, of a fixed T; else a Scan, or one operator.
        open_axes: onnx, torch: which axes may have any length: TB, T, B, or an empty string.
        states: onnx: states go in and out, so that a stream can go on.
        dtype: c: float, or int8 for whole numbers throughout.
        bits: c, of int8: of a weight, 1 to 8.
        state_bits: c, of int8: of a neuron's state, 8, 16 or 32.
    """

    network: tyro.conf.Positional[str]
    to: str
    out: Path | None = None
    overwrite: bool = False
    dt: float = 1e-4
    discretisation: str = "euler"
    rewrite: tuple[str, ...] = ()
    unrolled: bool = False
    open_axes: str = "TB"
    states: bool = False
    dtype: str = "float"
    bits: int = 8
    state_bits: int = 16


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
    except (ValueError, ImportError) as error:
        raise Misuse(f"export: {error}") from error
    print("\n".join(lines))
    return 0


def _nir(net: nn.Module, x: Tensor, out: Path, options: Options) -> list[str]:
    from ..deploy.nir.export import to_nir

    how: Any = options.discretisation
    graph = to_nir(net, x, out, dt=options.dt, discretisation=how, rewrite=options.rewrite)
    about = graph.metadata
    return [
        f"{out}: {len(graph.nodes)} nodes, {len(graph.edges)} edges",
        f"a step is {about['dt']:g} s, by {about['discretisation']}; a neuron fires where v "
        f"{about['fires']} v_threshold",
        f"read it: sl.from_nir({str(out)!r})",
    ]


def _onnx(net: nn.Module, x: Tensor, out: Path, options: Options) -> list[str]:
    from ..deploy.onnx import check_onnx, to_onnx

    x = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    loop, axes = ("unrolled" if options.unrolled else "scan"), options.open_axes
    to_onnx(net, x, out, loop=loop, open_axes=axes, states=options.states)  # type: ignore[arg-type]
    lines = [f'{out}: input "x", {list(x.shape)}, output "y"; {_axes(options)}']
    try:
        lines.append(f"onnxruntime, on noise: {check_onnx(out, net, x)}")
    except ImportError as error:
        lines.append(f"not compared: {error}")
    return lines


def _torch(net: nn.Module, x: Tensor, out: Path, options: Options) -> list[str]:
    from ..deploy.torch_export import to_torch

    to_torch(net, x, out, loop="unrolled" if options.unrolled else "kept", open_axes=options.open_axes)
    imports = "" if options.unrolled else "import spikeloom; "
    return [f"{out}: {_axes(options)}", f"read it: {imports}torch.export.load({str(out)!r}).module()"]


def _c(net: nn.Module, x: Tensor, out: Path, options: Options) -> list[str]:
    from ..deploy import export_c

    whole: dict[str, int] = {}
    if options.dtype == "int8":
        folder = Path(options.network)
        if not folder.is_dir():
            raise ValueError("whole numbers take their units from samples; give the folder of a run")
        x = _samples(RunFolder(folder), x)
        whole = {"bits": options.bits, "state_bits": options.state_bits}
    source, header = export_c(net, x, out, options.dtype, **whole)  # type: ignore[arg-type]
    return [
        f"{source}, {header}: {options.dtype}, one step takes {x[0, 0].numel()} numbers",
        f"build it: cc -std=c99 -O3 -c {source}; or, with -DSPIKELOOM_MAIN, -o NAME and -lm, a program that "
        "runs and times samples of a file",
    ]


def _samples(run: RunFolder, x: Tensor) -> Tensor:
    """Return samples of a run's training set, as the network takes them, in time."""
    _, recipe = run.config()
    data = load_samples(recipe)
    some = data.inputs(data.train.pixels[:64])
    if not data.in_time:
        some = some.expand(len(x), *some.shape)
    return some.reshape(*some.shape[:2], *x.shape[2:])


def _axes(options: Options) -> str:
    fixed = "T" if options.unrolled else ""
    found = [{"T": "T", "B": "the batch"}[axis] for axis in options.open_axes if axis not in fixed]
    return f"of any length: {', '.join(found) or 'no axis'}"


class Target(NamedTuple):
    """What writes a format: the ending of its files, and a function that writes one and tells of it."""

    suffix: str
    write: Callable[[nn.Module, Tensor, Path, Options], list[str]]


TARGETS = {
    "nir": Target(".nir", _nir),
    "onnx": Target(".onnx", _onnx),
    "torch": Target(".pt2", _torch),
    "c": Target(".c", _c),
}
