"""The training loop, against loops that are written out."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

import spikeloom as sl
from spikeloom.data import Adapted, Dataset, Images, Random, Transformed
from spikeloom.training import Config, Recipe, RunError, RunFolder, TrainingFailed, train


class Net(nn.Module):
    """A user's own network: its neurons see an image for three steps, or each step of a sequence."""

    def __init__(self, readout: bool = True) -> None:
        super().__init__()
        self.first, self.neuron = nn.Linear(64, 24), sl.LIF(tau=2.0)
        self.second, self.readout = nn.Linear(24, 10), readout
        nn.init.normal_(self.first.weight, std=0.4)  # the neurons fire from the start

    def forward(self, x: Tensor) -> Tensor:
        x = x.expand(3, *x.shape) if x.ndim == 4 else x
        scores: Tensor = self.second(self.neuron(self.first(x.flatten(2))))
        return scores.mean(0) if self.readout else scores


def network(readout: bool = True, seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net(readout)


def scans(count: int = 300) -> tuple[Tensor, Tensor]:
    """Return scans of digits `[N, 1, 8, 8]` in [0, 1], and their labels."""
    data = load_digits()
    x = torch.tensor(data.data[:count]).float().reshape(-1, 1, 8, 8) / 16
    return x, torch.tensor(data.target[:count])


X, Y = scans()
DATA = TensorDataset(X[:200], Y[:200]), TensorDataset(X[200:], Y[200:])
CONFIG = Config(epochs=2, batch_size=48, lr=5e-3, weight_decay=0.1, seed=3, device="cpu")


def order(size: int, seed: int, epoch: int) -> np.ndarray[Any, Any]:
    """Return the order of samples that the loader documents for a seed and an epoch."""
    found = np.arange(size)
    np.random.default_rng([0x5EED, seed, epoch]).shuffle(found)
    return found


def naive(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    config: Config,
    loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
    after: Callable[[nn.Module], None] = lambda net: None,
    time: bool = False,
) -> None:
    """Train as anyone would write it: AdamW, half a cosine, shuffled batches."""
    weights = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.lr)
    batches = math.ceil(len(x) / config.batch_size)
    net.train()
    for epoch in range(config.epochs):
        for i, some in enumerate(np.array_split(order(len(x), config.seed, epoch), range(
            config.batch_size, len(x), config.batch_size
        ))):  # fmt: skip
            done = (epoch + i / batches) / config.epochs
            for group in optimizer.param_groups:
                group["lr"] = config.lr * ((1 + math.cos(math.pi * done)) / 2)
            optimizer.zero_grad()
            inputs = x[some].transpose(0, 1) if time else x[some]
            loss(net(inputs), y[some]).backward()
            if config.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_([*weights, *others], config.clip_norm)
            optimizer.step()
            after(net)


def assert_equal(net: nn.Module, other: nn.Module | dict[str, Tensor]) -> None:
    expected = other.state_dict() if isinstance(other, nn.Module) else other
    assert net.state_dict().keys() == expected.keys()
    for name, value in net.state_dict().items():
        assert torch.equal(value, expected[name]), name


def accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return int((net.eval()(x).argmax(1) == y).sum()) / len(y)


# -- the same as a loop by hand -------------------------------------------------------------------


@pytest.mark.parametrize("kept", [False, True], ids=["no folder", "folder"])
def test_weights_are_those_of_a_loop_by_hand(tmp_path: Path, kept: bool) -> None:
    ours, theirs = network(), network()
    start = copy.deepcopy(ours.state_dict())
    result = train(ours, DATA, CONFIG, tmp_path / "run" if kept else None)
    naive(theirs, X[:200], Y[:200], CONFIG)
    assert_equal(ours, theirs)
    assert not torch.equal(ours.first.weight, start["first.weight"])
    assert result.test_accuracy == accuracy(theirs, X[200:], Y[200:])
    with torch.no_grad():
        losses = functional.cross_entropy(theirs(X[200:]), Y[200:], reduction="none")
    assert result.test_loss == pytest.approx(float(losses.double().mean()), rel=1e-6)
    assert result.epochs == 2
    if kept:
        run = RunFolder(tmp_path / "run")
        assert_equal(ours, run.read_tensors("model.safetensors", "")[0])
        assert run.read_json("result.json")["test_accuracy"] == result.test_accuracy


