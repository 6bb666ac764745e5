"""From a program to the source of its CPU kernels, one forward and one backward, for Numba to compile.

A kernel is serial: it takes the neurons `start ... stop - 1` in blocks of `width`, and each block through all
T steps, its states in rows of a scratch memory that stays in cache. The backward kernel recomputes the
states of a block from the input (over long T from checkpoints, a segment of `span` steps at a time), with
the very operations of the forward kernel, then walks back in time.

All arguments are in two arrays, of which a kernel takes the addresses: `ints` (sizes, addresses in bytes,
strides in elements) and `floats` (scalar slots): `spec.Spec.ints` names them in order.
"""

from __future__ import annotations

from ..body import Body, Leaves, indent
from ..grad import differentiate
from ..graph import Graph
from ..ops import is_boolean
from ..spec import Spec
from .feedback import Feedback

HEADER = '''"""Made by spikeloom from a neuron's equations; safe to delete."""

import numpy as np
from numba import cfunc, njit

from spikeloom.kernels.cpu import elementary as e
from spikeloom.kernels.cpu import simd as m

F = np.{real}
SIZE = {size}
WORD = {word}
row_load, row_store = m.loader("{real}", 0), m.storer("{real}", 0)
grad_load, grad_store = m.loader("{real}", 1), m.storer("{real}", 1)
acc_load, acc_store = m.loader("{real}", 2), m.storer("{real}", 2)
wide_load, wide_store = m.loader("float64", 3), m.storer("float64", 3)
far_load, far_store = m.loader("{real}", 4), m.storer("{real}", 4)
number = m.loader("float64", None)


@njit(error_model="numpy")
def fill(values, row, start, n, inner, count):
    """Write a slot's values for the neurons start ... start + n - 1 into a row.

    Neuron i has the value at (i // inner) % count; runs are copied whole, so that nothing is divided.
    """
    j = 0
    k = (start // inner) % count
    left = inner - start % inner
    while j < n:
        if inner == 1:
            run = min(n - j, count - k)
            for i in range(run):
                row_store(row, j + i, far_load(values, k + i))
            k += run
        else:
            run = min(n - j, left)
            value = far_load(values, k)
            for i in range(run):
                row_store(row, j + i, value)
            left = inner
            k += 1
        if k >= count:
            k = 0
        j += run


@njit(error_model="numpy")
def spread(row, values, start, n, inner, count):
    """Add a row of gradients to the slot's values that they belong to: the reverse of fill."""
    j = 0
    k = (start // inner) % count
    left = inner - start % inner
    while j < n:
        if inner == 1:
            run = min(n - j, count - k)
            for i in range(run):
                wide_store(values, k + i, wide_load(values, k + i) + acc_load(row, j + i))
            k += run
        else:
            run = min(n - j, left)
            total = 0.0
            for i in range(run):
                total += acc_load(row, j + i)
            wide_store(values, k, wide_load(values, k) + total)
            left = inner
            k += 1
        if k >= count:
            k = 0
        j += run


'''
FIRST_TENSOR_SCOPE = 5
WRITTEN = ("gx", "out", "said", "z")


def emit(spec: Spec) -> str:
    """Return the source of a module whose function `kernel(ints, floats)` is the kernel."""
    size = {"float64": 8, "float32": 4}.get(spec.storage, 2)
    word = 8 if spec.real == "float64" else 4
    text = [HEADER.format(real=spec.real, size=size, word=word)]
    names = [f"x{i}" for i in range(spec.program.inputs)]
    names += ["g", *(f"gx{i}" for i in spec.wanted_inputs)] if spec.backward else ["out"]
    feedback = Feedback(spec)
    text += feedback.head()
    tensors = dict.fromkeys(names, spec.storage) | feedback.tensors()
    for scope, (name, dtype) in enumerate(tensors.items(), FIRST_TENSOR_SCOPE):
        role = "storer" if name.startswith(WRITTEN) else "loader"
        text.append(f'at_{name} = m.{role}("{dtype}", {scope})')
    body = _backward(spec) if spec.backward else _forward(spec)
    return "\n".join([*text, "", "", *body, ""])


