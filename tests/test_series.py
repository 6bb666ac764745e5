"""Series: an equation integrated, a recording of neurons cut and split; numbers to be given at each step."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import spikeloom as sl
from spikeloom.data import DataError, Dataset, Images, load
from spikeloom.data.sets.mackey_glass import BETA, GAMMA, SERIES, series
from spikeloom.data.sets.reaching import read
from spikeloom.data.windows import cut
from spikeloom.training import Config, Recipe, RunFolder, find_recipe, load_samples, train, train_run
from spikeloom.training.regression import Scores, mse

REAL = Path(os.environ.get("SPIKELOOM_DATA", "")) / "neural/chewie_demo.mat"
needs_recording = pytest.mark.skipif(
    not REAL.is_file(), reason="SPIKELOOM_DATA has no neural/chewie_demo.mat"
)


def test_the_first_delay_is_an_exponential_and_the_second_an_integral() -> None:
    """While the delayed value is the constant, x' = a - gamma x; then what is delayed is known, too."""
    from scipy.integrate import solve_ivp

    tau, past = 17, SERIES[17][1]
    found = series(tau, past, 0.7, 49)  # to t = 33.6
    times = 0.7 * np.arange(49)
    rest = BETA * past / (1 + past**10) / GAMMA

    def first(t: Any) -> Any:
        return rest + (past - rest) * np.exp(-GAMMA * t)

    def slope(t: float, x: Any) -> Any:
        delayed = first(t - tau)
        return BETA * delayed / (1 + delayed**10) - GAMMA * x

    early = times <= tau
    np.testing.assert_allclose(found[early], first(times[early]), rtol=0, atol=1e-10)
    later = solve_ivp(slope, (tau, 34), [first(tau)], t_eval=times[~early], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(found[~early], later.y[0], rtol=0, atol=1e-9)
    assert np.array_equal(found, series.__wrapped__(tau, past, 0.7, 49))  # not from the cache


def test_the_series_is_split_in_time_and_tells_nothing_of_the_next_value() -> None:
    options: dict[str, Any] = {
        "lookback": 3,
        "train": 2.0,
        "test": 1.0,
        "points": 20,
        "length": 6,
        "stride": 4,
    }
    train, test = (load("mackey-glass", split, **options) for split in ("train", "test"))
    lyapunov, past = SERIES[17]
    values = series(17, past, lyapunov / 20, 61).astype(np.float32)
    assert len(train) == (40 - 6) // 4 + 1
    x, y = train[2]  # steps 8 to 13
    assert (x.shape, y.shape) == ((6, 3), (6, 1))
    assert x[0].tolist() == values[6:9].tolist()
    assert y[:, 0].tolist() == values[9:15].tolist()
    assert train[0][0][0].tolist() == [0, 0, values[0]]
    (x, y), count = test[0], len(test)
    assert count == 1
    assert y[:, 0].tolist() == values[41:61].tolist()
    assert x[:, -1].tolist() == values[40:60].tolist()
    x, y = load("mackey-glass", "test", **options, held_out=0.25)[0]
    assert y[:, 0].tolist() == values[31:41].tolist()  # the end of what else is learned from
    assert len(load("mackey-glass", **options, held_out=0.25)) == (30 - 6) // 4 + 1


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mackey-glass", {"tau": 16}, "tau = 16"),
        ("mackey-glass", {"lookback": 0}, "lookback = 0"),
        ("mackey-glass", {"length": 751}, "length = 751, stride = 5; windows of 1 to 750 steps"),
        ("mackey-glass", {"stride": 0}, "stride = 0"),
        ("chewie-reaching", {"held_out": 1.0}, "held_out = 1.0"),
    ],
)
def test_options_that_cannot_be(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(name, **options)


@needs_recording
def test_the_recording_as_it_is_and_its_split() -> None:
    from scipy.io import loadmat
    from sklearn.linear_model import Ridge
    from sklearn.metrics import r2_score

    file, parts = loadmat(REAL), read(REAL)
    (spikes, velocity), (test_spikes, test_velocity) = parts["train"], parts["test"]
    assert torch.equal(spikes, torch.from_numpy(file["Ytr"]))
    assert torch.equal(test_spikes, torch.from_numpy(file["Yte"]))
    scale = file["Xte"] / test_velocity.numpy()
    assert np.ptp(scale) < 1e-4 * scale.mean()
    assert velocity.square().mean() == pytest.approx(1)
    # nothing is in both parts
    rows = {row.tobytes() for row in spikes.numpy()}
    assert not any(row.tobytes() in rows for row in test_spikes.numpy())
    # the yardstick: 0.55 and 0.51
    guess = Ridge(10).fit(spikes, velocity).predict(test_spikes)
    assert r2_score(test_velocity, guess, multioutput="raw_values") == pytest.approx([0.548, 0.511], abs=5e-4)

    x, y = load("chewie-reaching", "test")[0]
    assert torch.equal(x, test_spikes)
    assert torch.equal(y, test_velocity)
    windows = load("chewie-reaching", length=50, stride=11)
    assert len(windows) == (1200 - 50) // 11 + 1
    x, y = windows[3]
    assert torch.equal(x, spikes[33:83])
    assert torch.equal(y, velocity[33:83])
    x, _ = load("chewie-reaching", "test", held_out=0.25)[0]
    assert torch.equal(x, spikes[900:])  # the file's test part is not looked at
    kept = load("chewie-reaching", held_out=0.25, length=50, stride=50)
    assert torch.equal(kept[17][0], spikes[850:900])
    assert len(kept) == 18


def test_a_file_that_is_no_recording(tmp_path: Path) -> None:
    for content in (b"", b"MATLAB 5.0", bytes(2000)):
        (tmp_path / "a.mat").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.mat: no recording of Chewie"):
            read(tmp_path / "a.mat")


def test_mse_by_hand_and_what_does_not_fit() -> None:
    outputs = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]], requires_grad=True)  # T = 2, B = 2
    target = torch.tensor([[[1.0], [1.0]], [[2.0], [6.0]]])
    loss = mse(outputs, target)
    assert loss.item() == (0 + 4 + 0 + 4) / 4
    loss.backward()
    assert outputs.grad is not None
    assert outputs.grad.flatten().tolist() == [0, 0, 1, -1]
    for bad in (target[:1], target.long(), target[..., 0]):
        with pytest.raises(ValueError, match=r"targets \[B, T, K\] are needed"):
            mse(outputs, bad)
    with pytest.raises(ValueError, match="readout=none"):
        mse(outputs[0], target)


