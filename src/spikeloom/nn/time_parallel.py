"""Time split over processes: each has a stretch of the steps, and hands the membranes on to the next."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, distributed, nn

from .. import kernels, stream
from ..announce import announce
from ..uncompiled import uncompiled
from .dropout import SharedDropout


class TimeParallel(nn.Module):
    r"""A network whose steps are split over processes (Li et al., ICANN 2024, arXiv:2408.00280).

        net = sl.nn.TimeParallel(net)                 # on every rank, with the same weights
        y = net(net.share(x))                         # [T, B, ...] -> this rank's [T_k, B, ...]
        (loss(y).sum() / T).backward()                # the rank's part of the loss
        net.sum_gradients()                           # then step: all ranks are the same again

    What has no state sees its slice alone. What has (whatever a `Stream` carries: neurons, `Recurrent`,
    `EGRU`) receives its state from the rank before, and hands it on as soon as its slice is done, layer by
    layer: while rank 1 runs the first layer, rank 0 runs the second. Backward, the gradients of the states
    go the other way. Outputs and gradients are one process's.

    Every rank must call forward with the same batch, and backward where any does; a rank without a loss gives
    `(0 * y).sum()`. A mean over all steps is `mean_over_time(y)`; of a network's own readout over time, each
    rank would see its slice's (choose `readout="none"`). Dropout and noise draw from each rank's generator.
    Sends are waited for at the end of forward and of backward.

    Arguments:
        net: the network, `[T, B, ...]` in, a tensor out.
        group: a group of `torch.distributed`; all processes if None. Rank k has the k-th slice.

    Raises:
        RuntimeError: no process group; inside a Stream; a layer that looks ahead in time, checkpoints, or in
            training takes statistics of the batch, which would be the slice's.
        TypeError: a recurrent layer of torch, whose state is not handed on; a state of another shape than
            its layer says; an output that is no tensor.
    """

    sees_time = True

    def __init__(self, net: nn.Module, group: Any = None) -> None:
        super().__init__()
        if not distributed.is_available() or not distributed.is_initialized():
            raise RuntimeError(
                "TimeParallel splits time over processes, but there is no process group; start the processes "
                "(torchrun) and call torch.distributed.init_process_group() in each"
            )
        for name, module in net.named_modules():
            if isinstance(module, nn.RNNBase):
                raise TypeError(
                    f"TimeParallel: {type(module).__name__} {name!r} would start anew in each slice, since "
                    "torch keeps its state within; use sl.Recurrent or sl.nn.EGRU"
                )
        self.net, self.group = net, group
        self.rank, self.size = distributed.get_rank(group), distributed.get_world_size(group)

    def share(self, x: Tensor) -> Tensor:
        """Return this rank's steps of the whole x `[T, B, ...]`; the first ranks have one more if T is odd.

        Raises:
            ValueError: fewer steps than ranks.
        """
        if len(x) < self.size:
            raise ValueError(
                f"TimeParallel: T = {len(x)} steps for {self.size} ranks; each needs at least one"
            )
        return x.tensor_split(self.size)[self.rank]

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's output for this rank's steps, x `[T_k, B, ...]`."""
        if stream.current() is not None:
            raise RuntimeError("TimeParallel starts from the initial state, and cannot run inside a Stream")
        for name, module in self.net.named_modules():
            shared = isinstance(module, SharedDropout) and module.training and module.p > 0
            if stream.uses_batch(module) or shared:
                what = "draws a mask" if shared else "takes its statistics"
                raise RuntimeError(
                    f"TimeParallel: {type(module).__name__} {name!r} {what} for each slice of time alone; "
                    "call .eval() on it, or take a layer without"
                )
        relay = _Relay(self.net, self.rank, self.size, self.group)
        with uncompiled("TimeParallel"), relay.active():
            out = self.net(x)
        if not isinstance(out, Tensor):
            raise TypeError(f"TimeParallel takes a network that returns a tensor, not a {type(out).__name__}")
        if not relay.calls:
            announce(
                f"TimeParallel: {type(self.net).__name__} called no module that keeps a state: slices are "
                "independent"
            )
        out = _Tie.apply(out, *relay.tokens) if relay.tokens else out
        relay.wait()
        return out

    def mean_over_time(self, y: Tensor) -> Tensor:
        """Return the mean of all ranks' steps `[B, ...]`, the same on each.

        A loss of it is computed alike on each rank, and its gradient counted once, in each rank's own slice;
        so what is behind must have no parameters (`sum_gradients` would count theirs once a rank).
        """
        return _Mean.apply(y, self.group)

    def sum_gradients(self) -> None:
        """Sum each parameter's gradient over the ranks, as one process would have it."""
        learnt = [p for p in self.net.parameters() if p.requires_grad]
        for kind in sorted({(str(p.dtype), str(p.device)) for p in learnt}):
            some = [p for p in learnt if (str(p.dtype), str(p.device)) == kind]
            flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in some])
            distributed.all_reduce(flat, group=self.group)
            for p, grad in zip(some, flat.split([p.numel() for p in some]), strict=True):
                p.grad = grad.view_as(p).clone()


