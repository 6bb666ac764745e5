"""`export_c`: a network written as a C file and its header."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from ...whole import whole
from ..integer import IntegerNetwork
from ..lower import lower
from ..machine import Machine, Net, is_fire
from ..quantisation import quantise
from .layers import emit_layer
from .neurons import emit_fire, needs_maths, whole_helpers
from .text import block, holder, real

_HEADER = """
/* @about@
   Written by spikeloom. Time step by time step:

     @name@_reset();                          once a sample, or a stream
     @name@_step(x);                          x: one step, @inputs@ numbers, as [@shape@]
     @name@_scores(y);                        y: @outputs@ numbers, @said@

   Static memory of @memory@ bytes; no other. Not for two threads at once. */
#ifndef @guard@_H
#define @guard@_H
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
#define @guard@_INPUTS @inputs@
#define @guard@_OUTPUTS @outputs@
typedef @input@ @name@_input;
void @name@_reset(void);
void @name@_step(const @name@_input *x);
void @name@_scores(float *y);
/* the class of the largest score, the first of several */
int @name@_class(void);
@quantise_head@
#ifdef __cplusplus
}
#endif
#endif
"""

_SOURCE = """
/* @about@
   Written by spikeloom; see @name@.h. C99: cc -std=c99 -O3 @name@.c@maths@
   (-std=c99, and no -ffast-math, so that floats are what they were in training);
   with -DSPIKELOOM_MAIN a program that reads samples of fp32: ./@name@ FILE STEPS [trace] */
#include "@name@.h"
@math_h@
#include <stddef.h>

@helpers@
@memory_of@
static unsigned char fresh = 1;
static int32_t steps;
@total@ total[@outputs@];

@layers@

@orders@
void @name@_reset(void)
{
  int32_t i, base, j;
  (void)base;
  (void)j;
  @clear@
  @states@
  for (i = 0; i < @outputs@; i++)
    total[i] = 0;
  steps = 0;
  fresh = 1;
}

void @name@_step(const @name@_input *x)
{
  int32_t i;
  if (steps == 0)
    @name@_reset();
  moved0 = 0;
  for (i = 0; i < @inputs@; i++) {
    const @input@ given = @given@;
    moved0 |= value0[i] != given;
    value0[i] = given;
  }
  @calls@
  for (i = 0; i < @outputs@; i++)
    total[i] @adds@ value@out@[i];
  steps++;
  fresh = 0;
}

void @name@_scores(float *y)
{
  int32_t i;
  for (i = 0; i < @outputs@; i++)
    y[@place@] = @score@;
}

int @name@_class(void)
{
  int32_t i, best = 0;
  float y[@outputs@];
  @name@_scores(y);
  for (i = 1; i < @outputs@; i++)
    if (y[i] > y[best])
      best = i;
  return (int)best;
}
@quantise@
@main@
"""

_QUANTISE = """

void @name@_quantise(const float *x, @name@_input *q)
{
  int32_t i;
  for (i = 0; i < @inputs@; i++) {
    const float y = x[i] * @inverse@;
    /* half to even, within the bits */
    int32_t n = y >= @top@ ? @most@ : y <= @bottom@ ? @least@ : (int32_t)y;
    const float rest = y - (float)n;
    if (n < @most@ && (rest > 0.5f || (rest == 0.5f && n % 2 != 0)))
      n++;
    if (n > @least@ && (rest < -0.5f || (rest == -0.5f && n % 2 != 0)))
      n--;
    q[i] = (@name@_input)n;
  }
}
"""

_MAIN = """

#ifdef SPIKELOOM_MAIN
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void trace(void)
{
  int32_t i;
  @traces@
}

