"""Networks whose neurons fire once: trained, and how early they decide; average against max pooling.

    python examples/first_spikes.py                  # handwritten digits of 8x8 pixels
    python examples/first_spikes.py fashion-mnist    # the recipe ttfs-fashion-mnist; or mnist

Files go into a new folder, within the one that $OUT names if it names one.
"""

# %% The recipe, and what it is compared with.
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import spikeloom as sl

out = Path(tempfile.mkdtemp(prefix="first-spikes-", dir=os.environ.get("OUT")))
name = sys.argv[1] if len(sys.argv) > 1 else "digits"
if name == "digits":
    recipe = replace(sl.training.find_recipe("digits"), model="ttfs_net", T=6, epochs=6, schedule="one-cycle")
    recipe = replace(recipe, model_options={"channels": [16, 32], "pools": [1, 2]})
else:
    recipe = sl.training.find_recipe(f"ttfs-{name}")
runs = {
    "average pooling": {},
    "max pooling": {"pool": "max"},
    "none of the four": {"pool": "max", "init": "kaiming", "norm": "none", "weighting": "uniform"},
}

# %% Of 1,000 test images, what a network says is read step by step.
test = sl.data.load_data(recipe.data).test
x = test.pixels[:1000] / float(test.pixels.max())
y = test.labels[:1000]

# %% Each is trained, and then asked for the votes of each step: how early are they enough?
for title, options in runs.items():
    print(title)
    its = recipe.with_options("model_options", options)
    run = sl.training.RunFolder.create(out / title.replace(" ", "-"), name, its)
    result = sl.training.train_run(run)
    net = sl.training.load_net(run).eval()
    net.readout = "none"
    early = sl.measure.first_spikes(net, x, net.scores.weights(), y)
    fired = ", ".join(f"{share:.2f}" for share in early.fired.values())
    print(f"{title}: test accuracy {result.test_accuracy:.4f}; of the first spike {early.first_accuracy:.4f}")
    print(
        f"  steps of {net.T}: {early.latency:.2f} to a first spike, {early.safe_latency:.2f} until it is safe"
    )
    print(f"  {early.spikes:.0f} spikes a sample; share of neurons that fired, by layer: {fired}")
