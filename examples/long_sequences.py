"""Long sequences: state space layers whose outputs fire, computed for all steps at once (SpikingSSM).

A spiking neuron resets, so that each step needs the one before, and a long sequence is a long loop. A small
network can tell the membrane from the last inputs instead (a surrogate dynamic network), for all steps at
once; when trained, the neurons themselves may take over.
"""

# %% What stands for the neuron: 153 numbers, which come along, and how well they know it.
import time

import torch

import spikeloom as sl
from spikeloom.nn import SDNSpiking, load_sdn, sdn_error
from spikeloom.training import Recipe, build, load_samples

error = sdn_error(load_sdn(0.2), length=512, sequences=64)
print(
    f"of noise, {error.agreement:.2%} of the steps fire alike; {error.rate:.3f} spikes a step; "
    f"error of the membrane {error.mse:.1e} of a variance of {error.variance:.1e}"
)

# %% Digits, a pixel a step: 64 steps. (`spikeloom train smnist-spiking_ssm` does so with the 784 of MNIST.)
recipe = Recipe(
    data="digits",
    data_options={"sequence": "raster"},
    model="spiking_ssm",
    model_options={"features": 32, "depth": 2, "state": 8, "dropout": 0.0},
    epochs=6,
    lr=2e-2,
    batch_size=16,
    schedule="one-cycle",
)
data = load_samples(recipe)
net = build(recipe, data)
result = sl.train(net, data, recipe, quiet=True)
print(f"test accuracy {result.test_accuracy:.3f}")

# %% The neurons in the place of what told their membranes: no weight changes.
x, y = data.inputs(data.test.pixels[:]), data.test.labels
net.eval()
with torch.no_grad():
    told = net(x)
    for layer in net.modules():
        if isinstance(layer, SDNSpiking):
            layer.exact = True
    exact = net(x)
print(f"with the neurons themselves {(exact.argmax(1) == y).float().mean():.3f}; ", end="")
print(f"{(exact.argmax(1) == told.argmax(1)).float().mean():.1%} of the answers are the same")

# %% And now a pixel at a time: the state space layers have a recurrent form, the neurons a membrane. What is
# between them, spikes, is the same unless rounding moves one.
net.readout = "none"
with torch.no_grad():
    stream = sl.Stream(net)
    steps = torch.cat([stream(pixel) for pixel in x[:, :50].split(1)])
    whole = net(x[:, :50])
print(f"step by step the scores differ from those of the whole by {(steps - whole).abs().max():.1e}")


# %% A training step of the layer alone, over 128 and 512 steps; and of the neuron in a Python loop.
def seconds(run: torch.nn.Module, length: int) -> float:
    """Return how long forward and backward take, the best of two."""
    found = []
    for _ in range(2):
        x = torch.randn(length, 4, 64, requires_grad=True)
        start = time.perf_counter()
        run(x).sum().backward()
        found.append(time.perf_counter() - start)
    return min(found)


layer = SDNSpiking(64)
for length in (128, 512):
    told = seconds(layer, length)
    with sl.backend("eager"):
        looped = seconds(SDNSpiking(64, exact=True), length)
    print(f"{length} steps: {1e3 * told:.1f} ms; in a loop {1e3 * looped:.0f} ms, ", end="")
    print(f"{looped / told:.1f} times as long")
