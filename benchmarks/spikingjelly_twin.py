"""A recipe trained twice: Spikeloom's network, and the same network in SpikingJelly.

    python benchmarks/spikingjelly_twin.py [digits|mnist|fashion-mnist|n-mnist] [--seeds 0 1 2] [--epochs N]

Both networks are convolutions, batch norms, max pooling and LIF with the same equations, surrogate and
initial weights; both are trained by `sl.training.train`, so data, order of batches, augmentation, schedule
and optimiser are the same. The two forwards are compared first. Spikes amplify rounding, so the two runs part
after some steps, and their accuracies are equal within noise, not to the digit.

The seconds are those of the training epochs. The loop counts Spikeloom's spikes, layer by layer, at every
`watch`-th batch, and finds none of SpikingJelly's neurons: that is in Spikeloom's time alone.

It runs where benchmarks/requirements.txt and Spikeloom's own requirements are installed, and prints a row of
Markdown for each library.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import fields, replace

import torch
from torch import Tensor, nn

from spikeloom.allocator import keep_freed_memory
from spikeloom.data import Dataset
from spikeloom.models.conv_snn import ConvSNN
from spikeloom.models.fitting import model_for
from spikeloom.training import RECIPES, Config, Recipe, find_recipe, load_samples, train


class Twin(nn.Module):
    """A conv_snn in SpikingJelly, with its weights: the same layers in the same order."""

    def __init__(self, net: ConvSNN) -> None:
        super().__init__()
        from spikingjelly.activation_based import functional, layer, neuron, surrogate

        self._reset = functional.reset_net
        self.T = net.T
        self.synapses, self.neurons = nn.ModuleList(), nn.ModuleList()
        for synapse, ours in zip(net.synapses, net.neurons, strict=True):
            assert isinstance(synapse, nn.Sequential)
            self.synapses.append(layer.SeqToANNContainer(*synapse))
            tau = float(ours.tau)  # type: ignore[arg-type]
            spike = surrogate.ATan(2.0)
            self.neurons.append(neuron.LIFNode(tau=tau, surrogate_function=spike, step_mode="m"))
        self.head = layer.SeqToANNContainer(*net.head)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores `[B, K]`; the first synapse of what is static is passed once, as in ours."""
        self._reset(self)
        static = x.ndim == 4
        for i, (synapse, neuron) in enumerate(zip(self.synapses, self.neurons, strict=True)):
            x = synapse(x.unsqueeze(0) if static and i == 0 else x)
            if static and i == 0:
                x = x.expand(self.T, *x.shape[1:])
            x = neuron(x)
        scores: Tensor = self.head(x)
        return scores.mean(0)


def network(recipe: Recipe, data: Dataset) -> ConvSNN:
    """Return the recipe's network, with the seed's weights, in channels-last.

    Raises:
        SystemExit: a network, or neurons, of which there is no twin here.
    """
    options = recipe.model_options
    if (
        recipe.model != "conv_snn"
        or options.get("neuron", "LIF") != "LIF"
        or options.get("readout") == "none"
    ):
        raise SystemExit(f"{recipe.model} with {options}: only conv_snn with LIF and a mean has a twin here")
    if set(options.get("neuron_options", {})) - {"tau"}:
        raise SystemExit(f"neuron_options {options['neuron_options']}: only tau is carried over to the twin")
    torch.manual_seed(recipe.seed)
    net = model_for(recipe.model, data.shape, len(data.classes), recipe.T, **options)
    assert isinstance(net, ConvSNN)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def compare(recipe: Recipe, data: Dataset) -> float:
    """Return the share of neurons' outputs in the last layer in which the two differ, from equal weights."""
    net = network(recipe, data)
    twin = Twin(network(recipe, data))
    last: list[Tensor] = []
    for module in (net.neurons[-1], twin.neurons[-1]):
        module.register_forward_hook(lambda _, __, out: last.append(out.detach()))
    x = data.inputs(data.train.pixels[: recipe.batch_size])
    with torch.no_grad():
        net(x), twin(x)
    return float((last[0] != last[1]).float().mean())


def trained(net: nn.Module, data: Dataset, recipe: Recipe) -> tuple[float, float]:
    """Train; return the test accuracy and the seconds of the epochs."""
    config = Config(**{field.name: getattr(recipe, field.name) for field in fields(Config)})
    result = train(net, data, config)
    seconds = result.seconds_per_epoch * result.epochs
    print(f"  {type(net).__name__}: {result.test_accuracy:.4f}, {seconds:.0f} s", flush=True)
    return result.test_accuracy, seconds


def row(name: str, library: str, found: Sequence[tuple[float, float]]) -> str:
    """Return a row of Markdown: what a library's runs reached, and how long they took."""
    accuracies = [accuracy for accuracy, _ in found]
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    each = ", ".join(f"{accuracy:.4f}" for accuracy in accuracies)
    seconds = statistics.median(seconds for _, seconds in found)
    return (
        f"| {name} | {library} | {statistics.mean(accuracies):.4f} ± {spread:.4f} | {each} | {seconds:.1f} |"
    )


def main() -> None:
    """Train both, seed by seed in turns, and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="n-mnist", choices=sorted(RECIPES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="in place of the recipe's")
    options = parser.parse_args()
    keep_freed_memory()
    recipe = replace(find_recipe(options.recipe), epochs=options.epochs or find_recipe(options.recipe).epochs)
    data = load_samples(recipe)
    print(f"outputs that differ, from equal weights: {compare(recipe, data):.2e}")
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    for seed in options.seeds:
        seeded = replace(recipe, seed=seed)
        ours.append(trained(network(seeded, data), data, seeded))
        theirs.append(trained(Twin(network(seeded, data)), data, seeded))
    print("| recipe | library | test accuracy | each seed | s a seed |\n| --- | --- | --- | --- | --- |")
    print(row(options.recipe, "Spikeloom", ours))
    print(row(options.recipe, "SpikingJelly", theirs))
    ratio = statistics.median(b / a for (_, a), (_, b) in zip(ours, theirs, strict=True))
    print(f"\nSpikingJelly's time is {ratio:.2f} of Spikeloom's; {torch.get_num_threads()} threads.")


if __name__ == "__main__":
    main()
