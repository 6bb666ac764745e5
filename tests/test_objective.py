"""What is minimised: losses by name, penalties, teachers, and what learning rules are handed."""

from __future__ import annotations

import copy
import dataclasses
import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

import spikeloom as sl
from spikeloom.cli import main
from spikeloom.data import Dataset, Images
from spikeloom.names import UnknownName
from spikeloom.training import (
    Config,
    Recipe,
    RunError,
    RunFolder,
    firing_rate_penalty,
    load_net,
    train,
    train_run,
)
from spikeloom.training.learning import Hands, make_rule
from spikeloom.training.objective import Terms, label_loss, scores_of

T, B, K = 5, 6, 4
LOSSES = ("cross-entropy", "tet", "count-mse", "rate-mse", "first-spike")
COUNTS: dict[str, Any] = {"true": 3.0, "false": 0.5}


def spikes(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(T, B, K, generator=generator, dtype=torch.float64) < 0.4).double()


def labels() -> Tensor:
    return torch.arange(B) % K


def configured(**values: Any) -> Config:
    options = COUNTS if values.get("loss") == "count-mse" else {}
    return Config(**{"loss_options": options, "epochs": 1, "device": "cpu", **values})


# -- losses by name, by loops over samples and classes --------------------------------------------


def by_hand(name: str, outputs: Tensor, y: Tensor) -> float:
    """Return the loss of spikes by its equation, one number after the other."""
    total = 0.0
    for b in range(B):
        for k in range(K):
            of, right = outputs[:, b, k], float(y[b] == k)
            if name == "cross-entropy" and right:
                mean = outputs[:, b].mean(0)
                total += float(mean.exp().sum().log() - mean[k]) / B
            elif name == "tet":
                if right:
                    total += 0.999 * sum(float(o.exp().sum().log() - o[k]) for o in outputs[:, b]) / (T * B)
                total += 0.001 * sum((float(s) - 1) ** 2 for s in of) / (T * B * K)
            elif name == "count-mse":
                total += (float(of.sum()) - (3.0 if right else 0.5)) ** 2 / (B * K)
            elif name == "rate-mse":
                total += (float(of.sum()) / T - right) ** 2 / (B * K)
    return total


@pytest.mark.parametrize("name", LOSSES[:4])
def test_a_loss_by_name_is_its_equation(name: Any) -> None:
    outputs, y = spikes(), labels()
    found = label_loss(configured(loss=name))(outputs, y)
    assert float(found) == pytest.approx(by_hand(name, outputs, y), rel=1e-9)


def test_first_spike_reads_the_class_that_fires_first() -> None:
    outputs = torch.zeros(4, 2, 3)
    outputs[2, 0, 0] = outputs[1, 0, 1] = outputs[3, 0, 2] = 1
    outputs[0, 1, 2] = outputs[1, 1, 2] = outputs[1, 1, 0] = 1
    config = configured(loss="first-spike")
    assert scores_of(outputs, config).argmax(1).tolist() == [1, 2]
    right, wrong = (label_loss(config)(outputs, torch.tensor(y)) for y in ([1, 2], [2, 1]))
    assert right < wrong


@pytest.mark.parametrize(("readout", "expected"), [("mean", 0), ("sum", 0), ("last", 1), ("max", 2)])
def test_scores_are_read_out_as_asked(readout: Any, expected: int) -> None:
    outputs = torch.tensor([[[2.0, 0.0, 3.0]], [[2.0, 0.0, -3.0]], [[2.0, 2.5, 0.0]]])
    assert int(scores_of(outputs, configured(readout=readout)).argmax(1)) == expected
    y = torch.tensor([expected])
    losses = {k: label_loss(configured(readout=readout))(outputs, torch.tensor([k])) for k in range(3)}
    assert min(losses, key=lambda k: float(losses[k])) == int(y)


