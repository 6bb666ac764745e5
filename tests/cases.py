"""Cases in which a backend is compared with the eager truth, for every backend's tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from truth import assert_same, run
from zoo import NEURONS, SURROGATES

import spikeloom as sl

SHAPE = (2, 3, 5, 7)
"""One step of every case: batch, channels, height, width."""
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
LAYOUTS = ("contiguous", "channels_last", "batch_first", "strided", "still")
AXES: dict[str, Any] = {
    "neuron": tuple(NEURONS),
    "variant": tuple(range(8)),
    "kind": ("number", "scalar", "channel", "neuron"),
    "surrogate": tuple(SURROGATES),
    "dtype": DTYPES,
    "layout": LAYOUTS,
    "steps": (1, 2, 63, 500),
    "state": (False, True),
}


def laid_out(x: Tensor, layout: str) -> Tensor:
    """Return the values of x `[T, B, C, H, W]` in another memory layout."""
    if layout == "channels_last":
        return x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    if layout == "batch_first":
        return x.transpose(0, 1).contiguous().transpose(0, 1)
    if layout == "strided":
        return torch.stack([x, x], -1).flatten(-2)[..., ::2]
    if layout == "still":
        return x[:1].expand_as(x)
    return x.contiguous()


def check(case: dict[str, Any], backend: str, device: str = "cpu") -> None:
    """Raise unless a backend gives the eager truth in a case."""
    entry = NEURONS[case["neuron"]]
    variants = list(entry.variants())
    options = dict(variants[case["variant"] % len(variants)])
    shape = (case["steps"], *SHAPE)
    if case["kind"] != "number":
        options = entry.tensors(case["kind"], shape[1:], **options)
        options["learnable"] = entry.params(**variants[case["variant"] % len(variants)])
    neuron = entry.make(**options).to(device)
    if case["surrogate"] != "ATan":
        neuron.surrogate = SURROGATES[case["surrogate"]]()
    dtype = case["dtype"]
    xs = [laid_out(x.to(device), case["layout"]) for x in entry.inputs(*shape, dtype=dtype)]
    draw = torch.Generator().manual_seed(2)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=draw).to(device)

    compute = torch.float64 if dtype == torch.float64 else torch.float32
    g = normal(*shape).to(dtype)
    state = g_final = None
    if case["state"]:
        with sl.backend("eager"):
            _, warm, _ = neuron.run(*(x[:1] for x in xs))
        state = {k: v.detach() + 0.01 * normal(*shape[1:]).to(compute) for k, v in warm.items()}
        g_final = {k: normal(*shape[1:]).to(compute) for k in neuron.states}
    kernel, truth = (run(neuron, b, xs, g, state, g_final) for b in (backend, "eager"))
    assert_same(kernel, truth, dtype)
    assert torch.equal(kernel.out.isfinite(), truth.out.isfinite())


def identify(case: dict[str, Any]) -> str:
    """Name a case."""
    return "-".join(str(v).removeprefix("torch.") for v in case.values())
