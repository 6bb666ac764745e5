"""How networks learn: a rule turns a batch into gradients; the loop does the rest, the same for all."""

from __future__ import annotations

from typing import Any

from torch import nn

from ...names import unknown
from .bptt import BPTT
from .decolle import DECOLLE
from .eprop import EProp
from .feedback import DirectFeedbackAlignment, FeedbackAlignment
from .ottt import OTTT, SLTT
from .plastic import STDPRule
from .reward import RewardSTDP, RewardSTDPRule
from .rule import Hands, Objective, Outcome, Rule
from .stdp import STDP, TripletSTDP
from .truncated import TruncatedBPTT
from .winners import ClassVotes, WinnerTakesAll

RULES: dict[str, type[Rule]] = {
    "bptt": BPTT,
    "tbptt": TruncatedBPTT,
    "sltt": SLTT,
    "ottt": OTTT,
    "decolle": DECOLLE,
    "feedback-alignment": FeedbackAlignment,
    "direct-feedback-alignment": DirectFeedbackAlignment,
    "stdp": STDPRule,
    "r-stdp": RewardSTDPRule,
    "e-prop": EProp,
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
    "STDP",
    "ClassVotes",
    "DirectFeedbackAlignment",
    "EProp",
    "FeedbackAlignment",
    "Hands",
    "Objective",
    "Outcome",
    "RewardSTDP",
    "RewardSTDPRule",
    "Rule",
    "STDPRule",
    "TripletSTDP",
    "TruncatedBPTT",
    "WinnerTakesAll",
    "make_rule",
]
