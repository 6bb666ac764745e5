"""How a network is trained: plain values, checked when they are given."""

from __future__ import annotations

import math
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from ..names import unknown

# field: (what it may be, in words, and the test)
_Check = tuple[str, Callable[[Any], bool]]
_POSITIVE: _Check = ("a finite number > 0", lambda v: math.isfinite(v) and v > 0)
_NOT_NEGATIVE: _Check = ("a finite number >= 0", lambda v: math.isfinite(v) and v >= 0)
_SHARE: _Check = ("a number in [0, 1)", lambda v: 0 <= v < 1)


def _least(n: int) -> _Check:
    return f"a whole number >= {n}", lambda v: v >= n


_CHECKS: dict[str, _Check] = {
    **dict.fromkeys(("epochs", "accumulate", "devices", "evaluate_every", "keep_last", "T"), _least(1)),
    **dict.fromkeys(("patience", "checkpoint_steps", "watch", "step_epochs", "mix_epochs"), _least(1)),
    **dict.fromkeys(("shift", "workers"), _least(0)),
    "seed": ("a whole number >= 0 and < 2**63", lambda v: 0 <= v < 2**63),
    "batch_size": _least(2),
    "weight_bits": ("a whole number from 1 to 8", lambda v: 1 <= v <= 8),
    **dict.fromkeys(("clip_norm", "temperature"), _POSITIVE),
    **dict.fromkeys(("lr", "weight_decay", "warmup_epochs", "mixup", "cutmix", "lr_end"), _NOT_NEGATIVE),
    **dict.fromkeys(("sparsity", "rate_penalty", "rate_lower", "rate_upper", "distill"), _NOT_NEGATIVE),
    **dict.fromkeys(("label_smoothing", "validation", "ema", "momentum"), _SHARE),
    **dict.fromkeys(
        ("layer_decay", "step_factor", "mix_share"), ("a number in (0, 1]", lambda v: 0 < v <= 1)
    ),
}
_UNSMOOTHED = ("count-mse", "rate-mse", "mse")


