"""Two runs of a recipe, compared on one page: curves, mistakes, spikes, operations.

On the command line: `spikeloom train digits --run-dir a`, `spikeloom report a b`. Files go into a new
folder, within the one that $OUT names if it names one.
"""

# %% The recipe of digits, shorter, with two kinds of neurons; all else is equal, the seed included.
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import spikeloom as sl
from spikeloom.report import write

out = Path(tempfile.mkdtemp(prefix="compare-runs-", dir=os.environ.get("OUT")))
recipe = replace(sl.training.find_recipe("digits"), epochs=4)
recipe = recipe.with_options("model_options", {"channels": [16, 32, 32]})
runs = {
    "spikes": recipe,
    "relu": recipe.with_options("model_options", {"neuron": "ReLU"}),
}
results = {}
for name, its in runs.items():
    print(name)
    run = sl.training.RunFolder.create(out / name, "digits", its)
    results[name] = sl.training.train_run(run)

# %% Training wrote all that there is to say into the folders: config.yaml, metrics, weights, checkpoints,
# result.json. `evaluate` measures a folder's network again.
print(sorted(path.name for path in (out / "spikes").iterdir()))
assert (
    sl.training.evaluate(sl.training.RunFolder(out / "spikes")).test_accuracy
    == results["spikes"].test_accuracy
)

# %% One page of HTML that needs neither a network nor a server.
page = write([out / name for name in runs], out / "report.html")
for name, result in results.items():
    rates = ", ".join(f"{rate:.3f}" for rate in result.firing_rates.values())
    print(f"{name:7} test accuracy {result.test_accuracy:.4f}, firing rates: {rates or '-'}")
print(f"report: {page}, {page.stat().st_size / 1e3:.0f} kB; open it in a browser")