def _open(spec: Spec, constants: dict[str, str]) -> list[str]:
    """Return the kernel's head: its arguments by name."""
    lines = [f"{name} = m.word(ints, {i})" for i, name in enumerate(spec.ints)]
    scalars = [i for i, kind in enumerate(spec.kinds) if kind == "s"]
    lines += [f"s{i} = F(number(floats, {k}))" for k, i in enumerate(scalars)]
    lines += [f"{name} = {value}" for value, name in constants.items()]
    return [
        '@cfunc("void(int64, int64)", cache=True, error_model="numpy")',
        "def kernel(ints, floats):",
        *indent([*lines, "pitch = width * WORD"]),
    ]


def _slot_rows(spec: Spec) -> tuple[list[str], list[str], int]:
    """Return the lines that fill the rows of vector slots, those that read them at j, and the rows' count."""
    fills, reads, row = [], [], 0
    for i, kind in enumerate(spec.kinds):
        if kind == "v":
            fills += [
                f"row_s{i} = scratch + {row} * pitch",
                f"fill(s{i}, row_s{i}, a, n, s{i}_inner, s{i}_count)",
            ]
            reads.append(f"s{i}_j = row_load(row_s{i}, j)")
            row += 1
    return fills, reads, row


def _leaves(spec: Spec) -> Leaves:
    """Return the names by which a body reads inputs, states, slots and gradients."""
    names = {("input", i): f"x{i}_j" for i in range(spec.program.inputs)}
    names |= {("state", i): f"v{i}_j" for i in range(spec.states)}
    names |= {("param", i): f"s{i}_j" if kind == "v" else f"s{i}" for i, kind in enumerate(spec.kinds)}
    return names | {("grad", 0): "g_j"} | {("grad", 1 + i): f"gv{i}_j" for i in range(spec.states)}


def _start(spec: Spec) -> list[str]:
    """Return the lines that put the initial states into the rows `r0 ...`."""
    given, own = [], []
    for i, slot in enumerate(spec.program.init):
        value = f"row_load(row_s{slot}, j)" if spec.kinds[slot] == "v" else f"s{slot}"
        given.append(f"row_store(r{i}, j, far_load(given{i} + a * WORD, j))")
        own.append(f"row_store(r{i}, j, {value})")
    return ["if given:", *indent(_each("n", given)), "else:", *indent(_each("n", own))]


def _pointers(spec: Spec) -> list[str]:
    """Return where the inputs' rows of step t begin."""
    size = ["WORD" if i < spec.heard and spec.backward else "SIZE" for i in range(spec.program.inputs)]
    return [f"p{i} = x{i} + (t * x{i}_stride + a) * {size[i]}" for i in range(spec.program.inputs)]


def _values(spec: Spec, reads: list[str]) -> list[str]:
    """Return the lines that read, for neuron j, the inputs, the states (in rows `r0 ...`) and the slots."""
    return [
        *(f"x{i}_j = at_x{i}(p{i}, j)" for i in range(spec.program.inputs)),
        *(f"v{i}_j = row_load(r{i}, j)" for i in range(spec.states)),
        *reads,
    ]


def _forward(spec: Spec) -> list[str]:
    graph = Graph()
    steps = spec.program.step.load(graph, is_boolean)
    body = Body("numba", spec.real, "F({})")
    fills, reads, row = _slot_rows(spec)
    lines, results = body.lines(steps, _leaves(spec))
    states, feedback = range(spec.states), Feedback(spec)
    block = [
        "n = min(width, stop - a)",
        *fills,
        *feedback.rows(f"scratch + {row + spec.states} * pitch"),
        # the final states, where wanted, are the rows themselves
        *(f"r{i} = final{i} + a * WORD if final else scratch + {row + i} * pitch" for i in states),
        *_start(spec),
        *feedback.start(),
        "for t in range(T):",
        *indent([
            *feedback.ask(),
            *_pointers(spec),
            "q = out + (t * out_stride + a) * SIZE",
            "for j in range(n):",
            *indent([
                *_values(spec, reads),
                *feedback.hear(),
                *lines,
                f"at_out(q, j, {results[0]})",
                *feedback.say(results),
                *(f"row_store(r{i}, j, {results[1 + i]})" for i in states),
            ]),
        ]),
    ]  # fmt: skip
    return [*_open(spec, body.constants), "    for a in range(start, stop, width):", *indent(block, 2)]


