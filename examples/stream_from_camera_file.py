"""A camera's file, read in windows of 10 ms, each answered at once: the state lives on between them.

`python stream_from_camera_file.py recording.raw` takes a file of your own; one whose header does not tell all
needs more, as `00001.bin format=nmnist width=34 height=34`. Without a file a recording is made: what an event
camera sees of digits before it, one after the other. $OUT may name a folder for files; else it is temporary.
"""

# %% What it learns from: 50 scans of each digit, each seen for 100 ms, as ten frames of event counts
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

import spikeloom as sl

WINDOW, SHOWN = 10_000, 100_000  # us
out = Path(os.environ.get("OUT") or tempfile.mkdtemp(prefix="spikeloom-"))
scans = sl.data.load_data("digits")
cut = sl.events.Frames(T=SHOWN // WINDOW, us=WINDOW, start=0, dtype=torch.uint8)


def seen(images, count):
    """Return recordings of `count` scans of each digit, and what the network takes: frames, labels."""
    chosen = torch.cat([(images.labels == digit).nonzero()[:count, 0] for digit in range(10)])
    pictures = scans.intensity(images.pixels[chosen, 0]).numpy()
    made = [sl.events.saccades(p, duration=SHOWN, seed=i) for i, p in enumerate(pictures)]  # 14x14 pixels
    return made, sl.data.Images(torch.stack([cut(r) for r in made]), images.labels[chosen])


(_, train), (unseen, test) = seen(scans.train, 50), seen(scans.test, 10)

# %% The network, trained on whole recordings
data = sl.data.Dataset("moving digits", train, test, scans.classes, white=1.0, in_time=True)
torch.manual_seed(0)
net = nn.Sequential(
    sl.PerStep(nn.Conv2d(2, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.MaxPool2d(2)),
    sl.LIF(tau=2.0),
    sl.PerStep(nn.Conv2d(24, 48, 3, padding=1, bias=False), nn.BatchNorm2d(48)),
    sl.LIF(tau=4.0),
    sl.PerStep(nn.Flatten(), nn.Linear(48 * 7 * 7, 10)),
)
result = sl.train(net, data, sl.training.Config(epochs=5, batch_size=32, lr=5e-3))
print(f"whole recordings: test accuracy {result.test_accuracy:.3f}")

# %% The camera's file, EVT3: a scan of each digit that it has not learned from, 0 to 9
given = [] if "ipykernel" in sys.modules else sys.argv[1:]
path = Path(given[0]) if given else out / "digits.raw"
options = {name: int(v) if v.isdigit() else v for name, v in (pair.split("=") for pair in given[1:])}
if not given:
    parts = [r.replace(t=r.t + digit * SHOWN) for digit, r in enumerate(unseen[::10])]
    sl.events.write(path, sl.events.join(parts))

# %% Each window is a frame, given to the stream as it comes. Scores leak, so that old digits are forgotten.
net.eval()
stream, to_frame, to_size = sl.Stream(net), sl.events.Frames(), sl.events.Resize(14, 14)
scores, answers, frames, outputs, spent = torch.zeros(10), [], [], [], 0.0
with sl.events.open(path, **options) as file, torch.no_grad(), sl.measure.FiringRates(net) as rates:
    for window in file.by_time(WINDOW, start=None if given else 0):
        spent -= time.perf_counter()
        frames.append(to_frame(to_size(window)))  # [1, 2, H, W]: one step
        outputs.append(stream(frames[-1][:, None]))
        scores = 0.8 * scores + outputs[-1][0, 0]
        answers.append(int(scores.argmax()))
        spent += time.perf_counter()
print("answers, ten a line:", *(answers[i : i + 10] for i in range(0, 100, 10)), sep="\n  ")
print(f"{len(answers)} windows, {1e3 * spent / len(answers):.1f} ms each; firing rate {rates.mean():.3f}")
if not given:
    print(f"after 100 ms each, {sum(answers[10 * k + 9] == k for k in range(10))} of 10 digits are right")

# %% Window by window is the same as all at once, but for rounding.
with torch.no_grad():
    apart = (torch.cat(outputs) - net(torch.cat(frames)[:, None])).abs().max()
print(f"the stream's outputs differ from the network's for the whole recording by {apart:.1e} at most")
ax = sl.viz.events(sl.events.read(path, **options)[:400])
ax.figure.savefig(out / "events.png", bbox_inches="tight")
print("plot:", out / "events.png")
