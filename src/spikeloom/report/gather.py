"""From run folders to all that the page has, as plain JSON: what they tell, and what is measured again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import __version__
from ..data import DataError, Dataset
from ..training import READOUTS, RunError, load_net, load_samples
from ..viz.axes import lot
from . import behaviour, inside, pictures
from .operations import operations
from .record import Json, Record, flat, names, plain, read

_PROFILED = 32  # samples that operations are counted on
# what a damaged or foreign run can raise; what is wrong in the code itself is not in it
_EXPECTED = (RunError, DataError, ImportError, OSError, ValueError, RuntimeError, TypeError, KeyError)


@dataclass(frozen=True)
class Choice:
    """What to look at.

    Attributes:
        samples: test samples whose spikes are shown; None for the easiest, the one in the middle and the
            hardest of the first run.
        hardest: how many of the hardest samples are shown.
        most: test samples that are measured; of more, so many drawn by lot, evenly.
        title: of the page; None for the runs' names.

    Raises:
        ValueError: a number out of its range.
    """

    samples: tuple[int, ...] | None = None
    hardest: int = 12
    most: int = 10_000
    title: str | None = None

    def __post_init__(self) -> None:
        for name, value, least, top in (("hardest", self.hardest, 0, 30), ("most", self.most, 1, 10**7)):
            if not least <= value <= top:
                raise ValueError(f"report: {name} = {value}; a number from {least} to {top} is needed")
        if self.samples is not None and (len(self.samples) > 6 or min(self.samples, default=0) < 0):
            raise ValueError(f"report: samples = {self.samples}; at most 6 numbers, none below 0, are needed")


def gather(
    folders: Sequence[Path | str],
    choice: Choice | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Json:
    """Return all that the page of some runs has, as JSON.

    A run that is unfinished or damaged gives what is left of it; its `missing` says what is not there.

    Arguments:
        folders: run folders.
        choice: what to look at; the defaults if None.
        tell: called with what is being done, for the impatient.

    Raises:
        ValueError: no folders, or one twice.
        RunError: a path that holds no run.
    """
    choice = choice or Choice()
    paths = [Path(folder) for folder in folders]
    if not paths or len({path.resolve() for path in paths}) < len(paths):
        raise ValueError(
            f"report: {len(paths)} folders, {[str(p) for p in paths]}; each of them once is needed"
        )
    records = [read(path, name) for path, name in zip(paths, names(paths), strict=True)]
    measured = _Measured(choice, tell)
    runs = [{**record.told(), **measured.run(record)} for record in records]
    return {
        "title": choice.title or ", ".join(run["name"] for run in runs),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "runs": runs,
        "differences": differences(records),
        "pictures": measured.pictures,
        "chosen": ["Easiest", "Middle", "Hardest"]
        if choice.samples is None
        else list(map(str, choice.samples)),
        "notes": _notes(records),
    }


class _Measured:
    """What is measured on runs again; samples and pictures are shared by those of the same data."""

    def __init__(self, choice: Choice, tell: Callable[[str], None]) -> None:
        self.choice, self.tell = choice, tell
        self.pictures: Json = {}
        self._data: tuple[str, Dataset] | None = None  # of the last run: one is held at a time
        self._samples: dict[str, list[int]] = {}

    def run(self, record: Record) -> Json:
        """Measure a run; what fails is told in `record.missing`, and the rest goes on."""
        made: Json = {"behaviour": None, "hardest": [], "inside": [], "operations": None, "parameters": None}
        if record.recipe is None:
            return made
        try:
            self.tell(f"{record.name}: loading")
            net = load_net(record.run).eval()
            data = self._load(record)
        except _EXPECTED as error:
            record.missing.append(f"The network was not measured: {error}")
            return made
        made["parameters"] = sum(p.numel() for p in net.parameters())
        key = sample_key(record)
        place = next((p.device for p in net.parameters()), torch.device("cpu"))

        def batches(some: Tensor) -> Tensor:
            return data.inputs(data.test.pixels[some]).to(place)

        def measure() -> None:
            self.tell(f"{record.name}: {min(self.choice.most, len(data.test)):,} test samples")
            found = self._behave(record, net, data, batches)
            made["behaviour"] = behaviour.told(found, data.classes)
            made["behaviour"]["of"] = len(data.test)
            _compare(record, made["behaviour"])
            made["hardest"] = [
                self._answer(found, place, key, data) for place in found.hardest(self.choice.hardest)
            ]
            self.tell(f"{record.name}: spikes and membranes")
            made["inside"] = self._inside(record, net, found, data, batches)

        def count() -> None:
            self.tell(f"{record.name}: operations")
            made["operations"] = operations(net, batches(torch.arange(min(_PROFILED, len(data.test)))))

        for what, act in (("Answers and spikes", measure), ("Operations", count)):
            try:
                act()
            except _EXPECTED as error:
                record.missing.append(f"{what} were not measured: {error}")
        return made

    def _load(self, record: Record) -> Dataset:
        key = sample_key(record)
        if self._data is None or self._data[0] != key:
            assert record.recipe is not None
            self._data = None
            self._data = key, load_samples(record.recipe)
        return self._data[1]

    def _behave(
        self, record: Record, net: nn.Module, data: Dataset, batches: Callable[[Tensor], Tensor]
    ) -> behaviour.Behaviour:
        assert record.recipe is not None
        chosen = lot(len(data.test), self.choice.most)
        which = torch.arange(len(data.test)) if chosen is None else torch.from_numpy(chosen)
        return behaviour.behave(
            net, batches, data.test.labels, which, readout_of(record), record.recipe.batch_size
        )

    def _answer(
        self, found: behaviour.Behaviour, at: int, key: str, data: Dataset, strip: bool = False
    ) -> Json:
        """Return what a network answered to the sample at a place in `found.which`, and keep its picture."""
        index = int(found.which[at])
        shares = torch.softmax(found.scores[at].double(), 0)
        label, answer = int(found.labels[at]), int(shares.argmax())
        picture = f"{key}|{index}"
        held = self.pictures.get(picture)
        if held is None or (strip and not held["strip"]):
            self.pictures[picture] = pictures.picture(data.test.pixels[index], data.white, strip)
        return plain(
            {
                "index": index,
                "label": str(data.classes[label]),
                "answer": str(data.classes[answer]),
                "right": label == answer,
                "share": float(shares[label]),
                "loss": float(found.losses[at]),
                "picture": picture,
            }
        )

    def _inside(
        self,
        record: Record,
        net: nn.Module,
        found: behaviour.Behaviour,
        data: Dataset,
        batches: Callable[[Tensor], Tensor],
    ) -> list[Json]:
        """Return what goes on inside for the chosen samples: the same ones for all runs of the same data."""
        key = sample_key(record)
        assert record.recipe is not None
        name = record.recipe.data  # however its samples are cut, they have the same numbers
        if name not in self._samples:
            order = found.which[torch.argsort(found.losses, stable=True)].tolist()
            picked = [order[0], order[len(order) // 2], order[-1]]
            self._samples[name] = list(
                dict.fromkeys(picked if self.choice.samples is None else self.choice.samples)
            )
        wanted = self._samples[name]
        if wanted and max(wanted) >= len(data.test):
            raise ValueError(f"sample {max(wanted)} is not among the {len(data.test)} of the test set")
        if not wanted:
            return []
        some = torch.tensor(wanted)
        missing = torch.tensor([i for i in wanted if i not in set(found.which.tolist())], dtype=torch.int64)
        if len(missing):  # asked for, but not drawn: shown to the network now
            more = behaviour.behave(net, batches, data.test.labels, missing, readout_of(record), len(missing))
            found = behaviour.Behaviour(
                torch.cat([found.which, missing]),
                torch.cat([found.labels, more.labels]),
                torch.cat([found.scores, more.scores]),
                {},
            )
        places = {int(index): at for at, index in enumerate(found.which)}
        looks = inside.look(net, batches(some)) or [[] for _ in wanted]
        return [
            {**self._answer(found, places[index], key, data, strip=True), "layers": layers}
            for index, layers in zip(wanted, looks, strict=True)
        ]


def readout_of(record: Record) -> Callable[[Tensor], Tensor]:
    """Return how the run's scores of each step become scores."""
    return READOUTS[getattr(record.recipe, "readout", "mean")]


