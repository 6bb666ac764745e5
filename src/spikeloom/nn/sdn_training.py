"""Training of surrogate dynamic networks, and what they are measured by."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from ..neurons import Neuron, param
from .sdn import FoldedSDN, SurrogateDynamicNetwork


class LeakedMembrane(Neuron):
    r"""What is left of a membrane before each input: the target of a surrogate dynamic network.

    $$m_t = d\,u_{t-1}, \qquad u_t = (1 - s_t)\,(m_t + x_t), \qquad s_t = H(m_t + x_t - 1)$$

    The output is m.

    Arguments:
        decay: d.
    """

    states = ("u",)

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = param(decay)

    def step(self, x: Tensor, u: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        m = self.decay * u
        h = m + x
        return m, h * (1 - self.spike(h - 1.0))


@dataclass(frozen=True)
class SDNError:
    """How far a network is from the neuron that it stands for, on inputs of N(0, 1).

    Attributes:
        mse: mean squared error of the membrane.
        variance: of the membrane, which the error of a constant would be.
        agreement: the share of steps at which both spike, or neither does.
        missed: the share of the neuron's spikes that the network's lacks.
        rate: the share of steps at which the neuron spikes.
    """

    mse: float
    variance: float
    agreement: float
    missed: float
    rate: float


def train_sdn(
    decay: float,
    *,
    updates: int = 12_000,
    length: int = 256,
    batch_size: int = 64,
    lr: float = 1e-2,
    weight_decay: float = 1e-2,
    seed: int = 0,
) -> FoldedSDN:
    r"""Return a surrogate dynamic network trained to tell the membrane of a decay; 3 minutes on one core.

    A recipe of our own, after the paper's (Shen et al., AAAI 2025, arXiv:2408.14909): inputs of N(0, 1), here
    drawn anew for each update; smooth L1; AdamW with a cosine schedule from `lr` to 0. Sequences are shorter
    than theirs (1,024), since the network sees 8 steps. The same seed gives the same network; global
    generators are left alone.

    Arguments:
        decay: the part of the membrane that is left after a step, in (0, 1).
        updates: of the weights.
        length: steps of a sequence.
        batch_size: sequences an update.
        lr, weight_decay: of AdamW.
        seed: of weights and inputs.

    Raises:
        ValueError: a decay out of range, or a count below 1.
    """
    for name, value in (("updates", updates), ("length", length), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"train_sdn: {name} = {value}; at least 1 is needed")
    with torch.random.fork_rng([]), torch.enable_grad():
        torch.manual_seed(seed)
        net, truth = SurrogateDynamicNetwork(decay), LeakedMembrane(decay)
        optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
        for _ in range(updates):
            x = torch.randn(length, batch_size)
            loss = functional.smooth_l1_loss(net(x.mT), truth(x).mT)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval().folded()


@torch.no_grad()
def sdn_error(sdn: FoldedSDN, *, length: int = 1024, sequences: int = 256, seed: int = 1) -> SDNError:
    """Return how far a network is from the exact neuron of its decay.

    Arguments:
        sdn: the network.
        length: steps of a sequence.
        sequences: how many.
        seed: of the inputs, other than the one that it was trained with.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(length, sequences, generator=generator)
    m = LeakedMembrane(sdn.decay)(x)
    told = sdn(torch.cat((x.new_zeros(8, sequences), x)))
    spikes, ours = m + x >= 1, told + x >= 1
    return SDNError(
        mse=float((told - m).square().mean()),
        variance=float(m.var()),
        agreement=float((spikes == ours).float().mean()),
        missed=float((spikes & ~ours).sum() / spikes.sum()),
        rate=float(spikes.float().mean()),
    )


def save_sdn(sdn: FoldedSDN, path: Path | str) -> None:
    """Write a network and its errors to a file of weights."""
    tensors = {name: value for name, value in sdn.state_dict().items() if name != "trained_for"}
    about = {"decay": sdn.decay, **asdict(sdn_error(sdn))}
    save_file(tensors, path, {"sdn": json.dumps(about)})
