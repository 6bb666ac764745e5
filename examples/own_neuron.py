"""A neuron of your own: its equations for one time step are all that it takes to train it at kernel speed.

Run it as a script, or cell by cell in an editor that knows `# %%`. Plots go into the folder that $OUT
names, or into a temporary one.
"""

# %% Two states: a membrane v that leaks, and a fatigue w that each spike adds to, and that holds v down
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

import spikeloom as sl

out = Path(os.environ.get("OUT") or tempfile.mkdtemp(prefix="spikeloom-"))


class Tired(sl.Neuron):
    r"""h = v + (x - v)/tau - w;  s = H(h - 1);  v' = h (1 - s);  w' = rho w + b s."""

    states = ("v", "w")

    def __init__(self, tau=2.0, rho=0.9, b=0.3):
        super().__init__(surrogate=sl.surrogate.ATan())
        self.tau, self.rho, self.b = sl.param(tau, learnable=True), sl.param(rho), sl.param(b, learnable=True)

    def step(self, x, v, w):
        """Return the spike and the next states."""
        h = v + (x - v) / self.tau - w
        s = self.spike(h - 1.0)
        return s, h * (1 - s), self.rho * w + self.b * s


# %% Under a constant current it fires fast, then tires. `run` gives the course of states beside the spikes.
current = torch.full((80, 1, 1), 2.4)
spikes, state, traces = Tired().run(current, record=("v", "w"))
print("steps from spike to spike:", spikes.flatten().nonzero().flatten().diff().tolist())
ax = sl.viz.membrane(traces["v"], 1.0, spikes)
ax.plot(traces["w"].detach().flatten(), color="darkorange", label="fatigue w")
ax.legend()
ax.figure.savefig(out / "tired.png", bbox_inches="tight")

# %% The kernel was made from these equations. Run step by step in PyTorch, they are the truth to compare
# with.
found = {}
for backend in ("numba", "eager"):
    neuron, x = Tired().double(), 4 * torch.rand(20, 8, 500, generator=torch.manual_seed(0)).double()
    with sl.backend(backend):
        made = neuron(x.requires_grad_())
        (made * torch.arange(20.0)[:, None, None]).sum().backward()
    found[backend] = made, x.grad, neuron.tau.grad, neuron.b.grad
(spikes, *kernel), (true_spikes, *truth) = found.values()
assert torch.equal(spikes, true_spikes)
off = max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(kernel, truth, strict=True))
print(f"of 80,000 neuron-steps all spikes are equal; gradients differ by {off:.1e} at most, relatively")
print(sl.explain(Tired(), current))

# %% It trains as the built-in ones do, tau and b with the weights. Digits come row by row, a row of 8
# pixels a step, so that the network needs memory to tell them.
scans = sl.data.load_data("digits")
train, test = (sl.data.Images(part.pixels[:, 0], part.labels) for part in (scans.train, scans.test))
rows = replace(scans, train=train, test=test, in_time=True)  # [N, 8, 8]: axis 1 is time
for neuron in (sl.LIF, Tired):
    torch.manual_seed(0)
    net = nn.Sequential(
        sl.PerStep(nn.Linear(8, 128), nn.BatchNorm1d(128)),
        neuron(),
        sl.PerStep(nn.Linear(128, 128), nn.BatchNorm1d(128)),
        neuron(),
        sl.PerStep(nn.Linear(128, 10)),
    )
    result = sl.train(net, rows, sl.training.Config(epochs=8, lr=1e-2))
    print(f"{neuron.__name__}: test accuracy {result.test_accuracy:.3f}")
learned = [f"{layer.tau.item():.2f} and b {layer.b.item():.2f}" for layer in (net[1], net[3])]
print("learned: tau", ", tau ".join(learned), "(from tau 2.00 and b 0.30)\nplot:", out / "tired.png")
