"""From a program to the source of its GPU kernels, one forward and one backward, for Triton to compile.

A program of the grid takes a block of neurons through all T steps, its states in registers. Time goes
`UNROLL` steps at a time, whose loads are issued together. The backward kernel recomputes states with the
very operations of the forward kernel: the last `UNROLL` steps in registers, the others from checkpoints every
`UNROLL` steps, which a program keeps in a scratch memory of its own; over long T, `span` steps at a time,
from checkpoints of checkpoints. It walks over its blocks, so that scratch and sums are as many as programs,
not as blocks.

T, sizes, strides and all values are run-time arguments. What is None (no given states, no final states
wanted) Triton compiles away.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..body import Body, Leaves, indent
from ..grad import differentiate
from ..graph import Graph, Node
from ..ops import is_boolean
from ..spec import Spec

UNROLL = 4
HEADER = '''"""Made by spikeloom from a neuron's equations; safe to delete."""

import triton
import triton.language as tl

from spikeloom.kernels.gpu import elementary as e
'''


def emit(spec: Spec) -> str:
    """Return the source of a module whose function `kernel` is the kernel; its arguments are `arguments`.

    A slot's kind is "n" (a number), "t" (a tensor of one value) or "v" (a tensor of more).
    """
    graph = Graph()
    steps = spec.program.step.load(graph, is_boolean)
    states = [f"v{i}" for i in range(spec.states)]
    given = [*(f"x{i}" for i in range(spec.program.inputs)), *states, *_slots(spec)]
    functions = [_function(spec, "advance", steps[1:], given)] if states else []
    if not spec.backward:
        functions = [_function(spec, "step", steps, given)]
        return "\n".join([HEADER, *functions, *_forward(spec), ""])
    wrt = [
        *(graph.leaf("state", i) for i in range(spec.states)),
        *(graph.leaf("input", i) for i in spec.wanted_inputs),
        *(graph.leaf("param", i) for i in spec.wanted_slots),
    ]
    cotangents = [graph.leaf("grad", i) for i in range(len(steps))]
    gradients = differentiate(graph, steps, cotangents, wrt)
    given += ["g", *(f"gv{i}" for i in range(spec.states))]
    functions.append(_function(spec, "back", gradients, given))
    return "\n".join([HEADER, *functions, *_backward(spec), ""])


def arguments(spec: Spec) -> list[str]:
    """Return the names of a kernel's arguments, in order."""
    names = [f"x{i}" for i in range(spec.program.inputs)]
    strides = [f"{name}_stride" for name in names]
    for i, kind in enumerate(spec.kinds):
        names.append(f"s{i}")
        strides += [f"s{i}_inner", f"s{i}_count"] if kind == "v" else []
    names += [f"given{i}" for i in range(spec.states)]
    if not spec.backward:
        return [*names, "out", *(f"final{i}" for i in range(spec.states)), *strides, "T", "n"]
    names += ["g", *(f"gx{i}" for i in spec.wanted_inputs), *(f"gs{i}" for i in spec.wanted_slots)]
    names += [f"gfinal{i}" for i in range(spec.states)] + [f"ggiven{i}" for i in range(spec.states)]
    return [*names, "scratch", *strides, "g_stride", "T", "n", "span", "spans", "room", "rounds"]


def is_stride(name: str) -> bool:
    """Whether an argument is given in units of 16 elements where all such are multiples of 16 (`ALIGNED`)."""
    return name.endswith("_stride") or name == "n"


def _slots(spec: Spec) -> list[str]:
    return [f"p{i}" for i in range(len(spec.kinds))]


def _tuple(names: Sequence[str]) -> str:
    return ", ".join(names)


def _function(spec: Spec, name: str, outputs: Sequence[Node], given: Sequence[str]) -> str:
    """Return a function of one step's values."""
    body = Body("triton", spec.real, f"tl.full([BLOCK], {{}}, tl.{spec.real})")
    names: Leaves = {("input", i): f"x{i}" for i in range(spec.program.inputs)}
    names |= {("state", i): f"v{i}" for i in range(spec.states)}
    names |= {("param", i): slot for i, slot in enumerate(_slots(spec))}
    names |= {("grad", 0): "g"} | {("grad", 1 + i): f"gv{i}" for i in range(spec.states)}
    lines, results = body.lines(outputs, names)
    constants = [f"{name} = {source}" for source, name in body.constants.items()]
    return "\n".join([
        "",
        "@triton.jit",
        f"def {name}({_tuple(given)}, BLOCK: tl.constexpr):",
        *indent([*constants, *lines, f"return {_tuple(results)}"]),
        "",
    ])  # fmt: skip


def _open(spec: Spec) -> list[str]:
    """Return the kernel's head."""
    names, annotated = arguments(spec), []
    values = {f"s{i}" for i, kind in enumerate(spec.kinds) if kind == "n"}
    integers = names[names.index("x0_stride") :]
    for name in names:
        kind = f": tl.{spec.real}" if name in values else ": tl.int64" if name in integers else ""
        annotated.append(name + kind)
    quoted = ", ".join(f'"{name}"' for name in integers)
    strides = [name for name in integers if is_stride(name)]
    return [
        "",
        f"@triton.jit(do_not_specialize=[{quoted}])",
        f"def kernel({_tuple(annotated)}, ALIGNED: tl.constexpr, BLOCK: tl.constexpr):",
        *indent([
            # a product is known to be a multiple of 16, so that rows are read 16 bytes at a time
            "if ALIGNED:",
            *indent([f"{name} = {name} * 16" for name in strides]),
            "lane = tl.arange(0, BLOCK)",
            "pid = tl.program_id(0).to(tl.int64)",
        ]),
    ]  # fmt: skip


def _block(spec: Spec, block: str) -> list[str]:
    """Return the lines that find a block's neurons, and read its slots and initial states."""
    real = f"tl.{spec.real}"
    lines = [f"at = {block} * BLOCK + lane", "mask = at < n"]
    for i, kind in enumerate(spec.kinds):
        if kind == "v":
            where = f"s{i} + (at // s{i}_inner) % s{i}_count"
            lines.append(f"p{i} = tl.load({where}, mask=mask, other=1.0)")
        else:
            value = f"s{i}" if kind == "n" else f"tl.load(s{i})"
            lines.append(f"p{i} = tl.full([BLOCK], {value}, {real})")
    for i, slot in enumerate(spec.program.init):
        given = f"tl.load(given{i} + at, mask=mask, other=0.0)"
        lines += [f"if given{i} is None:", f"    v{i} = p{slot}", "else:", f"    v{i} = {given}"]
    return lines


def _loads(spec: Spec, names: Sequence[str], t: str, k: int, mask: str) -> list[str]:
    """Return the reads of step t + k."""
    return [
        f"{x}_{k} = e.load_{spec.storage}({x} + ({t} + {k}) * {x}_stride + at, {mask}_{k})" for x in names
    ]


def _call(function: str, results: Sequence[str], given: Sequence[str]) -> str:
    return f"{_tuple(results)} = {function}({_tuple([*given, 'BLOCK'])})"


def _forward(spec: Spec) -> list[str]:
    inputs = [f"x{i}" for i in range(spec.program.inputs)]
    states = [f"v{i}" for i in range(spec.states)]
    steps = range(UNROLL)
    loop = [f"live_{k} = at < tl.where(t + {k} < T, n, 0)" for k in steps]
    loop += [line for k in steps for line in _loads(spec, inputs, "t", k, "live")]
    for k in steps:
        new = [f"new_{v}" for v in states]
        loop.append(_call("step", ["out_t", *new], [*(f"{x}_{k}" for x in inputs), *states, *_slots(spec)]))
        loop.append(f"e.store_{spec.storage}(out + (t + {k}) * n + at, out_t, live_{k})")
        loop += [f"{v} = tl.where(live_{k}, new_{v}, {v})" for v in states]
    final = [line for i, v in enumerate(states) for line in (
        f"if final{i} is not None:", f"    tl.store(final{i} + at, {v}, mask=mask)")]  # fmt: skip
    return [
        *_open(spec),
        *indent([*_block(spec, "pid"), f"for t in range(0, T, {UNROLL}):", *indent(loop), *final]),
    ]


def _backward(spec: Spec) -> list[str]:
    inputs = [f"x{i}" for i in range(spec.program.inputs)]
    states = [f"v{i}" for i in range(spec.states)]
    slots = spec.wanted_slots
    count, steps, real = spec.states, range(UNROLL), f"tl.{spec.real}"
    totals = [i for i in slots if spec.kinds[i] == "t"]

    def kept(memory: str, k: str, i: int) -> str:
        return f"{memory} + ({k} * {count} + {i}) * BLOCK + lane"

    def keep(memory: str, k: str) -> list[str]:
        return [f"tl.store({kept(memory, k, i)}, {v})" for i, v in enumerate(states)]

    def recall(memory: str, k: str) -> list[str]:
        return [f"{v} = tl.load({kept(memory, k, i)})" for i, v in enumerate(states)]

    def at_step(k: int) -> list[str]:
        return [*(f"{x}_{k}" for x in inputs), *(f"{v}_{k}" for v in states), *_slots(spec)]

    one = _call("advance", states, [*(f"{x}_0" for x in inputs), *states, *_slots(spec)])
    sweep = [
        *keep("outer", "b"),
        "for t in range(b * span, (b + 1) * span):",
        *indent(["live_0 = mask", *_loads(spec, inputs, "t", 0, "live"), one]),
    ]
    several = [f"live_{k} = mask" for k in steps]
    several += [line for k in steps for line in _loads(spec, inputs, "t", k, "live")]
    for k in steps:
        several.append(_call("advance", states, [*(f"{x}_{k}" for x in inputs), *states, *_slots(spec)]))
    check = [*keep("inner", "k"), f"t = first + k * {UNROLL}", *several]

    walk = [f"live_{k} = at < tl.where(t + {k} < last, n, 0)" for k in steps]
    walk += [line for k in steps for line in _loads(spec, [*inputs, "g"], "t", k, "live")]
    walk += [f"{v}_0 = {v}" for v in states]
    for k in steps[:-1]:
        if states:
            walk.append(_call("advance", [f"{v}_{k + 1}" for v in states], at_step(k)))
    results = [*(f"new_g{v}" for v in states), *(f"gx{i}_t" for i in spec.wanted_inputs)]
    results += [f"gp{i}" for i in slots]
    for k in reversed(steps):
        walk.append(_call("back", results, [*at_step(k), f"g_{k}", *(f"g{v}" for v in states)]))
        for i in spec.wanted_inputs:
            walk.append(f"e.store_{spec.storage}(gx{i} + (t + {k}) * n + at, gx{i}_t, live_{k})")
        walk += [f"g{v} = tl.where(live_{k}, new_g{v}, g{v})" for v in states]
        walk += [f"acc{i} += tl.where(live_{k}, gp{i}, 0.0)" for i in slots]

    block = [
        *_block(spec, "(pid + r * tl.num_programs(0))"),
        *(f"acc{i} = tl.zeros([BLOCK], {real})" for i in slots),
    ]
    for i in range(count):
        given = f"tl.load(gfinal{i} + at, mask=mask, other=0.0)"
        zero = f"tl.zeros([BLOCK], {real})"
        block += [f"if gfinal{i} is None:", f"    gv{i} = {zero}", "else:", f"    gv{i} = {given}"]
    again = ["if i > 0:", *indent(recall("outer", "b"))] if states else []
    segment = ["if j > 0:", *indent(recall("inner", "k"))] if states else []
    block += [
        *(["for b in range(0, spans - 1):", *indent(sweep)] if states else []),
        # threads of a program may read what others of it wrote
        *(["tl.debug_barrier()"] if states else []),
        "for i in range(0, spans):",
        *indent([
            "b = spans - 1 - i",
            *again,
            "first = b * span",
            "last = tl.minimum(T, first + span)",
            f"segments = (last - first + {UNROLL - 1}) // {UNROLL}",
            *(["for k in range(0, segments - 1):", *indent(check), "tl.debug_barrier()"] if states else []),
            "for j in range(0, segments):",
            *indent(["k = segments - 1 - j", *segment, f"t = first + k * {UNROLL}", *walk]),
            *(["tl.debug_barrier()"] if states else []),
        ]),
    ]  # fmt: skip
    for i, slot in enumerate(spec.program.init):
        block += [f"if ggiven{i} is not None:", f"    tl.store(ggiven{i} + at, gv{i}, mask=mask)"]
        if slot in slots:
            block += [f"if given{i} is None:", f"    acc{slot} += gv{i}"]
    block += [
        f"tl.store(gs{i} + at, acc{i}, mask=mask)" if spec.kinds[i] == "v"
        else f"total{i} += tl.where(mask, acc{i}, 0.0)"
        for i in slots
    ]  # fmt: skip
    return [
        *_open(spec),
        *indent([
            "outer = scratch + pid * room * BLOCK",
            f"inner = outer + (spans - 1) * {count} * BLOCK",
            *(f"total{i} = tl.zeros([BLOCK], {real})" for i in totals),
            "for r in range(0, rounds):",
            *indent(block),
            *(f"tl.store(gs{i} + pid, tl.sum(total{i}, 0))" for i in totals),
        ]),
    ]  # fmt: skip