int main(int argc, char **argv)
{
  static float x[@inputs@];
  static @name@_input q[@inputs@];
  float y[@outputs@];
  FILE *file = argc > 2 ? fopen(argv[1], "rb") : NULL;
  const long length = argc > 2 ? strtol(argv[2], NULL, 10) : 0;
  const int tracing = argc > 3 && strcmp(argv[3], "trace") == 0;
  long samples = 0, done = 0;
  clock_t spent = 0;
  if (file == NULL || length < 1) {
    fprintf(stderr, "usage: %s FILE STEPS [trace]; FILE: samples of STEPS x @inputs@ fp32\\n", argv[0]);
    return 2;
  }
  while (fread(x, sizeof x, 1, file) == 1) {
    clock_t begun;
    @take@
    if (done % length == 0)
      @name@_reset();
    begun = clock();
    @name@_step(q);
    spent += clock() - begun;
    if (tracing)
      trace();
    if (++done % length == 0) {
      int32_t i;
      @name@_scores(y);
      printf("%d", @name@_class());
      for (i = 0; i < @outputs@; i++)
        printf(" %.9g", (double)y[i]);
      printf("\\n");
      samples++;
    }
  }
  fclose(file);
  fprintf(stderr, "%ld samples, %.3f us a step\\n", samples,
          done ? 1e6 * (double)spent / CLOCKS_PER_SEC / (double)done : 0.0);
  return 0;
}
#endif
"""


def export_c(
    net: nn.Module | IntegerNetwork,
    x: Tensor,
    path: str | Path,
    dtype: Literal["float", "int8"] = "float",
    **options: Any,
) -> tuple[Path, Path]:
    """Write a network as one C99 file and its header, without dependencies; return their paths.

        sl.deploy.export_c(net.eval(), x, "net.c")
        sl.deploy.export_c(net.eval(), samples, "net.c", dtype="int8", bits=8, state_bits=16)

    All memory is static. A step runs layers in order; a value that is 0 adds nothing, and a layer of which
    nothing has changed since the step before is not run at all: neurons that are at rest and hear nothing
    cost nothing. With floats the spikes are those of the network to rounding; with whole numbers they are
    those of `simulate`, to the bit. The file has a `main` that runs and times samples from a file.

    Arguments:
        net: a network in evaluation mode, as `lower` takes it, or an `IntegerNetwork`.
        x: a sample `[T, B, ...]`; for int8 some tens of samples, as `quantise` takes them.
        path: the C file; its stem, an identifier, begins the names of the functions.
        dtype: "float", or "int8" for weights of 8 bits or fewer, and whole numbers throughout.
        options: those of `quantise`.

    Raises:
        as `lower` and `quantise`; then nothing is written.
        ValueError: a path that ends otherwise, or whose stem is no identifier.
        OSError: the folder cannot be written; files that were there stay as they were.
    """
    path = Path(path)
    name = path.stem
    if path.suffix != ".c" or not re.fullmatch(r"[A-Za-z]\w*", name):
        raise ValueError(f"export_c writes a file whose stem is a name of C, as my_net.c, not {path.name!r}")
    if dtype not in ("float", "int8"):
        raise ValueError(f"dtype = {dtype!r}; 'float' or 'int8' is needed")
    if options and (dtype == "float" or isinstance(net, IntegerNetwork)):
        raise ValueError(f"{', '.join(options)}: options of quantising a network, with dtype='int8'")
    if isinstance(net, IntegerNetwork):
        small: Net = net
    else:
        small = quantise(net, x, **options) if dtype == "int8" else lower(net, x)
    header, source = emit(small, name)
    with whole(path) as c, whole(path.with_suffix(".h")) as h:
        c.write_text(source, encoding="utf-8")
        h.write_text(header, encoding="utf-8")
    return path, path.with_suffix(".h")


def emit(net: Net, name: str) -> tuple[str, str]:
    """Return the header and the source of a network, with `name` before its functions."""
    machine = Machine(net)
    whole = isinstance(net, IntegerNetwork)
    types = {n: holder(net.peaks[n]) if isinstance(net, IntegerNetwork) else "float" for n in machine.names}
    layers, states = [], []
    for layer in net:
        if is_fire(layer):
            text, reset = emit_fire(machine, layer, types)
            layers.append(text)
            states += reset
        else:
            layers.append(emit_layer(machine, layer, types))
    numbers = range(len(machine.names))
    memory_of = [f"static {types[n]} value{i}[{machine.size(n)}];" for i, n in enumerate(machine.names)]
    memory_of.append(f"static unsigned char {', '.join(f'moved{i}' for i in numbers)};")
    clear = [
        f"for (i = 0; i < {machine.size(n)}; i++)\n  value{i}[i] = 0;" for i, n in enumerate(machine.names)
    ]
    clear.append("; ".join(f"moved{i} = 0" for i in numbers) + ";")
    values: dict[str, Any] = {
        "name": name,
        "guard": name.upper(),
        "about": f"A spiking network of {'whole numbers' if whole else 'floats'}, {len(net.layers)} layers.",
        "inputs": machine.size("input"),
        "outputs": machine.size(net.output),
        "out": machine.number(net.output),
        "input": types["input"],
        "shape": "][".join(map(str, net.input)),
        "said": "the mean over the steps so far" if net.mean else "of this step",
        "memory_of": "\n".join(memory_of),
        "layers": "\n\n".join(layers),
        "clear": "\n".join(clear),
        "states": "\n".join(states),
        "calls": "\n".join(f"layer{machine.number(layer.name)}();" for layer in net),
        "adds": "+=" if net.mean else "=",
        "total": "static int64_t" if whole else "static float",
    }
    return _whole_text(machine, types, values)


def _whole_text(machine: Machine, types: dict[str, str], values: dict[str, Any]) -> tuple[str, str]:
    net, name = machine.net, values["name"]
    orders = []
    values["given"], values["place"] = "x[i]", "i"
    for what, of in (("given", "input"), ("place", net.output)):
        order = machine.order[of]
        if (order != range(len(order))).any():
            from .text import table

            orders.append(table("int32_t", f"{what}_order", order))
            values[what] = f"x[{what}_order[i]]" if what == "given" else f"{what}_order[i]"
    values["orders"] = "\n".join(orders)
    steps = "steps" if net.mean else "1"
    values["score"] = f"total[i] / (float){steps}"
    values.update(helpers="", quantise="", quantise_head="", take="memcpy(q, x, sizeof q);")
    if isinstance(net, IntegerNetwork):
        values["helpers"] = whole_helpers(net.state_bits, net.overflow)
        values["score"] = f"(float)((double)total[i] * {net.output_scale!r} / {steps})"
        most = net.peaks["input"]
        least = -most if net.signed else 0
        inverse = real(1 / net.input_scale)
        values["quantise"] = block(
            _QUANTISE, **values, inverse=inverse, most=most, least=least, top=real(most), bottom=real(least)
        )
        about = f"/* whole numbers of inputs: x / {net.input_scale!r}, rounded */"
        values["quantise_head"] = f"{about}\nvoid {name}_quantise(const float *x, {name}_input *q);"
        values["take"] = f"{name}_quantise(x, q);"
    form = "%ld" if isinstance(net, IntegerNetwork) else "%.9g"
    cast = "(long)" if isinstance(net, IntegerNetwork) else "(double)"
    traces = [
        f'printf("= {machine.number(layer.name)}");\n'
        f"for (i = 0; i < {machine.size(layer.name)}; i++)\n"
        f'  printf(" {form}", {cast}value{machine.number(layer.name)}[i]);\n'
        f'printf("\\n");'
        for layer in net
    ]
    values["main"] = block(_MAIN, **values, traces="\n".join(traces))
    maths = needs_maths(values["layers"])
    values["math_h"], values["maths"] = ("#include <math.h>", " -lm") if maths else ("", "")
    source = block(_SOURCE, **values) + "\n"
    sizes = {"float": 4, "int8_t": 1, "int16_t": 2, "int32_t": 4, "state": 0, "unsigned char": 1}
    if isinstance(net, IntegerNetwork):
        sizes["state"] = net.state_bits // 8
    values["memory"] = _bytes(source, sizes)
    return block(_HEADER, **values) + "\n", source


def _bytes(source: str, sizes: dict[str, int]) -> int:
    """Return the bytes of the static variables of a source, constants apart."""
    found = 0
    for kind, names in re.findall(r"^static (float|int8_t|int16_t|int32_t|state) ([^;(]*);", source, re.M):
        found += sum(sizes[kind] * int(n) for n in re.findall(r"\[(\d+)\]", names))
    return found
