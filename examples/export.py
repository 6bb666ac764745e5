"""What a trained network is handed on as: a folder with a card, a folded network, a graph of PyTorch.

NIR, and C for microcontrollers, will come with `spikeloom export`, which does not exist yet. Files go into
a new folder, within the one that $OUT names if it names one.
"""

# %% A short run of a recipe, kept in a folder; on the command line: spikeloom train digits --run-dir run
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open

import spikeloom as sl
from spikeloom.training.card import publish

out = Path(tempfile.mkdtemp(prefix="export-", dir=os.environ.get("OUT")))
recipe = replace(sl.training.find_recipe("digits"), epochs=3)
recipe = recipe.with_options("model_options", {"channels": [16, 32, 32]})
run = sl.training.RunFolder.create(out / "run", "digits", recipe)
result = sl.training.train_run(run)
net = sl.training.load_net(run).eval()
digits = sl.data.load_data("digits")
x, y = digits.inputs(digits.test.pixels), digits.test.labels
with torch.no_grad():
    scores = net(x)
print(f"test accuracy {result.test_accuracy:.4f}")

# %% A folder in the Hugging Face hub's convention: weights that are never unpickled, the network's
# arguments, and a card that says what was measured. (spikeloom card run; `hf upload` publishes it.)
publish(run, out / "published", license="apache-2.0", summary="Digits of 8x8 pixels, for a demonstration.")
print("published:", ", ".join(sorted(f.name for f in (out / "published").iterdir())))
card = (out / "published" / "README.md").read_text().splitlines()
print(*(f"    {line}" for line in card[:40]), "    ...", sep="\n")

back = sl.models.from_pretrained(out / "published")
with torch.no_grad():
    assert torch.equal(back(x), scores)
with safe_open(out / "published" / "model.safetensors", "pt") as file:
    print(f"loaded again: the same scores to the bit, {len(list(file.keys()))} tensors")

# %% For inference batch norms go into the convolutions before them: the same network, with fewer operations.
folded = sl.fold(net)
with torch.no_grad():
    apart = (folded(x) - scores).abs().max().item()
norms = [sum(isinstance(m, torch.nn.BatchNorm2d) for m in n.modules()) for n in (net, folded)]
print(f"folded: {norms[0]} batch norms became {norms[1]}; scores differ by {apart:.1e} at most")

# %% A graph of PyTorch, weights within, for any batch size: a neuron is one operator, `spikeloom::weave`,
# that holds its equations, so that the file needs `import spikeloom` to run, but none of the classes.
batch = torch.export.Dim("batch", min=2)
folded = folded.to(
    memory_format=torch.contiguous_format
)  # as files have it; recipes train with channels last
graph = torch.export.export(folded, (x[:4],), dynamic_shapes={"x": {0: batch}})
torch.export.save(graph, out / "digits.pt2")
loaded = torch.export.load(out / "digits.pt2").module()
with torch.no_grad():
    again = loaded(x)
right, apart = (again.argmax(1) == y).float().mean(), (again - scores).abs().max()
size = (out / "digits.pt2").stat().st_size
print(f"torch.export: {size / 1e3:.0f} kB; saved, loaded, and run on {len(x)} scans:")
print(f"    accuracy {right:.4f}, scores differ by {apart:.1e} at most")
