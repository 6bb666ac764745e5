"""Neurons without a reset, whose membranes are known at all steps at once: PSN, masked and sliding PSN."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .. import kernels, stream
from ..neurons import Neuron, param
from ..surrogate import Surrogate


class _Fire(Neuron):
    """s = H(h - threshold): the last step of each of these, one kernel."""

    states = ()

    def __init__(self, surrogate: Surrogate | None, threshold: float, learnable: bool) -> None:
        super().__init__(surrogate=surrogate)
        self.threshold = param(threshold, learnable=learnable)

    def step(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.spike(x - self.threshold),)


class _OfSteps(nn.Module):
    """What PSN and masked PSN share: weights from each of T steps to each. Abstract."""

    sees_time = True

    def __init__(self, T: int, surrogate: Surrogate | None) -> None:
        super().__init__()
        if T < 1:
            raise ValueError(f"{type(self).__name__}: T = {T}; at least 1 step is needed")
        self.steps = T
        self.weight = nn.Parameter(torch.empty(T, T))
        self.threshold = nn.Parameter(torch.ones(T))
        self.neuron = _Fire(surrogate, 0.0, False)  # each step has a threshold of its own, subtracted before
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def _check(self, x: Tensor) -> None:
        _check_input(self, x)
        if len(x) != self.steps:
            raise ValueError(
                f"{type(self).__name__} has weights of each of T = {self.steps} steps, but was given "
                f"{len(x)} steps, shape {tuple(x.shape)}; build it with T={len(x)}, or take "
                "sl.nn.SlidingPSN, whose weights are the same at all steps"
            )

    def _fired(self, x: Tensor, weight: Tensor, threshold: Tensor) -> Tensor:
        """Return the spikes of inputs `[S, B, ...]` under weights `[t, S]` and thresholds `[t]`."""
        # sums over steps are those of a membrane: in single precision, under autocast, too
        with torch.autocast(x.device.type, enabled=False):
            compute = kernels.compute_dtype(x.dtype)
            away = threshold.to(compute).neg().unsqueeze(1)
            u = torch.addmm(away, weight.to(compute), x.to(compute).flatten(1))
        return _spikes(self.neuron, u.unflatten(1, x.shape[1:]), x)

    def extra_repr(self) -> str:
        """Show the number of steps."""
        return f"T={self.steps}"


class PSN(_OfSteps):
    r"""Parallel spiking neuron (Fang et al., NeurIPS 2023, arXiv:2304.12760).

    $$H_t = \sum_{i=0}^{T-1} W_{ti}\,X_i, \qquad S_t = \Theta(H_t - B_t)$$

    with a weight from each step to each, shared by all neurons of the layer, and a threshold a step. Nothing
    is reset, so all steps are one product of matrices: $T^2 + T$ parameters.

    As published, as far as remembered and not looked up, W starts as the weights of `nn.Linear(T, T)` do
    (uniform within $\pm 1/\sqrt{T}$), and B at 1.

    Arguments:
        T: the number of steps; another number is refused.
        surrogate: the spike's stand-in derivative, `ATan(2.0)` if None.

    Input and output `[T, B, ...]`, in x's dtype. Each step sees those after it: a Stream refuses it. In a
    network, tell it T: `sl.create_model("spiking_vgg11", T=4, neuron="PSN", neuron_options={"T": 4})`.

    Raises:
        ValueError: T below 1; when called, another number of steps.
    """

    def __init__(self, T: int, *, surrogate: Surrogate | None = None) -> None:
        super().__init__(T, surrogate)

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes for `x: [T, B, ...]`."""
        stream.refuse(self, "looks ahead")
        self._check(x)
        return self._fired(x, self.weight, self.threshold)


