"""A spiking neuron computed for all steps at once: a small causal network tells its membrane."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from .. import kernels, stream
from ..neurons import LIF, Neuron
from ..surrogate import Surrogate, Triangle

TAPS = 8
"""How many steps back the network sees; the membrane of a decay of 0.2 has forgotten what was before."""

_WIDTH = 8
_BLOCK = 1 << 20  # numbers between two layers at a time: what stays in cache
_SHIPPED = Path(__file__).parent / "weights"
_STATES = tuple(f"input{k}" for k in range(TAPS))


class SurrogateDynamicNetwork(nn.Module):
    r"""A network that tells a leaky, reset membrane from the inputs before (SDN; Shen et al., AAAI 2025,
    arXiv:2408.14909); 193 parameters.

    Its target is the membrane $m_t = d\,u_{t-1}$ that is left when $I_t$ arrives:

    $$s_t = H(m_t + I_t - 1), \qquad u_t = (1 - s_t)\,(m_t + I_t), \qquad m_t = d\,u_{t-1}, \quad u_{-1} = 0$$

    The network: a product 1 to 8; each channel's filter over the steps t-8 to t-1 (never t itself); batch
    norm and ReLU; $\mathrm{ReLU}(\mathrm{BN}(Wh) + h)$, 8 to 8; a product 8 to 1. Before the first step are
    zeros.

    It is here to be trained, by `train_sdn`; networks hold it `folded`.

    Arguments:
        decay: d, the part of the membrane that is left after a step ("tau" in the paper), in (0, 1).

    Input `[N, T]` and output `[N, T]`: sequences of one neuron each.

    Raises:
        ValueError: a decay out of range; when called, another shape.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = _decay("SurrogateDynamicNetwork", decay)
        self.widen = nn.Conv1d(1, _WIDTH, 1, bias=False)
        self.filter = nn.Conv1d(_WIDTH, _WIDTH, TAPS, padding=TAPS, groups=_WIDTH)
        self.norm = nn.BatchNorm1d(_WIDTH)
        self.mix = nn.Conv1d(_WIDTH, _WIDTH, 1)
        self.mix_norm = nn.BatchNorm1d(_WIDTH)
        self.read = nn.Conv1d(_WIDTH, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the membrane m, `[N, T]`, of inputs `[N, T]`."""
        if x.ndim != 2:
            raise ValueError(
                f"SurrogateDynamicNetwork takes sequences [N, T], not {tuple(x.shape)}; for "
                "[T, B, ...], fold it: sdn.folded()"
            )
        # the convolutions as products [8, 8] x [8, N T], which take a third of their time
        windows = functional.pad(x, (TAPS, 0)).unfold(1, TAPS, 1)[:, : x.shape[1]].flatten(0, 1).mT
        h = self._taps() @ windows + self._bias(self.filter).unsqueeze(1)
        h = functional.relu(self.norm(h.unsqueeze(0)))
        h = functional.relu(
            self.mix_norm(self.mix.weight[..., 0] @ h + self._bias(self.mix).unsqueeze(1)) + h
        )
        return (self.read.weight[..., 0] @ h + self._bias(self.read)).reshape(x.shape)

    def _taps(self) -> Tensor:
        """Return the filter of a product, which is a filter: `[8, 8]`."""
        return self.filter.weight[:, 0] * self.widen.weight[:, 0]

    def folded(self) -> FoldedSDN:
        """Return the same function, in evaluation, as three layers of 153 numbers that do not learn."""
        with torch.no_grad():
            scale, shift = _affine(self.norm)
            taps = self._taps() * scale.unsqueeze(1)
            first = self._bias(self.filter) * scale + shift
            scale, shift = _affine(self.mix_norm)
            mix = self.mix.weight[..., 0] * scale.unsqueeze(1) + torch.eye(_WIDTH).to(scale)
            second = self._bias(self.mix) * scale + shift
            read = self.read.weight[..., 0]
            return FoldedSDN(self.decay, taps, first, mix, second, read, self._bias(self.read))

    @staticmethod
    def _bias(conv: nn.Conv1d) -> Tensor:
        assert conv.bias is not None
        return conv.bias


class FoldedSDN(nn.Module):
    r"""A surrogate dynamic network in evaluation: $m = r\,\mathrm{ReLU}(M\,\mathrm{ReLU}(F x + f) + g) + c$.

    It has no parameters: its numbers are buffers, and its output has no gradient.

    Arguments:
        decay: the neuron's, that it was trained for.
        taps: F, `[8, 8]`: channels, and weights of the inputs of steps t-8 to t-1.
        taps_bias: f, `[8]`.
        mix: M, `[8, 8]`, the shortcut included.
        mix_bias: g, `[8]`.
        read: r, `[1, 8]`.
        read_bias: c, `[1]`.

    Input `[T + 8, B, ...]`, the 8 steps before the first included; output `[T, B, ...]`, the membrane left
    before each step's input.
    """

    taps: Tensor
    taps_bias: Tensor
    mix: Tensor
    mix_bias: Tensor
    read: Tensor
    read_bias: Tensor
    trained_for: Tensor

    def __init__(
        self,
        decay: float,
        taps: Tensor,
        taps_bias: Tensor,
        mix: Tensor,
        mix_bias: Tensor,
        read: Tensor,
        read_bias: Tensor,
    ) -> None:
        super().__init__()
        self.decay = decay
        # in files of weights, so that those of another decay are known there
        self.register_buffer("trained_for", torch.tensor(decay, dtype=torch.float64))
        own = {
            "taps": taps,
            "taps_bias": taps_bias,
            "mix": mix,
            "mix_bias": mix_bias,
            "read": read,
            "read_bias": read_bias,
        }
        for name, value in own.items():
            self.register_buffer(name, value.detach().clone())

    @torch.no_grad()
    def forward(self, padded: Tensor) -> Tensor:
        """Return the membrane `[T, B, ...]` of inputs `[T + 8, B, ...]`."""
        if padded.ndim < 2 or padded.shape[0] <= TAPS:
            raise ValueError(
                f"FoldedSDN takes [T + {TAPS}, B, ...], the {TAPS} steps before the first included, but was "
                f"given shape {tuple(padded.shape)}; before all steps are zeros"
            )
        flat = padded.flatten(1)
        # [T, 8, neurons], of which no number is copied
        windows = flat.unfold(0, TAPS, 1)[: flat.shape[0] - TAPS].transpose(1, 2)
        if torch.compiler.is_compiling():
            m = self._layers(windows)
        else:
            steps = max(1, _BLOCK // max(1, _WIDTH * flat.shape[1]))
            m = torch.cat([self._layers(block) for block in windows.split(steps)])
        return m.reshape(m.shape[0], *padded.shape[1:])

    def _layers(self, windows: Tensor) -> Tensor:
        dtype = windows.dtype
        h = self.taps.to(dtype) @ windows + self.taps_bias.to(dtype).unsqueeze(1)
        h = self.mix.to(dtype) @ h.relu_() + self.mix_bias.to(dtype).unsqueeze(1)
        return (self.read.to(dtype) @ h.relu_() + self.read_bias.to(dtype)).squeeze(1)

    def extra_repr(self) -> str:
        """Show the decay."""
        return f"decay={self.decay:g}"


class _Fires(Neuron):
    r"""$s = H(m + x - 1)$, the membrane m given."""

    states = ()
    inputs = ("membrane",)

    def step(self, x: Tensor, membrane: Tensor) -> tuple[Tensor, ...]:
        return (self.spike(membrane + x - 1.0),)


class SDNSpiking(nn.Module):
    r"""A leaky integrate-and-fire neuron of all steps at once, as its membrane is told by a network.

    $$I_t = x_t / v_{th}, \qquad m_t = \mathrm{SDN}(I_{t-8}, \dots, I_{t-1}), \qquad s_t = H(m_t + I_t - 1)$$

    (SpikingSSM; Shen et al., AAAI 2025, arXiv:2408.14909). The network does not learn, and no gradient passes
    through m: a spike's gradient reaches the input of its own step alone. Each channel's threshold
    $v_{th} = e^{w}$ is learned; it scales the input, as a membrane of zero reset scales with both.

    With `exact`, the neuron that the network stands for runs in its place, as one fused loop:
    $h = d\,u + I$, $s = H(h - 1)$, $u' = (1 - s) h$. It may be switched after training
    (`layer.exact = True`), and needs no input but the present one; with gradients, it back-propagates
    through time. In a Stream, the network keeps the last 8 inputs ("input0", the oldest, to "input7"), and
    the exact neuron its membrane.

    Arguments:
        channels: on the last axis.
        decay: d, the part of the membrane that is left after a step ("tau" in the paper), in (0, 1).
        sdn: a network trained for this decay, from `train_sdn`; None for the one that comes along
            (of decays 0.2 and 0.125), and for none with `exact`.
        exact: run the neuron itself.
        v_threshold: where thresholds start; > 0.
        learnable: learn them.
        surrogate: the spike's stand-in derivative, `Triangle()` if None.

    Input and output `[T, B, ..., channels]`.

    Raises:
        ValueError: a network trained for another decay; no network for this decay; an argument out of range;
            when called, another number of channels.
    """

    sees_time = True

    def __init__(
        self,
        channels: int,
        decay: float = 0.2,
        *,
        sdn: FoldedSDN | SurrogateDynamicNetwork | None = None,
        exact: bool = False,
        v_threshold: float = 1.0,
        learnable: bool = True,
        surrogate: Surrogate | None = None,
    ) -> None:
        super().__init__()
        self.decay = _decay("SDNSpiking", decay)
        if channels < 1:
            raise ValueError(f"SDNSpiking: channels = {channels}; at least 1 is needed")
        if not 0 < v_threshold < math.inf:
            raise ValueError(f"SDNSpiking: v_threshold = {v_threshold}; a positive number is needed")
        self.channels, self.exact = channels, exact
        w = torch.full((channels,), math.log(v_threshold))
        self.ln_v_threshold: Tensor
        if learnable:
            self.ln_v_threshold = nn.Parameter(w)
        else:
            self.register_buffer("ln_v_threshold", w)
        surrogate = Triangle() if surrogate is None else surrogate
        self.sdn: FoldedSDN | None = self._network(sdn)
        self.fires = _Fires(surrogate=surrogate)
        self.neuron = LIF(tau=1 / (1 - self.decay), decay_input=False, surrogate=surrogate)

    def _network(self, sdn: FoldedSDN | SurrogateDynamicNetwork | None) -> FoldedSDN | None:
        if sdn is None:
            return None if self.exact and self.decay not in shipped() else load_sdn(self.decay)
        if isinstance(sdn, SurrogateDynamicNetwork):
            sdn = sdn.folded()
        if not isinstance(sdn, FoldedSDN):
            raise TypeError(f"SDNSpiking: sdn is a {type(sdn).__name__}; train_sdn({self.decay:g}) gives one")
        self._same_decay(sdn.decay)
        return sdn

    def _same_decay(self, other: float) -> None:
        if other != self.decay:
            raise ValueError(
                f"SDNSpiking: the network was trained for a decay of {other:g}, but the neuron's is "
                f"{self.decay:g}; train one by sl.nn.train_sdn({self.decay:g}), or take decay={other:g}"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes of x, in its shape and dtype."""
        self._check(x)
        dtype = kernels.compute_dtype(x.dtype)
        current = x.to(dtype) * torch.exp(-self.ln_v_threshold.to(dtype))
        if self.exact:
            return self.neuron(current).to(x.dtype)
        if self.sdn is None:
            raise ValueError(
                f"SDNSpiking has no network for its decay of {self.decay:g}, as it was built with "
                f"exact=True; give it one: sdn=sl.nn.train_sdn({self.decay:g})"
            )
        return self.fires(current, self.sdn(self._padded(current.detach()))).to(x.dtype)

    def _padded(self, current: Tensor) -> Tensor:
        """Return the inputs, the 8 before them in front: zeros, or the stream's."""
        where = stream.current()
        before = current.new_zeros(TAPS, *current.shape[1:])
        if where is None:
            return torch.cat((before, current))
        key = where.key(self)
        state = where.load(key, _STATES, current[0])
        if state is not None:
            before = torch.stack([state[name].to(current.dtype) for name in _STATES])
        padded = torch.cat((before, current))
        where.store(key, dict(zip(_STATES, padded[-TAPS:], strict=True)))
        return padded

    def _check(self, x: Tensor) -> None:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(
                f"SDNSpiking takes floating-point numbers [T, B, ..., {self.channels}], not {got}"
            )
        if x.ndim < 3 or x.shape[-1] != self.channels or x.shape[0] == 0:
            raise ValueError(
                f"SDNSpiking takes [T, B, ..., {self.channels}], time first, channels last, of at least one "
                f"step, but was given shape {tuple(x.shape)}"
            )

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        given = state_dict.get(f"{prefix}sdn.trained_for")
        if isinstance(given, Tensor) and given.device.type != "meta":
            own = torch.tensor(self.decay, dtype=given.dtype)  # rounded alike
            self._same_decay(self.decay if float(given) == float(own) else float(given))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"{self.channels}, decay={self.decay:g}, exact={self.exact}"


def shipped() -> tuple[float, ...]:
    """Return the decays for which a trained network comes along."""
    return tuple(sorted(float(path.stem.removeprefix("sdn_")) for path in _SHIPPED.glob("sdn_*.safetensors")))


def load_sdn(decay: float) -> FoldedSDN:
    """Return the network that comes along for a decay; ValueError if there is none, with what there is."""
    path = _SHIPPED / f"sdn_{decay:g}.safetensors"
    if decay not in shipped():
        there = " and ".join(f"{one:g}" for one in shipped()) or "none"
        raise ValueError(
            f"no surrogate dynamic network for a decay of {decay:g} comes along (there is {there}); train "
            f"one in minutes: sdn=sl.nn.train_sdn({decay:g}), or take exact=True"
        )
    tensors = load_file(path)
    device = torch.get_default_device()
    return FoldedSDN(decay, **{name: value.to(device) for name, value in tensors.items()})


def _affine(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Return the scale and the shift of a batch norm in evaluation."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def _decay(owner: str, decay: float) -> float:
    if isinstance(decay, bool) or not isinstance(decay, (int, float)) or not 0 < decay < 1:
        raise ValueError(f"{owner}: decay = {decay!r}; a number between 0 and 1 is needed, as 0.2")
    return float(decay)
