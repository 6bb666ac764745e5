"""A model card: what a trained network is, where it comes from, and what is known of it, as Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from ..nn.time import spiking_layers
from .markdown import code, line, table, yaml_of

E_MAC, E_AC = 4.6, 0.9  # pJ, 32-bit floating point in 45 nm at 0.9 V (Horowitz 2014)
UNKNOWN = "unknown"
UNMEASURED = "not measured"


@dataclass(frozen=True)
class Operations:
    r"""What a network computes for one sample, all time steps together, in its synapses.

    The energy is an estimate of arithmetic alone, by the convention of the field for 32-bit floating point in
    45 nm (Horowitz 2014, "Computing's energy problem"):

    $$E = 4.6\,\text{pJ} \cdot \text{MACs} + 0.9\,\text{pJ} \cdot \text{ACs}$$

    Attributes:
        macs: multiply-accumulates: inputs that are graded values.
        acs: accumulates: inputs that are spikes.
        e_mac: pJ for a multiply-accumulate.
        e_ac: pJ for an accumulate.
        convention: how they were counted, in words.
        samples: how many samples they are the mean of; None if that is not known.
    """

    macs: float
    acs: float
    e_mac: float = E_MAC
    e_ac: float = E_AC
    convention: str = ""
    samples: int | None = None

    def __post_init__(self) -> None:
        for name in ("macs", "acs", "e_mac", "e_ac"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"operations: {name} = {value!r}; a finite number >= 0 is needed")

    @property
    def energy(self) -> float:
        """The energy of one sample, in mJ."""
        return (self.e_mac * self.macs + self.e_ac * self.acs) * 1e-9

    def __str__(self) -> str:
        of = "" if self.samples is None else f", mean of {self.samples:,} samples"
        how = f"; counted: {self.convention}" if self.convention else ""
        return f"{self.macs:,.0f} MACs and {self.acs:,.0f} ACs a sample, all time steps together{of}{how}"


@dataclass(frozen=True)
class ModelCard:
    """All that a model card says. What is None or empty is said to be unknown, or not measured.

    Attributes:
        name: of the network, as people will call it.
        model: its name among `sl.list_models()`.
        summary: what it is, in a sentence or two.
        license: of the weights, by the hub's identifiers, as "apache-2.0".
        data: the data set's name.
        data_note: what it is, its licence and whom to cite.
        task: the hub's identifier of the task, as "image-classification".
        split: where accuracy was measured.
        command: the command that trains it.
        accuracy: the share of the split's samples whose class was found, in [0, 1], by seed.
        published_seed: whose weights these are.
        firing_rate: spikes per neuron and step, over all neurons.
        layers: the same by layer.
        inputs: what values flow into each layer that multiplies, by its path: "binary" (spikes), "ternary",
            "integer", "graded", or "zeros" alone, as `Profile.inputs` of `sl.measure.profile` has it.
        operations: of one sample.
        parameters: how many, learnable ones.
        hours: of training, one seed.
        hardware: where it was trained.
        versions: of what it was trained with, by name.
        config_hash: of the resolved configuration.
        revision: of the source that trained it.
        settings: of the training, by name.
        limits: what it is not to be used for, or what was not looked at.
        tags: for the hub, besides those that it always has.
    """

    name: str
    model: str = ""
    summary: str = ""
    license: str = UNKNOWN
    data: str = ""
    data_note: str = ""
    task: str = "other"
    split: str = "test"
    command: str = ""
    accuracy: Mapping[int, float] = field(default_factory=dict)
    published_seed: int | None = None
    firing_rate: float | None = None
    layers: Mapping[str, float] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    operations: Operations | None = None
    parameters: int | None = None
    hours: float | None = None
    hardware: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    config_hash: str = ""
    revision: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    limits: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ValueError("model card: a name is needed, as name='digits-net'")
        for seed, value in self.accuracy.items():
            if not 0 <= value <= 1:
                raise ValueError(
                    f"model card: accuracy of seed {seed} is {value!r}; a share in [0, 1] is needed, "
                    "not per cent"
                )
        for what, rate in (("firing_rate", self.firing_rate), *self.layers.items()):
            if rate is not None and not (math.isfinite(rate) and rate >= 0):
                raise ValueError(
                    f"model card: {what} = {rate!r}; spikes per neuron and step are a finite number "
                    ">= 0; leave out what was not measured"
                )
        for what in ("hours", "parameters"):
            value = getattr(self, what)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(
                    f"model card: {what} = {value!r}; a finite number >= 0, or None if not known"
                )

    @classmethod
    def of(cls, net: nn.Module, name: str, x: Tensor | None = None) -> ModelCard:
        """Return a card that says what the network itself tells; with an input, also what it then computes.

        Arguments:
            net: the network.
            name: of the network.
            x: an input as `sl.measure.profile` takes it, on which operations, firing rates and what flows
                into each layer are measured.
        """
        card = cls(name, model=name, parameters=count(net), tags=tags_of(net))
        if x is None:
            return card
        from ..measure import profile  # which knows no model, but is there for all networks

        found = profile(net, x)
        rates = {row.path: row.firing_rate for row in found.rows if row.firing_rate is not None}
        return replace(
            card,
            firing_rate=None if math.isnan(found.firing_rate) else found.firing_rate,
            layers=rates,
            inputs=found.inputs,
            operations=Operations(
                found.energy.macs,
                found.energy.acs,
                found.convention.e_mac,
                found.convention.e_ac,
                str(found.convention),
                found.samples,
            ),
        )

    def markdown(self) -> str:
        """Return the card, metadata first, as the hub reads it from README.md."""
        limits = [f"* {line(text)}" for text in self.limits] or [f"{UNKNOWN}: none were stated."]
        parts = [
            f"---\n{yaml_of(self.metadata())}---",
            f"# {line(self.name)}",
            self.summary or "Its author has not described this network.",
            f'```python\nimport spikeloom as sl\n\nnet = sl.models.from_pretrained("{_USE}")\n```',
            "## Results",
            table(self._results()),
            *self._accuracies(),
            *self._rates(),
            *self._flow(),
            "## Training",
            table(self._training()),
            f"Command:\n\n{code(self.command)}" if self.command else f"Command: {UNKNOWN}.",
            *([table([(k, _value(v)) for k, v in self.settings.items()])] if self.settings else []),
            "## Limits",
            "\n".join(limits),
        ]
        return "\n\n".join(parts) + "\n"

    def metadata(self) -> dict[str, Any]:
        """Return the card's metadata in the hub's schema."""
        tags = dict.fromkeys(["spikeloom", *self.tags])
        found: dict[str, Any] = {"license": self.license, "library_name": "spikeloom", "tags": list(tags)}
        if self.task != "other":
            found["pipeline_tag"] = self.task
        if self.data:
            found["datasets"] = [self.data]
        if self.accuracy and self.data:
            many = len(self.accuracy) > 1
            mean = statistics.fmean(self.accuracy.values())
            first = {
                "type": "accuracy",
                "value": mean,
                "name": f"accuracy, mean of {len(self.accuracy)} seeds" if many else "accuracy",
            }
            each = [
                {"type": "accuracy", "value": value, "name": f"accuracy, seed {seed}", "args": {"seed": seed}}
                for seed, value in self.accuracy.items()
            ]
            found["metrics"] = ["accuracy"]
            found["model-index"] = [
                {
                    "name": self.name,
                    "results": [
                        {
                            "task": {"type": self.task},
                            "dataset": {"name": self.data, "type": self.data, "split": self.split},
                            "metrics": [first, *(each if many else [])],
                        }
                    ],
                }
            ]
        return found

    def _results(self) -> list[tuple[str, str]]:
        values = list(self.accuracy.values())
        accuracy = UNMEASURED
        if values:
            accuracy = f"{statistics.fmean(values):.2%}"
            if len(values) > 1:
                accuracy += (
                    f" ± {statistics.stdev(values):.2%} (mean and standard deviation, {len(values)} seeds)"
                )
            elif self.published_seed is not None:
                accuracy += " (one seed)"
        rate = (
            UNMEASURED if self.firing_rate is None else f"{self.firing_rate:.4f} spikes per neuron and step"
        )
        done = self.operations
        energy = UNMEASURED
        if done:
            energy = (
                f"{done.energy:.4g} mJ a sample by the 45 nm convention (Horowitz 2014, 32-bit floats): "
                f"{done.e_mac:g} pJ a MAC, {done.e_ac:g} pJ an AC; an estimate of arithmetic alone"
            )
        return [
            (f"Accuracy ({self.split} split)", accuracy),
            ("Firing rate", rate),
            ("Operations", str(done) if done else UNMEASURED),
            ("Energy", energy),
            ("Parameters", UNKNOWN if self.parameters is None else f"{self.parameters:,}"),
        ]

    def _accuracies(self) -> list[str]:
        if not self.accuracy:
            return []
        rows = [
            (f"seed {seed}", f"{value:.4%}" + (", these weights" if seed == self.published_seed else ""))
            for seed, value in self.accuracy.items()
        ]
        return [table(rows, ("Seed", "Accuracy"))]

    def _rates(self) -> list[str]:
        rows = [(name, f"{rate:.4f}") for name, rate in self.layers.items()]
        return [table(rows, ("Layer", "Spikes per neuron and step"))] if rows else []

    def _flow(self) -> list[str]:
        if not self.inputs:
            return []
        kinds = {path: set(kind.split(" x ")) for path, kind in self.inputs.items()}
        mixed = [path for path, some in kinds.items() if some != {"binary"}]
        silent = sum("zeros" in some for some in kinds.values())
        pure, first = len(self.inputs) - len(mixed), next(iter(self.inputs))
        text = (
            "The values that reached each layer that multiplies, of products of data both operands': binary "
            "is spikes (0 and 1), ternary has -1, too, integer is other whole numbers, graded the rest. "
            f"{pure} of {len(self.inputs)} layers took spikes alone"
        )
        if mixed == [first]:
            text += f", all but {first}, which takes the input"
        if silent:
            text += f"; {silent} saw nothing but zeros, which tells nothing of them"
        rows = table(list(self.inputs.items()), ("Layer", "Values"))
        return ["## What flows into each layer", f"{text}.", rows]

    def _training(self) -> list[tuple[str, str]]:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        data = f"{self.data}: {self.data_note}" if self.data_note else self.data
        seeds = ", ".join(map(str, self.accuracy))
        hours = UNKNOWN if self.hours is None else f"{self.hours:.3g}, one seed"
        rows = [
            ("Model", self.model),
            ("Data", data),
            ("Seeds", seeds),
            ("Hours", hours),
            ("Hardware", self.hardware),
            ("Versions", versions),
            ("Configuration's hash", self.config_hash),
            ("Source revision", self.revision),
        ]
        return [(name, text or UNKNOWN) for name, text in rows]


_USE = "this folder, or this repository's name"


def tags_of(net: nn.Module) -> tuple[str, ...]:
    """Return the hub's tags that say what kind of network it is."""
    return ("spiking-neural-network",) if any(True for _ in spiking_layers(net)) else ()


def count(net: nn.Module) -> int:
    """Return how many learnable numbers a network has."""
    return sum(p.numel() for p in net.parameters())


def _value(value: Any) -> str:
    return UNKNOWN if value is None else f"`{line(str(value))}`"
