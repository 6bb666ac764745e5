"""`spikeloom card RUN`: a run's network and its model card, as a folder to publish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from ..models import PretrainedError
from ..training import RunFolder
from ..training.card import SAMPLES, publish
from .arguments import Misuse, parse


@dataclass(frozen=True)
class Options:
    """Write a run's network into a folder in the Hugging Face hub's convention, with a model card.

    The card states data, command, seeds, accuracy, firing rate, operations, hours, hardware and versions, as
    far as the run folder tells them. `sl.models.from_pretrained(DIR)` loads the network. Written again into
    the same folder, it replaces the card: what you add belongs into --summary and --limit.

    Attributes:
        runs: the run folder that `spikeloom train` left; then those of other seeds of the same recipe, whose
            accuracies the card states, too.
        out: the folder to write; by default "pretrained" in the run folder.
        name: what people will call the network; by default model and data.
        summary: a sentence or two for the card.
        license: of the weights, by the hub's identifier, as apache-2.0.
        limit: what the network is not for, or what was not looked at; may be repeated.
        samples: test samples that operations are measured on; 0 leaves them unmeasured.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    out: Path | None = None
    name: str = ""
    summary: str = ""
    license: str = "unknown"
    limit: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    samples: int = SAMPLES


def run(argv: Sequence[str]) -> int:
    """Run the verb; return the exit code."""
    options = parse(Options, "card", argv)
    if not options.runs:
        raise Misuse("card: give the run folder, as in: spikeloom card runs/digits-1")
    first, *others = map(RunFolder, options.runs)
    out = options.out or first.path / "pretrained"
    named = {"name": options.name} if options.name else {}
    try:
        card = publish(
            first,
            out,
            others,
            samples=options.samples,
            summary=options.summary,
            license=options.license,
            limits=options.limit,
            **named,
        )
    except (PretrainedError, ValueError) as error:
        raise Misuse(f"card: {error}") from error
    print(f"{out}: config.json, model.safetensors, README.md")
    print(f'load it: sl.models.from_pretrained("{out}")')
    print(f"publish it, after reading README.md: hf upload OWNER/{card.name} {out}")
    return 0
