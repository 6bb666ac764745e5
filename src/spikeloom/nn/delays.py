"""Delays between neurons, learnable: one a synapse, or one an axon."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .. import stream
from .dcls import Spaced, Version


class _Delays(Spaced):
    """Kernels over time: the last tap is the present step, tap i hears what was `max_delay - 1 - i` ago."""

    sees_time = True

    @property
    def max_delay(self) -> int:
        """The number of delays that there are: 0 ... max_delay - 1 steps."""
        return self.size[0]

    def delays(self) -> Tensor:
        """Return the delays of evaluation in steps, `[out, in / groups, k]`, int64."""
        return self.max_delay - 1 - self.taps()[0]

    @torch.no_grad()
    def set_delays(self, delays: Tensor | float) -> None:
        """Give all synapses these delays, in steps, whole or not.

        Arguments:
            delays: in [0, max_delay - 1]; broadcast to `[out, in / groups, k]`.

        Raises:
            ValueError: a delay that is out of range.
        """
        given = torch.as_tensor(delays).to(self.positions)
        if not bool(((given >= 0) & (given <= self.max_delay - 1)).all()):
            raise ValueError(
                f"{type(self).__name__}: delays from {given.min():g} to {given.max():g} steps; they lie in "
                f"[0, {self.max_delay - 1}]; for longer ones build it with a larger max_delay"
            )
        self.positions[0] = self.max_delay - 1 - given - self.max_delay // 2

    def _heard(self, x: Tensor) -> Tensor:
        """Return x `[T, B, C, ...]` with the max_delay - 1 steps before it in front."""
        name = type(self).__name__
        if not isinstance(x, Tensor) or x.ndim < 3 or x.shape[2] != self.in_channels:
            got = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"{name} takes [T, B, {self.in_channels}, ...], but was given {got}")
        return with_past(self, x, self.max_delay)


class SynapticDelays(_Delays):
    r"""A linear layer over time whose every synapse has a delay of its own, learned as its weight is.

    $$y_t^j = \sum_i \sum_k w_{jik}\, x_{t - d_{jik}}^i$$

    in evaluation, where delays are whole steps; in training each weight is spread over delays by
    `dcls_kernel`, less and less (see `Spaced`). What was before the first step is 0. It stands between
    neurons as `sl.PerStep(nn.Linear(...))` does; at each place of `[T, B, C, ...]` it is the same. A Stream
    carries the last max_delay - 1 inputs.

    Arguments:
        in_channels: channels in.
        out_channels: channels out.
        max_delay: how many delays there are: 0 ... max_delay - 1 steps.
        kernel_count: k, synapses of each pair of channels.
        groups: as in `nn.Conv1d`.
        bias: whether a bias is added.
        version: "gauss", "max", "v1" or "v0".

    Raises:
        as `Spaced`; ValueError: when called with fewer steps than max_delay outside of a Stream.

    Hammouamri, Khalfaoui-Hassani, Masquelier (2024). Learning delays in spiking neural networks using dilated
    convolutions with learnable spacings. ICLR, arXiv:2306.17670.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        max_delay: int,
        *,
        kernel_count: int = 1,
        groups: int = 1,
        bias: bool = False,
        version: Version = "gauss",
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            (max_delay,),
            kernel_count=kernel_count,
            groups=groups,
            bias=bias,
            version=version,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return y `[T, B, out_channels, ...]` for x `[T, B, in_channels, ...]`, in x's dtype."""
        heard = self._heard(x)
        rows = heard.movedim(0, -1).movedim(1, -2)  # [B, ..., C, T]
        bias = None if self.bias is None else self.bias.to(x.dtype)
        y = functional.conv1d(rows.flatten(0, -3), self.kernel().to(x.dtype), bias, groups=self.groups)
        y = y.reshape(*rows.shape[:-2], *y.shape[1:])
        return y.movedim(-1, 0).movedim(-1, 2)


class AxonalDelays(_Delays):
    r"""A delay of each channel, before what its neurons reach: $y_t^i = x_{t - d_i}^i$.

    There are no weights. In evaluation spikes stay spikes; in training each is spread over delays by
    `dcls_kernel`, its sum unchanged. A Stream carries the last max_delay - 1 inputs.

    Arguments:
        channels: channels in and out.
        max_delay: how many delays there are: 0 ... max_delay - 1 steps.
        delays: where delays start, in steps, a number or `[channels]`; drawn if None.
        learnable: whether they are learned.
        version: "gauss", "max", "v1" or "v0".

    Raises:
        as `SynapticDelays`; ValueError: delays out of range, or not one a channel.
    """

    def __init__(
        self,
        channels: int,
        max_delay: int,
        delays: Tensor | float | None = None,
        *,
        learnable: bool = True,
        version: Version = "gauss",
    ) -> None:
        super().__init__(channels, channels, (max_delay,), groups=channels, version=version)
        del self.weight
        self.register_buffer("weight", torch.ones(channels, 1, 1), persistent=False)
        if delays is not None:
            given = torch.as_tensor(delays)
            if given.shape not in ((), (channels,)):
                raise ValueError(
                    f"AxonalDelays: delays of shape {tuple(given.shape)} for {channels} channels; give a "
                    f"number, or [{channels}]"
                )
            self.set_delays(given.reshape(-1, 1, 1))
        self.positions.requires_grad_(learnable)

    def forward(self, x: Tensor) -> Tensor:
        """Return y for x, both `[T, B, channels, ...]`."""
        heard = self._heard(x)
        if self.training:
            rows = heard.movedim(0, -1).movedim(1, -2)
            y = functional.conv1d(rows.flatten(0, -3), self.kernel().to(x.dtype), groups=self.groups)
            return y.reshape(*rows.shape[:-1], -1).movedim(-1, 0).movedim(-1, 2)
        T, B, C = x.shape[:3]
        step = torch.arange(T, device=x.device)[:, None] + self.taps().flatten()
        sample, channel = (torch.arange(n, device=x.device) for n in (B, C))
        return heard[step[:, None], sample[:, None], channel]


def with_past(module: torch.nn.Module, x: Tensor, taps: int) -> Tensor:
    """Return x `[T, B, ...]` with the `taps - 1` steps before it in front: zeros, or what a stream carries.

    Arguments:
        module: whose state it is.
        x: the steps.
        taps: those of a kernel over time.

    Raises:
        ValueError: a sequence that is shorter than the kernel.
    """
    where = stream.current()
    past = x.new_zeros(taps - 1, *x.shape[1:])
    if where is None:
        if not torch.compiler.is_compiling() and x.shape[0] < taps:
            raise ValueError(
                f"{type(module).__name__} hears {taps} steps, but the sequence {tuple(x.shape)} has "
                f"{x.shape[0]}, so that some delays would lead past its end; give more steps, as with "
                "torch.nn.functional.pad, or build it for shorter delays; chunks go through sl.Stream"
            )
        return torch.cat([past, x])
    key = where.key(module)
    state = where.load(key, ("past",), past)
    heard = torch.cat([past if state is None else state["past"].to(x.dtype), x])
    where.store(key, {"past": heard[x.shape[0] :]})
    return heard
