"""Dendritic neurons behind ordinary layers: channels split into branches; branches for all steps at once."""

from __future__ import annotations

import functools
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .. import kernels, stream
from ..kernels.layout import row_order
from ..names import unknown
from ..neurons import LI, DendSN, Neuron
from ..neurons.integrate import LIF
from ..neurons.param import Value

Order = Literal["outer", "inner"]
Form = Literal["fused", "matrix", "scan"]
Strengths = Literal["shared", "branch", "channel"]


class Dendritic(nn.Module):
    r"""A layer of dendritic neurons: `branches` x C channels in, C channels of spikes out (`sl.DendSN`).

    $$s_c = \mathrm{DendSN}(x_{(1,c)}, \dots, x_{(n,c)}), \qquad
    (i, c) = \begin{cases} i C + c & \text{order "outer"} \\ c n + i & \text{order "inner"} \end{cases}$$

    with i and c counted from 0. A network is made dendritic by a layer in front that gives n times as many
    channels, and this in the place of its neuron. Both orders are the same network with other rows of
    weights; the authors' package has "inner" behind a linear layer and "outer" behind a convolution, which
    matters to their weights alone. The default is "outer" behind both: its branches are runs in memory.

    Branches and soma are one kernel, which reads dense rows: the split takes one copy of x (n tensors that
    are x's size together), of one step where x is a static picture shown T times, and its gradient another.
    Passive segregated branches do not depend on spikes, so that all steps can be computed at once: "matrix"
    is a T x T triangular product, "scan" a pass in O(T) over all branches, and the soma is run behind it.

    Arguments:
        branches: n.
        soma: the class of the soma.
        order: how branches lie among the channels.
        form: "fused", one kernel; "matrix" or "scan".
        strengths: how many phi there are to learn: one "shared", one a "branch" (a trunk, in a tree), or one
            a branch and "channel".
        channels: C, which "channel" needs; checked against x where given.
        phi: what the strengths start with (the paper's choice is not known to us; the sum of n).
        channel_axis: where the channels are in `[T, B, ...]`: 2, or -1 for `[T, B, N, n C]`.
        options: of `sl.DendSN`, as `activation="sigmoid"` and `tau`.

    Raises:
        ValueError: channels that the branches do not divide; a form that the wiring does not have; gates of
            another shape, or for a layer that has none.
        RuntimeError: "matrix" or "scan" in a Stream.
    """

    sees_time = True

    def __init__(
        self,
        branches: int = 2,
        soma: type[Neuron] = LIF,
        *,
        order: Order = "outer",
        form: Form = "fused",
        strengths: Strengths = "branch",
        channels: int | None = None,
        phi: float = 1.0,
        channel_axis: int = 2,
        **options: Any,
    ) -> None:
        super().__init__()
        for given, what, known in (
            (order, "order", ("outer", "inner")),
            (form, "form", ("fused", "matrix", "scan")),
            (strengths, "strengths", ("shared", "branch", "channel")),
        ):
            if given not in known:
                raise unknown(what, given, known)
        if channel_axis not in (2, -1):
            raise ValueError(f"Dendritic: channel_axis is {channel_axis}; 2, or -1 for [T, B, N, C]")
        if strengths == "channel" and channels is None:
            raise ValueError('Dendritic: strengths="channel" needs the number of neurons, channels=...')
        count = options.get("trunks") or branches
        single: Any = torch.full((channels,), phi) if strengths == "channel" else phi  # type: ignore[arg-type]
        learnable = options.pop("learnable", ())
        learnable = (learnable,) if isinstance(learnable, str) else tuple(learnable)
        self.neuron = DendSN(
            branches,
            soma=soma,
            phi=single if strengths == "shared" else [single] * count,
            learnable=tuple(dict.fromkeys((*learnable, "phi"))),
            channel_axis=channel_axis,
            **options,
        )
        self.order, self.form, self.channels, self.channel_axis = order, form, channels, channel_axis
        neuron = self.neuron
        if form != "fused" and (neuron.trunks or neuron.coupling == "difference"):
            raise ValueError(
                f"Dendritic: form={form!r} takes segregated branches and coupling='activation', whose "
                "branches depend on their own past alone; trees and differences are form='fused'"
            )
        self._soma: tuple[str, kernels.Plan] | None = None  # the whole neuron's program, and the soma's plan

    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        """Return the spikes `[T, B, C, ...]` for `x: [T, B, n C, ...]`.

        Arguments:
            x: what the layer in front gives.
            gate: of a layer with `gated=True`, what the strengths are multiplied by: `[n, C]`, or of each
                sample, `[B, n, C]`, as `BranchGate` gives it (trunks for n, in a tree).
        """
        self.neuron._check(x)
        parts = self._parts(x)
        gates = self._gates(parts[0], gate)
        if self.form == "fused":
            out: Tensor = self.neuron(*parts, *gates)
            return out
        stream.refuse(self, f"with form={self.form!r} computes all steps at once (form='fused' streams)")
        return self._apart(parts, gates)

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the branches' inputs, n views `[T, B, C, ...]` of x."""
        n, axis = self.neuron.branches, self.channel_axis % x.ndim
        width = x.shape[axis] if axis >= 2 else 0
        if width == 0 or width % n or (self.channels is not None and width != n * self.channels):
            wanted = f"{n} x {self.channels}" if self.channels is not None else f"a multiple of {n}"
            raise ValueError(
                f"Dendritic: {n} branches, but axis {self.channel_axis} of x, shape {tuple(x.shape)}, has "
                f"{width}; it must be {wanted}: the layer in front gives branches x channels"
            )
        if self.order == "outer":
            return x.unflatten(axis, (n, width // n)).unbind(axis)
        return x.unflatten(axis, (width // n, n)).unbind(axis + 1)

    def _parts(self, x: Tensor) -> list[Tensor]:
        parts = self.split(x)
        if x.stride(0) == 0 and x.shape[0] > 1:  # a static picture: one step is copied
            return [part[:1].clone().expand_as(part) for part in parts]
        # here, once, and not by the kernels forward and backward; clone keeps the order of axes
        return [part if row_order(part) is not None else part.clone() for part in parts]

    def _gates(self, x: Tensor, gate: Tensor | None) -> list[Tensor]:
        count, gated = self.neuron.outputs, self.neuron.gated
        if gated is not (gate is not None):
            has = (
                "gates, but was given none: layer(x, gate)" if gated else "no gates: build it with gated=True"
            )
            raise ValueError(f"Dendritic has {has}")
        if gate is None:
            return []
        axis = self.channel_axis % x.ndim
        B, C = x.shape[1], x.shape[axis]
        if tuple(gate.shape) not in ((count, C), (B, count, C)):
            raise ValueError(
                f"Dendritic: a gate of shape {tuple(gate.shape)}; {(count, C)}, or {(B, count, C)} with one "
                "of each sample, is needed"
            )
        gate = gate.to(x.dtype)
        each = gate.movedim(-2, 0) if gate.ndim == 3 else gate.unsqueeze(1)  # [n, B or 1, C]
        each = each.reshape(*each.shape[:2], *[1] * (axis - 2), C, *[1] * (x.ndim - axis - 1))
        # one step in memory, read T times
        step = [torch.empty_like(x[0]).copy_(g.expand_as(x[0])) for g in each]
        return [g.unsqueeze(0).expand_as(x) for g in step]

    def _apart(self, parts: list[Tensor], gates: list[Tensor]) -> Tensor:
        neuron, x = self.neuron, parts[0]
        compute = kernels.compute_dtype(x.dtype)
        leak = passive_matrix if self.form == "matrix" else passive_scan
        bound: Any = neuron._bound({name: neuron._value(name, x, compute) for name in neuron._params})
        potentials = [
            leak(
                part.to(compute),
                bound.branch_value("branch_tau", i),
                bound.branch_value("branch_rest", i),
                neuron.branch_decay_input,
            )
            for i, part in enumerate(parts, 1)
        ]
        current = bound.current(potentials, None, gates)
        return self._of_soma(current).to(x.dtype)

    def _of_soma(self, current: Tensor) -> Tensor:
        """Return the spikes of the soma alone: the same parameters, seen by the class that the soma has."""
        neuron = self.neuron
        soma = object.__new__(neuron.soma)
        soma.__dict__.update(neuron.__dict__)
        own = {k: v for k, v in neuron._params.items() if k.rstrip("0123456789") not in neuron.of_branches}
        soma.__dict__.update(_params=own, _learnable=())
        if neuron._plan is not None:
            if self._soma is None or self._soma[0] != neuron._plan.program:
                soma._seal()
                assert soma._plan is not None
                self._soma = neuron._plan.program, soma._plan
            soma.__dict__["_plan"] = self._soma[1]
        return soma._run(current, (), None, None, False)[0]


class BranchGate(nn.Module):
    r"""Dendritic branch gating: which branches a context leaves open (Huang et al. 2024, after its abstract).

    $$\varphi_{ic} \leftarrow \varphi_{ic}\,g_{ic}(k), \qquad g_{ic}(k) \in \{0, 1\}$$

    The paper tells of sparse, task-specific parts of the dendrites; how the masks are drawn it does not, as
    far as we know. Our reading: for each context k and each neuron c, `active` of the n branches, drawn
    without regard to other contexts, are open, and the rest are closed. The masks are a buffer, saved with
    the network, not learnt, and not scaled.

    Arguments:
        contexts: K, how many tasks there are.
        branches: n; trunks, in a tree.
        channels: C, the neurons of a layer (channels of a convolution).
        active: how many branches are open, 1 .. n.
        seed: of the masks; layers of a network take different ones.

    Raises:
        ValueError: numbers out of range.
    """

    masks: Tensor

    def __init__(self, contexts: int, branches: int, channels: int, active: int = 1, seed: int = 0) -> None:
        super().__init__()
        if min(contexts, branches, channels) < 1:
            raise ValueError(
                f"BranchGate: {contexts} contexts, {branches} branches, {channels} channels; >= 1"
            )
        if not 1 <= active <= branches:
            raise ValueError(f"BranchGate: active = {active} of {branches} branches; 1 .. {branches}")
        generator = torch.Generator().manual_seed(seed)
        rank = torch.rand(contexts, branches, channels, generator=generator).argsort(1).argsort(1)
        self.register_buffer("masks", (rank < active).float())

    def forward(self, context: int | Tensor) -> Tensor:
        """Return the gate `[n, C]` of a context, or `[B, n, C]` of one a sample, `[B]` whole numbers."""
        count = len(self.masks)
        if isinstance(context, Tensor) and (context.is_floating_point() or context.ndim > 1):
            raise ValueError(
                f"BranchGate: context is {tuple(context.shape)} of {context.dtype}; a whole number, or one "
                "of each sample, [B], is needed"
            )
        low, high = (context, context) if isinstance(context, int) else map(int, torch.aminmax(context))
        if not 0 <= low <= high < count:
            raise ValueError(
                f"BranchGate: context in [{low}, {high}], but there are {count}: 0 .. {count - 1}"
            )
        return self.masks[context]


def passive_matrix(
    x: Tensor, tau: Value, rest: Value = 0.0, decay_input: bool = True, initial: Tensor | None = None
) -> Tensor:
    r"""Return a passive branch's potential at all steps, as a product with a triangular matrix.

    $$d_j = q^{j+1} d_{init} + \sum_{i \le j} q^{j-i} x_i\,[\tfrac{1}{\tau}] +
            \frac{d_{rest}}{\tau} \sum_{k=0}^{j} q^k, \qquad q = 1 - \frac{1}{\tau}$$

    the factor in brackets with `decay_input`. Time O(T^2), and memory for T x T numbers a value of tau.

    Arguments:
        x: `[T, B, ...]`.
        tau: the time constant in steps, >= 1: a number, or a tensor that broadcasts against `x.shape[2:]`.
        rest: what the branch leaks to, likewise.
        decay_input: divide the input by tau, too.
        initial: the potential before the first step, of one step's shape; `rest` if None.
    """
    steps = torch.arange(x.shape[0], device=x.device)
    tau = torch.as_tensor(tau, dtype=x.dtype, device=x.device)
    rest = torch.as_tensor(rest, dtype=x.dtype, device=x.device)
    q = 1 - 1 / tau
    lag = steps[:, None] - steps
    power = torch.where(lag >= 0, q[..., None, None] ** lag.clamp(min=0), 0.0)
    scaled = x / tau if decay_input else x
    if q.ndim == 0:
        y = torch.tensordot(power, scaled, 1)
    else:  # a matrix a value: it broadcasts over the batch and what the value is shared by
        y = (power @ scaled.movedim(0, -1)[..., None])[..., 0].movedim(-1, 0)
    grown = q ** (steps + 1).reshape(-1, *[1] * (x.ndim - 1))
    start = rest if initial is None else initial
    return y + grown * start + rest * (1 - grown)


def passive_scan(
    x: Tensor, tau: Value, rest: Value = 0.0, decay_input: bool = True, initial: Tensor | None = None
) -> Tensor:
    r"""Return what `passive_matrix` does in a pass of O(T): $d - d_{rest}$ is the membrane of an `sl.LI`.

    Arguments:
        x, tau, rest, decay_input, initial: as in `passive_matrix`.
    """
    leak = _leak(decay_input)
    states = [] if initial is None else [(initial - rest).expand(x.shape[1:])]
    assert leak._plan is not None
    if kernels.choose(x, "passive_scan") == "eager":
        v, steps = states[0] if states else torch.zeros_like(x[0]), []
        for x_t in x:
            v = v + (x_t - v) / tau if decay_input else v - v / tau + x_t
            steps.append(v)
        return torch.stack(steps) + rest
    out, _ = kernels.weave(leak._plan.program, [x], leak._plan.slots([tau]), states, False)
    return out + rest


@functools.cache
def _leak(decay_input: bool) -> LI:
    return LI(decay_input=decay_input)