@dataclass(frozen=True, kw_only=True)
class Config:
    """How a network is trained, whatever the network and the data.

    Attributes:
        T: steps that a static image is shown, or frames that a recording of events is cut into.
        epochs: passes through the training set.
        batch_size: samples an update, over all devices.
        accumulate: parts that a batch is computed in, one after the other: the same gradient (but for batch
            statistics) in less memory.
        seed: of the initial weights, the order of samples, augmentation, dropout and all else that is drawn.
        device: "cpu", "cuda", "mps", or "auto", the GPU if there is one.
        devices: processes that train together, one a GPU, or so many on the CPU.
        strategy: how they share the work: each has the whole network ("ddp"), or a part of it ("fsdp").
        precision: of the arithmetic; bf16 and fp16 are mixed: weights and neurons' states stay fp32.
        loss: what is minimised; all but "cross-entropy" need a network that gives each step's scores;
            "per-step" is for labels `[B, T]`, one a step, as the tokens that come next; "mse" for numbers
            `[B, T, K]` that each step is to give.
        loss_options: further arguments of the loss, as weight=1e-3 of "tet".
        readout: how [T, B, K] becomes scores [B, K]: "mean", "sum", "last" or "max" over time.
        label_smoothing: share of a label that is spread over all classes.
        sparsity: weight of the mean number of spikes a neuron, summed over layers, added to the loss.
        rate_penalty: weight of firing rates out of their bounds, added to the loss.
        rate_lower: lower bound of a neuron's firing rate, spikes a step.
        rate_upper: upper bound of a layer's firing rate, spikes a step.
        teacher: run folder of a trained network to learn from.
        distill: weight of the divergence from the teacher's scores; the loss of the labels has 1 - distill.
        temperature: at which scores are compared with the teacher's.
        teacher_features: layers whose firing rates follow the teacher's, as {student layer: teacher layer}.
        optimizer: "adamw", "sgd" (Nesterov) or "lamb" (from pytorch-optimizer).
        lr: learning rate at its highest.
        weight_decay: decoupled for adamw and lamb; of weights alone, not of biases, norms and neurons.
        momentum: of sgd.
        layer_decay: factor of the learning rate from a layer to the one before.
        lr_factors: factors of the learning rate by patterns of parameters' names, as {"*.positions": 20}; of
            several that fit, the first counts.
        schedule: of the learning rate: half a "cosine", "step", "one-cycle" or "constant".
        warmup_epochs: in which it rises linearly; of one-cycle, 0 means 0.3 of all.
        lr_end: learning rate at the end of cosine and one-cycle.
        step_epochs: of "step": epochs from one fall to the next.
        step_factor: of "step": how far it falls.
        clip_norm: largest norm of the gradient; longer ones are shortened.
        ema: decay a step of the moving average of weights, which is then what is measured and kept.
        shift: augmentation: each sample is moved by up to so many pixels in x and y.
        flip: augmentation: half of the samples are mirrored, left to right.
        mixup: augmentation: alpha of Beta(alpha, alpha), the shares of two samples in their sum; 0 for none.
        cutmix: augmentation: likewise, of the area of a patch that is another sample's; with mixup, too, each
            batch has one of them.
        mix_share: share of the batches that are mixed so.
        mix_epochs: epochs, from the first, in which batches are mixed; none: in all.
        learning: the rule by which gradients are found, "bptt" or another; see docs/learning.md.
        learning_options: its arguments.
        validation: share of the training set that is held out, for choosing; the test set is for the end.
        select: what is kept at the end: the "last" weights, or the "best" on the held-out part.
        patience: epochs without a better accuracy on the held-out part, after which training ends.
        evaluate_every: epochs between measurements on the held-out part, or else on the test set.
        checkpoint_steps: updates between checkpoints within an epoch; there is one after each epoch anyway.
        keep_last: checkpoints that are kept.
        workers: processes that prepare samples; 0 prepares them in the training process.
        watch: batches from one look at firing rates and gradients, layer by layer, to the next.
        trackers: where metrics go besides the run folder: "tensorboard", "wandb", "trackio", "mlflow".
    """

    T: int = 4
    epochs: int = 10
    batch_size: int = 64
    accumulate: int = 1
    seed: int = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"
    precision: Literal["fp32", "bf16", "fp16", "fp64"] = "fp32"
    loss: Literal["cross-entropy", "tet", "count-mse", "rate-mse", "first-spike", "per-step", "mse"] = (
        "cross-entropy"
    )
    loss_options: dict[str, Any] = field(default_factory=dict)
    readout: Literal["mean", "sum", "last", "max"] = "mean"
    label_smoothing: float = 0.0
    sparsity: float = 0.0
    rate_penalty: float = 0.0
    rate_lower: float = 0.01
    rate_upper: float = 0.2
    teacher: str = ""
    distill: float = 0.5
    temperature: float = 4.0
    teacher_features: dict[str, str] = field(default_factory=dict)
    optimizer: Literal["adamw", "sgd", "lamb"] = "adamw"
    lr: float = 4e-3
    weight_decay: float = 1e-2
    momentum: float = 0.9
    layer_decay: float = 1.0
    lr_factors: dict[str, float] = field(default_factory=dict)
    schedule: Literal["cosine", "step", "one-cycle", "constant"] = "cosine"
    warmup_epochs: float = 0.0
    lr_end: float = 0.0
    step_epochs: int = 30
    step_factor: float = 0.1
    clip_norm: float | None = None
    ema: float = 0.0
    shift: int = 0
    flip: bool = False
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_share: float = 1.0
    mix_epochs: int | None = None
    learning: str = "bptt"
    learning_options: dict[str, Any] = field(default_factory=dict)
    validation: float = 0.0
    select: Literal["last", "best"] = "last"
    patience: int | None = None
    evaluate_every: int = 1
    checkpoint_steps: int | None = None
    keep_last: int = 2
    workers: int = 0
    watch: int = 8
    trackers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, kind in _types(type(self)).items():
            value = getattr(self, name)
            if not _fits(value, kind):
                raise ValueError(f"recipe: {name} = {value!r}; {_words(name, kind)} is needed")
            words, test = _CHECKS.get(name, ("", lambda v: True))
            if value is not None and not test(value):
                raise ValueError(f"recipe: {name} = {value!r}; {words} is needed")
            # as a file gives it back, so that a recipe and its hash are those of its config.yaml
            object.__setattr__(self, name, _plain(name, _converted(value, kind)))
        for given, needs in (("patience", self.patience), ("select", self.select == "best")):
            if needs and not self.validation:
                raise ValueError(
                    f"recipe: {given} = {getattr(self, given)!r} chooses by a held-out part of the training "
                    "set; give it one with validation, as validation=0.1"
                )
        if self.teacher_features and not self.teacher:
            raise ValueError(
                "recipe: teacher_features are those of a teacher; give its run folder as teacher"
            )
        if self.label_smoothing and self.loss in _UNSMOOTHED:
            raise ValueError(
                f"recipe: label_smoothing = {self.label_smoothing:g} is not for loss {self.loss!r}, which "
                'has no softmax; set it to 0, or use "cross-entropy" or "tet"'
            )
        if self.schedule in ("cosine", "one-cycle") and self.lr_end > self.lr:
            raise ValueError(f"recipe: lr_end = {self.lr_end:g} is above lr = {self.lr:g}, the highest rate")
        for pattern, times in self.lr_factors.items():
            if not (math.isfinite(times) and times >= 0):
                raise ValueError(
                    f"recipe: lr_factors has {pattern!r}: {times!r}; a finite number >= 0 is needed"
                )
        more = [name for name in ("sparsity", "rate_penalty", "teacher") if getattr(self, name)]
        if more and self.learning != "bptt":
            raise ValueError(
                f"recipe: {more[0]} is a term of a whole sequence's loss, which learning = {self.learning!r} "
                "does not see; leave it out, or learn by bptt"
            )
        if self.ema and self.strategy == "fsdp" and self.devices > 1:
            raise ValueError("recipe: ema needs the whole network on each device; use strategy ddp, or ema 0")
        if self.rate_penalty and self.rate_lower > self.rate_upper:
            raise ValueError(
                f"recipe: rate_lower = {self.rate_lower:g} is above rate_upper = {self.rate_upper:g}"
            )

    @classmethod
    def of(cls, values: Mapping[str, Any], where: str) -> Self:
        """Return the one with these values, which come from `where`, a file.

        Raises:
            UnknownName: a name that is no field; the message gives the nearest.
            ValueError: a value that its field cannot have.
        """
        known = _types(cls)
        given = dict(values)
        for name, value in given.items():
            if name not in known:
                raise unknown(f"field of a recipe (in {where})", str(name), known)
            given[name] = _read(value, known[name])
        try:
            return cls(**given)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error


