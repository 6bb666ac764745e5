"""Neurons with dendrites: four tasks learned one after the other, with and without gates on the branches.

Each task is digits whose pixels are permuted in an order of its own. A network that learns them in turn
forgets the first ones, as each task changes the weights that the others need. A dendritic neuron has
branches with synapses of their own; a gate that opens others for each task keeps most weights out of the way.
"""

# %% Networks of a synapse, a batch norm and neurons; each of 8 branches leaks, and passes a sigmoid, on the
# way to the soma. Points: one branch and no sigmoid, and as many weights.
import torch
from torch import Tensor, nn
from torch.nn import functional

import spikeloom as sl

TASKS = 4
torch.manual_seed(0)
shape = {"input_shape": (1, 8, 8)}
branches = {**shape, "hidden": (40,), "branches": 8}
digits = sl.data.load_data("digits")
nets = {
    "points": sl.create_model("dendritic_snn", hidden=(272,), branches=1, activation=None, **shape),
    "dendrites": sl.create_model("dendritic_snn", **branches),
    "dendrites, gated": sl.create_model("dendritic_snn", contexts=TASKS, active=1, **branches),
}
print(sl.explain(nets["dendrites"], digits.intensity(digits.train.pixels[:8])))

# %% The tasks, and a network's scores: a gated one is told which task it is.
orders = [torch.randperm(64) for _ in range(TASKS)]


def samples(images: sl.data.Images, task: int) -> tuple[Tensor, Tensor]:
    """Return a task's pictures and their classes."""
    x = digits.intensity(images.pixels[:])
    return x.flatten(1)[:, orders[task]].reshape(x.shape), images.labels


def scores(net: nn.Module, x: Tensor, task: int) -> Tensor:
    """Return the scores of the classes."""
    return net(x, task) if net.gates else net(x)


@torch.no_grad()
def accuracies(net: nn.Module) -> list[float]:
    """Return the accuracy in each task."""
    net.eval()
    found = []
    for task in range(TASKS):
        x, y = samples(digits.test, task)
        found.append((scores(net, x, task).argmax(1) == y).float().mean().item())
    return found


# %% One task after the other. What is forgotten is how much less it knows of a task than right behind it.
for name, net in nets.items():
    torch.manual_seed(0)
    behind = []
    for task in range(TASKS):
        x, y = samples(digits.train, task)
        optimizer = torch.optim.Adam(net.train().parameters(), lr=5e-3)
        for rows in torch.cat([torch.randperm(len(x)) for _ in range(5)]).split(64):
            optimizer.zero_grad()
            functional.cross_entropy(scores(net, x[rows], task), y[rows]).backward()
            optimizer.step()
        behind.append(accuracies(net)[task])
    last = accuracies(net)
    weights = sum(p.numel() for p in net.parameters())
    forgot = sum(a - b for a, b in zip(behind[:-1], last[:-1], strict=True)) / (TASKS - 1)
    print(f"{name}: {weights:,} parameters; tasks at the end " + " ".join(f"{a:.2f}" for a in last))
    print(f"{name}: accuracy {sum(last) / TASKS:.3f}, forgotten {forgot:.3f}")
