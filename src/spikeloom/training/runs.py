"""Runs: a network or a recipe trained on as many devices as it asks for, kept in a folder, measured again."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..data import Dataset
from ..models.fitting import model_for
from ..nn.quantise import quantise_weights
from .config import Config
from .course import Record, Result
from .devices import check_devices, launched
from .feed import Data
from .launch import launch
from .learning import Hands, Objective, make_rule
from .loggers import make_logger
from .loop import Training, train_here
from .objective import label_loss
from .optimizers import make_optimizer
from .recipes import Recipe
from .run_folder import RunError, RunFolder
from .samples import load_samples

Launcher = Literal["local", "ray"]


def train(
    net: nn.Module,
    data: Data,
    config: Config | None = None,
    folder: Path | str | None = None,
    *,
    resume: bool = False,
    objective: Objective | None = None,
    on_epoch: Callable[[Record], None] | None = None,
    quiet: bool = False,
) -> Result:
    """Train a network in place, and measure it on the test set.

        result = sl.train(net, sl.data.load_data("digits"), sl.training.Config(epochs=5))

    Arguments:
        net: any module that gives class scores `[B, K]` or `[T, B, K]`.
        data: a `Dataset` (as `sl.data.load_data` gives), or (train, test): map-style data sets of (x, label);
            samples `[T, C, H, W]` become batches `[T, B, C, H, W]`.
        config: how; `Config()` if None.
        folder: where checkpoints, metrics and weights are kept, for `spikeloom report` among others; None
            keeps nothing.
        resume: go on from the folder's last checkpoint; on CPU, the weights at the end are those of an
            unbroken run.
        objective: a loss `(outputs, y) -> number`, a mean over the batch, in place of the configured one.
        on_epoch: called with the metrics after each epoch; what it raises ends the run.
        quiet: show no progress.

    On several devices the network, data and objective are pickled for the other processes.

    Raises:
        Interrupted: SIGINT or SIGTERM; the state is saved.
        TrainingFailed: the loss is NaN or infinite.
        RankFailed: one of several processes failed.
        RunError: the folder is damaged or full, or another process trains in it.
        ValueError: a configuration that cannot be, or that does not fit the network.
    """
    config = config or Config()
    for part, kind in ((net, nn.Module), (config, Config)):
        if not isinstance(part, kind):
            raise TypeError(
                f"train takes a network, a torch.nn.Module, data, and a Config, as Config(epochs=3), not "
                f"{type(part).__name__} for a {kind.__name__}"
            )
    own = _own(config)
    run = None
    if folder is not None:
        # of ranks that something else started, the first makes the folder
        there = resume or int(os.environ.get("RANK", "0")) > 0
        run = RunFolder(folder) if there else RunFolder.create(folder, "own", own)
    elif resume:
        raise ValueError("resume=True needs the folder of the run to go on with: folder=...")
    if config.devices == 1 or launched():
        given: dict[str, Any] = {"objective": objective, "teacher": _teacher(config), "on_epoch": on_epoch}
        given["quiet"] = quiet
        return train_here(net, data, own, run, resume=resume, **given)
    _refuse_callback(on_epoch)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(folder or Path(scratch) / "run")
        if folder is None:
            run = RunFolder.create(path, "own", own)
        assert run is not None
        launch(_own_rank, (net, data, own, path, resume, objective, quiet), config.devices)
        if config.precision == "fp64":
            net.double()
        tensors, _ = run.read_tensors("model.safetensors", "train again")
        net.load_state_dict(tensors)
        return Result.of(run.read_json("result.json"))


def _own(config: Config) -> Recipe:
    """Return a recipe of a network that no name stands for."""
    none: dict[str, Any] = {"data": "", "model": "", "model_options": {}, "weight_bits": None}
    return Recipe(**{**asdict(config), **none})


def _own_rank(
    net: nn.Module,
    data: Data,
    config: Recipe,
    path: Path,
    resume: bool,
    objective: Objective | None,
    quiet: bool,
) -> None:
    run = RunFolder(path)
    net = copy.deepcopy(net)  # tensors come in memory that all processes share
    given: dict[str, Any] = {"objective": objective, "teacher": _teacher(config), "quiet": quiet}
    train_here(net, data, config, run, resume=resume, **given)


def train_run(
    run: RunFolder,
    resume: bool = False,
    on_epoch: Callable[[Record], None] | None = None,
    launcher: Launcher = "local",
) -> Result:
    """Train the run of a folder, of a recipe, to its end, and measure it.

    Arguments:
        run: a folder with a recipe.
        resume: go on from its last checkpoint.
        on_epoch: called with the metrics after each epoch, on one device.
        launcher: what starts the processes of several devices: this machine, or a cluster by Ray.

    Raises:
        RunError: what `train` raises, and for the same reasons.
    """
    _, recipe = run.config()
    if recipe.devices == 1 or launched():
        data = load_samples(recipe)
        net = build(recipe, data)
        return train_here(net, data, recipe, run, resume=resume, teacher=_teacher(recipe), on_epoch=on_epoch)
    _refuse_callback(on_epoch)
    if launcher == "ray":
        from .ray_launcher import launch_ray

        gpus = 0 if check_devices(recipe) else 1
        launch_ray(_ray_rank, (str(run.path.resolve()), resume), recipe.devices, gpus)
    else:
        launch(_recipe_rank, (str(run.path), resume), recipe.devices)
    return Result.of(run.read_json("result.json"))


def _recipe_rank(path: str, resume: bool) -> None:
    train_run(RunFolder(path), resume)


def _ray_rank(rank: int, path: str, resume: bool) -> None:
    train_run(RunFolder(path), resume)


def _refuse_callback(on_epoch: object) -> None:
    if on_epoch is not None:
        raise ValueError("on_epoch is called in this process, which trains only with devices=1")


def evaluate(run: RunFolder) -> Result:
    """Measure the network of a run folder on its test set; equal to what training found, to the last digit.

    Raises:
        RunError: the folder is damaged.
    """
    _, recipe = run.config()
    alone = Recipe(**{**asdict(recipe), "devices": 1, "select": "last", "patience": None, "ema": 0.0})
    training = Training(load_net(run), load_samples(recipe), alone)
    training.history = run.metrics()
    return training.result()


def load_net(run: RunFolder) -> nn.Module:
    """Return the network of a run folder, with its weights.

    Raises:
        RunError: the folder is damaged.
    """
    _, recipe = run.config()
    if not recipe.model:
        raise RunError(
            f"{run.path} is of a network of your own: build it, and load "
            f"{run.path / 'model.safetensors'} with safetensors.torch.load_file"
        )
    net = build(recipe, load_samples(recipe))
    remedy = "train again, into a new folder"
    tensors, _ = run.read_tensors("model.safetensors", remedy)
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        raise RunError(
            f"{run.path / 'model.safetensors'} does not fit config.yaml ({error}); {remedy}"
        ) from error
    return net


def check(recipe: Recipe) -> None:
    """Refuse a recipe that cannot be trained, before it leaves a folder.

    Raises:
        ValueError: what cannot be, and the remedy; DataError: the data are not here.
    """
    if not recipe.data or not recipe.model:
        raise ValueError(
            "the recipe names no data or no model: give both, or start from a recipe, as recipe: digits; a "
            "run of a network of your own can only be repeated by the program that made it"
        )
    on_cpu = check_devices(recipe)
    data = load_samples(recipe)
    try:
        net = build(recipe, data).to("cpu" if on_cpu else recipe.device.replace("auto", "cuda"))
        make_optimizer(net, recipe)
        _teacher(recipe)
        with tempfile.TemporaryDirectory() as scratch:
            for name in recipe.trackers:
                make_logger(name, scratch)
        _try_a_step(net, recipe, data)
    except (TypeError, RuntimeError, AssertionError) as error:
        raise ValueError(str(error)) from error


def _try_a_step(net: nn.Module, recipe: Recipe, data: Dataset) -> None:
    """Learn from two samples, so that what does not fit together says so."""
    device = next(net.parameters()).device
    x, y = data.inputs(data.train.pixels[:2]).to(device), data.train.labels[:2].to(device)
    rule = make_rule(recipe.learning, net, **recipe.learning_options).to(device)
    if rule.needs_time and not data.in_time:
        x = x.expand(recipe.T, *x.shape)
    rule(net, x, y, label_loss(recipe), Hands(backward=Tensor.backward, update=net.zero_grad))


def build(recipe: Recipe, data: Dataset) -> nn.Module:
    """Return the recipe's network for samples of the data's shape, with the seed's weights."""
    torch.manual_seed(recipe.seed)
    net = model_for(recipe.model, data.shape, len(data.classes), recipe.T, **recipe.model_options)
    # convolutions run faster with channels last
    for value in [*net.parameters(), *net.buffers()]:
        if value.ndim == 4:  # those of 5 axes, of time or depth, have no such format
            value.data = value.data.contiguous(memory_format=torch.channels_last)
    return net if recipe.weight_bits is None else quantise_weights(net, recipe.weight_bits)


def _teacher(config: Config) -> nn.Module | None:
    return load_net(RunFolder(config.teacher)) if config.teacher else None
