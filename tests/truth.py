"""Running a neuron on a backend, and comparing with the eager truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

import spikeloom as sl


@dataclass
class Run:
    """What a run gave: the output, and final states and gradients by name."""

    out: Tensor
    final: dict[str, Tensor]
    of_inputs: list[Tensor]
    of_states: dict[str, Tensor]
    of_params: dict[str, Tensor]


def run(
    neuron: sl.Neuron,
    backend: str,
    inputs: Sequence[Tensor],
    g: Tensor,
    state: Mapping[str, Tensor] | None = None,
    g_final: Mapping[str, Tensor] | None = None,
) -> Run:
    """Run forward and backward on a backend, with `g` and `g_final` as the gradients of the results."""
    # detached, not cloned: a clone would lose strides
    xs = [x.detach().requires_grad_() for x in inputs]
    states = None if state is None else {k: v.detach().clone().requires_grad_() for k, v in state.items()}
    neuron.zero_grad()
    with sl.backend(backend):
        out, final, _ = neuron.run(xs[0], *xs[1:], state=states)
        results = [(out, g), *((final[k], of_final) for k, of_final in (g_final or {}).items())]
        # what no input reaches (a resonator's first spike) has no gradient in the eager truth
        reached = [(r, of_r) for r, of_r in results if r.requires_grad]
        if reached:
            torch.autograd.backward([r for r, _ in reached], [of_r for _, of_r in reached])
    grads = {k: p.grad.clone() for k, p in neuron.named_parameters() if p.grad is not None}
    zero = {k: torch.zeros_like(p) for k, p in neuron.named_parameters()}
    return Run(
        out.detach(),
        {k: v.detach() for k, v in final.items()},
        [torch.zeros_like(x) if x.grad is None else x.grad for x in xs],
        {k: torch.zeros_like(v) if v.grad is None else v.grad for k, v in (states or {}).items()},
        zero | grads,
    )


def assert_same(kernel: Run, truth: Run, data: torch.dtype) -> None:
    """Raise unless two runs agree, to rounding.

    In fp32 an elementary function may round otherwise than PyTorch's, and a membrane at its threshold fire
    otherwise: such neurons (at most one in a hundred) are left out, and parameters are compared where
    there is none. Left out of the gradients, too, are neurons that run away: those whose state is not finite
    at the end, and, below fp64, those that multiply a change of their input, as its rounding, 10,000 times.
    """
    close = {torch.float64: 1e-9, torch.float32: 2e-4, torch.bfloat16: 2e-2, torch.float16: 4e-3}[data]
    off = (kernel.out.double() - truth.out.double()).abs() > close * (1 + truth.out.double().abs())
    strange = off.any(0)
    allowed = 0 if data == torch.float64 else strange.numel() / 100
    assert strange.sum() <= allowed, "the outputs differ"
    for key, final in truth.final.items():
        same = final.isfinite()
        assert torch.equal(kernel.final[key].isfinite() | strange, same | strange), f"final {key}: not finite"
        strange = strange | ~same
    for grad in truth.of_inputs if data != torch.float64 else ():
        strange = strange | (grad.abs() > 1e4).any(0)
    same = ~strange

    def check(name: str, a: Tensor, b: Tensor, mask: Tensor | None = None) -> None:
        assert a.shape == b.shape, f"{name}: shape {tuple(a.shape)} is not {tuple(b.shape)}"
        assert a.dtype == b.dtype, f"{name}: {a.dtype} is not {b.dtype}"
        near = max(close, 1e-5) if a.dtype == torch.float32 else close
        a, b = a.double(), b.double()
        if mask is not None:
            a, b = a[..., mask], b[..., mask]
        # gradients of a neuron that runs away overflow, in the truth, too
        finite = b.isfinite()
        assert torch.equal(a.isfinite(), finite), f"{name}: not finite where the truth is"
        a, b = a[finite], b[finite]
        if a.numel():
            scale = b.abs().max().clamp(min=1.0)
            torch.testing.assert_close(
                a, b, rtol=near, atol=float(near * scale), msg=lambda m: f"{name}: {m}"
            )

    assert kernel.out.dtype == truth.out.dtype
    for key in truth.final:
        check(f"final {key}", kernel.final[key], truth.final[key], same)
    for i, grad in enumerate(truth.of_inputs):
        check(f"gradient of input {i}", kernel.of_inputs[i], grad, same)
    for key in truth.of_states:
        check(f"gradient of initial {key}", kernel.of_states[key], truth.of_states[key], same)
    if not strange.any():
        for key in truth.of_params:
            check(f"gradient of {key}", kernel.of_params[key], truth.of_params[key])
