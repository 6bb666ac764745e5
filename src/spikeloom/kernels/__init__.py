"""The loom: trace a step's equations, differentiate them, weave them into a kernel, run it."""

from . import spikes, weave_op  # noqa: F401  (weave_op registers the operator)
from .affine import normalised
from .backend import (
    BACKENDS,
    NUMBA_PROBLEM,
    Choice,
    announce_eager,
    announce_recording,
    backend,
    choose,
    decide,
    forced,
)
from .eager import Step, compute_dtype, loop
from .norm import Normed, weave_normed
from .plan import Plan, make_plan
from .recur import recur
from .recur_run import few_steps
from .refusal import TraceError
from .weave import weave

__all__ = [
    "BACKENDS",
    "NUMBA_PROBLEM",
    "Choice",
    "Normed",
    "Plan",
    "Step",
    "TraceError",
    "announce_eager",
    "announce_recording",
    "backend",
    "choose",
    "compute_dtype",
    "decide",
    "few_steps",
    "forced",
    "loop",
    "make_plan",
    "normalised",
    "recur",
    "spikes",
    "weave",
    "weave_normed",
]
