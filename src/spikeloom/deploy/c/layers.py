"""Synapses, pools and joins in C: what an event adds, and when nothing is to be done."""

from __future__ import annotations

from typing import Any

from ..integer import IntPool, IntSynapse
from ..lower import Layer, Pool, Synapse, Window
from ..machine import Machine
from .text import block, real, table


def emit_layer(machine: Machine, layer: Layer, types: dict[str, str]) -> str:
    """Return the tables and the function of a layer that is no neuron.

    Arguments:
        machine: the network, laid out.
        layer: one of its layers.
        types: the C type of each value.
    """
    if isinstance(layer, (Synapse, IntSynapse)):
        return _synapse(machine, layer, types)
    if isinstance(layer, (Pool, IntPool)):
        return _pool(machine, layer, types)
    return _join(machine, layer, types)


def _head(machine: Machine, layer: Layer) -> dict[str, Any]:
    me = machine.number(layer.name)
    ways = " || ".join(dict.fromkeys(f"moved{machine.number(name)}" for name in layer.inputs))
    return {
        "me": me,
        "from": machine.number(layer.inputs[0]),
        "size": machine.size(layer.name),
        "given": machine.size(layer.inputs[0]),
        "about": f"{layer.name}: {' + '.join(layer.inputs)} -> {'x'.join(map(str, layer.shape))}",
        "ways": ways,
    }


def _synapse(machine: Machine, layer: Any, types: dict[str, str]) -> str:
    head = _head(machine, layer)
    whole = isinstance(layer, IntSynapse)
    kind, weights = ("int32_t", "int8_t") if whole else ("float", "float")
    weight = machine.weight(layer)
    parts = [table(weights, f"weight{head['me']}", weight)]
    parts.append(table(kind, f"bias{head['me']}", layer.bias.numpy()))
    binary = machine.net.binary(layer.inputs[0])
    factor = layer.factor if whole else 1
    times = "value * w[j]" if not binary or factor > 1 else "w[j]"
    value = f"value{head['from']}[i]"
    if whole and factor > 1:
        value = f"{value} * {factor}"
    head.update(
        kind=kind, sum=types[layer.name], weights=weights, times=times, value=value, outs=weight.shape[-1]
    )
    head["loop"] = _linear(head) if layer.window is None else _conv(machine, layer, head)
    run, beside = len(layer.bias), f"value{machine.number(layer.inputs[-1])}[i + j] + "
    head["start"] = f"y[i + j] = {beside if len(layer.inputs) > 1 else ''}bias{head['me']}[j];"
    head["run"] = run
    parts.append(
        block(
            """
            /* @about@ */
            static void layer@me@(void)
            {
              @sum@ *y = value@me@;
              int32_t i, j;
              if (!fresh && !(@ways@)) {
                moved@me@ = 0;
                return;
              }
              moved@me@ = 1;
              for (i = 0; i < @size@; i += @run@)
                for (j = 0; j < @run@; j++)
                  @start@
              @loop@
            }
            """,
            **head,
        )
    )
    return "\n".join(parts)


def _linear(head: dict[str, Any]) -> str:
    return block(
        """
        for (i = 0; i < @given@; i++) {
          const @kind@ value = @value@;
          const @weights@ *w = weight@me@ + (size_t)i * @outs@;
          if (value == 0)
            continue;
          for (j = 0; j < @outs@; j++)
            y[j] += @times@;
        }
        """,
        **head,
    )


def _conv(machine: Machine, layer: Any, head: dict[str, Any]) -> str:
    window, given = layer.window, machine.net.shape(layer.inputs[0])
    to = f" + channel / {given[0] // window.groups} * {head['outs']}" if window.groups > 1 else ""
    return block(
        """
        for (i = 0; i < @given@; i++) {
          const @kind@ value = @value@;
          const int32_t place = i / @channels@, channel = i % @channels@;
          int32_t row, column;
          if (value == 0)
            continue;
          @places@
              const size_t from = ((size_t)channel * @rows@ + row) * @columns@ + column;
              const @weights@ *w = weight@me@ + from * @outs@;
              @sum@ *to = y + ((size_t)down * @width@ + across) * @all@@to@;
              for (j = 0; j < @outs@; j++)
                to[j] += @times@;
            }
          }
        }
        """,
        **head,
        channels=given[0],
        rows=window.kernel[0],
        columns=window.kernel[1],
        width=layer.shape[2],
        all=layer.shape[0],
        to=to,
        places=_places(window, given, layer.shape),
    )


