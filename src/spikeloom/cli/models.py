"""`spikeloom models [PATTERN | NAME]`: list the networks, or tell all about one."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import tyro
from torch import nn

from ..measure import dense_operations
from ..measure.text import brief
from ..models import Backbone, Entry, Published, create_model, example_input, find_model, list_models
from ..models.markdown import cells
from ..names import unknown
from ..neurons import Neuron
from ..surrogate import Surrogate
from ..training import RECIPES, SERIES, SMALL, find_recipe, published_recipes
from .arguments import parse

HEAD = ("model", "file", "parameters", "T", "input", "best published accuracy")
_WIDTH, _KEY = 110, 14


@dataclass(frozen=True)
class Options:
    """List the networks; of one name, tell all that is known about it.

    Attributes:
        pattern: which of them, as "*former*"; or the name of one.
        markdown: print the list as a table in Markdown.
    """

    pattern: tyro.conf.Positional[str] = "*"
    markdown: bool = False


def run(argv: Sequence[str]) -> int:
    """Run the verb; return the exit code."""
    options = parse(Options, "models", argv)
    names = list_models(options.pattern)
    if not names:
        raise unknown("model", options.pattern, list_models())
    if names == [options.pattern] and not options.markdown:
        print("\n".join(page(options.pattern)))
        return 0
    if options.markdown:
        print("\n".join(markdown(names)))
        return 0
    wide = max(map(len, names))
    shape = f"{{:<{wide}}}  {{:<20}} {{:>11}} {{:>4}}  {{:<11}}  {{}}"
    print(shape.format(*HEAD))
    for name in names:  # a line at a time, as building a large one takes part of a second
        print(shape.format(*row(name)).rstrip(), flush=True)
    print("tell all about one with: spikeloom models NAME; build it: sl.create_model(NAME, num_classes=10)")
    return 0


def row(name: str) -> tuple[str, ...]:
    """Return the cells of a network's line in the list."""
    entry, net = find_model(name), without_weights(name)
    T = entry.arguments.get("T")
    best = max(entry.published, key=lambda one: one.accuracy, default=None)
    return (
        name,
        _file(entry),
        f"{_count(net):,}",
        "" if T is None else str(T),
        "x".join(map(str, example_input(net).shape[1:])),
        "" if best is None else _said(best) + (" (remembered)" if "remembered" in best.source else ""),
    )


def markdown(names: Sequence[str]) -> Iterator[str]:
    """Return the lines of a table of these networks, in Markdown."""
    yield cells(*HEAD)
    yield cells("---", "---", "---:", "---:", "---", "---")
    for name in names:
        first, *others = row(name)
        yield cells(f"`{first}`", *others)


def page(name: str) -> Iterator[str]:
    """Return the lines of all that is known about a network."""
    entry, net = find_model(name), without_weights(name)
    shape = tuple(example_input(net).shape[1:])
    yield f"{name}: {entry.cls.__name__}, in spikeloom/models/{_file(entry)}.py"
    facts = [
        ("paper", [entry.paper or "none is named"]),
        ("parameters", [f"{_count(net):,}: " + ", ".join(_parts(net))]),
        ("input", [f"{'x'.join(map(str, shape))}, {_sizes(net)}"]),
        ("T", [_steps(net, entry)]),
        ("operations", [_operations(net)]),
        ("neurons", _neurons(entry)),
        ("published", [f"{_said(one)}: {one.source}" for one in entry.published] or ["nothing is named"]),
        ("recipes", [", ".join(_recipes(entry)) or "none yet"]),
        ("checkpoints", [_checkpoints(entry)]),
        ("arguments", [", ".join(f"{key}={value!r}" for key, value in entry.arguments.items())]),
    ]
    for key, texts in facts:
        for i, text in enumerate(texts):
            yield from _wrapped("" if i else key, text)
    yield f"{'in Python':<{_KEY}}net = sl.create_model({name!r}, num_classes={_classes(entry)})".replace(
        "'", '"'
    )
    shapes = ", ".join(map(str, shape))
    several = f" or [T, B, {shapes}]" if len(shape) == 3 else ""
    yield f"{'':<{_KEY}}scores = net(x)  # x: [B, {shapes}]{several}"


def _wrapped(key: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=f"{key:<{_KEY}}",
        subsequent_indent=" " * (_KEY + 2),
        break_long_words=False,
        break_on_hyphens=False,
    )


