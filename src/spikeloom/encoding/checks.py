"""What all codes ask of their options, of values and of spikes."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def whole(owner: object, name: str, at_least: int, at_most: int = 1 << 31) -> None:
    """Raise ValueError unless an option is a whole number in a range."""
    value = getattr(owner, name)
    if isinstance(value, bool) or not isinstance(value, int) or not at_least <= value <= at_most:
        raise ValueError(
            f"{type(owner).__name__}: {name} = {value!r}; a whole number from {at_least} to {at_most} is "
            f"needed, as {name}={max(at_least, 8)}"
        )


def number(
    owner: object, name: str, above: float, below: float = math.inf, *, included: bool = False
) -> None:
    """Raise ValueError unless an option is a number between two, or, `included`, the lower of them."""
    value = getattr(owner, name)
    fine = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (fine and (above < value < below or (included and value == above))):
        low = "" if above == -math.inf else f" at least {above}" if included else f" above {above}"
        high = f" and below {below}" if below < math.inf else ""
        raise ValueError(f"{type(owner).__name__}: {name} = {value!r}; a finite number{low}{high} is needed")


def wide(x: Tensor) -> Tensor:
    """Return x in a type whose rounding does not blur time steps: float32 for the half-wide ones."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def values(owner: object, x: Tensor, low: float = -math.inf, high: float = math.inf) -> Tensor:
    """Return x, `wide`; raise ValueError unless it has a float dtype and is finite and in a range.

    The range's ends are rounded as x is: 1/3 is no more than 1/3 in any dtype.
    """
    name = type(owner).__name__
    floats(name, "x", x)
    low, high = (float(torch.tensor(end, dtype=x.dtype)) for end in (low, high))
    least, most = extremes(x)
    if not (low <= least and most <= high and math.isfinite(least) and math.isfinite(most)):
        wanted = "finite" if low == -math.inf else f"in [{low:g}, {high:g}]"
        remedy = "remove NaN and infinity" if low == -math.inf else "scale it, or clip it with x.clamp(...)"
        raise ValueError(f"{name}: x lies from {least:g} to {most:g}; it has to be {wanted}: {remedy}")
    return wide(x)


def train(owner: object, spikes: Tensor, T: int | None = None, *, binary: bool = False) -> Tensor:
    """Return spikes, `wide`; raise ValueError unless they are `[T, ...]` of a float dtype.

    Arguments:
        owner: who asks.
        spikes: what is asked about.
        T: time steps that there must be; any number if None.
        binary: whether they must lie in [0, 1].
    """
    name = type(owner).__name__
    floats(name, "spikes", spikes)
    if spikes.dim() == 0 or (T is not None and len(spikes) != T):
        raise ValueError(
            f"{name}: spikes have the shape {tuple(spikes.shape)}; {'T' if T is None else T} time steps are "
            "needed in the first dimension: transpose them, or give the code their T"
        )
    if binary:
        least, most = extremes(spikes)
        if not (least >= 0 and most <= 1):
            raise ValueError(
                f"{name}: spikes lie from {least:g} to {most:g}; at most one spike a step is read: 0 or 1"
            )
    return wide(spikes)


def floats(name: str, what: str, x: Tensor) -> None:
    """Raise unless x is a tensor of a float dtype."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: {what} is a {type(x).__name__}; a tensor is needed: torch.as_tensor(...)")
    if not x.is_floating_point():
        raise ValueError(
            f"{name}: {what} has the dtype {x.dtype}; floats are needed: .float(), divided by 255 for bytes "
            "of an image"
        )


def extremes(x: Tensor) -> tuple[float, float]:
    """Return the least and the largest value, NaN if there is one; 0 and 0 of an empty tensor."""
    if not x.numel():
        return 0.0, 0.0
    least, most = torch.aminmax(x.detach())
    return float(least), float(most)


def along_time(line: Tensor, like: Tensor) -> Tensor:
    """Return `[T]` as `[T, 1, ...]` that broadcasts against `like`, `[T, ...]`."""
    return line.view(-1, *[1] * (like.dim() - 1))


def at_times(t: Tensor, T: int, dtype: torch.dtype) -> Tensor:
    """Return `[T, ...]`: one spike at each whole time t, `[...]`; none where t is not in 0 ... T - 1."""
    steps = torch.arange(T, device=t.device, dtype=t.dtype)
    return (along_time(steps, t.unsqueeze(0)) == t).to(dtype)
