"""Several devices: two processes that train as one does, shown by comparing their weights.

With GPUs each process has one, and the same lines run. Here two processes share the CPU and talk by gloo.
They are started anew and import this file, so what starts them stands behind `if __name__ == "__main__"`,
which every script that trains on several devices needs (a notebook does not).

On the command line: `spikeloom train digits --devices 2`, `--strategy fsdp` to share weights out,
`--launcher ray` for a cluster.
"""

# %% The data: digits, shown for 3 steps; the network: without batch norm, whose statistics each process
# takes from its own half of the batch, so that two processes would not be one
import copy
from dataclasses import replace

import torch
from torch import nn

import spikeloom as sl


def shown(images: sl.data.Images) -> sl.data.Images:
    """Show each image for 3 steps: `[N, 1, 8, 8]` becomes `[N, 3, 64]`."""
    return sl.data.Images(images.pixels.flatten(1)[:, None].expand(-1, 3, -1), images.labels)


def network() -> nn.Module:
    """Return the network, the same each time."""
    torch.manual_seed(0)
    return nn.Sequential(
        sl.PerStep(nn.Linear(64, 100)), sl.PLIF(v_threshold=0.2), sl.PerStep(nn.Linear(100, 10))
    )


# %% Two epochs of 20 updates. A batch of 72 is 36 scans a process; gradients are averaged over the
# processes, weighted by how many scans each had, as the last batch is smaller and odd. float64, since in
# float32 rounding decides now and then whether a membrane that is almost at its threshold fires.
config = sl.training.Config(
    epochs=2, batch_size=72, device="cpu", precision="fp64", optimizer="sgd", lr=0.2, seed=0
)

# %%
if __name__ == "__main__":
    scans = sl.data.load_data("digits")
    digits = replace(scans, train=shown(scans.train), test=shown(scans.test), in_time=True)
    start, found = network().double().state_dict(), {}
    for devices in (1, 2):
        net = network().double()
        result = sl.train(net, digits, replace(config, devices=devices))
        found[devices] = copy.deepcopy(net.state_dict())
        print(f"{devices} process(es): test accuracy {result.test_accuracy:.4f}")

    # %% The same weights, but for the order in which numbers were added up
    for name, alone in found[1].items():
        moved = (alone - start[name]).abs().max()
        apart = (alone - found[2][name]).abs().max()
        print(f"{name:8} moved by {moved:.3f}, and differs by {apart:.1e}")
        assert apart < 1e-9 * moved
    print("two processes end where one does, within float64 rounding")
