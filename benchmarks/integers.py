"""What whole numbers cost: accuracy of a network in floats, made small after training, and trained small.

    python benchmarks/integers.py --recipes fashion-mnist n-mnist --seeds 0 1 2 --bits 8 4 1

Each seed is trained once in floats, and once for each number of bits with rounded weights; of the second the
integer network is measured, and its C file, where there is a compiler, sample by sample. `--epochs` shortens.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import spikeloom as sl
from spikeloom import deploy
from spikeloom.data import Dataset, Images
from spikeloom.training.recipes import Recipe, find_recipe
from spikeloom.training.runs import build
from spikeloom.training.samples import load_samples

CALIBRATION = 128


def samples(data: Dataset, images: Images, steps: int) -> Tensor:
    x = data.inputs(images.pixels)
    return x if data.in_time else x.expand(steps, *x.shape)


def accuracy(scores: Tensor, labels: Tensor) -> float:
    return 100 * (scores.argmax(1) == labels).float().mean().item()


def trained(recipe: Recipe, data: Dataset, bits: int | None) -> nn.Module:
    net = build(recipe, data)
    if bits is not None:
        deploy.quantise_weights(net, bits)
    sl.train(net, data, recipe, quiet=True)
    return net.eval()


def in_floats(net: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([net(part) for part in x.split(250, 1)])


def in_integers(small: deploy.IntegerNetwork, x: Tensor) -> Tensor:
    return torch.cat([deploy.simulate(small, part).output for part in x.split(250, 1)])


def in_c(small: deploy.IntegerNetwork, x: Tensor) -> tuple[Tensor, float] | None:
    """Return the C file's scores, and microseconds a step."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, _ = deploy.export_c(small, x, Path(folder) / "net.c")
        program, file = Path(folder) / "net", Path(folder) / "x.bin"
        flags = ["-std=c99", "-O3", "-march=native", "-DSPIKELOOM_MAIN"]
        subprocess.run([compiler, *flags, str(source), "-o", str(program), "-lm"], check=True)
        x.transpose(0, 1).contiguous().numpy().astype("<f4").tofile(file)
        ran = subprocess.run([program, file, str(len(x))], capture_output=True, text=True, check=True)
    lines = [[float(n) for n in line.split()[1:]] for line in ran.stdout.splitlines()]
    return torch.tensor(np.array(lines, np.float32)), float(ran.stderr.split()[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["digits"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--bits", nargs="+", type=int, default=[8, 4, 1])
    parser.add_argument("--state-bits", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--samples", type=int, default=None, help="of the test set; all by default")
    options = parser.parse_args()
    print("| data | weights | float | after training | trained so | C, a step | seeds |")
    print("|---|---|---|---|---|---|---|")
    for name in options.recipes:
        recipe = find_recipe(name)
        recipe = replace(recipe, epochs=options.epochs or recipe.epochs)
        rows: dict[int, list[tuple[float, float, float, float]]] = {bits: [] for bits in options.bits}
        for seed in options.seeds:
            recipe = replace(recipe, seed=seed)
            data = load_samples(recipe)
            count = options.samples or len(data.test)
            x = samples(data, data.test, recipe.T)[:, :count]
            y = data.test.labels[:count]
            near = samples(data, data.train, recipe.T)[:, :CALIBRATION]
            begun = time.time()
            net = trained(recipe, data, None)
            floats = accuracy(in_floats(net, x), y)
            for bits in options.bits:
                after = deploy.quantise(net, near, bits=bits, state_bits=options.state_bits)
                learned = deploy.quantise(
                    trained(recipe, data, bits), near, bits=bits, state_bits=options.state_bits
                )
                scores = in_integers(learned, x)
                ran, us = in_c(learned, x), float("nan")
                if ran is not None:
                    us = ran[1]
                    assert torch.equal(ran[0], scores), "the C file gave other scores"
                found = (floats, accuracy(in_integers(after, x), y), accuracy(scores, y), us)
                rows[bits].append(found)
            print(f"<!-- {name}, seed {seed}: {time.time() - begun:.0f} s -->", flush=True)
        for bits, figures in rows.items():
            means = [statistics.mean(column) for column in zip(*figures, strict=True)]
            cells = " | ".join(f"{mean:.2f} %" for mean in means[:3])
            print(f"| {name} | {bits} bits | {cells} | {means[3]:.1f} us | {len(figures)} |", flush=True)


if __name__ == "__main__":
    main()
