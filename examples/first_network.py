"""A first spiking network: built, trained on digits, measured, explained, and looked at.

Run it as a script, or cell by cell in an editor that knows `# %%`. Plots go into the folder that $OUT
names, or into a temporary one; in a notebook they are shown, too.
"""

# %% The data: 1,797 scans of digits, 8x8 pixels, bundled with scikit-learn
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

import spikeloom as sl

T = 4
out = Path(os.environ.get("OUT") or tempfile.mkdtemp(prefix="spikeloom-"))


def shown(images: sl.data.Images) -> sl.data.Images:
    """Show each image for T steps: `[N, C, H, W]` becomes `[N, T, C, H, W]`, without a copy."""
    return sl.data.Images(images.pixels[:, None].expand(-1, T, -1, -1, -1), images.labels)


scans = sl.data.load_data("digits")
digits = replace(scans, train=shown(scans.train), test=shown(scans.test), in_time=True)
x = digits.inputs(digits.test.pixels)  # time first, always
print(f"{len(digits.train)} scans to learn from, {len(digits.test)} to be asked about: x is {list(x.shape)}")

# %% The network. PerStep applies ordinary layers to all steps at once; only neurons see time. The first
# neurons make spikes of gray values, and the last layer's scores are averaged over time by the loss.
torch.manual_seed(0)
net = nn.Sequential(
    sl.PerStep(nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32)),
    sl.LIF(tau=2.0),
    sl.PerStep(nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.MaxPool2d(2)),
    sl.LIF(tau=2.0),
    sl.PerStep(nn.Flatten(), nn.Linear(32 * 4 * 4, 10)),
)
print(sl.explain(net, x[:, :64]))  # which kernel runs for which neuron, and why

# %% Training: any field of Config may be changed. folder=... would keep checkpoints and metrics.
result = sl.train(net, digits, sl.training.Config(epochs=6, lr=5e-3, seed=0))
print(f"test accuracy {result.test_accuracy:.3f}, {result.seconds_per_epoch:.2f} s an epoch")

# %% It is a network of PyTorch like any other. net(x) always starts from the initial state: nothing to reset.
net.eval()
with torch.no_grad(), sl.measure.FiringRates(net) as rates:
    scores = net(x)
    assert torch.equal(net(x), scores)
right = (scores.mean(0).argmax(1) == digits.test.labels).float().mean()
print(f"by hand: {right:.3f}")
early = [(scores[: t + 1].mean(0).argmax(1) == digits.test.labels).float().mean() for t in range(T)]
print("accuracy if it must answer after step 1, 2, ...:", ", ".join(f"{a:.3f}" for a in early))

# %% What it does and costs: spikes turn multiplications into additions, and silence into nothing.
found = sl.measure.profile(net, x)
print(found)


# %% What it looks like inside: four channels of the second layer for one scan, and the layers' firing rates.
def kept(ax, name):
    """Save a plot; a notebook shows what a cell ends with."""
    ax.figure.savefig(out / name, bbox_inches="tight")
    print("plot:", out / name)
    return ax


with torch.no_grad():
    spikes = net[:4](x[:, :1])
kept(sl.viz.raster(spikes[:, :, :4]), "raster.png")
kept(sl.viz.rates(rates.layers()), "rates.png")