def test_options_reach_the_loss() -> None:
    outputs, y = spikes(), labels()
    tet = label_loss(configured(loss="tet", loss_options={"weight": 1.0, "level": 2.0}))
    assert float(tet(outputs, y)) == pytest.approx(float((outputs - 2).square().mean()))
    smooth = label_loss(configured(label_smoothing=0.3))
    expected = functional.cross_entropy(outputs.mean(0), y, label_smoothing=0.3)
    assert float(smooth(outputs, y)) == pytest.approx(float(expected))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"loss": "tet", "loss_options": {"wieght": 1.0}},
            "no option of loss 'tet' 'wieght'; did you mean 'weight'",
        ),
        ({"loss": "rate-mse", "loss_options": {"true": 1.0}}, "no option of loss 'rate-mse' 'true'"),
        ({"loss": "count-mse", "loss_options": {}}, "loss 'count-mse' needs true and false"),
        ({"loss": "count-mse", "loss_options": {"true": 2.0}}, "loss 'count-mse' needs false"),
    ],
    ids=str,
)
def test_options_that_a_loss_does_not_have_are_refused_before_it_runs(
    values: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        label_loss(configured(**values))


@pytest.mark.parametrize("name", LOSSES[1:])
def test_scores_without_time_are_refused_with_the_remedy(name: Any) -> None:
    loss = label_loss(configured(loss=name))
    with pytest.raises(
        ValueError, match=rf"loss '{name}' needs .*\[6, 4\].*--set readout=none.*cross-entropy"
    ):
        loss(torch.rand(B, K), labels())
    assert float(label_loss(configured())(torch.rand(B, K), labels())) > 0


# -- penalties ------------------------------------------------------------------------------------


class Kept(nn.Module):
    """A network of two layers of neurons that tells their spikes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.first = nn.Linear(5, 8), sl.LIF()
        self.two, self.second = nn.Linear(8, 7), sl.LIF()
        self.head = nn.Linear(7, K)
        for layer in (self.one, self.two):
            nn.init.normal_(layer.weight)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        self.s1 = self.first(self.one(x))
        self.s2 = self.second(self.two(self.s1))
        out: Tensor = self.head(self.s2)
        return out


def gradients(net: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    return dict(
        zip(dict(net.named_parameters()), torch.autograd.grad(loss, list(net.parameters())), strict=True)
    )


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12, msg=name)


def of(net: nn.Module, x: Tensor, config: Config, teacher: nn.Module | None = None) -> dict[str, Tensor]:
    with Terms(net, config, teacher).of(x) as objective:
        return gradients(net, objective(net(x), labels()))


X = torch.rand(T, B, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2


def test_sparsity_adds_the_mean_spikes_a_neuron() -> None:
    net = Kept()
    found = of(net, X, configured(sparsity=0.7))
    plain = functional.cross_entropy(net(X).mean(0), labels())
    mean = net.s1.sum() / (B * 8) + net.s2.sum() / (B * 7)  # of each layer's 8 and 7 neurons
    assert mean.item() > 0
    assert_same(found, gradients(net, plain + 0.7 * mean))
    without = gradients(net, functional.cross_entropy(net(X).mean(0), labels()))
    assert not torch.allclose(found["one.weight"], without["one.weight"])


def test_rates_out_of_their_bounds_cost_their_square() -> None:
    net = Kept()
    config = configured(rate_penalty=0.6, rate_lower=0.3, rate_upper=0.35)
    with Terms(net, config, None).of(X) as objective:
        total = objective(net(X), labels())
    found = gradients(net, total)
    plain = functional.cross_entropy(net(X).mean(0), labels())
    penalty = firing_rate_penalty({"first": net.s1, "second": net.s2}, lower=0.3, upper=0.35)
    assert penalty.item() > 0
    assert_same(found, gradients(net, plain + 0.6 * penalty))


def test_a_teachers_answers_count_as_distill_says() -> None:
    net, teacher = Kept(), Kept()
    nn.init.normal_(teacher.head.weight)
    found = of(net, X, configured(distill=0.3, temperature=2.0, teacher="runs/x"), teacher)
    z, taught = net(X).mean(0), teacher(X).mean(0).detach()
    p, q = functional.log_softmax(z / 2, 1), functional.softmax(taught / 2, 1)
    divergence = 4 * (q * (q.log() - p)).sum(1).mean()
    assert_same(found, gradients(net, 0.7 * functional.cross_entropy(z, labels()) + 0.3 * divergence))
    assert all(p.grad is None for p in teacher.parameters())


def test_a_teachers_features_are_followed() -> None:
    net, teacher = Kept(), Kept()
    nn.init.normal_(teacher.one.weight, std=2.0)
    names = {"first": "first", "second": "second"}
    found = of(net, X, configured(distill=0.5, teacher="runs/x", teacher_features=names), teacher)
    z, taught = net(X).mean(0), teacher(X).mean(0).detach()
    p, q = functional.log_softmax(z / 4, 1), functional.softmax(taught / 4, 1)
    divergence = 16 * (q * (q.log() - p)).sum(1).mean()
    apart = [
        (s.mean(0) - t.mean(0).detach()).square().mean()
        for s, t in ((net.s1, teacher.s1), (net.s2, teacher.s2))
    ]
    loss = 0.5 * functional.cross_entropy(z, labels()) + 0.5 * divergence + 0.5 * (apart[0] + apart[1])
    assert_same(found, gradients(net, loss))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"frist": "first"}, "no layer of the student 'frist'; did you mean 'first'"),
        ({"first": "secnd"}, "no layer of the teacher 'secnd'; did you mean 'second'"),
    ],
)
def test_layers_that_are_not_there_are_named(names: dict[str, str], words: str) -> None:
    with pytest.raises(UnknownName, match=words):
        of(Kept(), X, configured(teacher="runs/x", teacher_features=names), Kept())


def test_features_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="student's features have the shape"):
        of(Kept(), X, configured(teacher="runs/x", teacher_features={"first": "second"}), Kept())


# -- through train --------------------------------------------------------------------------------


@functools.cache
def digits(rows: bool = False, count: int = 480) -> Dataset:
    """Return scans in memory, static `[1, 8, 8]` or as eight rows of eight pixels, one a step."""
    found = load_digits()
    pixels = torch.tensor(found.data).to(torch.uint8).reshape(-1, *((8, 8) if rows else (1, 8, 8)))
    y = torch.tensor(found.target)
    train_part, test_part = (
        Images(pixels[:count], y[:count]),
        Images(pixels[count : count + 200], y[count : count + 200]),
    )
    return Dataset("scans", train_part, test_part, tuple("0123456789"), 16.0, in_time=rows)


def dense(inputs: int = 64, spiking: bool = False, **lif: Any) -> nn.Sequential:
    torch.manual_seed(0)
    first = nn.Linear(inputs, 48)
    nn.init.normal_(first.weight, std=3.0 / inputs**0.5)
    front = [sl.PerStep(nn.Flatten())] if inputs == 64 else []
    last = [sl.LIF(v_threshold=0.5)] if spiking else []
    return nn.Sequential(
        *front, sl.PerStep(first), sl.LIF(tau=2.0, **lif), sl.PerStep(nn.Linear(48, 10)), *last
    )


class Shown(nn.Module):
    """A network that sees static images for four steps."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x.expand(4, *x.shape) if x.ndim == 4 else x)
        return out


def losses(net: nn.Module, data: Dataset, config: Config, **more: Any) -> list[float]:
    records: list[dict[str, Any]] = []
    train(net, data, config, on_epoch=records.append, **more)
    return [record["loss"] for record in records]


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_is_lowered(name: Any) -> None:
    net = Shown(dense(spiking=name in ("count-mse", "rate-mse", "first-spike")))
    options = {"true": 3.0, "false": 0.0} if name == "count-mse" else {}
    found = losses(
        net, digits(), configured(loss=name, loss_options=options, epochs=4, lr=1e-2, batch_size=48)
    )
    assert found[-1] < 0.9 * found[0], found


@pytest.mark.parametrize(
    ("rule", "options", "lif"),
    [
        ("tbptt", {"chunk": 2}, {}),
        ("tbptt", {"chunk": 1, "update": "chunk"}, {}),
        ("sltt", {}, {}),
        ("ottt", {}, {"reset": "soft"}),
        ("decolle", {}, {"reset": "soft"}),
        ("feedback-alignment", {}, {}),
    ],
    ids=str,
)
def test_each_rule_lowers_the_loss(rule: str, options: dict[str, Any], lif: dict[str, Any]) -> None:
    """Static images: those of the rules that need time get them repeated, T times."""
    net: nn.Module = dense(**lif)
    if rule == "feedback-alignment":
        net = Shown(net)
    config = configured(learning=rule, learning_options=options, T=3, epochs=3, lr=1e-2, batch_size=48)
    data = digits()
    # measured in eval on static images too: the network repeats them itself there
    found = losses(Shown(net) if not isinstance(net, Shown) else net, data, config)
    assert found[-1] < 0.9 * found[0], found


def test_eprop_lowers_the_loss_on_rows() -> None:
    net = dense(inputs=8)
    found = losses(net, digits(rows=True), configured(learning="e-prop", epochs=4, lr=2e-2, batch_size=24))
    assert found[-1] < 0.9 * found[0], found


def test_eprop_sees_what_stands_before_the_first_weights_step_by_step() -> None:
    x, y = torch.rand(3, 5, 1, 8, 8), torch.arange(5)
    found = []
    for front in (nn.Flatten(2), sl.PerStep(nn.Flatten())):
        net = dense()
        net[0] = front
        rule = make_rule("e-prop", net)
        rule(net, x, y, label_loss(configured()), Hands(lambda loss: loss.backward(), lambda: None))
        found.append([p.grad for p in net.parameters()])
    for one, other in zip(*found, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


def test_a_rule_that_needs_time_gets_static_images_repeated() -> None:
    seen: list[tuple[int, ...]] = []

    class Looks(nn.Module):
        """Notes the shape of what it is given in training."""

        def __init__(self) -> None:
            super().__init__()
            self.layer, self.neuron, self.head = nn.Linear(64, 8), sl.LIF(), nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                seen.append(tuple(x.shape))
            x = x if x.ndim == 5 else x[None]
            out: Tensor = self.head(self.neuron(self.layer(x.flatten(2))))
            return out

    for rule, shape in (("bptt", (48, 1, 8, 8)), ("tbptt", (7, 48, 1, 8, 8))):
        seen.clear()
        options: dict[str, Any] = {"chunk": 7} if rule == "tbptt" else {}
        train(
            Looks(), digits(count=96), configured(learning=rule, learning_options=options, T=7, batch_size=48)
        )
        assert set(seen) == {shape}, rule


@pytest.mark.parametrize("rule", ["tbptt", "sltt", "e-prop"])
def test_static_images_are_repeated_when_it_is_measured_too(rule: str) -> None:
    """A network that takes `[T, B, ...]` alone learns from static images by a rule that repeats them."""
    net = dense()
    if rule == "e-prop":
        net[0] = nn.Flatten(2)
    data = digits(count=96)
    result = train(net, data, configured(learning=rule, T=3, epochs=2, batch_size=48, lr=1e-2))
    x = data.inputs(data.test.pixels)
    with torch.no_grad():
        outputs = net.eval()(x.expand(3, *x.shape)).mean(0)
    assert result.test_accuracy == int((outputs.argmax(1) == data.test.labels).sum()) / 200


def test_the_whole_sequence_in_a_chunk_is_bptt() -> None:
    whole, chunk = dense(inputs=8), dense(inputs=8)
    train(whole, digits(rows=True), configured(batch_size=48))
    options = {"chunk": 8}
    train(chunk, digits(rows=True), configured(batch_size=48, learning="tbptt", learning_options=options))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, chunk.state_dict()[name]), name


def test_mixed_labels_and_any_precision_go_together() -> None:
    for precision in ("fp32", "fp64", "bf16"):
        for kind in ("mixup", "cutmix"):
            config = configured(precision=precision, epochs=2, lr=1e-2, batch_size=48, **{kind: 0.2})
            found = losses(Shown(dense()), digits(count=240), config)
            assert found[1] < found[0]


def test_a_teacher_from_a_run_folder_is_followed(tmp_path: Path) -> None:
    """With no labels (distill 1), the student comes to answer as its teacher does."""
    options: dict[str, Any] = {"channels": [6, 6], "pools": [2, 2]}
    recipe = Recipe(
        data="digits", T=2, model_options=options, epochs=2, batch_size=128, lr=2e-2, device="cpu"
    )
    run = RunFolder.create(tmp_path / "teacher", "digits", recipe)
    train_run(run)
    teacher = load_net(run).eval()
    images = digits().inputs(digits().test.pixels)

    def apart(net: nn.Module) -> float:
        with torch.no_grad():
            one, other = (functional.log_softmax(some.eval()(images), 1) for some in (net, teacher))
        return float(functional.kl_div(one, other, reduction="batchmean", log_target=True))

    torch.manual_seed(7)
    net = sl.create_model("conv_snn", image_size=8, T=2, **options)
    before = apart(net)
    config = configured(teacher=str(run.path), distill=1.0, epochs=3, lr=1e-2, batch_size=48)
    weights = copy.deepcopy(teacher.state_dict())
    train(net, digits(), config)
    assert apart(net) < 0.7 * before
    assert all(torch.equal(value, weights[name]) for name, value in load_net(run).state_dict().items())
    with pytest.raises(RunError, match="does not exist"):
        train(net, digits(), configured(teacher=str(tmp_path / "no such run")))
    with pytest.raises(UnknownName, match=r"no layer of the teacher 'neurons\.7'"):
        train(net, digits(), dataclasses.replace(config, teacher_features={"neurons.0": "neurons.7"}))


def test_the_command_gives_each_steps_scores_with_readout_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = ["--epochs", "1", "--batch-size", "512", "--set", "channels=[4,4]", "--set", "pools=[2,2]"]
    assert main(["train", "digits", "--loss", "tet", "--set", "readout=none", "--run-dir", "a", *tiny]) == 0
    assert "test accuracy: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--loss", "tet"], "--set readout=none"),
        (["--set", "loss_options.wieght=1"], "no option of loss 'cross-entropy' 'wieght'"),
    ],
    ids=str,
)
def test_the_command_refuses_a_loss_that_does_not_fit_before_there_is_a_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = ["--epochs", "1", "--batch-size", "512", "--set", "channels=[4,4]", "--set", "pools=[2,2]"]
    assert main(["train", "digits", *options, "--run-dir", "b", *tiny]) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