class _Relay(stream.Chunk):
    """Stands where a Stream would: what a module loads comes from the rank before; what it stores goes on."""

    def __init__(self, net: nn.Module, rank: int, size: int, group: Any) -> None:
        super().__init__(net, {})
        self.rank, self.size, self.group = rank, size, group
        self.likes: dict[str, Tensor] = {}
        self.tokens: list[Tensor] = []
        self.sent: list[tuple[Any, Tensor]] = []
        # stands for the state before it arrives, so that autograd walks every hand-over
        self.anchor = torch.zeros((), requires_grad=self.grad)

    def load(self, key: str, names: tuple[str, ...], like: Tensor) -> dict[str, Tensor] | None:
        self.likes[key] = like.detach()
        if self.rank == 0:
            return None
        received = _Receive.apply(self.anchor, self, (len(names), *like.shape), _wire(like), like.device)
        return dict(zip(sorted(names), received.unbind(0), strict=True))

    def store(self, key: str, state: dict[str, Tensor]) -> None:
        if self.rank == self.size - 1:
            return
        like = self.likes[key]
        for name, value in state.items():
            if value.shape != like.shape or value.is_complex():
                raise TypeError(
                    f"TimeParallel: the state {key + name!r} is {value.dtype} of shape {tuple(value.shape)}, "
                    f"but a step of its layer is {tuple(like.shape)}; real states of that shape can be "
                    "handed on"
                )
        states = torch.stack([state[name].to(like.device, _wire(like)) for name in sorted(state)])
        token = _Send.apply(self.anchor, self, states)
        if self.grad:
            self.tokens.append(token)

    def send(self, tensor: Tensor, rank: int) -> None:
        tensor = tensor.detach().contiguous()
        work = distributed.isend(tensor, self._global(rank), group=self.group)
        self.sent.append((work, tensor))  # kept until it has arrived

    def receive(self, tensor: Tensor, rank: int) -> Tensor:
        distributed.recv(tensor, self._global(rank), group=self.group)
        return tensor

    def wait(self) -> None:
        """Wait until what was sent has arrived."""
        for work, _ in self.sent:
            work.wait()
        self.sent.clear()

    def _global(self, rank: int) -> int:
        return rank if self.group is None else distributed.get_global_rank(self.group, rank)


def _wire(like: Tensor) -> torch.dtype:
    """Return the dtype in which states beside `like` travel, wide enough for each."""
    return kernels.compute_dtype(like.dtype) if like.is_floating_point() else like.dtype