def _backward(spec: Spec) -> list[str]:
    graph = Graph()
    steps = spec.program.step.load(graph, is_boolean)
    cotangents = [graph.leaf("grad", i) for i in range(len(steps))]
    states, inputs = range(spec.states), spec.wanted_inputs
    slots = spec.wanted_slots
    wrt = [
        *(graph.leaf("state", i) for i in states),
        *(graph.leaf("input", i) for i in inputs),
        *(graph.leaf("param", i) for i in slots),
    ]
    gradients = differentiate(graph, steps, cotangents, wrt)
    body = Body("numba", spec.real, "F({})")
    fills, reads, row = _slot_rows(spec)
    feedback = Feedback(spec)
    lines, results = body.lines(gradients, _leaves(spec))
    of_states, rest = results[: len(states)], results[len(states) :]
    of_inputs, of_slots = rest[: len(inputs)], rest[len(inputs) :]

    # the layout of the scratch rows, as Spec.rows counts it
    gv, acc = row, row + len(states)
    wide = acc + len(slots)
    checkpoint = wide + 2 * len(slots)
    rows = [
        *(f"row_gv{i} = scratch + {gv + i} * pitch" for i in states),
        *(f"row_a{i} = scratch + {acc + k} * pitch" for k, i in enumerate(slots)),
        # eight bytes a number, whatever F is
        *(f"row_w{i} = scratch + {wide} * pitch + {k} * width * 8" for k, i in enumerate(slots)),
        "segments = (T + span - 1) // span",
        f"checks = scratch + {checkpoint} * pitch",
        f"segment = checks + (segments * {len(states)} * pitch if segments > 1 else 0)",
        *feedback.rows(f"segment + span * {len(states)} * pitch"),
        # each wanted slot's double-precision sums live as long as the kernel
        *_each("width", [f"wide_store(row_w{i}, j, 0.0)" for i in slots if spec.kinds[i] == "s"]),
    ]
    count = len(states)
    at_k = [f"r{i} = segment + ((k & mask) * {count} + {i}) * pitch" for i in states]
    ahead, advanced = body.lines(steps[1:], _leaves(spec))
    check = [f"checks + (b * {count} + {i}) * pitch" for i in states]
    row_0 = [f"segment + {i} * pitch" for i in states]
    row_1 = [f"segment + ({count} + {i}) * pitch" for i in states]

    def copied(source: list[str], target: list[str]) -> list[str]:
        pairs = zip(source, target, strict=True)
        return _each("n", [f"row_store({into}, j, row_load({of}, j))" for of, into in pairs])

    from_final = [f"grad_store(row_gv{i}, j, far_load(gfinal{i} + a * WORD, j))" for i in states]
    block = [
        "n = min(width, stop - a)",
        *fills,
        *(f"r{i} = {row}" for i, row in enumerate(row_0)),
        *_start(spec),
        *feedback.start(),
        *_each("n", [f"acc_store(row_a{i}, j, F(0.0))" for i in slots]),
        "if gfinal:",
        *indent(_each("n", from_final)),
        "else:",
        *indent(_each("n", [f"grad_store(row_gv{i}, j, F(0.0))" for i in states])),
        # first sweep over all segments but the last, keeping the states that each begins with; then take the
        # segments from the last: recompute the states of each, and walk back
        "for i in range(2 * segments - 1):",
        *indent([
            "sweep = i < segments - 1",
            "b = i if sweep else 2 * segments - 2 - i",
            "first = b * span",
            "last = min(T, first + span)",
            "if sweep:",
            *indent(copied(row_0, check)),
            "elif b < segments - 1:",
            *indent(copied(check, row_0)),
            # a sweep takes turns with two rows
            "mask = 1 if sweep else -1",
            "for t in range(first, last if sweep else last - 1):",
            *indent([
                "k = t - first",
                *at_k,
                *(f"to{i} = segment + (((k + 1) & mask) * {count} + {i}) * pitch" for i in states),
                *_pointers(spec),
                "for j in range(n):",
                *indent([
                    *_values(spec, reads),
                    *ahead,
                    *(f"row_store(to{i}, j, {name})" for i, name in enumerate(advanced)),
                ]),
            ]),
            "if sweep:",
            *indent(["if (last - first) & 1:", *indent(copied(row_1, row_0)), "continue"]),
            "for t in range(last - 1, first - 1, -1):",
            *indent([
                *feedback.ask(),
                "k = t - first",
                *at_k,
                *_pointers(spec),
                "pg = g + (t * g_stride + a) * SIZE",
                *(f"q{i} = gx{i} + (t * gx{i}_stride + a) * SIZE" for i in inputs),
                "for j in range(n):",
                *indent([
                    *_values(spec, reads),
                    *(f"gv{i}_j = grad_load(row_gv{i}, j)" for i in states),
                    "g_j = at_g(pg, j)",
                    *feedback.hear(),
                    *lines,
                    *(f"at_gx{i}(q{i}, j, {name})" for i, name in zip(inputs, of_inputs, strict=True)),
                    *feedback.say(of_inputs),
                    *(f"grad_store(row_gv{i}, j, {name})" for i, name in enumerate(of_states)),
                    *(f"acc_store(row_a{i}, j, acc_load(row_a{i}, j) + {name})"
                      for i, name in zip(slots, of_slots, strict=True)),
                ]),
            ]),
        ]),
        *_finish(spec),
        *feedback.finish(),
    ]  # fmt: skip
    return [
        *_open(spec, body.constants),
        *indent(rows),
        "    for a in range(start, stop, width):",
        *indent(block, 2),
        *indent(_totals(spec)),
        "    return",
    ]


