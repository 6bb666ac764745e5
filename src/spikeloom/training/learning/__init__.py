"""How networks learn: a rule turns a batch into gradients; the loop does the rest, the same for all."""

from __future__ import annotations

from typing import Any

from torch import nn

from ...names import unknown
from .bptt import BPTT
from .decolle import DECOLLE
from .feedback import DirectFeedbackAlignment, FeedbackAlignment
from .ottt import OTTT, SLTT
from .rule import Hands, Objective, Outcome, Rule
from .truncated import TruncatedBPTT

RULES: dict[str, type[Rule]] = {
    "bptt": BPTT,
    "tbptt": TruncatedBPTT,
    "sltt": SLTT,
    "ottt": OTTT,
    "decolle": DECOLLE,
    "feedback-alignment": FeedbackAlignment,
    "direct-feedback-alignment": DirectFeedbackAlignment,
}
"""The rules by name: `RULES[name](net, **options)`."""


def make_rule(name: str, net: nn.Module, **options: Any) -> Rule:
    """Return the rule of that name for a network.

    Raises:
        UnknownName: no such rule; the message gives the nearest.
        ValueError: the rule cannot train this network, or refuses an option.
    """
    if name not in RULES:
        raise unknown("learning rule", name, RULES)
    return RULES[name](net, **options)


__all__ = [
    "BPTT",
    "DECOLLE",
    "OTTT",
    "RULES",
    "SLTT",
    "DirectFeedbackAlignment",
    "FeedbackAlignment",
    "Hands",
    "Objective",
    "Outcome",
    "Rule",
    "TruncatedBPTT",
    "make_rule",
]
