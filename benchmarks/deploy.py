"""Latency of a step, batch 1, one core: our C file and Numba runtime, PyTorch and SpikingJelly.

    python benchmarks/deploy.py --recipes digits --models conv_snn dense_snn --epochs 2
    python benchmarks/deploy.py --runs runs/fashion-mnist-1

Networks are trained first, or loaded, so that they fire as trained ones do; the rates are printed. All run
the same samples, one after the other, step by step, with their own state, and must agree on classes. Figures
are microseconds of the core's time a step, the least of several passes. An image that stands still costs our
runtimes its first layer once: rows "anew" are of first steps alone, in which nothing is saved so.

SpikingJelly is measured where it is installed: benchmarks/requirements.txt.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from integers import samples
from torch import Tensor, nn

import spikeloom as sl
from spikeloom import deploy
from spikeloom.data import Dataset
from spikeloom.deploy.graph import Graph, read_network
from spikeloom.training import RunFolder, load_net
from spikeloom.training.recipes import Recipe, find_recipe
from spikeloom.training.runs import build
from spikeloom.training.samples import load_samples

FLAGS = ["-std=c99", "-O3", "-march=native", "-DSPIKELOOM_MAIN"]
PASSES = 5


class EagerLIF(nn.Module):
    """LIF as one writes it in PyTorch, a step a call; it keeps its membrane."""

    def __init__(self, neuron: Any) -> None:
        super().__init__()
        self.tau, self.threshold, self.decay_input = float(neuron.tau), neuron.v_threshold, neuron.decay_input
        assert neuron.reset == "hard"
        assert neuron.v_reset == 0
        self.v: Any = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.v = self.v + (x - self.v) / self.tau if self.decay_input else self.v - self.v / self.tau + x
        s = (self.v >= self.threshold).to(x.dtype)
        self.v = (1 - s) * self.v
        return s


def jelly_lif(neuron: Any) -> nn.Module:
    from spikingjelly.activation_based import neuron as jelly

    return jelly.LIFNode(
        tau=float(neuron.tau), decay_input=neuron.decay_input, v_threshold=neuron.v_threshold, v_reset=0.0
    )


def chain(graph: Graph, lif: Callable[[Any], nn.Module]) -> nn.Sequential:
    """Return a network without branches as torch modules, called a step at a time, its norms folded."""
    modules: list[nn.Module] = []
    for node in graph:
        if node.kind in ("input", "mean"):
            continue
        if isinstance(node.module, sl.Neuron):
            modules.append(lif(node.module))
        elif node.module is not None:
            modules.append(node.module)
        elif node.kind == "flatten":
            modules.append(nn.Flatten())
        else:
            raise ValueError(f"{node.name}: only chains of layers and LIF are compared, not {node.kind}")
    return nn.Sequential(*modules).eval()


def passes(run: Callable[[Tensor], int], x: Tensor) -> tuple[list[int], float]:
    """Return the classes of the samples of x, and the core's microseconds a step."""
    best = float("inf")
    for _ in range(PASSES):
        begun = time.process_time()
        classes = [run(sample) for sample in x.unbind(1)]
        best = min(best, (time.process_time() - begun) / (x.shape[0] * x.shape[1]))
    return classes, best * 1e6


def of_modules(net: nn.Module, reset: Callable[[], None]) -> Callable[[Tensor], int]:
    def run(sample: Tensor) -> int:
        reset()
        with torch.inference_mode():
            total: Any = 0
            for frame in sample:
                total = total + net(frame.unsqueeze(0))
        return int(total.argmax())

    return run


def of_compiled(net: deploy.CompiledNetwork) -> Callable[[Tensor], int]:
    def run(sample: Tensor) -> int:
        net.reset()
        for frame in sample.numpy():
            scores = net.step(frame)
        return int(scores.argmax())

    return run