def tables(cls: type[Config]) -> dict[str, str]:
    """Return the fields that are tables, by name, with what their class says of them."""
    found = {}
    for base in reversed(cls.__mro__):
        for match in re.finditer(
            r"^        (\w+): (.*(?:\n            .*)*)", base.__doc__ or "", re.MULTILINE
        ):
            found[match[1]] = " ".join(match[2].split())
    return {name: found[name] for name, kind in _types(cls).items() if get_origin(kind) is dict}


def _types(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in fields(cls)}


def _read(value: Any, kind: Any) -> Any:
    """Return what a field of a file means: lists are its only tuples, and none is also a word."""
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(value)
    return None if value in ("none", "None") and type(None) in get_args(kind) else value


def _converted(value: Any, kind: Any) -> Any:
    """Return a number that fits its field as the field's kind of number: 1 as 1.0 where that is a float."""
    if get_origin(kind) is dict:
        return {key: _converted(one, get_args(kind)[1]) for key, one in value.items()}
    whole = int in (kind, *get_args(kind))
    return float(value) if not whole and float in (kind, *get_args(kind)) and value is not None else value


def _plain(name: str, value: Any) -> Any:
    """Return the value of a field with lists for the tuples in its tables.

    Raises:
        ValueError: a table holds what no file can.
    """
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(name, list(v) if isinstance(v, tuple) else v) for key, v in value.items()}
    if isinstance(value, list):
        return [_plain(name, list(v) if isinstance(v, tuple) else v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str, tuple)):
        return value
    raise ValueError(
        f"recipe: {name} holds {value!r}; plain values, which a file can hold, are needed: text, numbers, "
        "true, false, none, lists and tables of these"
    )


def _fits(value: Any, kind: Any) -> bool:
    origin = get_origin(kind)
    if origin is Literal:
        return value in get_args(kind) and not isinstance(value, bool)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in get_args(kind))
    if origin is dict:
        inner = get_args(kind)[1]
        return isinstance(value, dict) and all(
            isinstance(key, str) and (inner is Any or _fits(one, inner)) for key, one in value.items()
        )
    if origin is tuple:
        return isinstance(value, tuple) and all(isinstance(one, get_args(kind)[0]) for one in value)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _words(name: str, kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(f'"{one}"' for one in get_args(kind))
    if name in _CHECKS:
        return _CHECKS[name][0] + (" or none" if type(None) in get_args(kind) else "")
    names = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}
    return names.get(
        kind, {dict: "a table of names and values", tuple: "a list"}.get(get_origin(kind), "else")
    )