def test_a_data_set_in_memory_is_the_same_data() -> None:
    pixels, labels = (X * 16).to(torch.uint8), Y
    data = Dataset(
        "mine",
        Images(pixels[:200], labels[:200]),
        Images(pixels[200:], labels[200:]),
        tuple("0123456789"),
        16.0,
    )
    ours, theirs = network(), network()
    train(ours, data, CONFIG)
    train(theirs, DATA, CONFIG)
    assert_equal(ours, theirs)


def test_samples_with_a_random_transform_are_those_that_the_seed_draws() -> None:
    """A sample of an epoch draws from (seed, epoch, number, 0): here a factor of its brightness."""

    def dimmed(x: Tensor, rng: np.random.Generator) -> Tensor:
        return x * float(rng.random())

    def samples(some: TensorDataset) -> Transformed:
        return Transformed(Adapted(some, "scans"), Random(dimmed))

    config = dataclasses.replace(CONFIG, epochs=1)
    factors = [np.random.default_rng([config.seed, 0, i, 0]).random() for i in range(200)]
    ours, theirs = network(), network()
    train(ours, (samples(DATA[0]), samples(DATA[1])), config)
    naive(theirs, torch.stack([x * f for x, f in zip(X[:200], factors, strict=True)]), Y[:200], config)
    assert_equal(ours, theirs)