def of_c(net: Any, x: Tensor, folder: Path, dtype: Any) -> tuple[list[int], float]:
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler is not None, "no C compiler"
    source, _ = deploy.export_c(net, x, folder / "net.c", dtype)
    program, file = folder / "net", folder / "x.bin"
    subprocess.run([compiler, *FLAGS, str(source), "-o", str(program), "-lm"], check=True)
    x.transpose(0, 1).contiguous().numpy().astype("<f4").tofile(file)
    best, classes = float("inf"), []
    for _ in range(PASSES):
        ran = subprocess.run([program, file, str(len(x))], capture_output=True, text=True, check=True)
        classes = [int(line.split()[0]) for line in ran.stdout.splitlines()]
        best = min(best, float(ran.stderr.split()[2]))
    return classes, best


def measure(name: str, net: nn.Module, x: Tensor, near: Tensor) -> None:
    graph = read_network(net, x[:, :1])
    small = deploy.quantise(net, near)
    rows: list[tuple[str, list[int], float]] = []
    eager = chain(graph, EagerLIF)
    neurons: list[Any] = [m for m in eager.modules() if isinstance(m, EagerLIF)]

    def clear() -> None:
        for neuron in neurons:
            neuron.v = 0.0

    rows.append(("PyTorch, eager", *passes(of_modules(eager, clear), x)))
    try:
        from spikingjelly.activation_based import functional

        jelly = chain(graph, jelly_lif)
        rows.append(("SpikingJelly", *passes(of_modules(jelly, lambda: functional.reset_net(jelly)), x)))
    except ImportError:
        print("<!-- SpikingJelly is not installed -->")
    for kind, what in (("float", net), ("int8", small)):
        rows.append((f"Numba, {kind}", *passes(of_compiled(deploy.compile(what, x)), x)))
        with tempfile.TemporaryDirectory() as folder:
            rows.append((f"C, {kind}", *of_c(what, x, Path(folder), kind)))
            rows.append((f"C, {kind}, anew", rows[-1][1], of_c(what, x[:1], Path(folder), kind)[1]))
    wanted = rows[0][1]
    for who, classes, _ in rows:
        same = sum(a == b for a, b in zip(classes, wanted, strict=True)) / len(wanted)
        assert same > (0.9 if "int8" in who else 0.99), f"{who}: {same:.0%} of classes agree"
    run = deploy.simulate(small, x, record=True)
    rates = [f"{run.values[n].float().mean():.3f}" for n in small.layers if small.binary(n)]
    print(
        f"\n{name}: spikes a neuron and step {', '.join(rates)}; {x.shape[1]} samples of {x.shape[0]} steps\n"
    )
    print("| who | us a step | of PyTorch | of SpikingJelly |\n|---|---|---|---|")
    jellies = [us for who, _, us in rows if who == "SpikingJelly"]
    for who, _, us in rows:
        of_jelly = f"{jellies[0] / us:.1f}x" if jellies else "-"
        print(f"| {who} | {us:.1f} | {rows[0][2] / us:.1f}x | {of_jelly} |", flush=True)


def trained(recipe: Recipe, data: Dataset) -> nn.Module:
    net = build(recipe, data)
    sl.train(net, data, recipe, quiet=True)
    return net.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipes", nargs="*", default=["digits"])
    parser.add_argument("--models", nargs="*", default=["conv_snn", "dense_snn"])
    parser.add_argument("--runs", nargs="*", default=[], help="run folders, in place of recipes")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--samples", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: list[tuple[str, nn.Module | None, Recipe]] = []
    for folder in options.runs:
        run = RunFolder(folder)
        found.append((folder, load_net(run).eval(), run.config()[1]))
    for name in [] if options.runs else options.recipes:
        for model in options.models:
            recipe = replace(find_recipe(name), epochs=options.epochs)
            if recipe.model != model:
                wide = {"hidden": [256, 256]} if model == "dense_snn" else {}
                recipe = replace(recipe, model=model, model_options=wide)
            found.append((f"{name}, {model}", None, recipe))
    for name, net, recipe in found:
        data = load_samples(recipe)
        x = samples(data, data.test, recipe.T)[:, : options.samples].contiguous()
        near = samples(data, data.train, recipe.T)[:, :64].contiguous()
        measure(name, net or trained(recipe, data), x, near)


if __name__ == "__main__":
    main()
