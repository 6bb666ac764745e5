"""Residual networks: published numbers of parameters, and their blocks against torch alone."""

from __future__ import annotations

import pytest
import torch

import spikeloom as sl

COUNTED = {
    "sew_resnet18": 11_689_512,
    "sew_resnet34": 21_797_672,
    "sew_resnet50": 25_557_032,
    "sew_resnet101": 44_549_160,
    "sew_resnet152": 60_192_808,
    "spiking_resnet18": 11_689_512,
    "spiking_resnet34": 21_797_672,
    "spiking_resnet50": 25_557_032,
    "spiking_resnet101": 44_549_160,
    "spiking_resnet152": 60_192_808,
}


@pytest.mark.parametrize("name", COUNTED)
def test_parameters(name: str) -> None:
    with torch.device("meta"):
        net = sl.create_model(name)
    assert sum(p.numel() for p in net.parameters()) == COUNTED[name]
