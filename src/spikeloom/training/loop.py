"""The training loop, in one file to read, copy and change; stopped and resumed without a trace."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..measure import FiringRates
from ..nn import follow, settle
from .augment import augmented
from .checkpoint import gather, gather_model, is_finite, part, restore
from .config import Config
from .course import Course, Record, Result, TrainingFailed
from .devices import average_gradients, draw_from, highest, launched, make_fabric, total, unsharded
from .feed import Data, Feed, HasClasses, Split, neurons_see_time, splits, workers_watched
from .health import Health
from .interrupt import Interrupted, StopSignal
from .learning import Hands, Objective, make_rule
from .loggers import Guarded, make_logger
from .objective import Terms, scores_of
from .optimizers import make_optimizer, set_rate
from .progress import Reporter
from .recipes import Recipe
from .regression import Scores
from .run_folder import RunError, RunFolder, Tensors


class Training:
    """One run in one process: network, data, optimiser, and where it is. `run` drives it.

    Arguments:
        net: the network; it is trained in place.
        data: what is learned from and tested on.
        config: how.
        folder: where the run is kept; None keeps nothing.
        objective: a loss `(outputs, y) -> number`, in place of the configured one.
        teacher: a network to learn from.
        on_epoch: called with the metrics after each epoch; what it raises ends the run.
    """

    def __init__(
        self,
        net: nn.Module,
        data: Data,
        config: Config,
        folder: RunFolder | None = None,
        *,
        objective: Objective | None = None,
        teacher: nn.Module | None = None,
        on_epoch: Callable[[Record], None] | None = None,
    ) -> None:
        self.config, self.folder, self.on_epoch = config, folder, on_epoch
        self.fabric = make_fabric(config)
        self.lead = self.fabric.global_rank == 0
        self.train_split, held_out, self.test_split = splits(data, config.validation, config.seed)
        self.feed = self._feed(self.train_split, shuffle=True)
        self.name, measured = ("test", self.test_split) if held_out is None else ("validation", held_out)
        self.measured = self._feed(measured)

        self.sharded = config.strategy == "fsdp" and config.devices > 1
        if config.precision == "fp64":
            net.double()
        self.rule = self.fabric.to_device(make_rule(config.learning, net, **config.learning_options))
        if self.rule.local and (self.sharded or config.accumulate > 1):
            raise ValueError(
                f"recipe: learning = {config.learning!r} writes gradients itself, of whole weights and whole "
                "batches: use strategy ddp, and accumulate 1"
            )
        if teacher is not None:
            teacher = self.fabric.to_device(teacher.to(next(net.parameters()).dtype).eval())
        self.terms = Terms(net, config, teacher, objective)
        if self.sharded:  # optimisers want the sharded parameters
            net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # all that FSDP2 takes
            self.module = self.fabric.setup_module(net)
            self.optimizer = self.fabric.setup_optimizers(make_optimizer(net, config))
        else:
            self.module, self.optimizer = self.fabric.setup(net, make_optimizer(net, config))
        self.net = net
        average = get_ema_multi_avg_fn(config.ema)
        self.ema = AveragedModel(net, multi_avg_fn=average) if config.ema else None
        self.health = Health(net, config.watch)
        self.course = Course()
        self.history: list[Record] = []
        self._checked = False  # that neurons see [T, B, ...]
        self._best: Tensors = {}  # without a folder
        self._sums = [0.0, 0.0, 0.0]  # loss, right answers, samples of this rank since they were added up

    def _feed(self, split: Split, shuffle: bool = False) -> Feed:
        rank, world = self.fabric.global_rank, self.fabric.world_size
        size, seed, workers = self.config.batch_size, self.config.seed, self.config.workers
        return Feed(split, size, shuffle=shuffle, seed=seed, workers=workers, rank=rank, world=world)

    # -- learning ---------------------------------------------------------------------------------

    def run(self, stop: StopSignal, reporter: Reporter | None, loggers: Sequence[Guarded]) -> None:
        """Train to the end.

        Raises:
            Interrupted: a signal came; the state is saved.
            TrainingFailed: the loss is NaN or infinite.
        """
        course, epochs = self.course, self.config.epochs
        while True:
            if self._all_stop(stop):
                self.save()
                assert stop.caught
                raise Interrupted(
                    stop.caught,
                    f"after {course.epoch} of {epochs} epochs and {course.batch} of {len(self.feed)} batches",
                )
            if course.epoch >= epochs or self._waited_enough():
                return
            self.epoch(stop, reporter)
            if course.batch >= len(self.feed):  # of a changed batch_size, more
                self._close_epoch(reporter, loggers)

    def epoch(self, stop: StopSignal, reporter: Reporter | None) -> None:
        """Train from the course's batch to the epoch's end, or to a signal."""
        course, config = self.course, self.config
        started = time.perf_counter()
        follow(self.net, course.epoch / config.epochs)
        self.net.train()
        for x, y, axis, mine, size in self.feed.batches(course.epoch, course.batch):
            with self.health.batch(course.batch):
                self.step(x, y, axis, mine, size)
            course.batch += 1
            course.step += 1
            now = time.perf_counter()
            course.seconds, started = course.seconds + now - started, now
            if reporter is not None:
                reporter.batch(self._so_far())
            if config.checkpoint_steps and course.batch % config.checkpoint_steps == 0:
                self.save()
            if self._all_stop(stop):
                break

    def step(self, x: Tensor, y: Tensor, axis: int, mine: int, size: int) -> None:
        """Learn from a batch: `mine` samples of this rank, of `size` over all."""
        config, course, fabric = self.config, self.course, self.fabric
        self._set_rate(course.batch)
        # all that is drawn depends on these numbers alone, so a run that goes on draws the same
        generator = draw_from(config.seed, course.epoch, course.batch, fabric.global_rank)
        x, y = self._here(x), fabric.to_device(y)
        x, target = augmented(x, y, axis, self.classes, config, generator, course.epoch)
        x = self._in_time(x, axis)
        axis = axis or int(self.rule.needs_time)
        parts = min(config.accumulate, y.shape[0])
        pieces = zip(*(t.tensor_split(parts, a) for t, a in ((x, axis), (target, 0), (y, 0))), strict=True)
        many = fabric.world_size > 1 and not self.rule.local
        for number, (x, target, y) in enumerate(pieces):
            # of means over pieces and ranks, weighted like this, the mean is that over all samples
            share = len(y) * fabric.world_size / size if mine else 0.0
            last = number == parts - 1
            with fabric.no_backward_sync(self.module) if many and not last else nullcontext():
                self._learn(x, target, y, share)
        self._update()

    def _set_rate(self, batch: int) -> None:
        """Set the learning rate of a batch of the epoch that is under way."""
        done = (self.course.epoch + batch / len(self.feed)) / self.config.epochs
        set_rate(self.optimizer.optimizer, self.config, done)

    def _learn(self, x: Tensor, target: Tensor, y: Tensor, share: float) -> None:
        """Add the gradients of some samples."""
        hands = Hands(
            backward=lambda loss: self.fabric.backward(loss * share),
            update=self._update,
        )
        net = self.net if self.rule.local else self.module
        checked = nullcontext() if self._checked else neurons_see_time(self.net, len(y))
        with self.fabric.autocast(), checked, self.terms.of(x) as objective:
            outcome = self.rule(net, x, target, objective, hands)
        self._checked = True
        value = outcome.loss.item()
        if not math.isfinite(value):
            where = f"at epoch {self.course.epoch + 1}, batch {self.course.batch + 1}"
            raise self._diverged(f"the loss is {value} {where}")
        count = len(y) if share else 0
        self._sums[0] += value * count
        self._sums[2] += count
        self._sums[1] += self._right(outcome.outputs, y) if count else 0

    def _diverged(self, what: str) -> TrainingFailed:
        kept = "nothing was kept"
        if self.folder is not None and self.folder.checkpoints():
            kept = f"{self.folder.path} holds the last checkpoint, of finite weights"
        return TrainingFailed(
            f"{what} (lr {self.config.lr:g}); train again with a smaller --lr, or with --clip-norm 1; {kept}"
        )

    def _update(self) -> None:
        """Take a step down the gradient, and clear it."""
        if self.rule.local:
            average_gradients(self.fabric, self.net.parameters())
        elif self.sharded:
            average_gradients(self.fabric, unsharded(self.net))
        scaler, clip = getattr(self.fabric.strategy.precision, "scaler", None), self.config.clip_norm
        self.health.gradients(scaler.get_scale() if scaler is not None else 1.0)
        if clip is not None:
            self.fabric.clip_gradients(self.module, self.optimizer, max_norm=clip, error_if_nonfinite=False)
        self.optimizer.step()
        settle(self.net)
        self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update_parameters(self.net)

    # -- measuring --------------------------------------------------------------------------------

    def measure(self, feed: Feed) -> Record:
        """Return loss and accuracy on a split, or scores, of the weights that would be kept."""
        net = self._kept().eval()
        self._share_buffers(net)
        sums, scores = [0.0, 0.0, 0.0], Scores()
        with torch.inference_mode(), self.fabric.autocast():
            for x, y, axis, mine, _ in feed.batches():
                x, y = self._here(x), self.fabric.to_device(y)
                outputs = net(self._in_time(x, axis))
                if mine:
                    sums[0] += float(self.terms.loss(outputs, y)) * mine
                    sums[1] += self._right(outputs, y)
                    sums[2] += mine
                if self.config.loss == "mse":
                    scores.add(outputs, y, counted=mine > 0)
        loss, correct, seen = total(self.fabric, sums)
        scores = Scores(total(self.fabric, scores.sums))
        return {"loss": loss / seen, "accuracy": correct / seen, **scores.found()}

    def _here(self, x: Tensor) -> Tensor:
        """Return samples on the device, in the precision that is asked for."""
        if x.dtype == torch.uint8:
            raise ValueError(
                "samples are uint8, and networks compute with floating-point numbers: give the data a "
                "transform, as sl.data.load(name, transform=lambda x: x / 255), or take sl.data.load_data"
            )
        x = self.fabric.to_device(x)
        return x.double() if x.is_floating_point() and self.config.precision == "fp64" else x

    def _in_time(self, x: Tensor, axis: int) -> Tensor:
        """Return `[T, B, ...]` of static samples, if the rule's networks take nothing else."""
        return x.expand(self.config.T, *x.shape) if self.rule.needs_time and axis == 0 else x

    def _right(self, outputs: Tensor, y: Tensor) -> float:
        """Return how many samples are right, or their steps, by share; nan if labels are no classes."""
        each = 2 if self.config.loss == "per-step" else 1
        if y.ndim != each or y.is_floating_point():
            return math.nan
        right = (scores_of(outputs, self.config).argmax(1) == y.flatten()).sum()
        return int(right) * len(y) / y.numel()

    def result(self) -> Result:
        """Measure what is kept on the test set."""
        if self.config.select == "best" and self.course.best_epoch:
            best = self._best
            if self.folder is not None:
                best, _ = self.folder.read_tensors("best.safetensors", "choose select=last")
            restore(
                {f"model/{n}": v for n, v in best.items()}, {}, self._kept(), self.optimizer.optimizer, {}
            )
        with FiringRates(self._kept()) as rates:
            found = self.measure(self._feed(self.test_split))
        seconds = [line["seconds"] for line in self.history]
        mean = sum(seconds) / len(seconds) if seconds else math.nan
        scores = {name: value for name, value in found.items() if name not in ("accuracy", "loss")}
        return Result(found["accuracy"], found["loss"], rates.layers(), len(self.history), mean, scores)

    def _close_epoch(self, reporter: Reporter | None, loggers: Sequence[Guarded]) -> None:
        """Measure, keep what is to be kept, and tell."""
        course, config = self.course, self.config
        self._check_weights()
        self._add_up()
        record = {**course.metrics(), "lr": self.optimizer.param_groups[-1]["lr"], **self.health.report()}
        if (course.epoch + 1) % config.evaluate_every == 0 or course.epoch + 1 == config.epochs:
            record[self.name] = found = self.measure(self.measured)
            good = -found["loss"] if math.isnan(found["accuracy"]) else found["accuracy"]
            if self.name == "validation" and good > course.best:
                course.best, course.best_epoch = good, course.epoch + 1
                self._write_model("best.safetensors")
                if self.folder is None:
                    self._best = copy.deepcopy(self._kept().state_dict())
        course.next_epoch()
        self.health.next_epoch()
        self.history.append(record)
        if reporter is not None:
            reporter.epoch(course.epoch, record)
        if self.lead:
            if self.folder is not None:
                self.folder.write_metrics(self.history)
            for logger in loggers:
                logger.log(record, course.epoch)
        self.save()
        if self.on_epoch is not None and self.lead:
            self.on_epoch(record)

    def _waited_enough(self) -> bool:
        patience = self.config.patience
        best = self.course.best_epoch  # 0 before it was measured
        return patience is not None and 0 < best <= self.course.epoch - patience

    def _so_far(self) -> Record:
        loss, correct, seen = self._sums
        course = self.course
        return {
            **course.metrics(),
            "loss": (course.loss + loss) / max(course.seen + seen, 1),
            "accuracy": (course.correct + correct) / max(course.seen + seen, 1),
            "firing_rate": self.health.firing_rate(),
            "samples_per_second": (course.seen + seen) * self.fabric.world_size / max(course.seconds, 1e-9),
        }

    def _add_up(self) -> None:
        """Add the sums of all ranks to the course."""
        loss, correct, seen = total(self.fabric, self._sums)
        self._sums = [0.0, 0.0, 0.0]
        self.course.loss += loss
        self.course.correct += correct
        self.course.seen += seen

    def _all_stop(self, stop: StopSignal) -> bool:
        """Tell whether a signal came, to any rank."""
        if self.fabric.world_size > 1:
            stop.agree(highest(self.fabric, int(stop.caught or 0)))
        return stop.caught is not None

    # -- keeping ----------------------------------------------------------------------------------

    @property
    def classes(self) -> int:
        """How many classes the data know of; 0 if they do not say."""
        return len(self.train_split.classes) if isinstance(self.train_split, HasClasses) else 0

    def _kept(self) -> nn.Module:
        """Return the network that is measured and kept: the moving average, if there is one."""
        return self.net if self.ema is None else self.ema.module

    def _more(self) -> dict[str, nn.Module]:
        return {"rule": self.rule, **({} if self.ema is None else {"ema": self.ema})}

    def _share_buffers(self, net: nn.Module) -> None:
        """Give all ranks the statistics of rank 0, which are those that are kept."""
        if self.fabric.world_size > 1:
            for buffer in net.buffers():
                buffer.copy_(self.fabric.broadcast(buffer))

    def _check_weights(self) -> None:
        """Refuse to keep weights that no run can go on from: a finite loss may have had endless gradients."""
        if not is_finite(self.net):
            raise self._diverged(f"weights are NaN or infinite after {self.course.step} updates")

    def save(self) -> None:
        """Write a checkpoint and the weights; all ranks call it.

        Raises:
            TrainingFailed: the weights are NaN or infinite; what was kept before stays.
        """
        if self.folder is None:
            return
        self._check_weights()
        self._add_up()
        tensors, plain = gather(self.net, self.optimizer.optimizer, self._more())
        watched, health = self.health.state()
        tensors |= {f"health/{name}": value for name, value in watched.items()}
        state = {"course": asdict(self.course), "optimizer": plain, "health": health}
        state["scaler"] = self.fabric.strategy.precision.state_dict()
        if self.lead:
            self.folder.write_checkpoint(self.course.step, tensors, state, self.config.keep_last)
        self._write_model("model.safetensors")

    def finish(self, result: Result) -> None:
        """Write the result and the weights that it is of, and leave them in the network."""
        self._write_model("model.safetensors")
        if self.folder is not None and self.lead:
            self.folder.write_json("result.json", asdict(result))
        if self.ema is not None:
            self.net.load_state_dict(copy.deepcopy(self.ema.module.state_dict()))

    def _write_model(self, file: str) -> None:
        if self.folder is not None:
            tensors = gather_model(self._kept())
            if self.lead:
                self.folder.write_tensors(file, tensors, {"epoch": self.course.epoch})

    def load(self) -> None:
        """Go on from the folder's last checkpoint.

        Raises:
            RunError: there is none, or it does not fit.
        """
        assert self.folder is not None
        file = next(reversed(self.folder.checkpoints()), "checkpoints/step-*.safetensors")
        remedy = "remove it to go on from the one before, if there is one, or train into a new folder"
        tensors, state = self.folder.read_tensors(file, remedy)
        try:
            restore(tensors, state["optimizer"], self.net, self.optimizer.optimizer, self._more())
            self.course = Course(**state["course"])
            if self.course.batch:  # the epoch may end with no other, and tells of it
                self._set_rate(self.course.batch - 1)
            self.health.load_state(part(tensors, "health"), state["health"])
            self.fabric.strategy.precision.load_state_dict(state["scaler"])
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            why = " ".join(str(error).split())
            raise RunError(f"{self.folder.path / file} does not fit config.yaml ({why}); {remedy}") from error
        self.history = self.folder.metrics()[: self.course.epoch]