def _compare(record: Record, told: Json) -> None:
    """Say so if the network is not the one that was measured at the run's end."""
    said = (record.result or {}).get("test_accuracy")
    if isinstance(said, float) and told["samples"] == told["of"] and abs(said - told["accuracy"]) > 1e-6:
        record.missing.append(
            f"result.json says a test accuracy of {said:.4f}; measured for this page it is "
            f"{told['accuracy']:.4f}: the weights, the data or the arithmetic are others."
        )


def sample_key(record: Record) -> str:
    """Return a text that is equal for runs that are shown the same samples."""
    recipe = record.recipe
    assert recipe is not None
    cut = (recipe.T, recipe.frames, getattr(recipe, "data_options", None))
    return f"{recipe.data} {cut}"


def differences(records: Sequence[Record]) -> list[Json]:
    """Return the settings in which runs differ: `[{"field", "values": [of each run, or None]}]`."""
    configs = [flat(record.told()["config"]) for record in records]
    fields = dict.fromkeys(field for config in configs for field in config)
    rows = [{"field": field, "values": [config.get(field) for config in configs]} for field in fields]
    return [row for row in rows if any(value != row["values"][0] for value in row["values"])]


def _notes(records: Sequence[Record]) -> list[str]:
    """Return what a reader of a comparison must know."""
    sets = list(
        dict.fromkeys(record.recipe.data for record in records if record.recipe and record.recipe.data)
    )
    if len(sets) < 2:
        return []
    return [
        f"These runs are of different data ({', '.join(sets)}): losses and accuracies are drawn apart, "
        "and only rates, operations and times are compared."
    ]
