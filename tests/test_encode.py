"""A code at the beginning of a network."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import spikeloom as sl


def net(code: object) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        sl.Encode(code),  # type: ignore[arg-type]
        sl.PerStep(nn.Flatten(), nn.Linear(64, 48)),
        sl.LIF(v_threshold=0.3),
        sl.PerStep(nn.Linear(48, 10)),
    )


def test_it_is_the_rest_of_the_network_on_the_coded_input() -> None:
    x = torch.rand(5, 1, 8, 8)
    for code in (sl.encoding.Direct(T=3), sl.encoding.Latency(T=6)):
        whole = net(code)
        y = whole(x)
        assert y.shape == (code.T, 5, 10)
        torch.testing.assert_close(y, whole[1:](code(x)), rtol=0, atol=0)
        torch.testing.assert_close(y, copy.deepcopy(whole)(x), rtol=0, atol=0)
        assert repr(code) in repr(whole)
    torch.testing.assert_close(net(lambda x: x[None])(x), net(sl.encoding.Direct(T=1))(x))


def test_gradients_pass_a_direct_code() -> None:
    x = torch.rand(2, 1, 8, 8, requires_grad=True)
    net(sl.encoding.Direct(T=3))(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_static_data_train_through_it() -> None:
    for code in (sl.encoding.Direct(T=4), sl.encoding.Poisson(T=8)):
        config = sl.training.Config(epochs=4, lr=1e-2)
        result = sl.train(net(code), sl.data.load_data("digits"), config, quiet=True)
        assert result.test_accuracy > 0.8


def test_what_it_refuses() -> None:
    with pytest.raises(TypeError, match="Encode takes a code"):
        sl.Encode(4)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="makes a whole sequence"):
        sl.Stream(net(sl.encoding.Direct(T=3)))(torch.rand(2, 1, 8, 8))
