"""Networks in C: compiled with every warning and sanitiser, against the networks themselves."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from zoo import NEURONS

import spikeloom as sl
from spikeloom import deploy
from spikeloom.deploy.c.export import emit
from spikeloom.deploy.lower import Fire
from spikeloom.deploy.machine import Machine

GCC = shutil.which("gcc")
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-g", "-fsanitize=address,undefined"]
needs_gcc = pytest.mark.skipif(GCC is None, reason="no C compiler")

Trace = dict[str, np.ndarray]


def build(source: Path, *, flags: list[str] = STRICT) -> Path:
    assert GCC is not None
    out = source.with_suffix("")
    subprocess.run([GCC, *flags, "-DSPIKELOOM_MAIN", str(source), "-o", str(out), "-lm"], check=True)
    return out


def trace(program: Path, net: Any, x: Tensor) -> tuple[Trace, np.ndarray]:
    """Return what each layer gave, [T, B, ...], and class and scores a sample."""
    samples = program.with_suffix(".bin")
    x.transpose(0, 1).contiguous().numpy().astype("<f4").tofile(samples)
    ran = subprocess.run([program, samples, str(len(x)), "trace"], capture_output=True, text=True, check=True)
    machine = Machine(net)
    found: dict[str, list[np.ndarray]] = {layer.name: [] for layer in net}
    scores = []
    for line in ran.stdout.splitlines():
        numbers = line.split()
        if numbers[0] == "=":
            name = machine.names[int(numbers[1])]
            flat = np.empty(machine.size(name))
            flat[machine.order[name]] = [float(n) for n in numbers[2:]]
            found[name].append(flat.reshape(net.shape(name)))
        else:
            scores.append([float(n) for n in numbers])
    steps, batch = x.shape[:2]
    traces = {
        name: np.stack(some).reshape(batch, steps, *some[0].shape).swapaxes(0, 1)
        for name, some in found.items()
    }
    return traces, np.array(scores)


class Mixed(nn.Module):
    """Ways that part and meet, grouped, strided, dilated and padded windows, recurrence, a mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = sl.PerStep(
            nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.MaxPool2d(3, 2, 1)
        )
        self.first = sl.LIF(tau=torch.linspace(1.5, 3.0, 6), v_threshold=0.3, decay_input=False)
        grouped = sl.PerStep(nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=3))
        self.block = sl.nn.Residual(
            nn.Sequential(grouped, sl.IF(v_threshold=0.4, reset="soft")), connect="ADD"
        )
        self.iand = sl.nn.Residual(
            nn.Sequential(sl.PerStep(nn.Conv2d(6, 6, 1)), sl.IF(v_threshold=0.3)), connect="ADD"
        )
        self.pool = sl.PerStep(nn.AvgPool2d(2, 1), nn.Flatten(), nn.Linear(6 * 2 * 3, 7))
        self.back = sl.Recurrent(sl.CubaLIF(v_threshold=0.5), nn.Linear(7, 7))
        self.head = sl.PerStep(nn.Linear(7, 4))

    def forward(self, x: Tensor) -> Tensor:
        s = self.first(self.stem(x))
        s = self.iand(self.block(s))
        return self.head(self.back(self.pool(s))).mean(0)


def mixed() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(1)
    net = Mixed()
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(4, 4, 3, 11, 13))  # statistics of the norm
    return net.eval(), torch.randn(7, 3, 3, 11, 13)