def train_here(
    net: nn.Module,
    data: Data,
    config: Recipe,
    folder: RunFolder | None = None,
    *,
    resume: bool = False,
    objective: Objective | None = None,
    teacher: nn.Module | None = None,
    on_epoch: Callable[[Record], None] | None = None,
    quiet: bool = False,
) -> Result:
    """Train in this process, which may be one of several; see `spikeloom.training.train`."""
    with ExitStack() as stack:
        if resume and folder is not None:
            folder.config()  # refused if it is no run
        stop = stack.enter_context(StopSignal(patient=launched()))
        stack.enter_context(workers_watched(config.workers))
        training = Training(
            net, data, config, folder, objective=objective, teacher=teacher, on_epoch=on_epoch
        )
        if folder is not None and training.lead:
            stack.enter_context(folder.locked())
        notes = []
        if resume and folder is not None and folder.has_begun():
            training.load()
            if training.lead and folder.takes(config, training.course.step):
                notes = [
                    f"the configuration is not the one that the run went by so far: from update "
                    f"{training.course.step} on it goes by the changed one, of hash {config.hash}"
                ]
        else:
            notes = ["no state had been kept: the run begins anew"] if resume else []
            training.save()
        reporter, loggers, result = None, [], None
        if training.lead:
            course, batches = training.course, len(training.feed)
            first = course.epoch * batches + course.batch
            reporter = stack.enter_context(Reporter(config.epochs, batches, first, quiet))
            loggers = [make_logger(name, folder.path if folder else None) for name in config.trackers]
            for note in notes:
                reporter.note(note)
        try:
            for logger in loggers:
                logger.start(folder.path.name if folder else "run", asdict(config))
            training.run(stop, reporter, loggers)
            result = training.result()
        finally:
            for logger in loggers:
                logger.finish(None if result is None else asdict(result))
        training.finish(result)
        return result
