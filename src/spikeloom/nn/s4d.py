"""A diagonal state space layer: many linear modes, as one convolution over time or step by step."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from .. import kernels, stream


class S4D(nn.Module):
    r"""Diagonal state space layer (S4D-Lin; Gu, Gupta, Goel & Ré, NeurIPS 2022, arXiv:2206.11893).

    $$\dot z_n = A_n z_n + x, \qquad y = 2\,\mathrm{Re}\sum_n C_n z_n + D x, \qquad
      A_n = -e^{a_n} + i\omega_n$$

    with N/2 complex modes a channel, whose conjugates the factor 2 stands for, sampled with a zero-order hold
    over steps of learnable length $\Delta$, one a channel:

    $$z_n[t] = \bar A_n z_n[t-1] + \bar B_n x[t], \qquad \bar A_n = e^{\Delta A_n}, \qquad
      \bar B_n = \frac{\bar A_n - 1}{A_n}$$

    A whole sequence is convolved with $K[l] = 2\,\mathrm{Re}\sum_n C_n \bar B_n \bar A_n^l$ by FFT, in
    O(T log T) and without a loop over time; `run`, and a Stream, take the recurrence, in O(1) memory. Both
    are the same to rounding: for single precision within 1e-4 of the largest output at 8,192 steps, as the
    kernel's powers are taken in double precision. Data of half precision are computed in single.

    At the start $a_n = \ln\frac12$, $\omega_n = \pi n$, C is complex normal of variance 1, D is normal, and
    $\ln\Delta$ is uniform between the logarithms of `step_min` and `step_max`.

    No weight decay is meant for its parameters (`undecayed`); the paper gives them a learning rate of 1e-3
    at most.

    Arguments:
        channels: H, the number of independent channels.
        state: N, real numbers of state a channel; even.
        step_min, step_max: the range of the step $\Delta$ at the start, in units of the modes' time.

    Input and output `[T, B, H]`, or `[T, B, ..., H]`.

    `states` are the real and the imaginary part of each mode: "re0", "im0", "re1", ..., each `[B, ..., H]`.

    Raises:
        ValueError: an odd `state`, or sizes and steps out of range; when called, another number of channels.
        TypeError: when called, anything but floating-point numbers.
    """

    sees_time = True
    undecayed = ("ln_step", "a", "omega", "C", "D")

    def __init__(
        self, channels: int, state: int = 64, *, step_min: float = 1e-3, step_max: float = 1e-1
    ) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"S4D: channels = {channels}; at least 1 is needed")
        if state < 2 or state % 2:
            raise ValueError(
                f"S4D: state = {state}; an even number of at least 2 is needed, as modes come in pairs"
            )
        if not 0 < step_min <= step_max < math.inf:
            raise ValueError(
                f"S4D: step_min = {step_min}, step_max = {step_max}; 0 < step_min <= step_max is needed"
            )
        self.channels, self.state = channels, state
        modes = state // 2
        low, high = math.log(step_min), math.log(step_max)
        self.ln_step = nn.Parameter(low + (high - low) * torch.rand(channels))
        self.a = nn.Parameter(torch.full((channels, modes), math.log(0.5)))
        self.omega = nn.Parameter(math.pi * torch.arange(modes).float().repeat(channels, 1))
        # real and imaginary part apart: optimisers and files of weights know real numbers only
        self.C = nn.Parameter(torch.randn(channels, modes, 2) * math.sqrt(0.5))
        self.D = nn.Parameter(torch.randn(channels))
        self.states = tuple(f"{part}{n}" for n in range(modes) for part in ("re", "im"))

    def forward(self, x: Tensor) -> Tensor:
        """Return y for x, both `[T, B, ..., H]`, in x's dtype; from a zero state, or the stream's."""
        where = stream.current()
        if where is None:
            return self._convolved(x)
        self._check(x)
        key = where.key(self)
        y, state = self.run(x, where.load(key, self.states, x[0]))
        where.store(key, state)
        return y

    def run(self, x: Tensor, state: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return y and the final state, step by step.

        Arguments:
            x: `[T, B, ..., H]`.
            state: what `run` returned for the steps before; None for zero.

        Raises:
            ValueError: a state that lacks a mode.
        """
        self._check(x)
        with _unlowered(x):
            u = x.to(kernels.compute_dtype(x.dtype))
            A, B = self._sampled(u.dtype)
            C, D = self._readout(u.dtype), self.D.to(u.dtype)
            z = self._joined(u, state)
            steps = []
            for u_t in u:
                z = A * z + B * u_t.unsqueeze(-1)
                steps.append(2 * (C * z).real.sum(-1) + D * u_t)
            parts = torch.view_as_real(z).flatten(-2).unbind(-1)
            return torch.stack(steps).to(x.dtype), dict(zip(self.states, parts, strict=True))

    def kernel(self, length: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return K, `[length, H]`: what an impulse at step 0 gives at each step, D aside."""
        # l = q P + r: a power is a product of two of about sqrt(length) each, so that the sum over modes is a
        # product of matrices, and the modes' powers at all steps need not be kept
        if torch.compiler.is_exporting():  # a length is a symbol there, which has no root
            P, Q = length, 1
        else:
            P = max(1, math.isqrt(length))
            Q = -(-length // P)
        exponent, weight = self._exponent(), self._weight()
        coarse = _powers(exponent * P, Q) * weight.unsqueeze(1)
        fine = _powers(exponent, P)
        left = torch.cat((coarse.real, -coarse.imag), -1).to(dtype)
        right = torch.cat((fine.real, fine.imag), -1).to(dtype)
        K = 2 * (left @ right.mT)
        return K.flatten(1)[:, :length].mT

    def _convolved(self, x: Tensor) -> Tensor:
        self._check(x)
        with _unlowered(x):
            u = x.to(kernels.compute_dtype(x.dtype))
            length = u.shape[0]
            K = self.kernel(length, u.dtype)
            K = K.reshape(length, *[1] * (u.ndim - 2), self.channels)
            size = 2 * length  # so that the end does not come round to the beginning
            spectrum = torch.fft.rfft(u, size, dim=0) * torch.fft.rfft(K, size, dim=0)
            y = torch.fft.irfft(spectrum, size, dim=0)[:length]
            return (y + self.D.to(u.dtype) * u).to(x.dtype)

    def _exponent(self) -> Tensor:
        """Return Delta A, complex double `[H, N / 2]`."""
        A = torch.complex(-torch.exp(self.a.double()), self.omega.double())
        return torch.exp(self.ln_step.double()).unsqueeze(-1) * A

    def _input(self) -> Tensor:
        """Return B, sampled: complex double `[H, N / 2]`."""
        A = torch.complex(-torch.exp(self.a.double()), self.omega.double())
        return (torch.exp(self._exponent()) - 1) / A

    def _weight(self) -> Tensor:
        """Return C B, complex double `[H, N / 2]`."""
        return self._readout(torch.float64) * self._input()

    def _readout(self, dtype: torch.dtype) -> Tensor:
        return torch.complex(self.C[..., 0].to(dtype), self.C[..., 1].to(dtype))

    def _sampled(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return A and B, sampled, complex of the precision of a real dtype."""
        kind = torch.complex128 if dtype == torch.float64 else torch.complex64
        return torch.exp(self._exponent()).to(kind), self._input().to(kind)

    def _joined(self, u: Tensor, state: dict[str, Tensor] | None) -> Tensor:
        """Return the state as complex numbers `[B, ..., H, N / 2]`."""
        if state is None:
            kind = torch.complex128 if u.dtype == torch.float64 else torch.complex64
            return torch.zeros(*u.shape[1:], self.state // 2, dtype=kind, device=u.device)
        missing = [name for name in self.states if name not in state]
        if missing:
            raise ValueError(f"S4D: the state has no {missing[0]!r}; give all that run returned")
        parts = torch.stack([state[name].to(u.dtype) for name in self.states], -1)
        return torch.view_as_complex(parts.unflatten(-1, (-1, 2)).contiguous())

    def _check(self, x: Tensor) -> None:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"S4D takes floating-point numbers [T, B, ..., {self.channels}], not {got}")
        if x.ndim < 3 or x.shape[-1] != self.channels or x.shape[0] == 0:
            raise ValueError(
                f"S4D takes [T, B, ..., {self.channels}], time first, channels last, of at least one step, "
                f"but was given shape {tuple(x.shape)}"
            )

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"{self.channels}, state={self.state}"


def _unlowered(x: Tensor) -> AbstractContextManager[Any]:
    """Return a context without autocast, which has no lower precision for an FFT or complex numbers."""
    return nullcontext() if x.device.type == "meta" else torch.autocast(x.device.type, enabled=False)


def _powers(exponent: Tensor, count: int) -> Tensor:
    """Return e^(l exponent) for l from 0 to count - 1: `[H, count, modes]` of `[H, modes]`."""
    steps = torch.arange(count, dtype=torch.float64, device=exponent.device)
    return torch.exp(exponent.unsqueeze(1) * steps.reshape(-1, 1))
