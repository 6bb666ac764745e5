"""Recipes: what is trained on what, and how; plain values that a run folder can hold."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ..names import unknown
from .config import Config


@dataclass(frozen=True, kw_only=True)
class Recipe(Config):
    """Everything that determines a training run.

    Attributes:
        data: the data set's name.
        data_options: how its samples are made, as bands=40 of sounds.
        model: the network's name.
        model_options: its arguments, in place of the defaults.
        weight_bits: to how many bits the weights of linear and convolutional layers are rounded while they
            learn (`sl.deploy.quantise_weights`); none for floats.
        frames: how a recording of events is cut: equal durations ("time"), or equal numbers of events
            ("count").
    """

    data: str = ""
    data_options: dict[str, Any] = field(default_factory=dict)
    model: str = "conv_snn"
    model_options: dict[str, Any] = field(default_factory=dict)
    weight_bits: int | None = None
    frames: Literal["time", "count"] = "time"

    @property
    def hash(self) -> str:
        """Return 12 digits that differ for recipes that differ."""
        text = json.dumps(asdict(self), sort_keys=True, default=list)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def with_options(self, name: str, options: Mapping[str, Any]) -> Recipe:
        """Return the recipe with some of a table's values replaced, as those of `model_options`."""
        changed: dict[str, Any] = {name: {**getattr(self, name), **options}}
        return replace(self, **changed)


@dataclass(frozen=True)
class Expected:
    """What a recipe gave when it was measured; `docs/results.md` has the runs.

    Attributes:
        accuracy: on the test set, the mean of seeds 0, 1, 2; or the score.
        seconds: a run, on one core.
        score: of numbers, what was measured in the place of accuracy.
    """

    accuracy: float
    seconds: float
    score: str = ""


RECIPES = {
    "digits": Recipe(data="digits", model_options={"channels": [32, 64, 64], "pools": [1, 2, 2]}, epochs=15),
    "mnist": Recipe(data="mnist", T=2, epochs=4, batch_size=128, schedule="one-cycle", shift=1),
    "fashion-mnist": Recipe(
        data="fashion-mnist", T=2, epochs=6, batch_size=128, schedule="one-cycle", flip=True
    ),
    "n-mnist": Recipe(data="n-mnist-1100", T=8, epochs=15, batch_size=32, shift=1),
    "cifar10-subset": Recipe(
        data="cifar10-jpeg-subset", T=2, epochs=15, schedule="one-cycle", flip=True, shift=2
    ),
    "fsdd": Recipe(
        data="fsdd",
        data_options={"bands": 32, "threshold": 0.1},
        model="dense_snn",
        model_options={"hidden": [256, 256], "dropout": 0.2},
        T=60,
        epochs=15,
        schedule="one-cycle",
    ),
    # a smoke test: the same ten recordings, later in time
    "dvs128-gesture-clips": Recipe(
        data="dvs128-gesture-clips",
        data_options={"size": 32, "window": 0.25, "stride": 0.05},
        model_options={"channels": [16, 32, 64]},
        T=5,
        epochs=25,
        batch_size=16,
        lr=3e-3,
        schedule="one-cycle",
        shift=1,
    ),
}

EXPECTED = {
    "digits": Expected(0.999, 24),
    "mnist": Expected(0.994, 358),
    "fashion-mnist": Expected(0.920, 507),
    "n-mnist": Expected(0.967, 116),
    "cifar10-subset": Expected(0.722, 303),
    "fsdd": Expected(0.987, 46),
    "dvs128-gesture-clips": Expected(0.993, 14),
    "mackey-glass": Expected(0.985, 60, "R2"),
    "chewie-reaching": Expected(0.607, 7, "R2"),
}


# numbers in time, and what each step is to give; settings were chosen on the end of what is learned from
SERIES = {
    # tau 1: a neuron forgets; what a step has to know is in its last 20 values
    "mackey-glass": Recipe(
        data="mackey-glass",
        data_options={"lookback": 20, "length": 10, "stride": 1},
        model="dense_snn",
        model_options={"hidden": [512, 512], "neuron_options": {"tau": 1.0}, "readout": "none"},
        loss="mse",
        epochs=40,
        lr=1e-2,
        weight_decay=1e-4,
        schedule="one-cycle",
    ),
    "chewie-reaching": Recipe(
        data="chewie-reaching",
        model="dense_snn",
        model_options={
            "hidden": [256],
            "neuron_options": {"tau": 4.0},
            "dropout": 0.5,
            "readout": "none",
            "readout_tau": 4.0,
        },
        loss="mse",
        epochs=10,
        batch_size=16,
        schedule="one-cycle",
    ),
}


