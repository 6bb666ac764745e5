"""Units that are mostly silent: an EGRU learns to write Python, and a silent unit costs nothing.

An EGRU is a gated recurrent unit that speaks when its state passes a threshold; what hears it hears events,
not states. Character by character on a CPU, products with silent units are left out.
"""

# %% A text that every Python has: the source of a module of its library, in stretches of 64 bytes; the label
# of each is the next one.
import argparse
import inspect
import math
import time

import torch

import spikeloom as sl
from spikeloom.nn import activity_penalty
from spikeloom.training import per_step_cross_entropy

source = torch.tensor(list(inspect.getsource(argparse).encode()))
count = (len(source) - 1) // 64
x = source[: 64 * count].view(count, 64)
y = source[1 : 64 * count + 1].view(count, 64)
learned = count * 9 // 10
print(f"{count} stretches of 64 bytes, of which {learned} are learned from")

# %% A layer of 192 units, and what is minimised: the surprise at the next byte, and how often units speak.
torch.manual_seed(0)
net = sl.create_model("egru", vocabulary=256, num_classes=256, hidden=(192,), trace=False, readout="none")
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
EPOCHS = 2
steps = math.ceil(EPOCHS * learned / 32)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps + 1)
for rows in torch.cat([torch.randperm(learned) for _ in range(EPOCHS)]).split(32):
    optimizer.zero_grad()
    (spoken,) = net.layers(x[rows].T)
    loss = per_step_cross_entropy(net.scores(spoken), y[rows]) + 3.0 * activity_penalty(spoken)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    schedule.step()
net.eval()
with torch.no_grad():
    (spoken,) = net.layers(x[learned:].T)
    bits = float(per_step_cross_entropy(net.scores(spoken), y[learned:])) / math.log(2)
print(f"{bits:.2f} bits a byte of a text not seen (8 of one unknown)")
print(f"silent: {(spoken == 0).float().mean():.3f} of all units and steps")

# %% It writes, a byte at a time; what it has said is in the state of a stream.
stream = sl.Stream(net)
said = list(b"    def ")
with torch.no_grad():
    scores = stream(torch.tensor(said).unsqueeze(1))
    for _ in range(300):
        said.append(int(torch.multinomial((scores[-1] / 0.8).softmax(-1), 1)))
        scores = stream(torch.tensor([[said[-1]]]))
print(bytes(said).decode(errors="replace"))


# %% What silence saves: the layer alone, a step a call, with silent units left out and with all of them.
def microseconds(skip: bool) -> float:
    """Return the median time of a step over a text that it has not seen, read byte by byte."""
    cell = net.cells[0]
    cell.skip_silent = skip
    stream, found = sl.Stream(cell), []
    with torch.no_grad():
        for one in net.embedding(x[learned:].flatten()[:400]).unsqueeze(1).unsqueeze(1):
            start = time.perf_counter()
            stream(one)
            found.append(time.perf_counter() - start)
    return 1e6 * sorted(found)[len(found) // 2]


few, all_units = microseconds(True), microseconds(False)
print(f"a step takes {few:.0f} us, with silent units {all_units:.0f} us: {all_units / few:.2f} times as long")
