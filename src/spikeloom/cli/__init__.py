"""The `spikeloom` command: one verb a file."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from ..names import UnknownName, unknown

VERBS = {
    "train": "train a recipe: spikeloom train digits",
    "recipes": "list what can be trained by one command",
    "evaluate": "measure a trained run on its test set",
    "report": "show what runs did, compared, on one page of HTML",
    "search": "search for a recipe's values, by trials",
    "card": "write a run's network and its model card, as a folder to publish",
    "fit": "tell whether a network fits a device, and what would make it fit",
    "export": "write a network for other simulators: spikeloom export RUN --to nir",
    "models": "list the networks, tell all about one",
    "data": "list the data sets, tell what they are, get them, verify them",
    "events": "tell what a recording of events is like, convert it, look at it",
    "explain": "tell which kernel runs for which neuron, and why",
    "bench": "run a benchmark of the source checkout",
    "doctor": "tell what works on this machine, and how to mend what does not",
}


def usage() -> str:
    """Return the help of the command as a whole."""
    verbs = "\n".join(f"  {verb:<10} {text}" for verb, text in VERBS.items())
    return f"usage: spikeloom VERB ...\n\n{verbs}\n\nspikeloom VERB --help tells more."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0 done, 1 failed, 2 misused, 128 + n ended by signal n."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    verb, *rest = arguments
    if verb == "--version":
        from .. import __version__

        print(__version__)
        return 0
    try:
        if verb not in VERBS:
            raise unknown("verb", verb, VERBS)
        code: int = importlib.import_module(f".{verb}", __package__).run(rest)
        return code
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if not _expected(error):
            raise
        print(f"spikeloom: {error}", file=sys.stderr)
        return 2 if isinstance(error, UnknownName) else 1


def _expected(error: Exception) -> bool:
    """Tell whether the error is the user's to mend, and its message is enough for that."""
    from ..data import DataError
    from ..events.error import EventsError
    from ..models import PretrainedError
    from ..training import RankFailed, RunError, TrainingFailed
    from .arguments import Misuse

    mendable = (
        DataError,
        EventsError,
        Misuse,
        PretrainedError,
        RankFailed,
        RunError,
        TrainingFailed,
        UnknownName,
    )
    return isinstance(error, mendable)
