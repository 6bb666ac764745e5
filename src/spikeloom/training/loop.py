"""The training loop: surrogate gradients, AdamW, a half cosine; stopped and resumed without a trace."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..data import Dataset, Images
from ..measure import FiringRates
from ..models import create_model
from .interrupt import StopSignal
from .progress import Reporter
from .recipes import Recipe
from .run_folder import RunError, RunFolder, Tensors
from .samples import load_samples


class TrainingFailed(RuntimeError):  # noqa: N818
    """Training cannot go on: the loss is no longer a number."""


class Interrupted(Exception):  # noqa: N818
    """A signal ended the run, after its state was saved.

    Arguments:
        caught: the signal.
        where: how far the run came, in words.
    """

    def __init__(self, caught: signal.Signals, where: str) -> None:
        super().__init__(f"stopped by {caught.name} {where}")
        self.caught = caught


@dataclass(frozen=True)
class Result:
    """What a network does on the test set.

    Attributes:
        test_accuracy: the share of test samples whose class was found.
        firing_rates: spikes per neuron and step, by layer.
        epochs: how many epochs the network was trained for.
        seconds_per_epoch: their mean time; nan if there was none.
    """

    test_accuracy: float
    firing_rates: dict[str, float]
    epochs: int
    seconds_per_epoch: float


@dataclass
class Course:
    """Where a run is: everything of its state that is not a tensor."""

    epoch: int = 0
    batch: int = 0
    loss: float = 0.0
    correct: int = 0
    seen: int = 0
    spikes: int = 0
    chances: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    def metrics(self) -> dict[str, float]:
        """Return the metrics of the epoch so far."""
        return {
            "epoch": self.epoch + 1,
            "loss": self.loss / max(self.seen, 1),
            "accuracy": self.correct / max(self.seen, 1),
            "firing_rate": self.spikes / max(self.chances, 1),
            "samples_per_second": self.seen / max(self.seconds, 1e-9),
            "seconds": self.seconds,
        }

    def next_epoch(self) -> None:
        """Close the epoch: its metrics become history."""
        done = Course(self.epoch + 1, history=[*self.history, self.metrics()])
        self.__dict__.update(done.__dict__)


class Training:
    """One run: a recipe, its data, network and optimizer, and where it is. `train` drives it.

    Arguments:
        run: the folder that the run is saved in.
        resume: go on from the folder's checkpoint.
    """

    def __init__(self, run: RunFolder, resume: bool) -> None:
        self.run = run
        self.name, self.recipe = run.config()
        self.data = load_samples(self.recipe)
        torch.manual_seed(self.recipe.seed)
        self.net = build(self.recipe, self.data)
        self.optimizer = torch.optim.AdamW(
            self.net.parameters(), lr=self.recipe.lr, weight_decay=self.recipe.weight_decay
        )
        self.batches = math.ceil(len(self.data.train) / self.recipe.batch_size)
        self.course = Course()
        if resume:
            self._load()
        else:
            self.save()

    def save(self) -> None:
        """Write the checkpoint, the model and the metrics."""
        model = self.net.state_dict()
        tensors: Tensors = {f"model.{name}": value for name, value in model.items()}
        for i, p in enumerate(self.net.parameters()):
            tensors.update({f"optimizer.{i}.{k}": v for k, v in self.optimizer.state.get(p, {}).items()})
        tensors["rng"] = torch.get_rng_state()
        self.run.write_tensors("checkpoint.safetensors", tensors, asdict(self.course))
        self.run.write_tensors(
            "model.safetensors", model, {"epoch": self.course.epoch, "batch": self.course.batch}
        )
        self.run.write_metrics(self.course.history)

    def _load(self) -> None:
        file, remedy = "checkpoint.safetensors", "the run cannot be resumed: train into a new folder"
        tensors, state = self.run.read_tensors(file, remedy)
        try:
            self.net.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
            for i, p in enumerate(self.net.parameters()):
                prefix = f"optimizer.{i}."
                saved = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
                if saved:  # in the parameter's memory format, so that arithmetic goes the same way
                    self.optimizer.state[p] = {
                        k: torch.empty_like(p).copy_(v) if v.shape == p.shape and k != "step" else v
                        for k, v in saved.items()
                    }
            torch.set_rng_state(tensors["rng"])
            self.course = Course(**state)
        except (RuntimeError, KeyError, TypeError) as error:
            raise RunError(f"{self.run.path / file} does not fit config.json ({error}); {remedy}") from error

    def epoch(self, stop: StopSignal, reporter: Reporter) -> None:
        """Train from the course's batch to the epoch's end, or to a signal."""
        course, recipe = self.course, self.recipe
        order = torch.randperm(
            len(self.data.train), generator=torch.Generator().manual_seed((recipe.seed << 20) + course.epoch)
        )
        self.net.train()
        while course.batch < self.batches and not stop.caught:
            start = time.perf_counter()
            some = order[course.batch * recipe.batch_size :][: recipe.batch_size]
            with FiringRates(self.net) as rates:
                loss, correct = self._step(*batch(self.data, self.data.train, some, recipe))
            spikes, chances = rates.counts()
            course.batch += 1
            course.loss += loss * len(some)
            course.correct += correct
            course.seen += len(some)
            course.spikes += spikes
            course.chances += chances
            course.seconds += time.perf_counter() - start
            reporter.batch(course.metrics())

    def _step(self, x: Tensor, y: Tensor) -> tuple[float, int]:
        """Take one step down the gradient; return the batch's mean loss and its number of right answers."""
        done = (self.course.epoch * self.batches + self.course.batch) / (self.recipe.epochs * self.batches)
        for group in self.optimizer.param_groups:
            group["lr"] = 0.5 * self.recipe.lr * (1 + math.cos(math.pi * done))
        scores = self.net(x)
        loss = functional.cross_entropy(scores, y)
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingFailed(
                f"the loss is {value} at epoch {self.course.epoch + 1}, batch {self.course.batch + 1} (lr "
                f"{self.recipe.lr:g}); train again with a smaller --lr; {self.run.path} holds "
                "the last checkpoint"
            )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return value, int((scores.argmax(1) == y).sum())


