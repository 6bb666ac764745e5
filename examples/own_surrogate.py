"""A surrogate of your own: one lambda; and what the choice is worth.

A spike has no useful derivative, so training puts another one in its place. Which one is a choice, and deep
networks notice. Run it as a script, or cell by cell in an editor that knows `# %%`.
"""

# %% The stand-in is a function of u = h - v_threshold, how far a membrane is above its threshold.
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import nn

import spikeloom as sl

out = Path(os.environ.get("OUT") or tempfile.mkdtemp(prefix="spikeloom-"))
candidates = {
    "ATan": sl.surrogate.ATan(alpha=2.0),
    "mine": sl.surrogate.Custom(lambda u: torch.exp(-4 * u * u)),
    "narrow": sl.surrogate.Custom(lambda u: torch.where(u.abs() < 0.05, 10.0, 0.0)),
}

u = torch.linspace(-2, 2, 401)
ax = Figure(figsize=(6, 3)).add_subplot(xlabel="u, membrane above threshold", ylabel="stand-in for ds/du")
for name, surrogate in candidates.items():
    ax.plot(u, surrogate.derivative(u), label=name)
ax.set_ylim(0, 1.6)
ax.legend()
ax.figure.savefig(out / "surrogates.png", bbox_inches="tight")
print("plot:", out / "surrogates.png")

# %% The lambda is in the kernel: what comes back through one neuron and one step is the lambda's value,
# over tau.
x = torch.tensor([[[0.5, 1.9, 2.0, 3.0]]], requires_grad=True)
sl.LIF(tau=2.0, surrogate=candidates["mine"])(x).sum().backward()
expected = torch.exp(-4 * (x.detach() / 2 - 1) ** 2) / 2
torch.testing.assert_close(x.grad, expected)
print("gradient through one spike:", [round(g, 4) for g in x.grad.flatten().tolist()], "as by hand")

# %% The task: digits, shown for 4 steps, through five layers of spiking neurons, the same weights to start
# from.
scans = sl.data.load_data("digits")


def shown(images):
    """Show each image for 4 steps: `[N, 1, 8, 8]` becomes `[N, 4, 64]`."""
    return sl.data.Images(images.pixels.flatten(1)[:, None].expand(-1, 4, -1), images.labels)


digits = replace(scans, train=shown(scans.train), test=shown(scans.test), in_time=True)


def five_layers(surrogate):
    """Return the network."""
    torch.manual_seed(0)
    layers, width = [], 64
    for _ in range(5):
        layers += [sl.PerStep(nn.Linear(width, 96)), sl.LIF(tau=2.0, v_threshold=0.3, surrogate=surrogate)]
        width = 96
    return nn.Sequential(*layers, sl.PerStep(nn.Linear(width, 10)))


# %% What reaches the first layer, and what comes of it. The loop itself warns of gradients that vanish.
batch, labels, rows = digits.inputs(digits.train.pixels[:256]), digits.train.labels[:256], []
for name, surrogate in candidates.items():
    net = five_layers(surrogate)
    nn.functional.cross_entropy(net(batch).mean(0), labels).backward()
    reached = net[0][0].weight.grad.norm()
    net.zero_grad()
    print(name)
    result = sl.train(net, digits, sl.training.Config(epochs=6, lr=3e-3))
    rows.append((name, reached, result.test_accuracy))

print(f"\n{'surrogate':10} {'gradient of layer 1':>20} {'test accuracy':>14}")
for name, reached, accuracy in rows:
    print(f"{name:10} {reached:20.2e} {accuracy:14.3f}")
