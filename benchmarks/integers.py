"""What whole numbers cost: accuracy of a network in floats, made small after training, and trained small.

    python benchmarks/integers.py [RECIPE ...] [--seeds 0 1 2] [--bits 8 4 1] [--state-bits 16]
                                  [--runs runs/results] [--tables] [--write docs/results.md]

Each seed is trained once in floats, as benchmarks/results.py does, and once for each number of bits with
weights that are rounded while they learn (`spikeloom train RECIPE --weight-bits 8`). Of both, the network of
whole numbers is measured on the whole test set; of the latter its C file, too, where there is a compiler: its
scores must be the same to the bit. Runs that are finished are not trained again; `--tables` trains nothing.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from reporting import Table, machine
from results import Run, accuracies, write
from torch import Tensor

from spikeloom import deploy
from spikeloom.data import Dataset, Images
from spikeloom.training import RECIPES, RunFolder, find_recipe, load_net
from spikeloom.training.samples import load_samples

CALIBRATION = 128
MARKS = "<!-- whole numbers: written by benchmarks/integers.py -->", "<!-- end of whole numbers -->"


def samples(data: Dataset, images: Images, steps: int) -> Tensor:
    """Return samples in time, `[T, B, ...]`."""
    x = data.inputs(images.pixels)
    return x if data.in_time else x.expand(steps, *x.shape)


def in_c(small: deploy.IntegerNetwork, x: Tensor) -> tuple[Tensor, float] | None:
    """Return the C file's scores, and microseconds a step; None without a compiler."""
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


def measured(run: Run, bits: int, state_bits: int, with_c: bool) -> dict[str, float]:
    """Return what a finished run gives in whole numbers, and in C; measured once."""
    key = f"whole-{bits}-{state_bits}"
    if key in run.noted():
        return dict(run.noted()[key])
    folder = RunFolder(run.folder)
    _, recipe = folder.config()
    data, net = load_samples(recipe), load_net(folder).eval()
    x, labels = samples(data, data.test, recipe.T), data.test.labels
    near = samples(data, data.train, recipe.T)[:, :CALIBRATION]
    small = deploy.quantise(net, near, bits=bits, state_bits=state_bits)
    scores = torch.cat([deploy.simulate(small, part).output for part in x.split(250, 1)])
    found = {"accuracy": (scores.argmax(1) == labels).double().mean().item()}
    ran = in_c(small, x) if with_c else None
    if ran is not None:
        if not torch.equal(ran[0], scores):
            raise RuntimeError(f"{run.folder}: the C file gave other scores than the simulator")
        found["in_c"] = (ran[0].argmax(1) == labels).double().mean().item()
        found["microseconds"] = ran[1]
    run.note(**{key: found})
    return found


def table(
    recipes: Sequence[str], seeds: Sequence[int], bits: Sequence[int], state_bits: int, root: Path
) -> Table:
    """Return the table of the runs that are finished."""
    made = Table("Whole numbers: test accuracy")
    made.columns = (
        "recipe",
        "weights",
        "floats",
        "whole numbers, after training",
        "trained so",
        "in points of floats",
        "its C file",
        "C, a step of one sample",
    )
    for name in recipes:
        for width in bits:
            pairs = [(Run(name, "spiking", s, root), Run(name, f"{width}-bits", s, root)) for s in seeds]
            pairs = [pair for pair in pairs if all(run.finished for run in pair)]
            if not pairs:
                continue
            floats, learned = ([pair[i] for pair in pairs] for i in (0, 1))
            after = [measured(run, width, state_bits, False)["accuracy"] for run in floats]
            found = [measured(run, width, state_bits, True) for run in learned]
            so = [one["accuracy"] for one in found]
            points = [100 * (a - run.accuracy()) for a, run in zip(so, floats, strict=True)]
            c = [one["in_c"] for one in found if "in_c" in one]
            times = [one["microseconds"] for one in found if "microseconds" in one]
            made.add(
                name,
                f"{width} bits",
                accuracies(floats)[0],
                _mean(after),
                _mean(so),
                ", ".join(f"{value:+.2f}" for value in points),
                "the same, to the last sample" if c == so else "not compiled",
                f"{statistics.median(times):.1f} µs" if times else "-",
            )
    made.notes = [
        f"Mean ± standard deviation of the seeds {', '.join(map(str, seeds))}; states of {state_bits} bits. "
        '"After training": the float network, rounded; "trained so": `--weight-bits`, then whole numbers; '
        "points are each seed's, against floats."
    ]
    return made


def _mean(values: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{deviation}"


def main() -> None:
    """Train what is missing, one run at a time; then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "recipes", nargs="*", metavar="RECIPE", default=["digits", "fashion-mnist", "n-mnist"]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--bits", nargs="+", type=int, default=[8, 4, 1])
    parser.add_argument("--state-bits", type=int, default=16)
    parser.add_argument("--runs", type=Path, default=Path("runs/results"))
    parser.add_argument("--tables", action="store_true", help="train nothing")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into this file, too")
    options = parser.parse_args()
    for name in options.recipes:
        find_recipe(name)
        if name not in RECIPES:
            parser.error(f"{name} is not trained in floats by benchmarks/results.py")
    if not options.tables:
        for name in options.recipes:
            for seed in options.seeds:
                for kind in ("spiking", *(f"{bits}-bits" for bits in options.bits)):
                    Run(name, kind, seed, options.runs).train()
    made = table(options.recipes, options.seeds, options.bits, options.state_bits, options.runs)
    here = "; ".join(f"{key}: {value}" for key, value in machine().items())
    text = "\n".join([made.markdown(), here])
    print(text)
    if options.write:
        write(options.write, text, MARKS)


if __name__ == "__main__":
    main()
