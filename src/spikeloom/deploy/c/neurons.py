"""Neurons in C: of floats their own equations, of whole numbers the step of `IntFire`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...kernels.graph import Graph, Node, program_of
from ...kernels.ops import is_boolean
from ..integer import KEEP_BITS, IntFire
from ..lower import Fire
from ..machine import Machine, slots
from .text import block, real, table, whole

OPS = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "neg": "-{0}",
    "pow": "powf({0}, {1})",
    "abs": "fabsf({0})",
    "sqrt": "sqrtf({0})",
    "floor": "floorf({0})",
    "round": "rintf({0})",
    "exp": "expf({0})",
    "log": "logf({0})",
    "tanh": "tanhf({0})",
    "sigmoid": "1.0f / (1.0f + expf(-{0}))",
    "sin": "sinf({0})",
    "cos": "cosf({0})",
    "atan": "atanf({0})",
    "erf": "erff({0})",
    "max": "({0} > {1} || {0} != {0}) ? {0} : {1}",
    "min": "({0} < {1} || {0} != {0}) ? {0} : {1}",
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "eq": "{0} == {1}",
    "and": "{0} && {1}",
    "or": "{0} || {1}",
    "not": "!{0}",
    "where": "{0} ? {1} : {2}",
    "detach": "{0}",
    "surrogate": "{0}",
}
"""The operations of a neuron's step, on floats of C99."""
_MATHS = (
    "powf",
    "fabsf",
    "sqrtf",
    "floorf",
    "rintf",
    "expf",
    "logf",
    "tanhf",
    "sinf",
    "cosf",
    "atanf",
    "erff",
)


def needs_maths(text: str) -> bool:
    """Whether C source calls functions of math.h."""
    return any(f"{name}(" in text for name in _MATHS) or "HUGE_VALF" in text


def emit_fire(machine: Machine, layer: Any, types: dict[str, str]) -> tuple[str, list[str]]:
    """Return the tables, states and function of a layer of neurons, and the lines that reset it."""
    head = {
        "me": machine.number(layer.name),
        "from": machine.number(layer.inputs[0]),
        "size": machine.size(layer.name),
        "kind": types[layer.name],
        "run": layer.shape[0] if len(layer.shape) == 3 else machine.size(layer.name),
        "about": f"{layer.name}: {_what(layer)} on {'x'.join(map(str, layer.shape))}",
    }
    return _whole(machine, layer, head, types) if isinstance(layer, IntFire) else _float(machine, layer, head)


_FUNCTION = """
@tables@
static @state@;
static unsigned char steady@me@;
/* @about@ */
static void layer@me@(void)
{
  int32_t base, j, still = 1, said = 0;
  if (!fresh && steady@me@ && !moved@from@) {
    moved@me@ = 0;
    return;
  }
  for (base = 0; base < @size@; base += @run@) {
    for (j = 0; j < @run@; j++) {
      const int32_t i = base + j;
      @body@
    }
  }
  steady@me@ = (unsigned char)still;
  moved@me@ = (unsigned char)said;
}
"""


def _what(layer: Any) -> str:
    if isinstance(layer, IntFire):
        return "a readout" if layer.threshold is None else f"neurons, {layer.reset} reset"
    return type(layer.neuron).__name__


def _parameter(machine: Machine, layer: Any, name: str, value: Any, kind: str, tables: list[str]) -> str:
    """Return how a parameter is read for element i; its table, if it has one, is added to `tables`."""
    found = machine.along(layer, value)
    if isinstance(found, np.ndarray):
        tables.append(table(kind, name, found))
        return f"{name}[j]" if len(found) < machine.size(layer.name) else f"{name}[i]"
    return real(found) if kind == "float" else whole(int(found))


def _float(machine: Machine, layer: Fire, head: dict[str, Any]) -> tuple[str, list[str]]:
    plan: Any = layer.neuron._plan
    program, states, me = program_of(plan.program), layer.neuron.states, head["me"]
    tables: list[str] = []
    reads = [
        _parameter(machine, layer, f"slot{me}_{i}", value, "float", tables)
        for i, value in enumerate(slots(layer))
    ]
    outputs = program.step.load(Graph(), is_boolean)
    leaves = {("input", 0): "x"}
    leaves |= {("state", i): f"{name}0" for i, name in enumerate(states)}
    leaves |= {("param", i): f"p{i}" for i in range(len(reads))}
    lines, results = c_lines(outputs, leaves)
    used = " ".join([*lines, *results])
    body = [f"const float x = value{head['from']}[i];"] if "x" in used else []
    body += [f"const float {name}0 = {name}_{me}[i];" for name in states]
    body += [
        f"const float p{i} = {read};"
        for i, read in enumerate(reads)
        if f"p{i}" in used.replace(";", " ").split()
    ]
    body += [*lines, f"said |= value{me}[i] != {results[0]};", f"value{me}[i] = {results[0]};"]
    for name, result in zip(states, results[1:], strict=True):
        body += [f"still &= {name}0 == {result};", f"{name}_{me}[i] = {result};"]
    head["state"] = "float " + ", ".join(f"{name}_{me}[{head['size']}]" for name in states)
    reset = [f"{name}_{me}[i] = {reads[slot]};" for name, slot in zip(states, program.init, strict=True)]
    text = block(_FUNCTION, tables="\n".join(tables), body="\n".join(body), **head)
    return text, _reset(head, reset)