# spikes of two steps are scores of three values, whose cross-entropy has not far to fall
_TDBN: dict[str, Any] = {
    "channels": [16, 16, 32, 64],
    "blocks": [1, 1, 1],
    "hidden": 64,
    "spiking_scores": False,
}
# published kinds of networks, made small enough for minutes on two cores
_KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "sew_resnet": ("sew_resnet18", {"stem": "cifar", "width": 16, "blocks": [1, 1, 1]}),
    "ms_resnet": ("ms_resnet20", {"width": 16, "blocks": [1, 1, 1]}),
    "tdbn_resnet": ("tdbn_resnet19", _TDBN),
    "bn_resnet": ("tdbn_resnet19", {**_TDBN, "norm": "BN"}),
    "spikformer": ("spikformer_4_384_cifar10", {"dim": 64, "depth": 2, "heads": 4}),
    "spikformer_cml": ("spikformer_4_384_cifar10_cml", {"dim": 64, "depth": 2, "heads": 4}),
    "spikingformer": ("spikingformer_4_384_cifar10", {"dim": 64, "depth": 2, "heads": 4}),
    "spikingformer_cml": ("spikingformer_4_384_cifar10_cml", {"dim": 64, "depth": 2, "heads": 4}),
    "qkformer": ("qkformer_4_384_cifar10", {"dim": 48, "depths": [1, 1, 1], "heads": 4}),
    "spike_driven_transformer": (
        "spike_driven_transformer_2_512_cifar10",
        {"dim": 64, "depth": 2, "heads": 4},
    ),
    "meta_spikeformer": (
        "meta_spikeformer_15m",
        {
            "widths": [16, 32, 64, 64],
            "depths": [1, 1, 1, 1, 1],
            "strides": [1, 2, 2, 1, 1],
            "heads": 4,
            "mlp_ratio": 2,
        },
    ),
    "spiking_mlp": ("spiking_mlp_t", {"patch": 2, "width": 32, "depths": [2, 2]}),
    "spiking_mlp_spe": ("spiking_mlp_spe_t", {"patch": 2, "width": 33, "depths": [2, 2]}),
}
# as depth grows: membranes in the shortcuts against spikes behind the sums, all else alike
_DEEP = {
    f"{kind}{depth}": (
        name,
        {
            "stem": "cifar",
            "width": 8,
            "blocks": 3 * [(depth - 2) // 6],
            "neuron": "LIF",
            "neuron_options": {"tau": 2.0, "detach_reset": True},
        },
    )
    for kind, name in (("ms_resnet", "ms_resnet20"), ("spiking_resnet", "spiking_resnet18"))
    for depth in (20, 50)
}
_OF_EVENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "ta_snn": ("ta_snn_dvs_gesture", {"channels": [16, 32, 32], "hidden": 64, "reduction": 2}),
    "snn": ("ta_snn_dvs_gesture", {"channels": [16, 32, 32], "hidden": 64, "attention": "none"}),
    "liaf": ("liaf_net_dvs_gesture", {"stages": [[16, 32], [32]], "hidden": 64}),
    "lif": ("liaf_net_dvs_gesture", {"stages": [[16, 32], [32]], "hidden": 64, "neuron": "PLIF"}),
}
# with delays and without: 42,112 parameters each, where a position counts as one
_OF_SOUNDS: dict[str, dict[str, Any]] = {
    "delay_snn": {"model_options": {"hidden": [112, 112], "dropout": 0.2}, "lr_factors": {"*.positions": 20}},
    "delay_snn_without": {"model_options": {"hidden": [161, 182], "dropout": 0.2, "delays": False}},
}


# neurons that fire once; model_options.pool=max is the ablation
_FIRST_SPIKES: dict[str, Any] = {"channels": [16, 32], "hidden": [128]}
_MOTIONS: dict[str, Any] = {"model": "hd_snn", "model_options": {"kernel": 9, "delays": 11}, "T": 25}


# of 269,834 and 270,990 parameters, where a branch is as many synapses as a point neuron
_DENDRITES: dict[str, tuple[str, dict[str, Any]]] = {
    "point_snn": ("dense_snn", {"hidden": [256, 256]}),
    "dendritic_snn": ("dendritic_snn", {"hidden": [78, 78]}),
}
# of pixels, tokens, bytes and words in time; of as many units, an EGRU has their thresholds besides
_UNITS: dict[str, Any] = {"hidden": [128]}
_SEQUENCES: dict[str, tuple[str, dict[str, Any]]] = {
    "spiking_ssm": ("spiking_ssm", {"depth": 2, "state": 16}),
    "egru": ("egru", _UNITS),
    "gru": ("egru", {**_UNITS, "cell": "gru"}),
}
_SILENT: dict[str, Any] = {"rate_penalty": 1.0, "rate_lower": 0.0, "rate_upper": 0.05}


