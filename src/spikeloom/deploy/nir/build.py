"""One node of NIR made one layer: a table from a node's class to what builds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ...neurons import IF, LI, LIF, CubaLIF, Neuron
from .hints import neuron_of
from .membrane import NotAMembrane, read_membrane, snap
from .neurons import (
    NirCubaLI,
    NirCubaLIF,
    NirDelay,
    NirI,
    NirIF,
    NirLI,
    NirLIF,
    NirScale,
    NirThreshold,
)
from .units import (
    NEURONS,
    Discretisation,
    Fires,
    NirError,
    membrane_fields,
    rate_of,
    threshold_in,
)

_NEAR = 5e-7  # a few roundings in single precision, which is what others write


class Builder:
    """Builds layers of nodes.

    Arguments:
        dt: the time step in seconds; None if nothing says it.
        discretisation, fires, reset: as in `from_nir`.
        says_reset: whether the file had v_reset wherever nir now has one.
        dtype: of the network.
    """

    def __init__(
        self,
        dt: float | None,
        discretisation: Discretisation,
        fires: Fires,
        reset: Literal["hard", "soft"] | None,
        says_reset: bool,
        dtype: torch.dtype,
    ) -> None:
        self._dt, self.discretisation, self.fires = dt, discretisation, fires
        self.reset, self.says_reset, self.dtype = reset, says_reset, dtype
        self.shapes: dict[str, tuple[int, ...]] = {}  # that neurons say they have

    def build(self, name: str, node: Any) -> nn.Module:
        """Return the layer of a node.

        Raises:
            NirError: a class without a layer, or values that no layer takes.
        """
        kind = type(node).__name__
        make = _LAYERS.get(kind)
        if make is None:
            raise NirError(f"node {name!r} is a {kind}, which from_nir does not know")
        given = _Given(name, node)
        if kind in NEURONS:
            self.shapes[name] = given.numbers("threshold" if kind == "Threshold" else "r").shape
        try:
            return make(self, given)
        except NirError:
            raise
        except (TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise NirError(f"node {name!r} ({kind}): {error}") from error

    def dt(self, given: _Given) -> float:
        """Return the time step."""
        if self._dt is None:
            raise NirError(
                f"node {given.name!r} ({given.kind}) has constants in seconds, and nothing says how long a "
                "step is; give dt: 1e-4 for graphs of snnTorch and, unless told otherwise, SpikingJelly, "
                "1e-6 for Norse, which writes dt tau for tau, 1.0 for Sinabs, whose seconds are steps"
            )
        return self._dt

    # -- neurons ----------------------------------------------------------------------------------

    def neuron(self, given: _Given) -> nn.Module:
        """Return the neuron of a node."""
        hinted = self._hinted(given)
        return hinted if hinted is not None else self._plain(given)

    def _hinted(self, given: _Given) -> Neuron | None:
        """Return the very neuron that was written, if it would be written so now."""
        neuron = neuron_of(given.metadata, self.dtype)
        if neuron is None or self.reset is not None or self._dt is None:
            return None
        shape = given.numbers("threshold" if given.kind == "Threshold" else "r").shape
        try:
            membrane = read_membrane(neuron, shape, self.dtype)
            kind, fields = membrane_fields(membrane, self._dt, self.discretisation, self.fires, self.dtype)
        except NotAMembrane:
            return None
        same = all(np.array_equal(np.asarray(getattr(given.node, f, v)), v) for f, v in fields.items())
        return neuron if kind == given.kind and same else None

    def _plain(self, given: _Given) -> Neuron:
        kind, dtype = given.kind, self.dtype
        if kind == "Threshold":
            return NirThreshold(self._threshold(given, "threshold"))
        options: dict[str, Any] = {}
        if kind.endswith("F"):
            reset = self._reset(given)
            options = {"v_threshold": self._threshold(given, "v_threshold"), "reset": reset}
            if reset == "hard":
                options["v_reset"] = self.value(given.numbers("v_reset", 0.0))
        r = given.numbers("r")
        if kind in ("I", "IF"):
            gain = snap(r * self.dt(given), dtype)
            if kind == "I":
                return NirI(self.value(gain))
            if _near(gain, 1):
                return IF(**options)
            return NirIF(self.value(gain), **options)
        tau, leak = given.numbers("tau_mem" if "Cuba" in kind else "tau"), given.numbers("v_leak")
        dt = self.dt(given)
        rate = rate_of(tau, f"node {given.name!r}: tau", dt, self.discretisation)
        hard = options.get("reset") == "hard"
        rests = not np.any(leak - (given.numbers("v_reset", 0.0) if hard else 0.0))
        if "Cuba" in kind:
            return self._cuba(given, rate, r, leak, rests, options)
        steps = self.value(snap(1 / rate, dtype))
        mine, general = (LIF, NirLIF) if kind == "LIF" else (LI, NirLI)
        for decay_input, gain in ((True, r), (False, r * rate)):
            if rests and _near(gain, 1):
                return mine(steps, decay_input=decay_input, **options)
        return general(self.value(rate), self.value(r), self.value(leak), **options)

    def _cuba(
        self, given: _Given, rate: Any, r: Any, leak: Any, rests: bool, options: dict[str, Any]
    ) -> Neuron:
        w_in, tau = given.numbers("w_in", 1.0), given.numbers("tau_syn")
        rate_syn = rate_of(tau, f"node {given.name!r}: tau_syn", self.dt(given), self.discretisation)
        if given.kind == "CubaLIF" and rests and _near(w_in * rate_syn, 1) and _near(r * rate, 1):
            kept = [self.value(snap(1 - value, self.dtype)) for value in (rate_syn, rate)]
            return CubaLIF(*kept, **options)
        cls = NirCubaLIF if given.kind == "CubaLIF" else NirCubaLI
        return cls(*map(self.value, (rate_syn, rate, w_in, r, leak)), **options)

    def _threshold(self, given: _Given, name: str) -> Any:
        threshold = given.numbers(name)
        if np.any(threshold <= 0):
            raise NirError(
                f"node {given.name!r} ({given.kind}): {name} = {threshold.min():g}, at which a membrane at "
                "rest fires; thresholds are above 0"
            )
        return self.value(threshold_in(threshold, self.fires, self.dtype))

    def _reset(self, given: _Given) -> str:
        if self.reset is not None:
            return self.reset
        told = given.metadata.get("reset")
        told = told.decode() if isinstance(told, bytes) else told
        if told in ("hard", "soft"):
            return str(told)
        if getattr(given.node, "v_reset", None) is None or not self.says_reset:
            raise NirError(
                f"node {given.name!r} ({given.kind}) does not say what it is reset to: nir before 1.0.6 "
                "had no v_reset, and its readers differ; give reset='soft' (minus the threshold, as that "
                "nir's text says, and Sinabs) or reset='hard' (to 0, as newer ones take it)"
            )
        return "hard"

    def value(self, numbers: Any) -> float | Tensor:
        """Return numbers as a parameter: one number, one a channel, or one a neuron."""
        numbers = np.asarray(numbers, np.float64)
        if numbers.size and np.all(numbers == numbers.flat[0]):
            return float(numbers.flat[0])
        if numbers.ndim > 1 and np.all(
            numbers == numbers.reshape(numbers.shape[0], -1)[:, :1].reshape(-1, *[1] * (numbers.ndim - 1))
        ):
            numbers = numbers.reshape(numbers.shape[0], -1)[:, 0]
        return torch.from_numpy(np.ascontiguousarray(numbers)).to(self.dtype)

    # -- layers -----------------------------------------------------------------------------------

    def tensor(self, given: _Given, name: str) -> Tensor:
        """Return weights."""
        return torch.from_numpy(np.array(given.numbers(name))).to(self.dtype)

    def linear(self, given: _Given) -> nn.Module:
        """Return a linear layer."""
        weight = self.tensor(given, "weight")
        if weight.ndim != 2:
            raise NirError(
                f"node {given.name!r} ({given.kind}): weight {tuple(weight.shape)}; [out, in] is needed"
            )
        bias = self.tensor(given, "bias").reshape(-1) if given.kind == "Affine" else None
        out, into = weight.shape
        return _filled(nn.Linear(into, out, bias=bias is not None), weight, bias)

    def conv(self, given: _Given) -> nn.Module:
        """Return a convolution."""
        weight, bias = self.tensor(given, "weight"), self.tensor(given, "bias").reshape(-1)
        axes, groups = weight.ndim - 2, int(given.node.groups)
        if f"Conv{axes}d" != given.kind:
            raise NirError(f"node {given.name!r} ({given.kind}): weight {tuple(weight.shape)}")
        padding = given.node.padding
        padding = padding.decode() if isinstance(padding, bytes) else padding
        options: dict[str, Any] = {
            "stride": _ints(given.node.stride, axes),
            "dilation": _ints(given.node.dilation, axes),
        }
        layer = (nn.Conv1d if axes == 1 else nn.Conv2d)(
            weight.shape[1] * groups,
            weight.shape[0],
            _ints(weight.shape[2:], axes),
            padding=padding if isinstance(padding, str) else _ints(padding, axes),
            groups=groups,
            **options,
        )
        return _filled(layer, weight, bias)

    def pool(self, given: _Given) -> nn.Module:
        """Return a pooling layer."""
        kernel, stride, padding = (
            _ints(getattr(given.node, name), 2) for name in ("kernel_size", "stride", "padding")
        )
        return nn.AvgPool2d(
            kernel, stride, padding, divisor_override=1 if given.kind == "SumPool2d" else None
        )

    def flatten(self, given: _Given) -> nn.Module:
        """Return a Flatten, whose axes count with the batch."""
        start, end = int(given.node.start_dim), int(given.node.end_dim)
        return nn.Flatten(start + 1 if start >= 0 else start, end + 1 if end >= 0 else end)

    def scale(self, given: _Given) -> nn.Module:
        """Return a Scale."""
        return NirScale(self.tensor(given, "scale"))

    def delay(self, given: _Given) -> nn.Module:
        """Return a Delay of whole steps."""
        exact = given.numbers("delay") / self.dt(given)
        steps = np.round(exact)
        if np.any(np.abs(exact - steps) > 1e-4) or np.any(steps < 0):
            odd = given.numbers("delay").flat[int(np.argmax(np.abs(exact - steps) + (steps < 0)))]
            raise NirError(
                f"node {given.name!r} (Delay): {odd:g} s is no whole number of steps of {self.dt(given):g} "
                "s; give a dt that divides it"
            )
        return NirDelay(torch.from_numpy(np.array(steps)))


class _Given:
    """A node, its name, and its numbers, checked."""

    def __init__(self, name: str, node: Any) -> None:
        self.name, self.node, self.kind = name, node, type(node).__name__
        found = getattr(node, "metadata", None)
        self.metadata: Mapping[str, Any] = found if isinstance(found, Mapping) else {}

    def numbers(self, field: str, default: float | None = None) -> Any:
        """Return a field's numbers."""
        value = getattr(self.node, field, None)
        if value is None:
            if default is None:
                raise NirError(f"node {self.name!r} ({self.kind}) has no {field}")
            value = default
        value = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        value = value.astype(np.float64)
        if not np.all(np.isfinite(value)):
            raise NirError(f"node {self.name!r} ({self.kind}): {field} holds numbers that are not finite")
        return value


def _filled(layer: Any, weight: Tensor, bias: Tensor | None) -> nn.Module:
    layer.weight = nn.Parameter(weight)
    if bias is not None:
        if bias.shape != (weight.shape[0],):
            raise NirError(f"a bias of {bias.numel()} values for {weight.shape[0]} outputs")
        layer.bias = nn.Parameter(bias)
    return layer


def _near(value: Any, wanted: float) -> bool:
    return bool(np.all(np.abs(np.asarray(value) - wanted) <= _NEAR))


def _ints(value: Any, count: int) -> Any:
    found = tuple(int(n) for n in np.atleast_1d(np.asarray(value)))
    return found * count if len(found) == 1 else found


_LAYERS: dict[str, Callable[[Builder, _Given], nn.Module]] = {
    **dict.fromkeys(NEURONS, Builder.neuron),
    "Linear": Builder.linear,
    "Affine": Builder.linear,
    "Conv1d": Builder.conv,
    "Conv2d": Builder.conv,
    "SumPool2d": Builder.pool,
    "AvgPool2d": Builder.pool,
    "Flatten": Builder.flatten,
    "Scale": Builder.scale,
    "Delay": Builder.delay,
}
