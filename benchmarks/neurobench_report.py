"""NeuroBench's own report of trained networks, in its unmodified harness, beside ridge regression.

    spikeloom train chewie-reaching --run-dir runs/neurobench/chewie-reaching-0 --seed 0
    spikeloom train mackey-glass --run-dir runs/neurobench/mackey-glass-0 --seed 0
    python benchmarks/neurobench_report.py runs/neurobench/* [--write docs/results.md]

It takes an environment of its own, with `pip install neurobench` beside Spikeloom, since the harness brings
packages under the GPL. A report that says something else than `sl.measure.profile` ends it with exit code 1,
so that no 0.0 of a metric that failed goes into a table. (Called neurobench.py, the script would be imported
in the harness's place.)
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reporting import Table, machine
from results import write
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import spikeloom as sl
from spikeloom.data import Dataset
from spikeloom.measure import neurobench_gaps, neurobench_model, profile
from spikeloom.training import Recipe, RunFolder, load_net, load_samples

MARKS = "<!-- NeuroBench: written by benchmarks/neurobench_report.py -->", "<!-- end of NeuroBench -->"
ALPHAS = (1.0, 10.0, 100.0, 1000.0, 3000.0, 10_000.0)
_HELD_OUT = 0.3  # of the training part: what the ridge's strength is chosen by


def report(net: nn.Module, data: Dataset) -> dict[str, Any]:
    """Return what the harness says of a network on the test recording, one sample of all its steps.

    Raises:
        RuntimeError: it says something else than our own counts, or than the trainer's scores.
    """
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics.static import ConnectionSparsity, Footprint, ParameterCount
    from neurobench.metrics.workload import R2, SMAPE, ActivationSparsity, SynapticOperations
    from neurobench.models import TorchModel

    x, y = data.inputs(data.test.pixels), data.test.labels

    def collate(samples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        parts = zip(*samples, strict=True)
        x, y = (torch.stack(part) for part in parts)
        return x, y.flatten(0, 1)  # the harness's scores are of [N, K]

    loader = DataLoader(TensorDataset(x.transpose(0, 1), y), 1, collate_fn=collate)
    score = R2 if y.shape[-1] == 2 else SMAPE
    metrics = [
        [ParameterCount, Footprint, ConnectionSparsity],
        [ActivationSparsity, SynapticOperations, score],
    ]
    with torch.no_grad():
        model = neurobench_model(net, TorchModel)
        found: dict[str, Any] = Benchmark(model, loader, [], [lambda out: out.flatten(0, 1)], metrics).run(
            quiet=True
        )
    gaps = neurobench_gaps(found, profile(net, x))
    if gaps:
        raise RuntimeError("NeuroBench's report is not what was counted here: " + "; ".join(gaps))
    return found


def lagged(x: Tensor, steps: int) -> Any:
    """Return `[T, steps * F]`: each step beside those before it, zeros before the first."""
    values = x.double().numpy()
    back = [np.concatenate([np.zeros((n, values.shape[1])), values[: len(values) - n]]) for n in range(steps)]
    return np.concatenate(back, 1)


def ridge(recipe: Recipe, steps: int, alpha: float | None) -> tuple[float, Tensor, list[float]]:
    """Return strength, outputs and their R2 of a ridge regression from some steps, on the same split.

    Where no alpha is given, it is the best on the last part of what is learned from.
    """
    from sklearn.linear_model import Ridge
    from sklearn.metrics import r2_score

    def parts(**more: Any) -> list[tuple[Any, Any]]:
        options = {**recipe.data_options, **more}
        data = load_samples(replace(recipe, data_options={**options, "length": 1, "stride": 1}))
        return [
            (lagged(part.pixels.flatten(0, 1), steps), part.labels.flatten(0, 1))
            for part in (data.train, data.test)
        ]

    def fitted(alpha: float, train: tuple[Any, Any], test: tuple[Any, Any]) -> tuple[Tensor, list[float]]:
        found = Ridge(alpha).fit(*train).predict(test[0]).reshape(test[1].shape)
        return torch.from_numpy(found), list(r2_score(test[1], found, multioutput="raw_values"))

    if alpha is None:
        some = parts(held_out=_HELD_OUT)
        alpha = max(ALPHAS, key=lambda alpha: sum(fitted(alpha, *some)[1]))
    return alpha, *fitted(alpha, *parts())


def outputs_r2(net: nn.Module, data: Dataset) -> list[float]:
    """Return R2 of each output by scikit-learn."""
    from sklearn.metrics import r2_score

    with torch.no_grad():
        out = net.eval()(data.inputs(data.test.pixels)).squeeze(1)
    return list(r2_score(data.test.labels.squeeze(0), out, multioutput="raw_values"))


def smape(out: Tensor, y: Tensor) -> float:
    return float(200 * ((out - y).abs() / (out.abs() + y.abs())).mean())


def forecast(net: nn.Module, data: Dataset, recipe: Recipe) -> Tensor:
    """Return a series foretold from its own values, `[T, 1]`: what it said is what it is told next."""
    whole = load_samples(replace(recipe, data_options={**recipe.data_options, "length": 1, "stride": 1}))
    stream = sl.Stream(net.eval())
    seen = data.inputs(data.test.pixels)[0]  # true values up to the first that is foretold
    found = []
    with torch.no_grad():
        stream(whole.train.pixels.flatten(0, 1).unsqueeze(1))
        for _ in range(data.test.labels.shape[1]):
            said = stream(seen.unsqueeze(0))[0]
            found.append(said)
            seen = torch.cat([seen[:, 1:], said], 1)
    return torch.cat(found)


def tables(folders: list[Path]) -> list[Table]:
    """Return the reports of runs, and what they are to be compared with."""
    said = Table(
        "NeuroBench's report",
        (
            "run",
            "score",
            "footprint",
            "connection sparsity",
            "activation sparsity",
            "eff. MACs",
            "eff. ACs",
            "dense",
        ),
        notes=[
            "NeuroBench 2.3's own figures. R2 is the mean of both velocities; sMAPE, in per cent, is of the "
            "next value, one step ahead. Operations are of one step: the harness's, of the whole test "
            "recording, divided by its steps. Each equals what `sl.measure.profile` counts."
        ],
    )
    more = Table(
        "The same split, otherwise",
        ("data", "what", "score"),
        notes=[
            "Ridge regression, by scikit-learn, sees the same split; its history runs over the ends of "
            "reaches, too. A series is foretold freely when a network is told its own value in the place "
            "of the true one, for 10 Lyapunov times after the training part, which is NeuroBench's task: its "
            "marks of 14.79 (ESN) and 13.37 (LSTM) are means over 14 delays, of series that another solver "
            "made. Its reaching recordings (marks: R2 0.66 to 0.71) are others, and not here."
        ],
    )
    rows: dict[str, list[tuple[str, str]]] = {}
    for folder in folders:
        run = RunFolder(folder)
        _, recipe = run.config()
        data, net = load_samples(recipe), load_net(run).eval()
        found, T = report(net, data), data.test.labels.shape[1]
        score = "R2" if "R2" in found else "SMAPE"
        kept = run.read_json("result.json")["scores"][score.lower()]
        if not math.isclose(found[score], kept, rel_tol=1e-3):
            raise RuntimeError(f"{folder}: {score} {found[score]} in the report, {kept} in result.json")
        operations: Mapping[str, float] = found["SynapticOperations"]
        each = (f"{operations[name] / T:,.1f}" for name in ("Effective_MACs", "Effective_ACs", "Dense"))
        said.add(
            folder.name,
            f"{'R2' if score == 'R2' else 'sMAPE'} {found[score]:.4f}",
            f"{found['Footprint']:,} B",
            found["ConnectionSparsity"],
            f"{found['ActivationSparsity']:.4f}",
            *each,
        )
        if score == "R2":
            x, y = outputs_r2(net, data)
            told = f"{folder.name}, each velocity", f"R2 {x:.3f} / {y:.3f}"
        else:
            far = smape(forecast(net, data, recipe), data.test.labels[0])
            told = f"{folder.name}, foretold freely for {T} steps", f"sMAPE {far:.2f}"
        if recipe.data not in rows:
            rows[recipe.data] = yardsticks(recipe, data)
        rows[recipe.data].append(told)
    for name, found_of in rows.items():
        for row in found_of:
            more.add(name, *row)
    return [said, more]


def yardsticks(recipe: Recipe, data: Dataset) -> list[tuple[str, str]]:
    """Return what is no network's, by name."""
    y = data.test.labels[0]
    if recipe.data == "mackey-glass":
        last = data.inputs(data.test.pixels)[:, 0, -1:]
        mean = torch.full_like(y, float(data.train.labels.mean()))
        _, linear, _ = ridge(recipe, 1, 1e-6)
        return [
            ("the value before, as the next", f"sMAPE {smape(last, y):.2f}"),
            ("ridge regression of the same values, as the next", f"sMAPE {smape(linear, y):.2f}"),
            ("the mean of what is learned from, at all times", f"sMAPE {smape(mean, y):.2f}"),
        ]
    rows = []
    for steps, alpha in ((1, 10.0), (1, None), (10, None)):
        chosen, _, (first, second) = ridge(recipe, steps, alpha)
        how = "" if alpha else f", chosen on the last {_HELD_OUT:g} of what is learned from"
        name = f"ridge regression of {steps} bin{'s' * (steps > 1)}, alpha {chosen:g}{how}"
        rows.append((name, f"R2 {first:.3f} / {second:.3f}"))
    return rows


def main() -> None:
    """Report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="folders that `spikeloom train` made"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into this file, too")
    options = parser.parse_args()
    try:
        import neurobench  # noqa: F401
    except ImportError:
        parser.exit(2, "NeuroBench is not here; in an environment of its own: pip install neurobench\n")
    try:
        found = tables(options.runs)
    except RuntimeError as error:
        sys.exit(str(error))
    here = "; ".join(f"{key}: {value}" for key, value in machine().items())
    text = "\n".join([*(table.markdown() for table in found), here])
    print(text)
    if options.write:
        write(options.write, text, MARKS)


if __name__ == "__main__":
    main()
