"""SpikingSSM: the block by hand, sequences of numbers and of tokens, streams, exact neurons in place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import spikeloom as sl
from spikeloom.models import find_model
from spikeloom.models.spiking_ssm import SpikingSSM, SpikingSSMBlock
from spikeloom.names import UnknownName
from spikeloom.training import Config, train


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def small(**more: Any) -> SpikingSSM:
    net = sl.create_model("spiking_ssm", **{**SpikingSSM.small, "step_min": 1e-2, **more})
    assert isinstance(net, SpikingSSM)
    return net.eval()


@pytest.mark.parametrize("norm", ["layer", "batch", "none"])
def test_the_block_by_hand(norm: str) -> None:
    block, x = SpikingSSMBlock(3, state=4, norm=norm), 3 * torch.randn(20, 2, 3)
    s = block.neuron(block.dynamics(x))
    assert set(s.unique().tolist()) == {0.0, 1.0}
    (linear,) = block.mix
    assert isinstance(linear, nn.Linear)
    a, g = (s @ linear.weight.T + linear.bias).chunk(2, -1)
    y = x + a * torch.sigmoid(g)
    if norm == "layer":
        y = (y - y.mean(-1, keepdim=True)) / torch.sqrt(y.var(-1, correction=0, keepdim=True) + 1e-5)
    elif norm == "batch":
        y = (y - y.mean((0, 1))) / torch.sqrt(y.var((0, 1), correction=0) + 1e-5)
    torch.testing.assert_close(block(x), y, rtol=1e-4, atol=1e-5)


def test_parameters() -> None:
    """S4D: 2 H + 2 N H; thresholds H; the mix 2 H (H + 1); the norm 2 H; around them two linear layers."""

    def count(H: int, depth: int, N: int, ends: int) -> int:
        return depth * (2 * H + 2 * N * H + H + 2 * H * (H + 1) + 2 * H) + ends

    for name, H, depth, N in (("smnist", 400, 2, 64), ("psmnist", 256, 4, 64), ("scifar10", 512, 6, 64)):
        net = sl.create_model(f"spiking_ssm_{name}")
        ends = 2 * H + 10 * (H + 1)
        assert sum(p.numel() for p in net.parameters()) == count(H, depth, N, ends), name
    net = sl.create_model("spiking_ssm_characters")
    assert sum(p.numel() for p in net.parameters()) == count(256, 4, 64, 256 * 256 + 256 * 257)


def test_scores_are_of_the_mean_over_time() -> None:
    net, x = small(in_features=3), torch.randn(30, 2, 3)
    h = net.encoder(x)
    for block in net.blocks:
        h = block(h)
    torch.testing.assert_close(net(x), functional.linear(h.mean(0), net.head.weight, net.head.bias))
    each = small(in_features=3, readout="none")
    each.load_state_dict(net.state_dict())
    torch.testing.assert_close(each(x).mean(0), net(x))
    assert each(x[:1]).shape == each(x[0]).shape == (1, 2, 10)  # one step
    assert net(torch.rand(4, 2, 3, 1, 1)).shape == (2, 10)


def test_every_parameter_learns_and_a_sample_meets_no_other() -> None:
    net, x = small(in_features=3), 3 * torch.randn(30, 4, 3)
    together = net(x)
    torch.testing.assert_close(
        torch.cat([net(x[:, i : i + 1]) for i in range(4)]), together, rtol=1e-4, atol=1e-5
    )
    (net.train()(x) * torch.randn(4, 10)).sum().backward()
    without = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without
    assert all(bool(p.grad.any()) for p in net.parameters() if p.grad is not None)


def test_padding_ends_a_sequence() -> None:
    net = small(vocabulary=16)
    tokens = torch.randint(1, 16, (20, 3))
    alone = net(tokens[:12])
    tokens[12:] = 0
    torch.testing.assert_close(net(tokens), alone)
    torch.testing.assert_close(net(tokens.float().unsqueeze(-1)), alone)  # as the trainer hands them over
    assert net(torch.zeros(5, 2, dtype=torch.int64)).isfinite().all()
    with pytest.raises(ValueError, match=r"tokens from 0 to 16 for a vocabulary of 16; .*vocabulary=17"):
        net(torch.tensor([[0], [16]]))
    with pytest.raises(ValueError, match=r"whole numbers, or \[T, B, 1\]"):
        net(torch.rand(4, 2, 3))


@pytest.mark.parametrize("exact", [False, True])
def test_a_language_model_sees_no_later_token_and_streams(exact: bool) -> None:
    net = small(vocabulary=11, num_classes=11, readout="none", exact=exact)
    tokens = torch.randint(11, (24, 2))
    whole = net(tokens)
    assert whole.shape == (24, 2, 11)
    torch.testing.assert_close(net(tokens[:9]), whole[:9], rtol=1e-4, atol=1e-4)
    stream = sl.Stream(net)
    with torch.no_grad():
        got = torch.cat([stream(chunk) for chunk in tokens.split([1, 14, 9])])
    torch.testing.assert_close(got, whole, rtol=1e-4, atol=1e-4)


def test_exact_neurons_in_place_of_networks() -> None:
    net, x = small(in_features=3), 2 * torch.randn(100, 2, 3)
    told = net.blocks[0].neuron(net.blocks[0].dynamics(net.encoder(x)))
    for module in net.modules():
        if isinstance(module, sl.nn.SDNSpiking):
            module.exact = True
    exact = net.blocks[0].neuron(net.blocks[0].dynamics(net.encoder(x)))
    assert float((told == exact).float().mean()) > 0.99


def test_it_learns_which_half_is_louder() -> None:
    """An order over time that no mean over time of its input tells."""
    x, y = torch.rand(200, 40), torch.arange(200) % 2
    x[y == 0, :20] += 1
    x[y == 1, 20:] += 1
    sequences = x.unsqueeze(-1).transpose(0, 1).contiguous()
    net = small(num_classes=2, features=16, dropout=0.0).train()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-2)
    for _ in range(25):
        optimizer.zero_grad()
        functional.cross_entropy(net(sequences), y).backward()
        optimizer.step()
    assert float((net.eval()(sequences).argmax(1) == y).float().mean()) > 0.95


class Texts(list[tuple[torch.Tensor, torch.Tensor]]):
    """Pairs of tokens `[T, 1]` and the tokens after each, `[T]`."""

    in_time = True


def test_the_trainer_takes_targets_of_each_step() -> None:
    """A loss of one's own is all that next-token targets `[B, T]` need; accuracy is then not told."""
    tokens = torch.arange(41).repeat(16, 1) % 4
    samples = Texts((row[:-1].unsqueeze(-1).float(), row[1:]) for row in tokens)

    def next_token(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(outputs.permute(1, 2, 0), y)

    net = small(vocabulary=4, num_classes=4, readout="none", features=16)
    config = Config(epochs=8, batch_size=8, lr=2e-2, T=40)
    result = train(net, (samples, samples), config, objective=next_token, quiet=True)
    assert result.test_loss < 0.7  # ln 4 = 1.39 by chance


def test_what_does_not_fit() -> None:
    for given, message in (
        ({"depth": 0}, "depth = 0"),
        ({"features": 0}, "features = 0"),
        ({"vocabulary": -1}, "vocabulary = -1"),
        ({"decay": 0.3}, "decay of 0.3"),
        ({"state": 3}, "state = 3"),
    ):
        with pytest.raises(ValueError, match=message):
            small(**given)
    for given in ({"norm": "laier"}, {"readout": "non"}):
        with pytest.raises(UnknownName, match="did you mean"):
            small(**given)
    assert find_model("spiking_ssm_smnist").published[0].accuracy == 99.6
