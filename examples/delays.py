"""Synapses with delays: motion is seen by a single layer, because it hears the past at several delays.

A texture moves up, down, left or right, and becomes events of a camera. One convolution over space and past
(Grimaldi & Perrinet, 2023) tells which way: each weight is a synapse with a delay of its own.
"""

# %% Movies: noise that moves by half a pixel a frame, a frame a millisecond, and its events.
import math
import os
import tempfile
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

import spikeloom as sl
from spikeloom.events.representations import Frames
from spikeloom.events.synthesis import Pixels, moving_texture, video_to_events

out = Path(os.environ.get("OUT") or tempfile.mkdtemp(prefix="spikeloom-"))
SIZE, STEPS, CAMERA = 16, 24, Pixels(on=0.15, off=0.15)


def movies(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return events `[T, count, 2, H, W]`, and which way each movie goes: right, down, left or up."""
    way = torch.arange(count) % 4
    cut, found = Frames(T=STEPS, us=1000, start=0, binary=True), []
    for n, turn in enumerate((way * math.pi / 2).tolist()):
        light = moving_texture(SIZE, SIZE, STEPS + 1, direction=turn, speed=0.5, seed=seed + n)
        found.append(cut(video_to_events(light, range(0, 1000 * STEPS + 1, 1000), CAMERA)))
    return torch.stack(found, 1).float(), way


x, y = movies(64, 0)
new, answers = movies(64, 10_000)


# %% Two detectors, one that hears the last 6 steps, and one that hears the present alone: it can tell along
# which line things move, not which way.
def accuracy(net: torch.nn.Module) -> float:
    """Return the share of new movies whose way is found."""
    return float((net(new).argmax(1) == answers).float().mean())


nets = {}
for delays in (1, 6):
    torch.manual_seed(0)
    net = sl.create_model("hd_snn", num_classes=4, image_size=SIZE, kernel=7, delays=delays, T=STEPS)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(12):
        for rows in torch.randperm(len(y)).split(16):
            optimizer.zero_grad()
            net.loss(x[:, rows], y[rows]).backward()
            optimizer.step()
    nets[delays] = net.eval()
    print(f"{delays} delay(s), 0 to {delays - 1} steps: test accuracy {accuracy(net):.3f}")

# %% What it has learned for "right": where it looks for events 1 to 5 steps before one of the same polarity.
# It is to the left, and the farther back, the farther.
kernel = nets[6].weight.detach()[0, 0].flip(0)
for delay, row in enumerate(kernel.clamp(min=0).sum(1)[1:], 1):
    print(f"{delay} steps before: column {float((row * torch.arange(-3, 4)).sum() / row.sum()):+.2f}")
figure = Figure(figsize=(9, 2))
for delay, axis in enumerate(figure.subplots(1, 6)):
    axis.imshow(kernel[delay], cmap="coolwarm", vmin=-kernel.abs().max(), vmax=kernel.abs().max())
    axis.set_title(f"{delay} ms before")
figure.savefig(out / "delays.png")

# %% In chunks, as from a camera, the same is heard, as a stream keeps the steps before. Most synapses may go.
net = nets[6]
net.readout = "none"
with torch.no_grad():
    stream = sl.Stream(net)
    apart = (torch.cat([stream(chunk) for chunk in new.split(5)]) - net(new)).abs().max()
print(f"scores of chunks of 5 steps differ from those of the whole by {apart:.1e}")
net.readout = "mean"
for share in (10, 100):
    net.keep(count := net.weight.numel() // share)
    print(f"{count} of {net.weight.numel():,} synapses left: test accuracy {accuracy(net):.3f}")