def _sequences() -> dict[str, Recipe]:
    """Return the recipes of long sequences: images by the pixel, lists of operators, texts."""
    found = {}
    for kind, (model, options) in _SEQUENCES.items():
        base = Recipe(model=model, lr=5e-3, schedule="one-cycle", clip_norm=1.0)
        if kind == "egru":
            base = replace(base, **_SILENT)
        narrow = {**options, "features": 64} if kind == "spiking_ssm" else options
        wide = {**options, "features": 128} if kind == "spiking_ssm" else {**options, "trace": False}
        for name, order in (("smnist", "raster"), ("psmnist", "permuted")):
            found[f"{name}-{kind}"] = replace(
                base,
                data="mnist",
                data_options={"sequence": order},
                model_options=narrow,
                epochs=3 if kind == "spiking_ssm" else 4,
                batch_size=50 if kind == "spiking_ssm" else 200,
            )
        found[f"list-ops-{kind}"] = replace(
            base,
            data="list-ops",
            data_options={"length": 64, "shortest": 8, "depth": 3, "samples": 20_000},
            model_options={**narrow, "vocabulary": 16},
            epochs=20,
        )
        text = replace(base, loss="per-step", batch_size=32, lr=1e-2, epochs=8)
        for data, words in (("tinyshakespeare", 0), ("wikitext-2", 10_000)):
            sizes = {"vocabulary": words or 256, "readout": "none", "dropout": 0.3 if words else 0.1}
            found[f"{data}-{kind}"] = replace(
                text,
                data=data,
                data_options={"words": words, "train": "valid"} if words else {},
                model_options={**wide, **sizes},
            )
    return found


def _small() -> dict[str, Recipe]:
    """Return the recipes of published kinds, made small, by the name of the data and the kind."""
    found = {}
    tables = (("cifar10-subset", 8, {**_KINDS, **_DEEP}), ("fashion-mnist", 1, _KINDS))
    for data, epochs, kinds in tables:
        for kind, (model, options) in kinds.items():
            base = RECIPES[data]
            found[f"{data}-{kind}"] = replace(base, model=model, model_options=options, epochs=epochs)
    for kind, (model, options) in _OF_EVENTS.items():
        found[f"n-mnist-{kind}"] = replace(
            RECIPES["n-mnist"],
            model=model,
            model_options=options,
            T=6,
            data_options={"until": 0.06, "size": 32},
        )
    found["dvs128-gesture-clips-hd_snn"] = replace(RECIPES["dvs128-gesture-clips"], **_MOTIONS)
    for kind, values in _OF_SOUNDS.items():
        found[f"fsdd-{kind}"] = replace(RECIPES["fsdd"], model="delay_snn_shd", **values)
    for data in ("mnist", "fashion-mnist"):
        found[f"ttfs-{data}"] = replace(
            RECIPES[data], model="ttfs_net", model_options=_FIRST_SPIKES, T=6, epochs=12
        )
    for kind, (model, options) in _DENDRITES.items():
        found[f"fashion-mnist-{kind}"] = replace(
            RECIPES["fashion-mnist"], model=model, model_options=options, T=4, epochs=15
        )
    return {**found, **_sequences()}


SMALL = _small()
"""Published networks, made small, on the data and schedules of `RECIPES`; no part of those."""


def published_recipes() -> dict[str, Path]:
    """Return the files of published recipes, by name: for machines with the data and GPUs, not run here."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "published").glob("*.yaml"))}


def find_recipe(name: str) -> Recipe:
    """Return the recipe of that name, one of `RECIPES` or `SMALL`, or a published one.

    Raises:
        UnknownName: there is none; the message gives the nearest.
    """
    ours = {**RECIPES, **SERIES, **SMALL}
    if name in ours:
        return ours[name]
    published = published_recipes()
    if name not in published:
        raise unknown("recipe", name, {**ours, **published})
    return overlay(Recipe(), published[name])


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Return the table in a YAML 1.2 file.

    Raises:
        ValueError: the file cannot be read, or holds no table; the message says where.
    """
    try:
        values = YAML(typ="safe", pure=True).load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ValueError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds {type(values).__name__}; a table of fields, as lr: 0.01, is needed")
    return values


def overlay(recipe: Recipe, path: Path | str) -> Recipe:
    """Return the recipe with the values of a YAML file in place of its own; tables are merged.

    Raises:
        UnknownName: a name that is no field; the message gives the nearest.
        ValueError: the file cannot be read, or a value does not fit its field.
    """
    values = read_yaml(path)
    values = {name: value for name, value in values.items() if name not in ("recipe", "name")}
    base = asdict(recipe)
    for name, value in values.items():
        if isinstance(base.get(name), dict) and isinstance(value, dict):
            values[name] = {**base[name], **value}
    return Recipe.of({**base, **values}, str(path))


def read_recipe(path: Path | str) -> tuple[str, Recipe]:
    """Return the name and the recipe of a YAML file.

    With `recipe: digits` it starts from that recipe and says what differs; without, as the `config.yaml` of a
    run, which has a `name`, it says all itself.

    Raises:
        ValueError: as in `overlay`.
    """
    values = read_yaml(path)
    name = values.get("recipe", values.get("name", Path(path).stem))
    if not isinstance(name, str):
        raise ValueError(f"{path}: recipe = {name!r}; a recipe's name is needed")
    return name, overlay(find_recipe(name) if "recipe" in values else Recipe(), path)


def to_yaml(name: str, recipe: Recipe) -> str:
    """Return a recipe as the text of a YAML file."""
    out = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump({"name": name, **json.loads(json.dumps(asdict(recipe)))}, out)
    return out.getvalue()
