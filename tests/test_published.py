"""Published recipes: each is whole, of a network that is there, for data that it fits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from spikeloom.cli import main
from spikeloom.data import info
from spikeloom.models.fitting import model_for
from spikeloom.names import UnknownName
from spikeloom.training import RECIPES, SMALL, Recipe, find_recipe, published_recipes
from spikeloom.training.optimizers import make_optimizer

SENSORS = {"dvs128-gesture": (2, 128, 128), "cifar10-dvs": (2, 128, 128)}
CLASSES = {"imagenet": 1000, "cifar100": 100}


def shape_of(data: str, size: int) -> tuple[int, ...]:
    """Return the shape of a step of a sample of a data set, whether it is here or not."""
    channels, height, width = SENSORS.get(data, (3, 32, 32))
    return (channels, size or height, size or width)


@pytest.mark.parametrize("name", published_recipes())
def test_it_builds_its_network_and_optimizer(name: str) -> None:
    assert name not in RECIPES
    recipe = find_recipe(name)
    classes = CLASSES.get(recipe.data, len(info(recipe.data).classes))
    shape = shape_of(recipe.data, recipe.data_options.get("size", 0))
    with torch.device("meta"):
        net = model_for(recipe.model, shape, classes, recipe.T, **recipe.model_options)
    make_optimizer(net, recipe)
    first = published_recipes()[name].read_text().splitlines()[0]
    assert first.startswith("# ")
    assert "arXiv:" in first
    if recipe.loss in ("tet", "rate-mse"):
        assert recipe.model_options["readout"] == "none"


PICTURES = {
    "cifar10-jpeg-subset": (3, 32, 32),
    "fashion-mnist": (1, 28, 28),
    "mnist": (1, 28, 28),
    "n-mnist-1100": (2, 32, 32),
}
IMAGES: dict[str, tuple[int, ...]] = {**PICTURES, "fsdd": (64,), "dvs128-gesture-clips": (2, 32, 32)}


def small_net(recipe: Recipe) -> tuple[nn.Module, Tensor, int]:
    """Return a small recipe's network, two samples like its data's, and how many classes these have."""
    torch.manual_seed(0)
    vocabulary = recipe.model_options.get("vocabulary", 0)
    classes = vocabulary if recipe.loss == "per-step" else 10
    shape = (1,) if vocabulary or "sequence" in recipe.data_options else IMAGES[recipe.data]
    steps = (recipe.T, 2, *shape)
    x = torch.randint(vocabulary, steps).float() if vocabulary else torch.rand(steps)
    return model_for(recipe.model, shape, classes, recipe.T, **recipe.model_options), x, classes


@pytest.mark.parametrize("name", SMALL)
def test_a_small_one_is_of_a_network_that_takes_its_data(name: str) -> None:
    assert name not in RECIPES
    recipe = find_recipe(name)
    net, x, classes = small_net(recipe)
    scores = net(x)
    assert scores.shape == ((recipe.T, 2, classes) if recipe.loss == "per-step" else (2, 10))
    # a number for each word aside
    assert sum(p.numel() for p in net.parameters() if classes not in p.shape or classes < 1000) < 300_000


def test_twins_are_of_one_size() -> None:
    """Networks that are compared have as many parameters, but for what is compared."""

    def size(name: str) -> int:
        return sum(p.numel() for p in small_net(SMALL[name])[0].parameters())

    for one, other in (
        ("cifar10-subset-ms_resnet50", "cifar10-subset-spiking_resnet50"),
        ("cifar10-subset-ms_resnet20", "cifar10-subset-spiking_resnet20"),
        ("cifar10-subset-tdbn_resnet", "cifar10-subset-bn_resnet"),
        ("cifar10-subset-spikformer", "cifar10-subset-spikformer_cml"),
        ("cifar10-subset-spikingformer", "cifar10-subset-spikingformer_cml"),
        ("n-mnist-liaf", "n-mnist-lif"),
        ("fsdd-delay_snn", "fsdd-delay_snn_without"),
    ):
        assert size(one) == size(other)
    points, branches = size("fashion-mnist-point_snn"), size("fashion-mnist-dendritic_snn")
    assert abs(branches - points) < 0.01 * points
    for data in ("smnist", "psmnist", "list-ops", "tinyshakespeare", "wikitext-2"):
        units = SMALL[f"{data}-egru"].model_options["hidden"]
        assert size(f"{data}-egru") - size(f"{data}-gru") == sum(units)  # a threshold each
    attention = 6 * 3 + 3 * 6 + 3 + 6  # two linear layers over six steps
    assert 0 < size("n-mnist-ta_snn") - size("n-mnist-snn") <= 5 * attention


def test_they_are_listed_apart(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("published recipe"))
    listed = [line.split()[0] for line in lines[start + 1 :] if line.strip()][: len(published_recipes())]
    assert listed == list(published_recipes())
    assert any("none of them was run here" in line for line in lines)


def test_an_unknown_one_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'spikformer-imagenet'"):
        find_recipe("spikformer_imagenet")