def outputs(net: nn.Module, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Return what each neuron said, and the network."""
    said: dict[str, Tensor] = {}
    for name, module in net.named_modules():
        if isinstance(module, (sl.Neuron, sl.Recurrent)):
            module.register_forward_hook(lambda m, i, out, name=name: said.__setitem__(name, out))
    with torch.no_grad(), sl.backend("eager"):
        return said, net(x)


@needs_gcc
def test_floats_are_the_network(tmp_path: Path) -> None:
    net, x = mixed()
    source, header = deploy.export_c(net, x, tmp_path / "mixed.c")
    assert "Static memory of" in header.read_text()
    traces, scores = trace(build(source), deploy.lower(net, x), x)
    said, want = outputs(net, x)
    for name in ("first", "block.branch.1", "iand.branch.1", "back"):
        assert 0.02 < said[name].mean() < 0.98, name
        assert np.array_equal(traces[name], said[name].numpy()), name
    np.testing.assert_allclose(scores[:, 1:], want.numpy(), atol=1e-5)
    assert scores[:, 0].tolist() == want.argmax(1).tolist()


@needs_gcc
@pytest.mark.parametrize(
    "options", [{}, {"bits": 4, "state_bits": 32}, {"state_bits": 8, "overflow": "wrap"}]
)
def test_whole_numbers_are_the_simulator_to_the_bit(tmp_path: Path, options: dict[str, Any]) -> None:
    net, x = mixed()
    small = deploy.quantise(net, x[:, :2], **options)
    source, _ = deploy.export_c(small, x, tmp_path / "mixed.c")
    traces, scores = trace(build(source), small, x)
    run = deploy.simulate(small, x, record=True)
    for name, values in run.values.items():
        assert np.array_equal(traces[name], values.numpy()), name
    assert scores[:, 1:].astype(np.float32).tolist() == run.output.tolist()
    assert any(values.float().mean() > 0.02 for values in run.values.values())


class Every(nn.Module):
    """The sum of every neuron of the table that takes one input, or of some."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        names = names or tuple(name for name, entry in NEURONS.items() if not entry.neuron.inputs)
        self.neurons = nn.ModuleDict()
        self.scales = {}
        for name in names:
            entry = NEURONS[name]
            try:
                neuron = entry.make(**entry.tensors("channel", [1, 5]))
            except TypeError:
                neuron = entry.make()
            if isinstance(neuron, sl.Neuron) and neuron._plan is not None and not neuron.inputs:
                self.neurons[name], self.scales[name] = neuron, (entry.mean, entry.scale)
        self.lift = nn.ModuleDict({name: sl.PerStep(nn.Linear(5, 5)) for name in self.neurons})
        for name, (mean, scale) in self.scales.items():
            self.lift[name][0].weight.data = torch.eye(5) * scale
            self.lift[name][0].bias.data = torch.full((5,), float(mean))

    def forward(self, x: Tensor) -> Tensor:
        parts = [neuron(self.lift[name](x)) for name, neuron in self.neurons.items()]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total


@needs_gcc
def test_every_neuron_in_one_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, x = Every().eval(), torch.randn(20, 2, 5)
    lowered = deploy.lower(net, x)
    fires = [layer for layer in lowered if isinstance(layer, Fire)]
    assert len(fires) >= 18
    source, _ = deploy.export_c(net, x, tmp_path / "every.c")
    traces, _ = trace(build(source), lowered, x)
    said, _ = outputs(net, x)
    for layer in fires:
        want = said[layer.name].numpy()
        assert want.any(), layer.name
        np.testing.assert_allclose(traces[layer.name], want, rtol=1e-3, atol=1e-3, err_msg=layer.name)


SILENT = """
#include "quiet.c"
int main(void)
{
  static quiet_input x[quiet_N];
  int i;
  for (i = 0; i < 3; i++) {
    int j;
    for (j = 0; j < quiet_N; j++)
      x[j] = (quiet_input)(i % 2 * 3);
    quiet_step(x);
  }
  if (!(QUIET_MOVED))
    return 1;
  for (i = 0; i < quiet_N; i++)
    x[i] = 0;
  for (i = 0; i < 400; i++)
    quiet_step(x);
  value1[0] = 77; /* a layer that ran would write it anew */
  for (i = 0; i < 5; i++)
    quiet_step(x);
  return (QUIET_MOVED) || !(QUIET_STEADY) || value1[0] != 77;
}
"""


@needs_gcc
@pytest.mark.parametrize("dtype", ["float", "int8"])
def test_silence_costs_nothing(tmp_path: Path, dtype: Any) -> None:
    torch.manual_seed(2)
    conv = nn.Conv2d(1, 3, 3, padding=1, bias=False)
    net = nn.Sequential(
        sl.PerStep(conv),
        sl.LIF(),
        sl.PerStep(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 4, bias=False)),
        sl.LIF(),
    ).eval()
    conv.weight.data.abs_()
    x = torch.full((3, 2, 1, 4, 4), 3.0)
    deploy.export_c(net, x, tmp_path / "quiet.c", dtype=dtype)
    text = SILENT.replace("quiet_N", "16").replace(
        "QUIET_MOVED", "moved1 || moved2 || moved3 || moved4 || moved5"
    )
    (tmp_path / "main.c").write_text(text.replace("QUIET_STEADY", "steady2 && steady5"))
    assert GCC is not None
    subprocess.run([GCC, *STRICT, "main.c", "-o", "main"], check=True, cwd=tmp_path)
    assert subprocess.run([tmp_path / "main"], check=False).returncode == 0


def test_text_is_the_same_each_time_and_holds_no_path() -> None:
    net, x = mixed()
    assert emit(deploy.lower(net, x), "net") == emit(deploy.lower(net, x), "net")
    assert str(Path.cwd()) not in emit(deploy.lower(net, x), "net")[1]


def test_nothing_is_written_of_what_is_refused(tmp_path: Path) -> None:
    x = torch.rand(2, 1, 4)
    good = nn.Sequential(sl.PerStep(nn.Linear(4, 4)), sl.LIF()).eval()
    bad = nn.Sequential(sl.PerStep(nn.Linear(4, 4)), sl.LIF(), sl.PerStep(nn.LayerNorm(4))).eval()
    with pytest.raises(deploy.Unsupported, match=r"layer '2.0' is a LayerNorm"):
        deploy.export_c(bad, x, tmp_path / "net.c")
    for options, words in (
        ({"path": "net.cpp"}, "my_net.c"),
        ({"path": "1net.c"}, "my_net.c"),
        ({"path": "net.c", "dtype": "int4"}, "'float' or 'int8'"),
        ({"path": "net.c", "bits": 8}, "options of quantising"),
        ({"path": "net.c", "dtype": "int8", "bits": 12}, "1 to 8 bits"),
    ):
        path = tmp_path / str(options.pop("path"))
        with pytest.raises(ValueError, match=words):
            deploy.export_c(good, x, path, **options)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        deploy.export_c(good, x, tmp_path / "none" / "net.c")
    assert list(tmp_path.iterdir()) == []
    noisy = nn.Sequential(sl.PerStep(nn.Linear(4, 4)), sl.NoisyLIF()).eval()
    with pytest.raises(deploy.Unsupported, match="further inputs"):
        deploy.lower(noisy, x)
    with pytest.raises(deploy.Unsupported, match="fp32"):
        deploy.lower(good.double(), x.double())