def _reset(head: dict[str, Any], lines: list[str]) -> list[str]:
    heads = [
        f"for (base = 0; base < {head['size']}; base += {head['run']})",
        f"  for (j = 0; j < {head['run']}; j++) {{",
    ]
    return [*heads, "    const int32_t i = base + j;", *(f"    {line}" for line in lines), "  }"]


def c_lines(outputs: list[Node], leaves: dict[tuple[str, int], str]) -> tuple[list[str], list[str]]:
    """Return declarations that compute `outputs`, and the names of the results; see `kernels.body.Body`."""
    names: dict[int, str] = {}
    lines: list[str] = []

    def visit(node: Node) -> str:
        if id(node) in names:
            return names[id(node)]
        if node.op == "const":
            name = real(node.value)
        elif node.is_leaf:
            name = leaves[node.op, int(node.value)]
        else:
            # of a spike its value, not its derivative
            args = [visit(arg) for arg in (node.args[:1] if node.op == "surrogate" else node.args)]
            name = f"n{len(lines)}"
            kind = "int" if node.boolean else "float"
            lines.append(f"const {kind} {name} = {OPS[node.op].format(*(_shielded(a) for a in args))};")
        names[id(node)] = name
        return name

    return lines, [visit(node) for node in outputs]


def _shielded(name: str) -> str:
    return f"({name})" if name.startswith("-") else name


def _whole(
    machine: Machine, layer: IntFire, head: dict[str, Any], types: dict[str, str]
) -> tuple[str, list[str]]:
    me, states = head["me"], layer.states
    tables: list[str] = []

    def read(name: str, value: Any) -> str:
        return _parameter(machine, layer, f"{name}{me}", value, "int32_t", tables)

    a = f"(wide)value{head['from']}[i]"
    scaled = f"{a} * {1 << layer.shift}" if layer.shift > 0 else a
    if layer.shift < 0:
        scaled = f"down({a} + {1 << (-layer.shift - 1)}, {-layer.shift})"
    body = [f"const wide v0 = v_{me}[i];"]
    if layer.keep_current is not None:
        body.append(f"const wide i0 = i_{me}[i];")
        body.append(f"const wide i1 = narrow(leak(i0, {read('keep_i', layer.keep_current)}) + {scaled});")
        scaled = "i1"
    body.append(f"const wide h = narrow(leak(v0, {read('keep_v', layer.keep)}) + {scaled});")
    if layer.threshold is None:
        body += ["const wide v1 = h;", "const wide s = h;"]
    else:
        level = read("threshold", layer.threshold)
        body.append(f"const wide theta = {level};")
        if layer.keep_raise is not None:
            body.append(f"const wide w0 = w_{me}[i];")
        body.append(f"const wide s = h >= theta{' + w0' if layer.keep_raise is not None else ''};")
        body.append(f"const wide v1 = {'s ? 0 : h' if layer.reset == 'hard' else 'narrow(h - s * theta)'};")
    if layer.keep_raise is not None:
        left = f"leak(w0, {read('keep_w', layer.keep_raise)})"
        body.append(f"const wide w1 = narrow({left} + s * {read('raised', layer.raised)});")
    body += [f"said |= value{me}[i] != s;", f"value{me}[i] = ({head['kind']})s;"]
    for name in states:
        body += [f"still &= {name}0 == {name}1;", f"{name}_{me}[i] = (state){name}1;"]
    head["state"] = "state " + ", ".join(f"{name}_{me}[{head['size']}]" for name in states)
    reset = [f"{name}_{me}[i] = 0;" for name in states]
    text = block(_FUNCTION, tables="\n".join(tables), body="\n".join(body), **head)
    return text, _reset(head, reset)


WHOLE = """
#define STATE_MOST @most@
/* a shifted to the right, towards minus infinity, whatever the compiler does below 0 */
static inline wide down(wide a, int by)
{
  return a < 0 ? ~(~a >> by) : a >> by;
}
static inline wide leak(wide v, wide k)
{
  return v < 0 ? -((-v * k) >> @bits@) : (v * k) >> @bits@;
}
static inline wide narrow(wide v)
{
  @narrow@
}
"""


def whole_helpers(state_bits: int, overflow: str) -> str:
    """Return the types and functions that neurons of whole numbers use."""
    wide = "int64_t" if state_bits > 16 else "int32_t"
    most = (1 << (state_bits - 1)) - 1
    if overflow == "saturate":
        narrow = "return v > STATE_MOST ? STATE_MOST : v < -STATE_MOST - 1 ? -STATE_MOST - 1 : v;"
    else:
        narrow = "return ((v + (wide)STATE_MOST + 1) & (2 * (wide)STATE_MOST + 1)) - STATE_MOST - 1;"
    types = f"typedef int{state_bits}_t state;\ntypedef {wide} wide;\n"
    return types + block(WHOLE, most=most, bits=KEEP_BITS, narrow=narrow)
