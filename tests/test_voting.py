"""The voting head and the dropout in front of it, against loops over steps, samples and classes."""

from __future__ import annotations

import pytest
import torch

import spikeloom as sl


@pytest.mark.parametrize("voters", [1, 3])
def test_each_class_is_the_mean_of_its_neurons(voters: int) -> None:
    torch.manual_seed(0)
    T, B, K = 3, 2, 4
    x = torch.randn(T, B, K * voters, dtype=torch.float64, requires_grad=True)
    y = sl.nn.Voting(voters)(x)
    assert y.shape == (T, B, K)
    for t in range(T):
        for b in range(B):
            for k in range(K):
                mine = sum(x[t, b, k * voters + i].item() for i in range(voters)) / voters
                assert y[t, b, k].item() == pytest.approx(mine)
    y[1, 0, 2].backward()
    expected = torch.zeros_like(x)
    expected[1, 0, 2 * voters : 3 * voters] = 1 / voters
    torch.testing.assert_close(x.grad, expected)


def test_voting_of_spikes_is_the_rate() -> None:
    spikes = torch.tensor([[[1.0, 0.0, 1.0, 1.0]], [[0.0, 0.0, 1.0, 0.0]]])
    torch.testing.assert_close(sl.nn.Voting(2)(spikes).mean(0), torch.tensor([[0.25, 0.75]]))


def test_voting_of_what_cannot_be_shared_out() -> None:
    with pytest.raises(ValueError, match="voters = 0"):
        sl.nn.Voting(0)
    with pytest.raises(ValueError, match=r"give it num_classes \* 10 neurons"):
        sl.nn.Voting(10)(torch.zeros(2, 3, 25))
    with pytest.raises(ValueError, match="no multiple of 10"):
        sl.nn.Voting(10)(torch.zeros(2, 3, 0))


def test_dropout_hides_the_same_at_all_steps() -> None:
    torch.manual_seed(0)
    dropout = sl.nn.SharedDropout(0.25)
    x = torch.rand(4, 3, 500, dtype=torch.float64) + 1
    x.requires_grad_()
    y = dropout(x)
    kept = y[0] != 0
    assert 0.7 < kept.double().mean() < 0.8
    for t in range(4):
        torch.testing.assert_close(y[t], torch.where(kept, x[t] / 0.75, 0.0))
    assert not torch.equal(kept[0], kept[1])  # each sample has its own
    assert not torch.equal(dropout(x)[0] != 0, kept)  # each call has its own
    y.sum().backward()
    torch.testing.assert_close(x.grad, (kept.double() / 0.75).expand_as(x))
    assert dropout.eval()(x) is x
    assert sl.nn.SharedDropout(0.0)(x) is x


def test_dropout_takes_a_share() -> None:
    with pytest.raises(ValueError, match=r"p = 1\.5"):
        sl.nn.SharedDropout(1.5)
    with pytest.raises(TypeError, match="sees time"):
        sl.PerStep(sl.nn.SharedDropout())
