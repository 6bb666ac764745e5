"""Learning rules: one network taught by back-propagation through time and by its alternatives; and STDP.

A rule turns a batch into gradients, and the loop does the rest, so a rule is a word in the configuration.
docs/learning.md says what each leaves out, and what that costs and saves.
"""

# %% Digits, shown for 4 steps. The network has what all these rules can do: LIF with a soft reset, no batch
# norm.
from dataclasses import replace

import torch
from torch import nn

import spikeloom as sl
from spikeloom.training.learning import ClassVotes, WinnerTakesAll

scans = sl.data.load_data("digits")


def in_steps(images: sl.data.Images, code: sl.encoding.Direct | sl.encoding.Poisson) -> sl.data.Images:
    """Return images `[N, 1, 8, 8]` of pixels 0 to 16 in a code, `[N, T, 64]`."""
    steps = code(images.pixels.flatten(1) / 16) * 16
    return sl.data.Images(steps.round().byte().transpose(0, 1), images.labels)


def coded(code: sl.encoding.Direct | sl.encoding.Poisson) -> sl.data.Dataset:
    """Return the data set in a code."""
    return replace(scans, train=in_steps(scans.train, code), test=in_steps(scans.test, code), in_time=True)


# %% The same weights to start from, the same order of samples, the same optimiser: what differs is the rule.
rows = []
data = coded(sl.encoding.Direct(T=4))
for rule in ("bptt", "sltt", "ottt", "decolle", "feedback-alignment"):
    torch.manual_seed(0)
    layers, width = [], 64
    for _ in range(2):
        layers += [
            sl.PerStep(nn.Linear(width, 128)),
            sl.LIF(tau=2.0, v_threshold=0.3, reset="soft", detach_reset=True),
        ]
        width = 128
    net = nn.Sequential(*layers, sl.PerStep(nn.Linear(width, 10)))
    print(rule)
    result = sl.train(net, data, sl.training.Config(learning=rule, epochs=5, lr=1e-2, batch_size=64))
    rows.append((rule, result.test_accuracy, result.seconds_per_epoch))

# %% STDP needs neither labels nor a loss: weights change by when spikes come on their two sides. Neurons
# compete; which digit each one answers to is read afterwards (ClassVotes). Input is spikes, drawn by gray
# values. The change is the whole step, so that the optimiser must add nothing to it: SGD with a rate of 1.
torch.manual_seed(0)
data = coded(sl.encoding.Poisson(T=20, gain=0.5))
linear = nn.Linear(64, 100, bias=False)
nn.init.uniform_(linear.weight, 0, 0.2)
neuron = sl.LIF(10.0, decay_input=False, v_threshold=2.0)
net = nn.Sequential(sl.PerStep(linear), WinnerTakesAll(100, neuron, theta_plus=0.3), ClassVotes(100, 10))
print("stdp")
plain = {"optimizer": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant"}
options = {"total": 6.0, "a_plus": 0.02, "a_minus": 0.002, "tau_plus": 5.0, "tau_minus": 5.0}
config = sl.training.Config(learning="stdp", learning_options=options, epochs=2, batch_size=16, **plain)
result = sl.train(net, data, config)
rows.append(("stdp, one layer, no labels", result.test_accuracy, result.seconds_per_epoch))

# %% What they reach; chance is 0.1. A scan shown unchanged needs no memory: this says that the rules learn,
# and not that what they leave out of the gradient never matters.
print(f"\n{'rule':28} {'accuracy':>8} {'s / epoch':>10}")
for name, accuracy, seconds in rows:
    print(f"{name:28} {accuracy:8.3f} {seconds:10.2f}")