def _each(bound: str, lines: list[str]) -> list[str]:
    return [f"for j in range({bound}):", *indent(lines)] if lines else ["pass"]


def _finish(spec: Spec) -> list[str]:
    """Return what ends a block: the gradients of the initial states, and the block's sums for the slots."""
    states = range(spec.states)
    to_slots = [
        f"acc_store(row_a{slot}, j, acc_load(row_a{slot}, j) + grad_load(row_gv{i}, j))"
        for i, slot in enumerate(spec.program.init)
        if slot in spec.wanted_slots
    ]
    lines = [
        "if ggiven:",
        *indent(_each("n", [f"far_store(ggiven{i} + a * WORD, j, grad_load(row_gv{i}, j))" for i in states])),
        "elif not given:",
        *indent(_each("n", to_slots)),
    ]
    vectors = [i for i in spec.wanted_slots if spec.kinds[i] == "v"]
    lines += [f"spread(row_a{i}, gs{i}, a, n, s{i}_inner, s{i}_count)" for i in vectors]
    scalars = [i for i in spec.wanted_slots if spec.kinds[i] == "s"]
    return [
        *lines,
        *_each(
            "n", [f"wide_store(row_w{i}, j, wide_load(row_w{i}, j) + acc_load(row_a{i}, j))" for i in scalars]
        ),
    ]


def _totals(spec: Spec) -> list[str]:
    """Return what ends the kernel: each scalar slot's one sum."""
    scalars = [i for i in spec.wanted_slots if spec.kinds[i] == "s"]
    return [
        *(f"total{i} = 0.0" for i in scalars),
        *_each("width", [f"total{i} += wide_load(row_w{i}, j)" for i in scalars]),
        *(f"wide_store(gs{i}, 0, total{i})" for i in scalars),
    ]