def _places(window: Window, given: Any, shape: Any) -> str:
    """Return loops over the windows that a place of the input is in; they are left open."""
    lines = []
    names = (("row", "down", f"place / {given[2]}"), ("column", "across", f"place % {given[2]}"))
    for axis, (k, to, at) in enumerate(names):
        gap = "  " * axis
        size, step = window.kernel[axis], window.stride[axis]
        dilated = f"{k} * {window.dilation[axis]}" if window.dilation[axis] > 1 else k
        lines.append(f"{gap}for ({k} = 0; {k} < {size}; {k}++) {{")
        if step == 1:
            lines.append(f"{gap}  const int32_t {to} = {at} + {window.padding[axis]} - {dilated};")
            lines.append(f"{gap}  if ({to} < 0 || {to} >= {shape[axis + 1]})\n{gap}    continue;")
        else:
            lines.append(f"{gap}  const int32_t {to}_ = {at} + {window.padding[axis]} - {dilated};")
            lines.append(f"{gap}  const int32_t {to} = {to}_ / {step};")
            outside = f"{to}_ < 0 || {to}_ % {step} != 0 || {to} >= {shape[axis + 1]}"
            lines.append(f"{gap}  if ({outside})\n{gap}    continue;")
    return "\n".join(lines)


def _pool(machine: Machine, layer: Any, types: dict[str, str]) -> str:
    head, given = _head(machine, layer), machine.net.shape(layer.inputs[0])
    window = layer.window
    head.update(kind=types[layer.name], channels=given[0], width=layer.shape[2])
    if layer.how == "max":
        head.update(height=given[1], wide=given[2], rows=window.kernel[0], columns=window.kernel[1])
        head.update(
            down=window.stride[0], across=window.stride[1], top=window.padding[0], left=window.padding[1]
        )
        body = """
          for (place = 0; place < @places@; place++) {
            for (j = 0; j < @channels@; j++) {
              @kind@ most = 0;
              int32_t row, column, seen = 0;
              for (row = 0; row < @rows@; row++) {
                for (column = 0; column < @columns@; column++) {
                  const int32_t r = place / @width@ * @down@ - @top@ + row;
                  const int32_t c = place % @width@ * @across@ - @left@ + column;
                  if (r < 0 || c < 0 || r >= @height@ || c >= @wide@)
                    continue;
                  i = (r * @wide@ + c) * @channels@ + j;
                  if (!seen || value@from@[i] > most)
                    most = value@from@[i];
                  seen = 1;
                }
              }
              y[place * @channels@ + j] = most;
            }
          }
        """
        head["places"] = layer.shape[1] * layer.shape[2]
        head["locals"] = "int32_t i, j, place;"
    else:
        body = """
          for (i = 0; i < @size@; i++)
            y[i] = 0;
          for (i = 0; i < @given@; i++) {
            const @kind@ value = value@from@[i];
            const int32_t place = i / @channels@, channel = i % @channels@;
            int32_t row, column;
            if (value == 0)
              continue;
            @loops@
                y[(down * @width@ + across) * @channels@ + channel] += value;
              }
            }
          }
          @mean@
        """
        count = window.kernel[0] * window.kernel[1]
        mean = f"for (i = 0; i < {head['size']}; i++)\n  y[i] = y[i] / {real(count)};"
        head["mean"] = "" if isinstance(layer, IntPool) else mean
        head["loops"] = _places(window, given, layer.shape)
        head["locals"] = "int32_t i;"
    return block(
        """
        /* @about@ */
        static void layer@me@(void)
        {
          @kind@ *y = value@me@;
          @locals@
          if (!fresh && !(@ways@)) {
            moved@me@ = 0;
            return;
          }
          moved@me@ = 1;
          @body@
        }
        """,
        **{**head, "body": block(body, **head)},
    )


def _join(machine: Machine, layer: Any, types: dict[str, str]) -> str:
    head = _head(machine, layer)
    a = f"value{head['from']}[i]"
    b = f"value{machine.number(layer.inputs[-1])}[i]"
    one = "1" if types[layer.name] != "float" else "1.0f"
    said = {"add": f"{a} + {b}", "mul": f"{a} * {b}", "not": f"{one} - {a}"}[layer.how]
    kind = types[layer.name]
    head["said"] = said if kind in ("float", "int32_t") else f"({kind})({said})"
    return block(
        """
        /* @about@ */
        static void layer@me@(void)
        {
          int32_t i;
          if (!fresh && !(@ways@)) {
            moved@me@ = 0;
            return;
          }
          moved@me@ = 1;
          for (i = 0; i < @size@; i++)
            value@me@[i] = @said@;
        }
        """,
        **head,
    )