def test_sequences_become_batches_with_time_first() -> None:
    x = X[:, None] * torch.rand(300, 5, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    ours, theirs = network(), network()
    train(ours, (TensorDataset(x[:200], Y[:200]), TensorDataset(x[200:], Y[200:])), CONFIG)
    naive(theirs, x[:200], Y[:200], CONFIG, time=True)
    assert_equal(ours, theirs)


def test_a_regression_by_an_objective_of_ones_own() -> None:
    target = X.mean((1, 2, 3))[:, None] * torch.arange(10)
    split = TensorDataset(X[:200], target[:200]), TensorDataset(X[200:], target[200:])
    ours, theirs = network(), network()
    result = train(ours, split, CONFIG, objective=functional.mse_loss)
    naive(theirs, X[:200], target[:200], CONFIG, functional.mse_loss)
    assert_equal(ours, theirs)
    with torch.no_grad():
        expected = functional.mse_loss(theirs.eval()(X[200:]), target[200:])
    assert result.test_loss == pytest.approx(float(expected), rel=1e-6)


def test_a_regression_has_no_accuracy() -> None:
    target = X.mean((1, 2, 3))[:, None] * torch.arange(10)
    split = TensorDataset(X[:64], target[:64]), TensorDataset(X[200:], target[200:])
    result = train(network(), split, dataclasses.replace(CONFIG, epochs=1), objective=functional.mse_loss)
    assert math.isnan(result.test_accuracy)


def test_a_regression_is_chosen_by_its_loss(tmp_path: Path) -> None:
    target = X.mean((1, 2, 3))[:, None] * torch.arange(10)
    split = TensorDataset(X[:200], target[:200]), TensorDataset(X[200:], target[200:])
    config = dataclasses.replace(CONFIG, epochs=4, validation=0.25, select="best")
    records: list[dict[str, Any]] = []
    run = tmp_path / "run"
    train(network(), split, config, run, objective=functional.mse_loss, on_epoch=records.append)
    found = [record["validation"]["loss"] for record in records]
    assert found.index(min(found)) > 0
    _, state = RunFolder(run).read_tensors("best.safetensors", "")
    assert state["epoch"] == found.index(min(found))


def test_double_precision_is_a_loop_in_double_precision() -> None:
    config = dataclasses.replace(CONFIG, precision="fp64")
    ours, theirs = network(), network().double()
    train(ours, DATA, config)
    naive(theirs, X[:200].double(), Y[:200], config)
    assert ours.first.weight.dtype == torch.float64
    assert_equal(ours, theirs)


def test_bf16_keeps_weights_in_fp32_and_learns() -> None:
    config = dataclasses.replace(CONFIG, precision="bf16", epochs=8, lr=2e-2)
    ours, theirs = network(), network()
    result = train(ours, DATA, config)
    naive(theirs, X[:200], Y[:200], config)
    assert ours.first.weight.dtype == torch.float32
    assert result.test_accuracy == pytest.approx(accuracy(theirs, X[200:], Y[200:]), abs=0.1)
    assert result.test_accuracy > 0.6
    assert not torch.equal(ours.first.weight, theirs.first.weight)  # it did compute in bf16


@pytest.mark.parametrize("clip", [1e-3, 1e-2, 1e6])
def test_clipped_as_pytorch_clips(clip: float) -> None:
    config = dataclasses.replace(CONFIG, clip_norm=clip)
    ours, theirs, free = network(), network(), network()
    train(ours, DATA, config)
    naive(theirs, X[:200], Y[:200], config)
    naive(free, X[:200], Y[:200], CONFIG)
    assert_equal(ours, theirs)
    assert torch.equal(ours.first.weight, free.first.weight) == (clip == 1e6)


def test_the_moving_average_is_one_kept_by_hand(tmp_path: Path) -> None:
    """The average starts as the weights after the first update (as `AveragedModel` has it)."""
    config = dataclasses.replace(CONFIG, ema=0.75)
    ours, theirs = network(), network()
    average: dict[str, Tensor] = {}

    def keep(net: nn.Module) -> None:
        for name, p in net.named_parameters():
            old = average.get(name)
            average[name] = p.detach().clone() if old is None else 0.75 * old + 0.25 * p.detach()

    result = train(ours, DATA, config, tmp_path / "run")
    naive(theirs, X[:200], Y[:200], config, after=keep)
    for name, p in ours.named_parameters():
        torch.testing.assert_close(p.detach(), average[name], rtol=1e-5, atol=1e-7, msg=name)
        assert not torch.equal(p, theirs.get_parameter(name))
    assert_equal(ours, RunFolder(tmp_path / "run").read_tensors("model.safetensors", "")[0])
    assert result.test_accuracy == accuracy(ours, X[200:], Y[200:])


def test_parts_of_a_batch_give_the_gradient_of_the_whole() -> None:
    """200 samples in batches of 48 leave a last one of 8, in parts of 3, 3 and 2."""
    config = dataclasses.replace(CONFIG, precision="fp64", epochs=3)
    whole, parts, more = network(), network(), network()
    train(whole, DATA, config)
    train(parts, DATA, dataclasses.replace(config, accumulate=3))
    train(more, DATA, dataclasses.replace(config, accumulate=100))  # one by one
    for name, p in whole.named_parameters():
        torch.testing.assert_close(parts.get_parameter(name), p, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(more.get_parameter(name), p, rtol=1e-12, atol=1e-12)


def test_label_smoothing_is_pytorchs() -> None:
    ours, theirs = network(), network()
    train(ours, DATA, dataclasses.replace(CONFIG, label_smoothing=0.2))
    naive(theirs, X[:200], Y[:200], CONFIG, nn.CrossEntropyLoss(label_smoothing=0.2))
    assert_equal(ours, theirs)


def test_workers_change_nothing() -> None:
    ours, theirs = network(), network()
    config = dataclasses.replace(CONFIG, epochs=1)
    train(ours, DATA, dataclasses.replace(config, workers=1))
    train(theirs, DATA, config)
    assert_equal(ours, theirs)


def test_the_seed_decides_and_nothing_else() -> None:
    class Dropped(Net):
        """Draws from the global generator."""

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(functional.dropout(x, 0.3, self.training))

    def run(seed: int, stir: int) -> nn.Module:
        torch.manual_seed(0)
        net = Dropped()
        torch.manual_seed(stir)
        train(net, DATA, dataclasses.replace(CONFIG, seed=seed, epochs=1))
        return net

    first, again, other = run(1, 5), run(1, 6), run(2, 5)
    assert_equal(first, again)
    assert not torch.equal(first.get_parameter("first.weight"), other.get_parameter("first.weight"))


# -- measuring and choosing -----------------------------------------------------------------------


class Guarded(TensorDataset):
    """A test split that may not be read yet."""

    open = False

    def __getitem__(self, index: int) -> Any:
        assert self.open, "the test set was read before the end"
        return super().__getitem__(index)


def test_choosing_leaves_the_test_set_alone() -> None:
    guarded = Guarded(X[200:], Y[200:])

    def last(record: dict[str, Any]) -> None:
        assert "test" not in record
        assert set(record["validation"]) == {"loss", "accuracy"}
        guarded.open = record["epoch"] == 3

    config = dataclasses.replace(CONFIG, epochs=3, validation=0.25, select="last", patience=3)
    result = train(network(), (DATA[0], guarded), config, on_epoch=last)
    assert result.test_accuracy > 0


def test_the_best_weights_are_those_of_the_best_epoch(tmp_path: Path) -> None:
    """The rate grows too large at the end, so that the best epoch is not the last."""
    config = dataclasses.replace(
        CONFIG, epochs=6, validation=0.25, select="best", optimizer="sgd", momentum=0.0, lr=60.0,
        schedule="constant", warmup_epochs=6, weight_decay=0.0,
    )  # fmt: skip
    weights: list[dict[str, Tensor]] = []
    records: list[dict[str, Any]] = []
    net = network()

    def keep(record: dict[str, Any]) -> None:
        weights.append(copy.deepcopy(net.state_dict()))
        records.append(record)

    result = train(net, DATA, config, tmp_path / "run", on_epoch=keep)
    found = [record["validation"]["accuracy"] for record in records]
    best = found.index(max(found))
    assert best < 5
    assert_equal(net, weights[best])
    run = RunFolder(tmp_path / "run")
    for file in ("best.safetensors", "model.safetensors"):
        assert_equal(net, run.read_tensors(file, "")[0])
    assert result.test_accuracy == accuracy(net, X[200:], Y[200:])
    assert result.epochs == 6


def test_the_best_weights_are_given_without_a_folder_too() -> None:
    config = dataclasses.replace(
        CONFIG, epochs=6, validation=0.25, select="best", optimizer="sgd", momentum=0.0, lr=60.0,
        schedule="constant", warmup_epochs=6, weight_decay=0.0,
    )  # fmt: skip
    found: list[float] = []
    weights: list[dict[str, Tensor]] = []
    net = network()

    def keep(record: dict[str, Any]) -> None:
        weights.append(copy.deepcopy(net.state_dict()))
        found.append(record["validation"]["accuracy"])

    train(net, DATA, config, on_epoch=keep)
    assert_equal(net, weights[found.index(max(found))])


def test_patience_ends_a_run_that_no_longer_grows_better() -> None:
    config = dataclasses.replace(CONFIG, epochs=9, validation=0.25, patience=2, lr=0.0)
    records: list[dict[str, Any]] = []
    result = train(network(), DATA, config, on_epoch=records.append)
    assert [record["epoch"] for record in records] == [1, 2, 3]  # the first is the best, and two more
    assert result.epochs == 3


def test_it_is_measured_every_so_many_epochs_and_at_the_end() -> None:
    for validation, name in ((0.0, "test"), (0.25, "validation")):
        records: list[dict[str, Any]] = []
        config = dataclasses.replace(CONFIG, epochs=5, evaluate_every=2, validation=validation)
        train(network(), DATA, config, on_epoch=records.append)
        assert [record["epoch"] for record in records if name in record] == [2, 4, 5]


def test_patience_waits_for_a_measurement() -> None:
    """With patience 1 and a measurement every third epoch, the first two say nothing yet."""
    config = dataclasses.replace(CONFIG, epochs=6, validation=0.25, patience=1, evaluate_every=3)
    records: list[dict[str, Any]] = []
    train(network(), DATA, config, on_epoch=records.append)
    assert any("validation" in record for record in records)


def test_a_record_holds_what_is_promised(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = []
    train(network(), DATA, CONFIG, tmp_path / "run", on_epoch=records.append)
    for i, record in enumerate(records):
        assert set(record) >= {
            "epoch", "step", "loss", "accuracy", "seconds", "samples_per_second", "lr", "firing_rate",
            "layers", "grad_norm", "grad_norms", "warnings", "test",
        }  # fmt: skip
        assert (record["epoch"], record["step"]) == (i + 1, 5 * (i + 1))
        assert set(record["layers"]) == {"neuron"}
        assert set(record["layers"]["neuron"]) == {"firing_rate", "silent", "saturated"}
        assert set(record["grad_norms"]) == {"first", "second"}
    assert records[1]["loss"] < records[0]["loss"]
    assert RunFolder(tmp_path / "run").metrics() == json.loads(json.dumps(records))


def test_the_loss_of_an_epoch_is_the_mean_over_its_samples() -> None:
    """With a rate of 0 the weights stand still, so it is that of the training set."""
    records: list[dict[str, Any]] = []
    net = network()
    train(net, DATA, dataclasses.replace(CONFIG, lr=0.0, epochs=1), on_epoch=records.append)
    with torch.no_grad():
        expected = functional.cross_entropy(net(X[:200]), Y[:200])
    assert records[0]["loss"] == pytest.approx(float(expected), rel=1e-5)
    assert records[0]["accuracy"] == accuracy(net, X[:200], Y[:200])


# -- ends -----------------------------------------------------------------------------------------


ROWS = nn.Sequential(nn.Flatten(2), nn.Linear(64, 8), sl.LIF(), nn.Linear(8, 10))


class Enough(Exception):
    """What a user's own function raises."""


def test_what_on_epoch_raises_ends_the_run_which_can_go_on(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, epochs=3)

    def stop(record: dict[str, Any]) -> None:
        raise Enough

    with pytest.raises(Enough):
        train(network(), DATA, config, tmp_path / "run", on_epoch=stop)
    run = RunFolder(tmp_path / "run")
    assert [record["epoch"] for record in run.metrics()] == [1]
    assert run.read_json("result.json") is None
    with run.locked():  # nobody holds it
        pass
    ours, unbroken = network(seed=99), network()
    result = train(ours, DATA, config, tmp_path / "run", resume=True)
    train(unbroken, DATA, config)
    assert_equal(ours, unbroken)
    assert result.epochs == 3


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    net = network()

    def objective(outputs: Tensor, y: Tensor) -> Tensor:
        objective.calls += 1  # type: ignore[attr-defined]
        return functional.cross_entropy(outputs, y) * (math.nan if objective.calls == 3 else 1)  # type: ignore[attr-defined]

    objective.calls = 0  # type: ignore[attr-defined]
    with pytest.raises(TrainingFailed, match=r"nan at epoch 1, batch 3 .*smaller --lr"):
        train(net, DATA, CONFIG, tmp_path / "run", objective=objective)
    assert all(p.isfinite().all() for p in net.parameters())
    tensors, _ = RunFolder(tmp_path / "run").read_tensors("model.safetensors", "")
    assert all(value.isfinite().all() for value in tensors.values())


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"net": "net"}, TypeError, "torch.nn.Module.*not str"),
        ({"data": 3}, TypeError, "data is int; a Dataset"),
        ({"data": (DATA[0],)}, TypeError, "data is tuple"),
        ({"data": (TensorDataset(X[:0], Y[:0]), DATA[1])}, ValueError, "the training split has no samples"),
        ({"data": (DATA[0], TensorDataset(X[:0], Y[:0]))}, ValueError, "the test split has no samples"),
        ({"resume": True}, ValueError, "needs the folder"),
        ({"config": Config(learning="bttp")}, ValueError, "did you mean 'bptt'"),
        ({"config": Config(loss="tet", device="cpu")}, ValueError, "readout=none"),
        ({"config": Config(devices=2), "on_epoch": print}, ValueError, "devices=1"),
        ({"config": Config(validation=0.001)}, ValueError, "holds out 0; both parts need some"),
        ({"net": ROWS, "config": Config(accumulate=2, learning="e-prop")}, ValueError, "accumulate 1"),
    ],
    ids=lambda v: str(v)[:30],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused(given: dict[str, Any], kind: type[Exception], words: str) -> None:
    values = {"net": network(), "data": DATA, "config": CONFIG, **given}
    with pytest.raises(kind, match=words):
        train(**values)


