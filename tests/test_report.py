"""Reports: what the page has is what a naive recomputation gives, and what is missing is said."""

from __future__ import annotations

import base64
import copy
import dataclasses
import functools
import io
import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import spikeloom as sl
from spikeloom.cli import report as verb
from spikeloom.cli.arguments import Misuse
from spikeloom.report import Choice, fill, gather, pictures, write
from spikeloom.report.behaviour import behave, told
from spikeloom.report.inside import look
from spikeloom.training import (
    READOUTS,
    Config,
    RunError,
    RunFolder,
    build,
    find_recipe,
    load_samples,
    train,
    train_run,
)

SMALL: dict[str, Any] = {"channels": [6, 8], "pools": [2, 2]}


def made_run(path: Path, seed: int = 0, epochs: int = 3, done: bool = True, **changes: Any) -> RunFolder:
    """Train a small network on digits for a moment, and leave a run folder with plausible metrics."""
    options = {"model_options": SMALL, "epochs": epochs, "seed": seed, "device": "cpu", **changes}
    recipe = dataclasses.replace(find_recipe("digits"), **options)
    run = RunFolder.create(path, "digits", recipe)
    data = load_samples(recipe)
    torch.manual_seed(seed)
    net = build(recipe, data)
    optimizer = torch.optim.AdamW(net.parameters(), lr=recipe.lr)
    lines = []
    for epoch in range(1, epochs + 1):
        losses, right = [], 0
        for some in torch.randperm(len(data.train))[:640].split(64):
            scores, y = net(data.inputs(data.train.pixels[some])), data.train.labels[some]
            loss = functional.cross_entropy(scores, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            right += int((scores.argmax(1) == y).sum())
        lines.append(
            {
                "epoch": epoch,
                "step": 10 * epoch,
                "loss": sum(losses) / len(losses),
                "accuracy": right / 640,
                "lr": recipe.lr / epoch,
                "firing_rate": 0.1 + 0.01 * epoch,
                "grad_norm": 1.0 / epoch,
                "seconds": 0.5,
                "samples_per_second": 1280.0,
                "test": {"loss": 2.0 / epoch + 0.1 * seed, "accuracy": 1 - 0.5 / epoch},
                "layers": {
                    f"neurons.{i}": {"firing_rate": 0.1 * (i + 1) / epoch, "silent": 0.2, "saturated": 0.0}
                    for i in range(2)
                },
                "warnings": ["neurons.1: 95% of its neurons never fired; lower v_threshold"]
                if epoch == 2
                else [],
            }
        )
    run.write_metrics(lines)
    run.write_tensors("model.safetensors", net.state_dict(), {"epoch": epochs})
    if done:
        with torch.no_grad():
            right = net.eval()(data.inputs(data.test.pixels)).argmax(1) == data.test.labels
        accuracy = float(right.double().mean())
        run.write_json("result.json", {"test_accuracy": accuracy, "firing_rates": {}, "epochs": epochs})
    return run


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs that differ in their seed and learning rate, and one that did not end."""
    root = tmp_path_factory.mktemp("runs")
    for name, how in (
        ("a", {}),
        ("b", {"seed": 1, "lr": 1e-2}),
        ("c", {"seed": 2, "done": False, "epochs": 2}),
    ):
        made_run(root / name, **how)
    return [root / name for name in "abc"]


@pytest.fixture(scope="session")
def found(runs: list[Path]) -> dict[str, Any]:
    return gather(runs)


@functools.cache
def answers(path: Path) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """Return a run's network, and the test images, scores and labels, one sample at a time."""
    from spikeloom.training import load_net

    run = RunFolder(path)
    net = load_net(run).eval()
    data = load_samples(run.config()[1])
    x = data.test.pixels.float() / 16.0
    with torch.no_grad():
        scores = torch.cat([net(x[i : i + 1]) for i in range(len(x))])
    return net, x, scores, data.test.labels


def test_confusion_and_accuracy_are_those_of_naive_counting(runs: list[Path], found: dict[str, Any]) -> None:
    for path, run in zip(runs, found["runs"], strict=True):
        _, _, scores, labels = answers(path)
        wanted = [[0] * 10 for _ in range(10)]
        for score, label in zip(scores.tolist(), labels.tolist(), strict=True):
            wanted[label][score.index(max(score))] += 1
        told = run["behaviour"]
        assert told["confusion"] == wanted
        assert told["accuracy"] == pytest.approx(sum(wanted[i][i] for i in range(10)) / len(labels))
        assert told["samples"] == told["of"] == len(labels) == sum(map(sum, wanted))
        pairs = sorted((-wanted[i][j], i, j) for i in range(10) for j in range(10) if i != j and wanted[i][j])
        assert told["confused"] == [[str(i), str(j), -n] for n, i, j in pairs[:12]]
        assert told["recall"] == [[str(i), wanted[i][i], sum(wanted[i])] for i in range(10)]


def test_hardest_samples_have_the_highest_losses(runs: list[Path], found: dict[str, Any]) -> None:
    for path, run in zip(runs, found["runs"], strict=True):
        _, x, scores, labels = answers(path)
        losses = []
        for score, label in zip(scores.double().tolist(), labels.tolist(), strict=True):
            top = max(score)
            losses.append(math.log(math.fsum(math.exp(s - top) for s in score)) + top - score[label])
        order = sorted(range(len(losses)), key=lambda i: -losses[i])
        told = run["hardest"]
        assert [answer["index"] for answer in told] == order[:12]
        assert [answer["loss"] for answer in told] == pytest.approx([losses[i] for i in order[:12]], rel=1e-4)
        assert run["behaviour"]["loss"] == pytest.approx(math.fsum(losses) / len(losses), rel=1e-5)
        for answer in told:
            i = answer["index"]
            assert answer["label"] == str(int(labels[i]))
            assert answer["answer"] == str(int(scores[i].argmax()))
            assert answer["right"] == (answer["label"] == answer["answer"])
            assert answer["share"] == pytest.approx(math.exp(-losses[i]), rel=1e-4)
            # its picture is the sample
            image = decoded(found["pictures"][answer["picture"]]["src"])
            assert np.array_equal(image, (255 * x[i, 0]).round().numpy())


def decoded(address: str) -> Any:
    from PIL import Image

    kind, _, data = address.partition(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        return np.array(image)


def test_firing_is_that_of_every_neuron(runs: list[Path], found: dict[str, Any]) -> None:
    net, x, _, _ = answers(runs[0])
    net = copy.deepcopy(net)
    outs: dict[str, list[Tensor]] = {}
    for name, module in net.named_modules():
        if isinstance(module, sl.Neuron):
            module.register_forward_hook(lambda m, i, out, n=name: outs.setdefault(n, []).append(out))
    with torch.no_grad():
        net(x)
    told = found["runs"][0]["behaviour"]["layers"]
    assert [layer["name"] for layer in told] == list(outs)
    for layer in told:
        out = outs[layer["name"]][0].flatten(2).numpy()
        T, B, N = out.shape
        assert layer["neurons"] == N
        fired = [sum(1 for t in range(T) for b in range(B) if out[t, b, n]) for n in range(N)]
        assert layer["rate"] == pytest.approx(sum(fired) / (T * B * N), rel=1e-5)
        assert layer["silent"] == pytest.approx(sum(f == 0 for f in fired) / N, rel=1e-5)
        assert layer["saturated"] == pytest.approx(sum(f == T * B for f in fired) / N, rel=1e-5)
        assert sum(layer["histogram"]) == N


def test_spikes_and_membranes_of_samples_are_those_of_the_network(
    runs: list[Path], found: dict[str, Any]
) -> None:
    net, x, scores, labels = answers(runs[0])
    net = copy.deepcopy(net)
    losses = functional.cross_entropy(scores, labels, reduction="none")
    shown = found["runs"][0]["inside"]
    order = torch.argsort(losses, stable=True).tolist()
    assert [answer["index"] for answer in shown] == [order[0], order[len(order) // 2], order[-1]]
    assert found["chosen"] == ["Easiest", "Middle", "Hardest"]
    # other runs of the same data show the same samples
    for run in found["runs"]:
        assert [answer["index"] for answer in run["inside"]] == [answer["index"] for answer in shown]
    given: dict[str, Tensor] = {}
    outs: dict[str, Tensor] = {}
    for name, module in net.named_modules():
        if isinstance(module, sl.Neuron):
            module.register_forward_hook(lambda m, i, out, n=name: given.update({n: i[0]}))
            module.register_forward_hook(lambda m, i, out, n=name: outs.update({n: out}))
    for answer in shown:
        with torch.no_grad():
            net(x[answer["index"]][None])
        assert [layer["name"] for layer in answer["layers"]] == list(outs)
        for layer in answer["layers"]:
            spikes = outs[layer["name"]][:, 0].flatten(1)
            steps, which = layer["steps"], layer["which"]
            packed = np.frombuffer(base64.b64decode(layer["spikes"]), np.uint8)
            bits = np.unpackbits(packed, bitorder="little")[: steps * len(which)].reshape(len(which), steps)
            assert np.array_equal(bits, spikes[:, which].T.numpy())
            assert len(which) == min(96, layer["neurons"])
            assert layer["rate"] == pytest.approx(float(spikes.mean()), rel=1e-5)
            # LIF by hand: v += (x - v) / tau, 0 after a spike at h >= 1
            x_in = given[layer["name"]][:, 0].flatten(1).double()
            for trace in layer["traces"]:
                v, course, fired = 0.0, [], []
                for t in range(steps):
                    h = v + (float(x_in[t, trace["neuron"]]) - v) / 2.0
                    v = 0.0 if h >= layer["threshold"] else h
                    course.append(v)
                    fired += [t] if h >= layer["threshold"] else []
                assert trace["v"] == pytest.approx(course, rel=1e-3, abs=1e-4)
                assert trace["spikes"] == fired
            counts = spikes.sum(0)
            assert counts[layer["traces"][0]["neuron"]] == counts.max()


def test_curves_warnings_and_differences(runs: list[Path], found: dict[str, Any]) -> None:
    a, b, c = found["runs"]
    lines = RunFolder(runs[0]).metrics()
    for metric in ("loss", "accuracy", "lr", "firing_rate", "grad_norm", "seconds"):
        wanted = [[line["epoch"], pytest.approx(line[metric], rel=1e-5)] for line in lines]
        assert a["curves"][metric]["train"] == wanted
    assert a["curves"]["loss"]["test"] == [[1, 2.0], [2, 1.0], [3, pytest.approx(2 / 3, rel=1e-5)]]
    assert "validation" not in a["curves"]["loss"]
    assert a["layer_curves"]["neurons.1"][0] == [1, 0.2]
    assert a["warnings"] == [{"epoch": 2, "text": lines[1]["warnings"][0]}]
    assert [run["state"] for run in (a, b, c)] == ["finished", "finished", "unfinished: 2 of 2 epochs"]
    differs = {row["field"]: row["values"] for row in found["differences"]}
    assert differs == {"epochs": [3, 3, 2], "lr": [0.004, 0.01, 0.004], "seed": [0, 1, 2]}
    assert all(run["missing"] == [] for run in (a, b, c))
    assert a["config"]["model_options"] == SMALL
    assert b["changed"]["lr"] == 0.01
    assert "weight_decay" not in b["changed"]
    assert b["changed"]["model_options.channels"] == [6, 8]


def test_operations_are_those_of_the_profile(runs: list[Path], found: dict[str, Any]) -> None:
    net, x, _, _ = answers(runs[0])
    wanted = sl.measure.profile(net, x[:32])
    told = found["runs"][0]["operations"]
    assert told["energy"] == pytest.approx(wanted.energy.picojoules * 1e-12)
    assert told["total"]["acs"] == pytest.approx(wanted.acs)
    assert [row["path"] for row in told["rows"]] == [row.path for row in wanted.rows if row.kinds]
    assert sum(row["energy"] for row in told["rows"]) == pytest.approx(told["energy"])
    assert found["runs"][0]["parameters"] == sum(p.numel() for p in net.parameters())


def test_what_is_damaged_is_said_and_the_rest_is_there(tmp_path: Path) -> None:
    made_run(tmp_path / "no-model", epochs=1)
    (tmp_path / "no-model" / "model.safetensors").unlink()
    metrics = tmp_path / "no-model" / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"epoch": 2, "lo')
    made_run(tmp_path / "fresh", epochs=1)
    (tmp_path / "fresh" / "metrics.jsonl").unlink()
    made_run(tmp_path / "broken", epochs=1)
    for config in (tmp_path / "broken").glob("config.*"):
        config.write_text("{")
    (tmp_path / "broken" / "result.json").write_text("[")
    found = gather([tmp_path / name for name in ("no-model", "fresh", "broken")])
    no_model, fresh, broken = found["runs"]
    assert no_model["missing"][0] == "metrics.jsonl is damaged: 1 of 2 lines cannot be read."
    assert no_model["missing"][1].startswith("The network was not measured: ")
    assert "model.safetensors" in no_model["missing"][1]
    assert no_model["curves"]["loss"]["train"] != []
    assert no_model["behaviour"] is None
    assert fresh["missing"] == ["There are no curves: no epoch was finished."]
    assert fresh["behaviour"]["samples"] == 360
    assert broken["state"] == "damaged"
    assert broken["missing"][0].startswith("The configuration cannot be read: ")
    assert broken["curves"]["loss"]["train"] != []
    assert any("result.json cannot be read" in text for text in broken["missing"])
    json.dumps(found, allow_nan=False)
    assert "</main>" in fill(found)


def test_a_run_as_train_leaves_it(tmp_path: Path) -> None:
    recipe = dataclasses.replace(find_recipe("digits"), model_options=SMALL, epochs=1, device="cpu")
    run = RunFolder.create(tmp_path / "run", "digits", recipe)
    result = train_run(run)
    told = gather([tmp_path / "run"])["runs"][0]
    assert (told["state"], told["missing"]) == ("finished", [])
    assert told["behaviour"]["accuracy"] == pytest.approx(result.test_accuracy, abs=1e-12)
    rates = {layer["name"]: layer["rate"] for layer in told["behaviour"]["layers"]}
    assert rates == pytest.approx(result.firing_rates, rel=1e-5)
    assert {"loss", "accuracy", "lr", "firing_rate", "seconds"} <= set(told["curves"])
    assert told["curves"]["accuracy"]["test"][-1][1] == pytest.approx(result.test_accuracy, rel=1e-5)
    assert list(told["layer_curves"]) == ["neurons.0", "neurons.1"]
    (tmp_path / "run" / "result.json").write_text('{"test_accuracy": 0.5}')
    again = gather([tmp_path / "run"], Choice(hardest=0, samples=()))["runs"][0]
    assert again["missing"][0].startswith(
        "result.json says a test accuracy of 0.5000; measured for this page"
    )


def test_a_network_of_ones_own_has_its_curves(tmp_path: Path) -> None:
    data = load_samples(find_recipe("digits"))
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    train(net, data, Config(epochs=2, device="cpu"), tmp_path / "own")
    told = gather([tmp_path / "own"])["runs"][0]
    assert [x for x, _ in told["curves"]["loss"]["train"]] == [1, 2]
    assert (told["state"], told["data"], told["behaviour"]) == ("finished", None, None)
    assert len(told["missing"]) == 1
    assert "network of your own" in told["missing"][0]


def test_a_network_without_neurons_has_the_rest(tmp_path: Path) -> None:
    made_run(tmp_path / "relu", epochs=1, model_options={**SMALL, "neuron": "ReLU"})
    told = gather([tmp_path / "relu"])["runs"][0]
    assert (told["missing"], told["behaviour"]["layers"]) == ([], [])
    assert [answer["layers"] for answer in told["inside"]] == [[], [], []]
    assert told["operations"]["total"]["acs"] == 0 < told["operations"]["total"]["macs"]


@pytest.mark.parametrize("readout", ["mean", "last"])
def test_scores_of_each_step_are_read_out_and_many_classes_have_no_matrix(readout: str) -> None:
    T, B, K = 5, 7, 70
    x = 3 * torch.rand(T, B, K, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(B)
    net = nn.Sequential(sl.IF(v_threshold=2.0))
    found = behave(net, lambda some: x[:, some], labels, torch.arange(B), READOUTS[readout], 3)
    with torch.no_grad():
        out = net(x)
    wanted = out.mean(0) if readout == "mean" else out[-1]
    assert torch.equal(found.scores, wanted)
    assert torch.allclose(found.layers["0"], (out != 0).double().mean((0, 1)))
    made = told(found, tuple(map(str, range(K))))
    assert made["confusion"] is None
    assert sum(n for _, _, n in made["confused"]) == int((wanted.argmax(1) != labels).sum())


def test_a_resumed_epoch_counts_once_and_nothing_is_nan(tmp_path: Path) -> None:
    run = made_run(tmp_path / "a", epochs=2)
    lines = run.metrics()
    again = {**lines[1], "loss": 0.125, "accuracy": float("nan")}
    run.write_metrics([*lines, again])
    told = gather([tmp_path / "a"], Choice(hardest=0, samples=()))["runs"][0]
    assert told["curves"]["loss"]["train"][1] == [2, 0.125]
    assert [x for x, _ in told["curves"]["accuracy"]["train"]] == [1]
    assert told["hardest"] == told["inside"] == []


def test_fewer_test_samples_are_said_and_chosen_ones_are_shown(runs: list[Path]) -> None:
    found = gather(runs[:1], Choice(samples=(5, 0), most=50, hardest=3, title="A <b> & $x"))
    told = found["runs"][0]
    assert (told["behaviour"]["samples"], told["behaviour"]["of"]) == (50, 360)
    assert [answer["index"] for answer in told["inside"]] == [5, 0]
    _, _, scores, labels = answers(runs[0])
    for answer in told["inside"]:
        loss = functional.cross_entropy(scores[answer["index"]], labels[answer["index"]])
        assert answer["loss"] == pytest.approx(float(loss), rel=1e-4)
    assert found["chosen"] == ["5", "0"]
    text = fill(found)
    assert "<title>A &lt;b&gt; &amp; $x</title>" in text
    far = gather(runs[:1], Choice(samples=(99999,)))["runs"][0]
    assert far["missing"] == [
        "Answers and spikes were not measured: sample 99999 is not among the 360 of the test set"
    ]


def test_runs_of_different_data_are_said_to_be_so(runs: list[Path], tmp_path: Path) -> None:
    made_run(tmp_path / "other", epochs=1)
    for config in (tmp_path / "other").glob("config.*"):
        config.write_text(config.read_text().replace("data: digits", "data: not-here"))
    found = gather([runs[0], tmp_path / "other"], Choice(hardest=2))
    assert found["notes"][0].startswith("These runs are of different data (digits, not-here)")
    assert found["runs"][1]["missing"][0].startswith("The network was not measured: no data set 'not-here'")


def test_pictures_are_what_they_are_of() -> None:
    rgb = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    made = pictures.picture(rgb)
    assert made is not None
    assert np.array_equal(decoded(made["src"]), rgb.permute(1, 2, 0).numpy())
    assert (made["width"], made["height"], made["strip"]) == (7, 5, None)
    # events: opacity is the root of the share, colour the mix of ON and OFF
    counts = torch.zeros(2, 2, 3)
    counts[0, 0, 0], counts[1, 1, 2], counts[:, 0, 1] = 4.0, 1.0, 2.0
    image = pictures.events_image(counts)
    assert image[0, 0].tolist() == [213, 94, 0, 255]
    assert image[1, 2].tolist() == [0, 106, 182, 128]
    assert image[0, 1].tolist() == [106, 100, 91, 255]
    assert image[1, 0, 3] == 0
    frames = torch.zeros(4, 2, 2, 3, dtype=torch.uint8)
    frames[3] = counts.to(torch.uint8)
    made = pictures.picture(frames, 1.0)
    assert made is not None
    assert np.array_equal(decoded(made["src"]), image)
    strip = decoded(made["strip"])
    assert strip.shape == (2, 12, 4)
    assert (strip[:, :9, 3] == 0).all()
    assert np.array_equal(strip[:, 9:], image)
    large = torch.arange(300 * 200, dtype=torch.float32).reshape(1, 300, 200) % 256
    made = pictures.picture(large)
    assert made is not None
    assert decoded(made["src"])[3, 5] == round(float(large[0, 12:16, 20:24].mean()))
    assert pictures.picture(torch.zeros(7)) is None
    sound = torch.tensor([[0, 255], [10, 20], [30, 40]], dtype=torch.uint8)  # 3 steps, 2 bands
    made = pictures.picture(sound)
    assert made is not None
    assert decoded(made["src"]).tolist() == [[255, 20, 40], [0, 10, 30]]


def test_png_has_its_checksums() -> None:
    data = pictures.png(np.arange(6, dtype=np.uint8).reshape(2, 3))
    at = 8
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        assert zlib.crc32(data[at + 4 : at + 8 + size]) == int.from_bytes(
            data[at + 8 + size : at + 12 + size], "big"
        )
        at += 12 + size
    assert at == len(data)


def test_layers_without_a_membrane_say_why() -> None:
    net = nn.Sequential(
        sl.NormNeuron(nn.BatchNorm1d(4), sl.LIF()), sl.Recurrent(sl.LIF(), nn.Linear(4, 4))
    ).eval()
    (one,) = look(net, torch.rand(5, 1, 4))
    assert [(layer["name"], len(layer["traces"][0]["v"])) for layer in one] == [("0", 5), ("1", 5)]
    long = look(nn.Sequential(sl.LIF()), 2 * torch.rand(1500, 2, 200))
    assert len(long) == 2
    assert long[0][0]["steps"] == 1000
    assert long[0][0]["notes"] == ["the first 1,000 of 1,500 steps", "96 of 200 neurons, by lot"]


def test_the_page_is_one_file_without_addresses(found: dict[str, Any], tmp_path: Path) -> None:
    text = fill(found)
    for needle in ("http://", "https://", "//cdn", "@import", "url("):
        assert needle not in text.replace("http://www.w3.org/2000/svg", "")
    assert len(text) < 2_000_000
    held = text.partition('<script type="application/json" id="report">')[2].partition("</script>")[0]
    assert json.loads(held) == json.loads(json.dumps(found))
    with pytest.raises(ValueError, match=r"ends in \.html"):
        write([tmp_path], tmp_path / "a.txt")


def test_five_runs_of_long_recordings_stay_small(tmp_path: Path) -> None:
    """The largest that layers and samples give: 8 layers, 96 neurons, 1000 steps, 3 samples, 5 runs."""
    net = nn.Sequential(*(sl.LIF(v_threshold=0.1) for _ in range(14)))
    samples = look(net, torch.rand(1000, 1, 96, generator=torch.Generator().manual_seed(0)))
    assert len(samples[0]) == 8
    assert 5 * 3 * len(json.dumps(samples)) < 5_500_000


def test_the_verb(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "page.html"
    assert verb.run([str(runs[0]), str(runs[1]), "--out", str(out), "--hardest", "2", "--samples", "3"]) == 0
    assert capsys.readouterr().out == f"{out}: 2 runs, {out.stat().st_size:,} bytes\n"
    assert out.read_text().startswith("<!doctype html>")
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]
    for argv, said in (
        ([str(runs[0]), str(runs[0]), "--out", str(out)], "each of them once"),
        ([str(runs[0]), "--out", str(tmp_path / "a.pdf")], r"ends in \.html"),
        ([str(runs[0]), "--hardest", "99"], "hardest = 99; a number from 0 to 30"),
    ):
        with pytest.raises(Misuse, match=said):
            verb.run(argv)
    with pytest.raises(RunError, match="is no folder"):
        verb.run([str(tmp_path / "nowhere")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="holds no run"):
        verb.run([str(tmp_path / "empty")])


def test_names_are_short_and_none_is_twice(tmp_path: Path) -> None:
    from spikeloom.report.record import names

    assert names([Path("/r/x/a"), Path("/r/x/b")]) == ["a", "b"]
    assert names([Path("/r/x/a"), Path("/r/y/a")]) == ["x/a", "y/a"]