@pytest.mark.parametrize("K", [1, 2])
def test_scores_are_those_of_scikit_learn_however_they_are_added_up(K: int) -> None:
    from sklearn.metrics import r2_score

    generator = torch.Generator().manual_seed(0)
    y = torch.rand(7, 5, K, generator=generator) + 0.1
    o = y.transpose(0, 1) + 0.2 * torch.randn(5, 7, K, generator=generator)
    one, two, empty = Scores(), Scores(), Scores()
    one.add(o[:, :3], y[:3])
    two.add(o[:, 3:], y[3:])
    empty.add(o[:, 3:], y[3:], counted=False)
    sums = [a + b + c for a, b, c in zip(one.sums, two.sums, empty.sums, strict=True)]
    found, flat = Scores(sums).found(), y.transpose(0, 1).reshape(-1, K)
    assert found["r2"] == pytest.approx(r2_score(flat, o.reshape(-1, K)))
    share = (flat - o.reshape(-1, K)).abs() / (flat.abs() + o.reshape(-1, K).abs())
    assert found["smape"] == pytest.approx(200 * float(share.mean()))
    negative = Scores()
    negative.add(o, -y)
    assert list(negative.found()) == ["r2"]
    flat_score = Scores()
    flat_score.add(o, torch.ones_like(y))
    assert math.isnan(flat_score.found()["r2"])
    assert Scores().found() == {}


def test_what_is_learned_is_scored_and_kept(tmp_path: Path) -> None:
    options = {"lookback": 4, "train": 1.0, "test": 0.4, "length": 15, "stride": 10}
    small = dataclasses.replace(
        find_recipe("mackey-glass"),
        data_options=options,
        model_options={"hidden": [12], "readout": "none", "readout_tau": 1.5},
        epochs=2,
        device="cpu",
    )
    folder = RunFolder.create(tmp_path / "run", "mackey-glass", small)
    result = train_run(folder)
    assert math.isnan(result.test_accuracy)
    assert set(result.scores) == {"r2", "smape"}
    assert folder.read_json("result.json")["scores"] == result.scores
    assert folder.metrics()[-1]["test"]["r2"] == result.scores["r2"]
    assert sl.training.evaluate(folder).scores == result.scores
    data, net = load_samples(small), sl.training.load_net(folder).eval()
    with torch.no_grad():
        out = net(data.inputs(data.test.pixels)).squeeze()
    y = data.test.labels.squeeze()
    assert out.shape == y.shape == (30,)
    expected = 1 - float((y - out).square().sum() / (y - y.mean()).square().sum())
    assert result.scores["r2"] == pytest.approx(expected, rel=1e-4)


def test_overlapping_windows_are_no_held_out_part() -> None:
    with pytest.raises(ValueError, match=r"data_options\.held_out=0\.3"):
        load_samples(Recipe(data="mackey-glass", validation=0.1))


def test_a_network_learns_to_follow() -> None:
    """A leaky integrator of the input is what a leaky readout can say exactly."""
    x = (torch.rand(24, 30, 3, generator=torch.Generator().manual_seed(4)) < 0.4).float()
    drive = x[..., :1] - x[..., 1:2]
    y = sl.LI(tau=3.0)(drive.transpose(0, 1)).transpose(0, 1)
    data = Dataset("sums", Images(x[:20], y[:20]), Images(x[20:], y[20:]), ("sum",), 1.0, in_time=True)
    torch.manual_seed(0)
    net = sl.create_model(
        "dense_snn", in_features=3, num_classes=1, hidden=(24,), readout="none", readout_tau=3.0
    )
    config = Config(loss="mse", epochs=20, batch_size=10, lr=0.02, device="cpu", evaluate_every=20)
    result = train(net, data, config, quiet=True)
    assert result.scores["r2"] > 0.6
    assert "smape" not in result.scores


def test_a_series_that_is_shorter_than_a_window() -> None:
    with pytest.raises(DataError, match="windows of 1 to 5 steps"):
        cut("few", torch.zeros(5, 2), torch.zeros(5, 1), length=6, stride=1)
    only = cut("few", torch.zeros(5, 2), torch.zeros(5, 1), length=5, stride=9)
    assert (only.pixels.shape, only.labels.shape) == ((1, 5, 2), (1, 5, 1))
