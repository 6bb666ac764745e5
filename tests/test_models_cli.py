"""`spikeloom models`: the list, the page of one network, and the operations that it counts from shapes."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

import spikeloom as sl
from spikeloom.cli import main
from spikeloom.cli.models import _neurons, _parts, _recipes, page
from spikeloom.measure import dense_operations, profile
from spikeloom.measure.report import brief
from spikeloom.models import Backbone, example_input, find_model


def one_of_each() -> list[str]:
    return sorted({find_model(name).cls: name for name in sl.list_models()}.values())


@pytest.fixture(params=one_of_each(), scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def small(name: str) -> nn.Module:
    return sl.create_model(name, **getattr(find_model(name).cls, "small", {})).eval()


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "sew_resnet1*"]) == 0
    head, *lines, tail = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["model", "file", "parameters"]
    assert [line.split()[0] for line in lines] == sl.list_models("sew_resnet1*")
    (one,) = [line for line in lines if "resnet18" in line]
    assert " ".join(one.split()) == ("sew_resnet18 sew_resnet 11,689,512 4 3x224x224 63.18 % imagenet, T = 4")
    assert "spikeloom models NAME" in tail


def test_the_list_in_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "sew_resnet18", "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = "| `sew_resnet18` | sew_resnet | 11,689,512 | 4 | 3x224x224 | 63.18 % imagenet, T = 4 |"
    assert lines[2:] == [row]
    assert lines[1] == "| --- | --- | ---: | ---: | --- | --- |"


def test_what_is_only_remembered_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "ms_resnet18", "--markdown"]) == 0
    assert "(remembered)" in capsys.readouterr().out


@pytest.mark.parametrize("given", ["sew_resnt18", "sew_resnt*"])
def test_an_unknown_name_is_answered_with_the_nearest(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", given]) == 2
    assert f"no model {given!r}; did you mean 'sew_resnet" in capsys.readouterr().err


def told(text: str) -> dict[str, str]:
    """Return a page's entries by their keys."""
    found: dict[str, str] = {}
    key = ""
    for line in text.splitlines()[1:]:
        key = line[:14].strip() or key
        found[key] = f"{found.get(key, '')} {line[14:].strip()}".strip()
    return found


def test_the_page_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "sew_resnet18"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 110
    found = told(out)
    assert out.startswith("sew_resnet18: SEWResNet, in spikeloom/models/sew_resnet.py\n")
    assert found["paper"] == "Fang et al., NeurIPS 2021, arXiv:2102.04159"
    # a convolution 3 -> 64 of 7x7, and a norm; 512 x 1000 and a bias
    assert found["parameters"].startswith("11,689,512: stem 9,536, stage 1 ")
    assert found["parameters"].endswith("head 513,000")
    assert found["input"] == "3x224x224, or any other height and width"
    assert found["T"].startswith("4 for a static image")
    # ResNet-18 has 1.814 G of one image, of which the first convolution 118 M
    assert brief(4 * 1_814_073_344 - 3 * 118_013_952) == "6.9G"
    assert found["operations"].startswith("6.9G multiply-accumulates of an image shown for 4 steps")
    assert found["operations"].endswith("7.26G of 4 frames")
    assert found["neurons"].startswith("IF(v_threshold=1, v_reset=0) with surrogate=ATan(alpha=2.0), detach")
    assert found["published"] == ("63.18 % imagenet, T = 4: log in the authors' repository, best epoch")
    assert found["recipes"].startswith("sew_resnet-imagenet, cifar10-subset-sew_resnet (made small)")
    assert "load_reference" in found["checkpoints"]
    assert "depth=18" in found["arguments"]
    assert found["in Python"].startswith('net = sl.create_model("sew_resnet18", num_classes=1000)')


def test_the_page_of_a_small_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "conv_snn"]) == 0
    found = told(capsys.readouterr().out)
    assert found["recipes"].startswith("digits, mnist")
    assert found["published"] == "nothing is named"
    assert main(["models", "dense_snn"]) == 0
    assert "x: [B, 64]" in capsys.readouterr().out


def test_recipes_of_its_class_take_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "sew_resnet50"]) == 0
    assert told(capsys.readouterr().out)["recipes"] == "sew_resnet-imagenet (--model sew_resnet50)"
    assert list(_recipes(find_model("svformer"))) == []
    # its own come first
    first, *others = _recipes(find_model("spikformer_8_512"))
    assert first == "spikformer-imagenet"
    assert "spikformer-cifar10 (--model spikformer_8_512)" in others


def test_learnable_constants_are_told_by_where_they_start() -> None:
    (one,) = _neurons(find_model("plif_net_mnist"))
    # 1/2 is the logistic function of 0
    assert one.startswith("PLIF(v_threshold=1, v_reset=0, w from 0, learnable) with ")


def test_operations_from_shapes_are_those_that_run(name: str) -> None:
    net = small(name)
    x = example_input(net, 2)
    if isinstance(net, Backbone):
        x = x.expand(net.T, *x.shape)
    counted = profile(net, x)
    assert dense_operations(net, x) == sum(row.dense_total for row in counted.rows) > 0
    with torch.device("meta"):
        assert dense_operations(small(name), torch.empty(x.shape)) == dense_operations(net, x)


def test_products_of_weights_alone_are_none() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter(torch.rand(3, 4)), nn.Parameter(torch.rand(4, 5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ (self.a @ self.b)

    assert dense_operations(Scaled(), torch.rand(2, 3)) == 2 * 3 * 5
    with torch.device("meta"):
        assert dense_operations(Scaled(), torch.rand(2, 3)) == 2 * 3 * 5


def test_parts_are_the_whole(name: str) -> None:
    net = small(name)
    parts = [int(part.rsplit(" ", 1)[1].replace(",", "")) for part in _parts(net)]
    assert sum(parts) == sum(p.numel() for p in net.parameters())
    assert _neurons(find_model(name))


@pytest.mark.full
def test_every_page_in_time(name: str) -> None:
    began = time.process_time()
    assert len(list(page(name))) >= 10
    assert time.process_time() - began < 10
