"""Deep continuous local learning: each layer learns from a loss of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from ..losses import positive
from .ottt import OTTT
from .rule import Objective
from .taps import Projections, Taps, hidden_layers
from .truncated import Pass


class DECOLLE(OTTT):
    r"""Deep continuous local learning (Kaiser, Mostafa & Neftci 2020, Frontiers in Neuroscience 14:424).

    A fixed random matrix $G^l$ reads classes from the spikes of each layer that fires, at each step, and the
    layer learns from the loss of that; no gradient passes from layer to layer:

    $$L^l = \frac1T \sum_t \ell(G^l s^l_t, y), \qquad
      \nabla_{W^l} = \frac{\partial L^l}{\partial W^l}\Big|_{s^{l-1}\ \text{constant}}
      = \sum_t \Big(\frac{\partial L^l_t}{\partial I^l_t}\Big) (a^{l-1}_t)^\top$$

    with the traces a of `OTTT`, which they have, too, and which make this the exact gradient of $L^l$ through
    time, the reset detached. What reads the last layer's spikes out learns from the network's own loss.

    Different from the paper: losses are the objective that the run has, where they have an L1 distance after
    a sigmoid and two traces in a row (neuron and synapse); add `training.firing_rate_penalty` for their
    regulariser. The local readouts are not used in evaluation.

    Arguments:
        net: as for `OTTT`, with a readout behind the last layer that fires.
        update: "sequence" or "step", as for `OTTT`; theirs is "step".
        seed: of the local readouts, normal with variance 1/n for n neurons.
        scale: what the local losses count, against the network's own.

    Raises:
        ValueError: as `OTTT`; a network without a layer that fires, or that ends on one; a seed below 0; a
            scale that is not positive.
    """

    name = "decolle"

    def __init__(self, net: nn.Module, update: str = "sequence", seed: int = 0, scale: float = 1.0) -> None:
        super().__init__(net, update)
        positive("scale", scale)
        self.readouts, self.scale = Projections(list(hidden_layers(net, self.name)), seed), scale

    @contextmanager
    def _passing(self, net: nn.Module, y: Tensor, objective: Objective) -> Iterator[Pass]:
        taps = Taps(hidden_layers(net, self.name))
        with super()._passing(net, y, objective) as run, taps.open():

            def step(part: Tensor) -> tuple[Tensor, list[Tensor]]:
                outputs, (loss,) = run(part)
                own = []
                for number, spikes in taps.take(loss, self.name):
                    read = spikes.flatten(2) @ self.readouts.matrix(number, spikes, outputs.shape[-1])
                    own.append(self.scale * objective(read, y))
                return outputs, [loss, *own]

            yield step