class MaskedPSN(_OfSteps):
    r"""Masked PSN: a PSN that, in the end, sees this step and the k - 1 before it (arXiv:2304.12760).

    $$H = (W \odot M_k(\lambda))\,X, \qquad M_k(\lambda) = \lambda\,M_k + (1 - \lambda)\,J, \qquad
      S_t = \Theta(H_t - B_t)$$

    with $M_k$ 1 where $i \le t \le i + k - 1$ and 0 elsewhere, and J of ones: at $\lambda = 0$ a PSN, at
    $\lambda = 1$ causal. Training may mask little by little: `layer.lambda_ = epoch / epochs`, up to 1.

    Starts as `PSN` does.

    Arguments:
        T: the number of steps; another number is refused.
        k: how many steps it sees, from 1 to T.
        lambda_: how much is masked, in [0, 1]; kept in the state_dict.
        surrogate: as in `PSN`.

    Input and output `[T, B, ...]`. In a Stream, where lambda_ is 1, it carries the last k - 1 inputs and the
    index of the step, up to T steps; where it is less, it looks ahead and is refused.

    Raises:
        ValueError: T, k or lambda_ out of their bounds; when called, another number of steps.
    """

    def __init__(
        self, T: int, k: int = 2, *, lambda_: float = 1.0, surrogate: Surrogate | None = None
    ) -> None:
        super().__init__(T, surrogate)
        if not 1 <= k <= T:
            raise ValueError(f"MaskedPSN: k = {k} of T = {T} steps; k is from 1 to T")
        self.k = k
        steps = torch.arange(T)
        back = steps.unsqueeze(1) - steps
        self.register_buffer("_mask", ((back >= 0) & (back < k)).float(), persistent=False)
        self.register_buffer("_lambda", torch.tensor(0.0))
        self._mask: Tensor
        self._lambda: Tensor
        self.lambda_ = lambda_

    @property
    def lambda_(self) -> float:
        """How much is masked: 0 nothing, 1 all but this step and the k - 1 before it."""
        return float(self._lambda)

    @lambda_.setter
    def lambda_(self, value: float) -> None:
        if not 0 <= value <= 1:
            raise ValueError(f"MaskedPSN: lambda_ = {value}; it goes from 0, a PSN, to 1, causal")
        self._lambda.fill_(float(value))

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes for `x: [T, B, ...]`, or for the next steps of a stream."""
        weight = self.weight * (self._lambda * self._mask + (1 - self._lambda))
        where = stream.current()
        if where is None:
            self._check(x)
            return self._fired(x, weight, self.threshold)
        if self.lambda_ < 1:
            stream.refuse(self, f"with lambda_ = {self.lambda_:g} below 1 looks ahead")
        _check_input(self, x)
        key = where.key(self)
        state = where.load(key, ("step",), torch.zeros((), dtype=torch.int64, device="cpu"))
        first = 0 if state is None else int(state["step"])
        last = first + len(x)
        if last > self.steps:
            raise ValueError(
                f"MaskedPSN has weights of each of T = {self.steps} steps, of which the stream has seen "
                f"{first}, but the chunk has {len(x)} more, shape {tuple(x.shape)}; call stream.reset() "
                "before another sample"
            )
        names = _past(self.k)
        seen = _with_past(x, where.load(key, names, x[0]), names)
        # before the first step there is nothing: the window begins at step first - (k - 1), or at 0
        begin = max(0, first - len(names))
        used = seen[begin - (first - len(names)) :]
        s = self._fired(used, weight[first:last, begin:last], self.threshold[first:last])
        where.store(key, {"step": torch.tensor(last, device="cpu"), **_kept(seen, names)})
        return s

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"T={self.steps}, k={self.k}, lambda_={self.lambda_:g}"


class SlidingPSN(nn.Module):
    r"""Sliding PSN: the same k weights at all steps, any T (Fang et al., NeurIPS 2023, arXiv:2304.12760).

    $$H_t = \sum_{i=0}^{k-1} W_i\,X_{t-k+1+i}, \qquad S_t = \Theta(H_t - B)$$

    with no input before the first step, and k weights and a threshold that all neurons of the layer share:
    k + 1 parameters.

    As published, as far as remembered and not looked up, W starts at $W_i = 2^{i-k+1}$, the response of a
    leaky membrane that halves each step, and B at 1.

    Arguments:
        k: how many steps it sees.
        halving: whether W starts so; else as the weights of `nn.Linear(k, 1)` do.
        surrogate: as in `PSN`.

    Input and output `[T, B, ...]`, in x's dtype. A Stream carries the last k - 1 inputs; chunks are the whole
    bit for bit.

    Raises:
        ValueError: k below 1.
    """

    sees_time = True

    def __init__(self, k: int = 2, *, halving: bool = True, surrogate: Surrogate | None = None) -> None:
        super().__init__()
        if k < 1:
            raise ValueError(f"SlidingPSN: k = {k}; it sees at least 1 step, this one")
        self.k = k
        self.weight = nn.Parameter(2.0 ** torch.arange(1 - k, 1))
        if not halving:
            nn.init.uniform_(self.weight, -1 / math.sqrt(k), 1 / math.sqrt(k))
        self.neuron = _Fire(surrogate, 1.0, True)

    @property
    def states(self) -> tuple[str, ...]:
        """The last k - 1 inputs, x1 the last."""
        return _past(self.k)

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes for `x: [T, B, ...]`."""
        return stream.carried(self, x, (), None)

    def _check(self, x: Tensor) -> None:
        _check_input(self, x)

    def _run(
        self,
        x: Tensor,
        inputs: Sequence[Tensor],
        generator: torch.Generator | None,
        state: Mapping[str, Tensor] | None,
        final: bool,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        self._check(x)
        seen, compute = _with_past(x, state, self.states), kernels.compute_dtype(x.dtype)
        weight = self.weight.to(compute)
        # the oldest first, elementwise, so that a chunk's sums are the whole's to the bit
        h = weight[0] * seen[: len(x)].to(compute)
        for i in range(1, self.k):
            h = h + weight[i] * seen[i : i + len(x)].to(compute)
        return _spikes(self.neuron, h, x), _kept(seen, self.states) if final else {}

    def extra_repr(self) -> str:
        """Show the order."""
        return f"k={self.k}"


def _check_input(module: nn.Module, x: Tensor) -> None:
    name = type(module).__name__
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name} takes a floating-point tensor [T, B, ...], not {got}; convert it: x.float()")
    if x.ndim < 2 or len(x) == 0:
        raise ValueError(f"{name} takes [T, B, ...] of at least one step, but was given {tuple(x.shape)}")


def _spikes(neuron: _Fire, u: Tensor, x: Tensor) -> Tensor:
    """Return the spikes at u, in x's dtype."""
    s: Tensor = neuron._run(u, (), None, None, False)[0]
    return s if s.dtype == x.dtype else neuron._marked(s.to(x.dtype))


def _past(k: int) -> tuple[str, ...]:
    """Name the k - 1 inputs that a stream carries, the oldest first."""
    return tuple(f"x{i}" for i in range(k - 1, 0, -1))


def _with_past(x: Tensor, state: Mapping[str, Tensor] | None, names: tuple[str, ...]) -> Tensor:
    """Return x behind the inputs before it: those of the state, or zeros at the start."""
    if not names:
        return x
    before = x.new_zeros(len(names), *x.shape[1:])
    if state is not None:
        before = torch.stack([state[name].to(x.dtype) for name in names])
    return torch.cat([before, x])


def _kept(seen: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the last inputs by name."""
    return dict(zip(names, seen[len(seen) - len(names) :], strict=True))
