"""Sound becomes levels in frequency bands, as a cochlea has them; a spike code makes spikes of those."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import number, values, whole


@dataclass(frozen=True)
class Cochlea:
    r"""The level of sound in bands that are as wide as those of human hearing, step by step.

    A Hann window of `window` seconds is cut out every `step` seconds; its power spectrum P(f), by FFT, is
    weighed by the power responses of gammatone filters of order 4, whose centres are spaced evenly on the
    scale of equivalent rectangular bandwidths,

    $$E_i = \sum_f P(f) \Big(1 + \big(\tfrac{f - c_i}{1.019\,\mathrm{ERB}(c_i)}\big)^2\Big)^{-4}, \qquad
      \mathrm{ERB}(c) = 24.7\,(4.37\,c / 1000 + 1)$$

    (Glasberg & Moore 1990, "Derivation of auditory filter shapes from notched-noise data"; Patterson et al.
    1992, "Complex sounds and auditory images"; c in Hz), and compressed to decibels below the recording's
    loudest band and step, scaled: $x = \max(0, 1 + 10 \log_{10}(E / E_{max}) / D)$ for a range of D dB. All
    of a silent recording is 0.

    wave: `[..., N]`, floats, of any length; result: `[T, ..., bands]` in [0, 1], the lowest band first, where
    T is `1 + (N - 1) // (step * rate)`: step k looks at the window around its time, with silence beyond both
    ends. It is deterministic and differentiable.

    Attributes:
        rate: samples a second.
        bands: how many; 2 at least.
        step: seconds from one step to the next.
        window: seconds that a step looks at.
        low: the lowest centre, Hz.
        high: the highest centre, Hz; at most half the rate; that is what None stands for.
        decibels: D, what lies further below the loudest is 0.

    Raises:
        ValueError: an option out of range; a wave that is empty or not finite.
    """

    rate: int
    bands: int = 32
    step: float = 0.01
    window: float = 0.025
    low: float = 100.0
    high: float | None = None
    decibels: float = 60.0

    def __post_init__(self) -> None:
        whole(self, "rate", 1)
        whole(self, "bands", 2)
        number(self, "step", 0.0)
        number(self, "window", 0.0)
        number(self, "low", 0.0)
        number(self, "decibels", 0.0)
        for name in ("step", "window"):
            if round(getattr(self, name) * self.rate) < 1:
                raise ValueError(
                    f"Cochlea: {name} = {getattr(self, name)!r} s is less than one sample at a rate of "
                    f"{self.rate}; make it longer"
                )
        if not self.low < self._high <= self.rate / 2:
            raise ValueError(
                f"Cochlea: bands from {self.low:g} to {self._high:g} Hz; at {self.rate} samples a second, "
                f"sound has frequencies up to {self.rate / 2:g} Hz, and high must be above low"
            )

    @property
    def _high(self) -> float:
        return self.rate / 2 if self.high is None else self.high

    def centres(self) -> Tensor:
        """Return c, `[bands]`, Hz, float64."""
        low, high = (_erb_number(f) for f in (self.low, self._high))
        numbers = torch.linspace(low, high, self.bands, dtype=torch.float64)
        return (10 ** (numbers / 21.4) - 1) * (1000 / 4.37)

    def weights(self) -> Tensor:
        """Return what each band takes of each frequency's power, `[bands, window // 2 + 1]`, float64."""
        size = self._size
        f = torch.arange(size // 2 + 1, dtype=torch.float64) * (self.rate / size)
        c = self.centres().unsqueeze(1)
        width = 1.019 * 24.7 * (4.37 * c / 1000 + 1)
        return (1 + ((f - c) / width) ** 2) ** -4

    @property
    def _size(self) -> int:
        return round(self.window * self.rate)

    def __call__(self, wave: Tensor) -> Tensor:
        """Return levels `[T, ..., bands]` from `[..., N]`."""
        wide = values(self, wave)
        if wide.dim() == 0 or not wide.shape[-1]:
            raise ValueError(
                f"Cochlea: the wave has the shape {tuple(wave.shape)}; samples, [..., N], are needed"
            )
        hop, size = round(self.step * self.rate), self._size
        steps = 1 + (wide.shape[-1] - 1) // hop
        before = size // 2
        after = max(0, (steps - 1) * hop + size - before - wide.shape[-1])
        windows = torch.nn.functional.pad(wide, (before, after)).unfold(-1, size, hop)[..., :steps, :]
        hann = torch.hann_window(size, dtype=wide.dtype, device=wide.device)
        power = torch.fft.rfft(windows * hann).abs().square()
        energy = power @ self.weights().to(power).T  # [..., T, bands]
        loudest = energy.amax((-2, -1), keepdim=True)
        # a silent recording has no loudest; the floor keeps the logarithm finite where the level is 0
        floor = 10 ** (-self.decibels / 10)
        share = torch.where(loudest > 0, energy / loudest.clamp(min=torch.finfo(power.dtype).tiny), 0)
        level = 1 + 10 * torch.log10(share.clamp(min=floor)) / self.decibels
        return level.clamp(min=0).movedim(-2, 0).to(wave.dtype)


def _erb_number(f: float) -> float:
    """Return how many equivalent rectangular bandwidths lie below f, Hz."""
    return 21.4 * math.log10(4.37 * f / 1000 + 1)
