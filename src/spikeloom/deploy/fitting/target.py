"""Targets: what a device gives, read from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from ...names import UnknownName, unknown


@dataclass(frozen=True)
class Cores:
    """What cores give; a limit that is not said is not checked.

    Arguments:
        count: how many there are; 0 where `weights` or `neurons` has one a core.
        whole_layers: whether a layer takes one core, and a core has one layer; else layers are cut to fit.
        weights: words for weights, of each core or, one number, of all.
        neurons: the neurons whose states fit.
        biases: how many biases fit.
        bytes: of memory for weights and states together.
        weight_memory: "plain", or "banks": $c\\,2^{\\lceil log_2 k_x k_y \\rceil + \\lceil log_2 f \\rceil}$.
    """

    count: int = 0
    whole_layers: bool = False
    weights: int | list[int] = 0
    neurons: int | list[int] = 0
    biases: int = 0
    bytes: int = 0
    weight_memory: str = "plain"

    def __len__(self) -> int:
        return max(self.count, *(len(v) for v in (self.weights, self.neurons) if isinstance(v, list)), 0)

    def of(self, name: str, core: int) -> int:
        """Return what a core gives of "weights" or "neurons"; 0 for no limit."""
        value = getattr(self, name)
        return int(value[core]) if isinstance(value, list) else int(value)


@dataclass(frozen=True)
class Limits:
    """What a layer may be; 0 or an empty list where nothing is said.

    Arguments:
        kernel, padding, channels, groups, dilation: of a convolution, at most.
        strides: which there are.
        input_size, output_size: height and width, at most.
        pools: the factors of sum or average pooling behind a layer.
        fan_in: from how many a neuron hears.
        fan_out: how many layers hear a layer.
    """

    kernel: int = 0
    strides: list[int] = field(default_factory=list)
    padding: int | None = None
    channels: int = 0
    input_size: int = 0
    output_size: int = 0
    pools: list[int] = field(default_factory=list)
    fan_in: int = 0
    fan_out: int = 0
    groups: int = 0
    dilation: int = 0


@dataclass(frozen=True)
class Total:
    """What the device has for all layers: neurons of hidden layers, and of the last one."""

    hidden: int = 0
    outputs: int = 0


@dataclass(frozen=True)
class Target:
    """A device, as its file has it.

    Arguments:
        name, title: what it is called.
        source: where the numbers are from.
        note: what is our reading, or not checked.
        layers: the classes of synapses that it has.
        cores, limits, total: what it gives.
        weight_bits: of a weight; 0 for any.
        state_bits: of a neuron's state; told, not checked.
        decay: "any", or "shift": membranes leak by 1 - 2^-k.
        recurrence: whether a layer may hear itself.
    """

    name: str
    title: str
    source: str
    layers: list[str]
    note: str = ""
    cores: Cores = Cores()
    limits: Limits = field(default_factory=Limits)
    total: Total = Total()
    weight_bits: int = 0
    state_bits: int = 0
    decay: str = "any"
    recurrence: bool = True


def list_targets() -> list[str]:
    """Return the names of the devices that are known."""
    files = resources.files(__package__).joinpath("targets").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def load_target(target: str | Path | Target) -> Target:
    """Return a device by name, or of a file of one's own.

    Raises:
        UnknownName: no such device.
        ValueError: a file that cannot be read, or says what no device has.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if isinstance(target, Target):
        return target
    if str(target).endswith((".yaml", ".yml")):
        file: Any = Path(target)
    elif target in list_targets():
        file = resources.files(__package__).joinpath("targets", f"{target}.yaml")
    else:
        raise unknown("target", str(target), [*list_targets(), "FILE.yaml"])
    try:
        data = YAML(typ="safe").load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ValueError(f"{target} cannot be read as a target: {error}") from error
    try:
        parts = {"cores": Cores, "limits": Limits, "total": Total}
        made = {name: _made(kind, (data or {}).get(name) or {}) for name, kind in parts.items()}
        found: Target = _made(Target, {**(data or {}), **made})
    except (TypeError, AttributeError, UnknownName) as error:
        raise ValueError(f"{target} is no target: {error}") from error
    return found


def _made(kind: Any, values: Mapping[str, Any]) -> Any:
    known = {f.name: f for f in fields(kind)}
    for name, value in values.items():
        if name not in known:
            raise unknown(f"entry of {kind.__name__.lower()}", str(name), known)
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(v, (int, float)) and v < 0 for v in numbers):
            raise TypeError(f"{name} is {value}; no limit is negative")
        wanted = str(known[name].type)
        plain = {"str": str, "bool": bool, "int": int, "list[int]": list, "list[str]": list}
        if wanted in plain and not isinstance(value, plain[wanted]):
            raise TypeError(f"{name} is {value!r}, but {wanted} is needed")
    return kind(**values)