def test_a_folder_with_a_run_is_refused_and_one_without_is_not_gone_on_from(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, epochs=1)
    train(network(), DATA, config, tmp_path / "run")
    with pytest.raises(RunError, match="exists and is a run"):
        train(network(), DATA, config, tmp_path / "run")
    with pytest.raises(RunError):
        train(network(), DATA, config, tmp_path / "no such run", resume=True)


def test_the_batch_is_not_taken_for_time() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), sl.LIF(), nn.Linear(24, 10))
    with pytest.raises(ValueError, match=r"LIF '2' is given \(20, 24\) for a batch of 20.*sl\.Encode"):
        train(net, sl.data.load_data("digits"), dataclasses.replace(CONFIG, batch_size=20))


def test_what_is_no_data_and_no_configuration_is_told_from_it() -> None:
    for data, words in (
        ((X.numpy(), Y.numpy()), "TensorDataset"),
        (("train", "test"), "map-style"),
        ([1, 2], "map-style"),
    ):
        with pytest.raises(TypeError, match=words):
            train(network(), data, CONFIG)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Config\(epochs=3\), not dict"):
        train(network(), DATA, {"epochs": 3})  # type: ignore[arg-type]
    images = TensorDataset((X[:64] * 255).to(torch.uint8), Y[:64])
    with pytest.raises(ValueError, match=r"samples are uint8.*x / 255"):
        train(network(), (images, images), CONFIG)


def test_it_can_be_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    train(network(), DATA, CONFIG, quiet=True)
    assert capsys.readouterr() == ("", "")


def test_a_recipe_as_configuration_is_the_same_when_it_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = Recipe(epochs=2, batch_size=20, data="digits", model="conv_snn")
    train(network(), DATA, recipe, tmp_path / "run")
    train(network(), DATA, recipe, tmp_path / "run", resume=True)
    assert "the configuration is not the one" not in capsys.readouterr().out
    train(network(), DATA, dataclasses.replace(recipe, lr=1e-3), tmp_path / "run", resume=True)
    assert "the configuration is not the one" in capsys.readouterr().out
