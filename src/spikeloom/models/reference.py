"""Weights from elsewhere, put under a network's own names: a reference's checkpoint, and `pretrained=`."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..names import nearest
from .pretrained import CONFIG, KEY, WEIGHTS, find, read_config
from .rebuild import decoded
from .registry import create_model, origin
from .weights import PICKLES, PretrainedError, fill, read

Keys = Sequence[tuple[str, str]]
_TABLES = ("state_dict", "model", "model_state_dict", "net")  # where checkpoints hold the weights
_WRAPPERS = ("module.", "_orig_mod.")  # what data parallelism and torch.compile put before each name
# where `sl.nn.chain` puts norm and neuron: into one kernel, or apart, if there is no such kernel
_PLACES = ((".1.norm.", ".0.1."), (".1.neuron.", ".1."))


def chained(theirs: str, ours: str, part: int | None = None) -> tuple[tuple[str, str], ...]:
    """Return the keys of a layer and its norm, for what `sl.nn.chain` makes of them.

    Arguments:
        theirs: the layer's name in the reference, a regular expression, with "conv" in it (which stands for
            "linear", too); its norm is named the same with "bn".
        ours: the chain's name.
        part: where the layer is but a part of ours, as of q, k and v, which one.
    """
    rest, mark = ("", "") if part is None else (r"(.*)$", rf"\1#{part}")
    layer, norm = theirs.replace("conv", "(?:conv|linear)"), theirs.replace("conv", "bn")
    return (rf"{layer}\.{rest}", f"{ours}.0.0.{mark}"), (rf"{norm}\.{rest}", f"{ours}.1.norm.{mark}")


def load_reference(
    net: nn.Module, weights: Mapping[str, Any] | Path | str, *, keep: Sequence[str] = ()
) -> None:
    """Fill a network with a reference checkpoint, or with weights under its own names: whole, or not at all.

        net = sl.create_model("sew_resnet18")
        sl.models.load_reference(net, "sew18.safetensors")
        sl.models.load_reference(net, torch.load("sew18.pth", weights_only=True))

    The reference's names become the network's by `reference_keys` of its class: pairs of a regular expression
    and its replacement, applied to each name in their order. An empty replacement drops the name. What then
    ends in `#0`, `#1`, `#2` is concatenated along axis 0, as q, k and v are one layer here; of counters,
    which have no axis, the first is taken. Trailing axes of length 1, of 1x1 convolutions that are linear
    layers here, are left away. Weights are cast to the network's dtypes.

    Arguments:
        net: the network, on any device but "meta".
        weights: tensors by name, also inside a table (`"state_dict"`, `"model"`, `"model_state_dict"`,
            `"net"`), also with `module.` before each name; a `.safetensors` file; a folder that
            `save_pretrained` wrote; or a repository on the hub.
        keep: shell patterns of the network's names, as "head.*", that are left as they are.

    Raises:
        PretrainedError: missing, unexpected or misshapen tensors, each listed, the nearest names with them; a
            pickle; no such file. The network is then as it was.
    """
    net = net._modules.get("_orig_mod") or net
    made = origin(net)
    built = f"model {made.model}" if made else type(net).__name__
    if isinstance(weights, Mapping):
        tensors, where = _table(weights), "the checkpoint"
    else:
        path, header, _ = _located(weights)
        tensors, where = read(path, header.get("weights")), str(path)
    _put(net, renamed(net, tensors, where), where, built, keep)


def pretrained_model(name: str, source: Path | str, overrides: Mapping[str, Any]) -> nn.Module:
    """Return the network of that name with the weights of a file, folder or repository.

    Of what `save_pretrained` wrote, the saved arguments are the defaults.

    Arguments:
        name: one of `sl.list_models()`.
        source: as `weights` of `load_reference`, but for tensors.
        overrides: arguments of the network in place of the defaults.

    Raises:
        PretrainedError: as `load_reference`; weights of another model, or of another number of classes.
    """
    path, header, saved = _located(source)
    if header and header["model"] != name:
        raise PretrainedError(
            f"{source} holds model {header['model']}, not {name}: "
            f'sl.create_model("{header["model"]}", pretrained="{source}")'
        )
    net = create_model(name, **{**saved, **overrides})
    tensors = renamed(net, read(path, header.get("weights")), str(path))
    _check_classes(net, tensors, source)
    if header.get("memory_format") == "channels_last":
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    _put(net, tensors, str(path), f"model {name}")
    return net


def renamed(net: nn.Module, tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Return a checkpoint's tensors under the network's names, in its shapes and dtypes as far as they fit.

    Names that are the network's own as they are stay so. What fits nothing is returned, too.

    Arguments:
        net: the network; its class may have `reference_keys`.
        tensors: by the reference's names.
        where: where they come from, for messages.

    Raises:
        PretrainedError: two names become one.
    """
    wanted = net.state_dict(keep_vars=True)
    keys: Keys = getattr(net, "reference_keys", ())
    if sum(name in wanted for name in tensors) * 2 > len(tensors):
        keys = ()  # they are its own
    parts: dict[str, dict[int, Tensor]] = {}
    made: dict[str, str] = {}
    for name, value in tensors.items():
        new = _name(name, keys)
        if new is None:
            continue
        if new in made:
            raise PretrainedError(f"{where}: {made[new]!r} and {name!r} both are {new!r} of the network")
        made[new] = name
        base, mark, number = new.rpartition("#")
        which = int(number) if mark and number.isdigit() else None
        base = _settled(new if which is None else base, wanted)
        parts.setdefault(base, {})[-1 if which is None else which] = value
    found: dict[str, Tensor] = {}
    for base, values in parts.items():
        whole = set(values) == set(range(len(values)))
        if -1 in values:
            found[base] = _fitted(values.pop(-1), wanted.get(base))
        elif whole:
            found[base] = _fitted(_joined([values[i] for i in range(len(values))]), wanted.get(base))
        if not whole:
            found.update({f"{base}#{i}": value for i, value in values.items()})
    return found