def train(run: RunFolder, resume: bool = False) -> Result:
    """Train the run of a folder to its end, and measure it.

    Arguments:
        run: a folder with a config.
        resume: go on from its checkpoint; the weights at the end are, on CPU, those of an unbroken run.

    Raises:
        Interrupted: SIGINT or SIGTERM; the state is saved.
        TrainingFailed: the loss is NaN or infinite.
        RunError: the folder is damaged, or another process trains in it.
    """
    with StopSignal() as stop, run.locked():
        training = Training(run, resume)
        course, epochs = training.course, training.recipe.epochs
        first = course.epoch * training.batches + course.batch
        with Reporter(epochs, training.batches, first) as reporter:
            while course.epoch < epochs and not stop.caught:
                training.epoch(stop, reporter)
                if course.batch == training.batches:
                    course.next_epoch()
                    reporter.epoch(course.epoch, course.history[-1])
                training.save()
        if stop.caught:
            where = (
                f"after {course.epoch} of {epochs} epochs and {course.batch} of {training.batches} batches"
            )
            raise Interrupted(stop.caught, where)
        result = measure(training.net, training.data, training.recipe, course.history)
        run.write_json("result.json", asdict(result))
        return result


def evaluate(run: RunFolder) -> Result:
    """Measure the network of a run folder on its test set; equal to what `train` found, to the last digit.

    Raises:
        RunError: the folder is damaged.
    """
    _, recipe = run.config()
    return measure(load_net(run), load_samples(recipe), recipe, run.metrics())


def load_net(run: RunFolder) -> nn.Module:
    """Return the network of a run folder, with its weights.

    Raises:
        RunError: the folder is damaged.
    """
    _, recipe = run.config()
    net = build(recipe, load_samples(recipe))
    remedy = "train again, into a new folder"
    tensors, _ = run.read_tensors("model.safetensors", remedy)
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        raise RunError(
            f"{run.path / 'model.safetensors'} does not fit config.json ({error}); {remedy}"
        ) from error
    return net


def build(recipe: Recipe, data: Dataset) -> nn.Module:
    """Return the recipe's network for images of the data's shape."""
    channels, height, _ = data.shape
    shape: dict[str, Any] = {"in_channels": channels, "image_size": height, "num_classes": len(data.classes)}
    net = create_model(recipe.model, **{**shape, "T": recipe.T, **recipe.model_options})
    # convolutions run faster with channels last
    return net.to(recipe.device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def batch(data: Dataset, images: Images, some: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Return chosen samples, augmented, as the network takes them, and their labels, on the device."""
    x, shift = _inputs(data, images, some), recipe.shift
    if shift:
        height, width = x.shape[-2:]
        dy, dx = (int(i) for i in torch.randint(0, 2 * shift + 1, (2,)))
        x = functional.pad(x, [shift] * 4)[..., dy : dy + height, dx : dx + width]
    return x.to(recipe.device), images.labels[some].to(recipe.device)


def _inputs(data: Dataset, images: Images, some: Tensor) -> Tensor:
    """Return images `[B, C, H, W]`, or frames `[T, B, C, H, W]`."""
    x = data.intensity(images.pixels[some])
    return x.transpose(0, 1) if x.ndim == 5 else x


def measure(net: nn.Module, data: Dataset, recipe: Recipe, history: list[dict[str, float]]) -> Result:
    """Return the network's accuracy and firing rates on the test set."""
    net.eval()
    correct = 0
    with torch.inference_mode(), FiringRates(net) as rates:
        for some in _in_order(len(data.test), recipe.batch_size):
            x = _inputs(data, data.test, some).to(recipe.device)
            correct += int((net(x).argmax(1).cpu() == data.test.labels[some]).sum())
    seconds = [line["seconds"] for line in history]
    mean = sum(seconds) / len(seconds) if seconds else math.nan
    return Result(correct / len(data.test), rates.layers(), len(history), mean)


def _in_order(count: int, size: int) -> Iterator[Tensor]:
    yield from torch.arange(count).split(size)