def without_weights(name: str) -> nn.Module:
    """Return a network on the device "meta", where it takes no memory."""
    with torch.device("meta"):
        return create_model(name).eval()


def _file(entry: Entry) -> str:
    return entry.cls.__module__.rpartition(".")[2]


def _count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def _parts(net: nn.Module) -> Iterator[str]:
    """Say how many parameters each part has, stages apart; what they share is the first one's."""
    parts = [
        (f"{name[:-1]} {i + 1}", child) if name == "stages" else (name, child)
        for name, whole in net.named_children()
        for i, child in enumerate(whole if name == "stages" and isinstance(whole, nn.ModuleList) else [whole])
    ]
    seen: set[nn.Parameter] = set()
    for name, part in parts:
        new = set(part.parameters()) - seen
        seen |= new
        if new:
            yield f"{name} {sum(p.numel() for p in new):,}"
    rest = sum(p.numel() for p in set(net.parameters()) - seen)
    if rest:
        yield f"others {rest:,}"


def _sizes(net: nn.Module) -> str:
    if not isinstance(net, Backbone):
        return "as the arguments say"
    if net.fixed_size:
        return "or the size given as image_size=: weights belong to places"
    if net.multiple_of > 1:
        return f"or any height and width that are multiples of {net.multiple_of}"
    return "or any other height and width"


def _steps(net: nn.Module, entry: Entry) -> str:
    T = entry.arguments.get("T")
    if T is None:
        return "that of the input"
    if getattr(net, "fixed_T", False):
        return f"{T}, or what is given as T=: weights belong to steps"
    return f"{T} for a static image, or T=; an input in time has any number of steps"


def _operations(net: nn.Module) -> str:
    """Say how many multiply-accumulates an image takes, counted from shapes."""
    with torch.device("meta"):
        x = example_input(net)
        image = dense_operations(net, x)
        if not isinstance(net, Backbone) or net.T == 1:
            return f"{brief(image)} multiply-accumulates a sample, zeros included"
        frames = dense_operations(net, x.expand(net.T, *x.shape))
    return (
        f"{brief(image)} multiply-accumulates of an image shown for {net.T} steps, zeros included; "
        f"{brief(frames)} of {net.T} frames"
    )


def _neurons(entry: Entry) -> list[str]:
    """Say which neurons there are, each kind once, with its constants: of the network built small."""
    small = getattr(entry.cls, "small", {})
    found = [_constants(m) for m in create_model(entry.name, **small).modules() if isinstance(m, Neuron)]
    return list(dict.fromkeys(found)) or ["none"]


def _constants(neuron: Neuron) -> str:
    """Say a neuron's parameters and settings; of a learnable number, where it starts."""
    text = repr(neuron)
    for name, value in neuron.named_parameters(recurse=False):
        if value.numel() == 1:
            start = f"{name} from {value.item() + 0.0:g}, learnable"  # + 0.0, as -0 would look odd
            text = text.replace(f"{name}={tuple(value.shape)} learnable", start)
    settings = [
        f"{key}={value}"
        for key, value in vars(neuron).items()
        if key in ("reset", "decay_input", "detach_reset") or isinstance(value, Surrogate)
    ]
    return f"{text} with {', '.join(settings)}"


def _said(one: Published) -> str:
    return f"{one.accuracy:.2f} % {one.data}, T = {one.T}"


def _recipes(entry: Entry) -> Iterator[str]:
    """Say which recipes train networks of its class, its own first; others take its name by `--model`."""
    models = {name: find_recipe(name).model for name in (*RECIPES, *SERIES, *published_recipes())}
    yield from (name for name, model in models.items() if model == entry.name)
    for name, model in models.items():
        if model != entry.name and find_model(model).cls is entry.cls:
            yield f"{name} (--model {entry.name})"
    yield from (f"{name} (made small)" for name, recipe in SMALL.items() if recipe.model == entry.name)


def _checkpoints(entry: Entry) -> str:
    if getattr(entry.cls, "reference_keys", ()):
        return "those of the reference, by sl.models.load_reference, and its own, by pretrained="
    return "its own, by pretrained="


def _classes(entry: Entry) -> int:
    classes = entry.arguments.get("num_classes")
    return classes if isinstance(classes, int) else 10