def _name(name: str, keys: Keys) -> str | None:
    for pattern, replacement in keys:
        if not replacement:
            if re.search(pattern, name):
                return None
            continue
        name = re.sub(pattern, replacement, name)
    return name


def _settled(name: str, wanted: Mapping[str, Any]) -> str:
    """Return the name under which the network has what it may have in another place."""
    if name in wanted:
        return name
    for one, other in (*_PLACES, *(places[::-1] for places in _PLACES)):
        before, found, leaf = name.rpartition(one)
        if found and before + other + leaf in wanted:
            return before + other + leaf
    return name


def _joined(values: list[Tensor]) -> Tensor:
    alike = all(v.ndim and v.shape[1:] == values[0].shape[1:] for v in values)
    return torch.cat(values) if alike else values[0]


def _fitted(value: Tensor, like: Tensor | None) -> Tensor:
    if like is None:
        return value
    while value.ndim > like.ndim and value.shape[-1] == 1:
        value = value.squeeze(-1)
    return value.to(like.dtype) if value.is_floating_point() and like.is_floating_point() else value


def _table(weights: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors by name, out of a table around them, without what wrappers put before the names."""
    inside = next((weights[key] for key in _TABLES if isinstance(weights.get(key), Mapping)), None)
    if inside is not None:
        return _table(inside)
    others = [name for name, value in weights.items() if not isinstance(value, Tensor)]
    if others or not weights:
        held = ", ".join(f"{n!r}: {type(weights[n]).__name__}" for n in others[:4]) or "nothing"
        raise PretrainedError(
            f"the checkpoint holds {held}, where tensors by name are needed; give the table of weights in it"
        )
    found = dict(weights)
    for wrapper in _WRAPPERS * 2:
        if all(name.startswith(wrapper) for name in found):
            found = {name.removeprefix(wrapper): value for name, value in found.items()}
    return found


def _located(source: Path | str) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Return a file of weights, and of what `save_pretrained` wrote our entry and the arguments."""
    path = Path(source).expanduser()
    if path.suffix.lower() in PICKLES:
        raise PretrainedError(
            f"{path} is a pickle, and unpickling runs whatever code its author put there, so it is never "
            "read; where you trust it, load it yourself: sl.models.load_reference(net, "
            f'torch.load("{path}", weights_only=True))'
        )
    if path.is_file() or path.suffix == ".safetensors":
        return path, {}, {}
    folder = find(source, None)
    if not (folder / CONFIG).exists() or not _is_ours(folder / CONFIG):
        return folder / WEIGHTS, {}, {}
    header, arguments = read_config(folder / CONFIG)
    return folder / WEIGHTS, header, {key: decoded(value) for key, value in arguments.items()}


def _is_ours(config: Path) -> bool:
    """Return whether a config.json is ours; one that cannot be read is taken for ours, and then refused."""
    try:
        return KEY in json.loads(config.read_bytes())
    except (OSError, ValueError, TypeError):
        return True


def _put(
    net: nn.Module, tensors: Mapping[str, Tensor], where: str, built: str, keep: Sequence[str] = ()
) -> None:
    """Fill the network, whole or not at all."""
    own = {name: value.detach() for name, value in net.state_dict().items() if isinstance(value, Tensor)}
    if any(value.is_meta for value in own.values()):
        raise PretrainedError(f'{built} is on the device "meta", which holds no weights; build it on another')
    given = dict(tensors)
    for pattern in keep:
        kept = fnmatch.filter(own, pattern)
        if not kept:
            near = nearest(pattern, {f"{name.partition('.')[0]}.*" for name in own})
            hint = f"; did you mean {near!r}?" if near else ""
            raise PretrainedError(f"keep: no tensor of {built} is like {pattern!r}{hint}")
        for name in fnmatch.filter(given, pattern):
            del given[name]
        given.update({name: own[name] for name in kept})
    before = {name: value.clone() for name, value in own.items()}
    try:
        fill(net, given, where, built)
    except PretrainedError as error:
        # a parameter may refuse its value when others have theirs
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(before[name])
        if getattr(net, "reference_keys", ()) or not _foreign(given, own):
            raise
        raise PretrainedError(
            f"{error}. {type(net).__name__} has no reference_keys, so the names must be its own"
        ) from error


def _foreign(given: Iterable[str], own: Mapping[str, Any]) -> bool:
    return not any(name in own for name in given)


def _check_classes(net: nn.Module, tensors: Mapping[str, Tensor], source: Path | str) -> None:
    """Raise where nothing but the number of classes is another."""
    made, wanted = origin(net), net.state_dict()
    asked = made.arguments.get("num_classes") if made else None
    wrong = {n: v for n, v in tensors.items() if n in wanted and v.shape != wanted[n].shape}
    if made is None or not asked or not wrong:
        return
    counts = set()
    for name, value in wrong.items():
        like = wanted[name]
        scaled = value.ndim and value.shape[1:] == like.shape[1:] and not len(value) * asked % len(like)
        counts.add(len(value) * asked // len(like) if scaled else None)
    (count, *more) = counts
    if count is None or more:
        return
    parts = sorted({name.rpartition(".")[0] + ".*" for name in wrong})
    raise PretrainedError(
        f"{source} has the scores of {count} classes, but num_classes = {asked}; give num_classes={count}, "
        f'or take all but the last layer: net = sl.create_model("{made.model}", num_classes={asked}, ...); '
        f'sl.models.load_reference(net, "{source}", keep={parts})'
    )