class _Receive(torch.autograd.Function):
    """Receives states from the rank before; backward, sends it their gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,
        relay: _Relay,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        device: torch.device,
    ) -> Tensor:
        ctx.relay = relay
        states = relay.receive(torch.empty(shape, dtype=dtype, device=device), relay.rank - 1)
        if not dtype.is_floating_point:
            ctx.mark_non_differentiable(states)
        return states

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[None, ...]:
        relay = ctx.relay
        relay.send(g, relay.rank - 1)
        torch.autograd.Variable._execution_engine.queue_callback(relay.wait)
        return None, None, None, None, None


class _Send(torch.autograd.Function):
    """Sends states to the rank behind; backward, receives their gradient."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, relay: _Relay, states: Tensor) -> Tensor:
        ctx.relay, ctx.given = relay, (states.shape, states.dtype, states.device)
        relay.send(states, relay.rank + 1)
        token = states.new_zeros((), dtype=torch.float32)
        if not states.is_floating_point():
            ctx.mark_non_differentiable(token)
        return token

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        relay, (shape, dtype, device) = ctx.relay, ctx.given
        return None, None, relay.receive(torch.empty(shape, dtype=dtype, device=device), relay.rank + 1)


class _Tie(torch.autograd.Function):
    """Makes an output depend on what was sent. Autograd goes back from what was made last to what was made
    first, so that ranks meet in the same order."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, *tokens: Tensor) -> Tensor:
        ctx.count = len(tokens)
        return out.view_as(out)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, ...]:
        return g, *(torch.zeros((), device=g.device) for _ in range(ctx.count))


class _Mean(torch.autograd.Function):
    """The mean over the steps of all ranks; backward, each rank's own part of it."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, group: Any) -> Tensor:
        total, steps = y.sum(0), torch.tensor(len(y), device=y.device)
        distributed.all_reduce(total, group=group)
        distributed.all_reduce(steps, group=group)
        ctx.steps, ctx.shape = int(steps), y.shape
        return total / ctx.steps

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return (g / ctx.steps).expand(ctx.shape), None


def time_on(devices: float, compute: float, hand_over: float, layers: int) -> float:
    r"""Return the time that a pass takes when its steps are split over `devices`; our model.

    $$t(P) = \frac{W}{P} + (P - 1)\left(\frac{W}{P L} + h\right)$$

    A device has W/P of the work W, in L equal layers. It may begin when the one before has done its first
    layer, W/(PL), and handed the state on, h. From then on both go on at the same pace: a state arrives when
    it is needed. The last of P devices thus begins (P - 1)(W/(PL) + h) late, and works for W/P.

    Arguments:
        devices: P.
        compute: W, the time on one device.
        hand_over: h, the time in which one layer's state gets from one device to the next.
        layers: L, those with a state.
    """
    _check(compute, hand_over, layers)
    if devices < 1:
        raise ValueError(f"time_on: devices = {devices}; at least 1 is needed")
    return compute / devices + (devices - 1) * (compute / (devices * layers) + hand_over)


def best_devices(compute: float, hand_over: float, layers: int) -> float:
    r"""Return how many devices take the least time, by the model of `time_on`.

    $$\frac{dt}{dP} = -\frac{W}{P^2}\left(1 - \frac1L\right) + h = 0 \quad\Rightarrow\quad
      P^* = \sqrt{\frac{W}{h}\left(1 - \frac1L\right)}$$

    which for many layers is the paper's rule, the root of compute over hand-over time (Li et al., ICANN
    2024; its own derivation we have not found). With one layer nothing overlaps: P* is 1. The time is then
    $t(P^*) = W/L + 2\sqrt{W h (1 - 1/L)} - h$, never below W/L: the speed-up is less than L.

    Arguments: as of `time_on`. Returns a real number of at least 1; compare its two neighbours.
    """
    _check(compute, hand_over, layers)
    return max(1.0, math.sqrt(compute / hand_over * (1 - 1 / layers)))


def _check(compute: float, hand_over: float, layers: int) -> None:
    if compute <= 0 or hand_over <= 0 or layers < 1:
        raise ValueError(
            f"compute = {compute:g}, hand_over = {hand_over:g}, layers = {layers}; positive times and at "
            "least one layer are needed"
        )
