"""The benchmarks' arithmetic, and that they run; what they measure is no test."""

import json
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)


def test_ratios_of_medians_and_of_rounds():
    from harness import Ratio, Timing

    slow, fast = Timing((6.0, 8.0, 40.0)), Timing((1.0, 2.0, 4.0))
    assert Ratio.of(slow, fast) == Ratio(medians=4.0, rounds=6.0)
    assert str(Ratio.of(slow, fast)) == "4.00 / 6.00x"


def test_timing_in_milliseconds():
    from harness import Timing

    assert str(Timing((0.001234, 0.5, 0.0001))) == "1.23 (0.100 - 500)"


def test_floor_is_five_halves_of_a_copy():
    from harness import Timing, floor

    assert floor(Timing((0.2, 0.4))).rounds == (0.5, 1.0)


def test_rounds_are_interleaved_and_gradients_freed():
    from harness import Run, interleave

    leaf = torch.zeros((), requires_grad=True)
    calls = []

    def step(name):
        assert leaf.grad is None
        leaf.grad = torch.ones(())
        calls.append(name)

    runs = {name: Run(lambda name=name: step(name), (leaf,)) for name in "ab"}
    timings = interleave(runs, 2, warmup=1, at_least=0.0)
    assert "".join(calls) == "aabb" + "abab"
    assert all(len(timing.rounds) == 2 for timing in timings.values())


def test_what_comes_before_a_call_is_not_timed():
    from harness import Run, Timing

    done = []

    def clock(call):
        done.append("clock")
        call()
        return 3.0

    run = Run(lambda: done.append("call"), before=lambda: done.append("before"), clock=clock)
    assert run.seconds(2) == 3.0
    assert done == ["before", "clock", "call"] * 2
    assert (Timing((1.0, 2.0)) + Timing((3.0, 5.0))).rounds == (4.0, 7.0)


def test_the_clock_is_the_devices():
    from harness import CPU, clock_of, events, wall

    assert clock_of(CPU) is wall
    assert clock_of(torch.device("cuda")) is events
    assert 0 <= wall(lambda: None) < 1


def test_growth_of_memory_at_its_peak():
    from harness import peak_growth

    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("read from /proc")
    size = 64 << 20
    grown = peak_growth(lambda: torch.ones(size, dtype=torch.uint8))
    assert 0.9 * size < grown < 1.5 * size


@pytest.fixture
def truth():
    from harness import Passed

    spikes = torch.tensor([[0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    return Passed(spikes, torch.ones(2, 2, dtype=torch.float64), (torch.tensor(2.0, dtype=torch.float64),))


def test_deviation_leaves_out_the_gradients_of_flipped_neurons(truth):
    from harness import Deviation, Passed

    spikes, gradient = truth.output.float(), truth.input_gradient.float()
    spikes[0, 0] = 1.0
    gradient[:, 0], gradient[0, 1] = 9.0, 1.25
    off = Deviation.of(Passed(spikes, gradient, (torch.tensor(2.5),)), truth)
    assert off == Deviation(flips=1, count=4, input_gradient=0.25, parameter_gradients=0.25)
    with pytest.raises(RuntimeError, match=r"1 of 4 outputs differ; the input's gradient is off by 0.25"):
        off.assert_small("a neuron")


@pytest.mark.parametrize("gradients", [True, False])
def test_deviation_within_rounding_passes(truth, gradients):
    from harness import Deviation, Passed

    scale = 1.0 if gradients else 3.0  # another surrogate: its gradients are not compared
    passed = Passed(truth.output.float(), truth.input_gradient.float() * scale, truth.parameter_gradients)
    Deviation.of(passed, truth).assert_small("a neuron", gradients=gradients)


def test_kept_bytes_count_a_storage_once():
    from harness import kept_bytes

    x = torch.randn(3, 5, requires_grad=True)
    assert kept_bytes(lambda: x * x) == 3 * 5 * 4
    assert kept_bytes(lambda: x[0] * x[1]) == 3 * 5 * 4
    assert kept_bytes(lambda: x.exp().exp()) == 2 * 3 * 5 * 4
    assert kept_bytes(lambda: x + 1) == 0


def test_table_in_markdown():
    from harness import Table

    table = Table("A title", ("a", "b"), notes=["A note."])
    table.add("x|y", 1)
    assert table.markdown() == "### A title\n\n| a | b |\n| --- | --- |\n| x\\|y | 1 |\n\nA note.\n"
    with pytest.raises(ValueError, match="3 cells for 2 columns"):
        table.add(1, 2, 3)


def test_a_rival_that_is_absent_is_named():
    from rivals import Library

    assert Library("None such", "no_such_module.inner", {}).problem() == "not installed"
    assert Library("Broken", "json.no_such_part", {}).problem().startswith("does not import: ")


def test_neurons_runs(tmp_path, capsys):
    import neurons
    from rivals import LIBRARIES

    figures = tmp_path / "figures.json"
    neurons.main(
        ["--cases", "lif-T4", "--shrink", "50000", "--rounds", "1", "--json", str(figures), "--markdown"]
    )
    printed = capsys.readouterr().out
    assert "| LIF, T=4, N=40 |" in printed
    assert all(f"| {library.name} |" in printed for library in LIBRARIES)
    (case,) = json.loads(figures.read_text())["figures"]
    assert case["rows"]["Spikeloom"]["kept"] == 4.0
    assert case["rows"]["Spikeloom"]["deviation"]["flips"] == 0


def test_an_unknown_case_is_refused(capsys):
    import neurons

    with pytest.raises(SystemExit):
        neurons.main(["--cases", "liff"])
    assert "no case liff; there are lif-T4" in capsys.readouterr().err


def test_network_runs(capsys):
    import network

    network.main(["--batch", "2", "--size", "8", "--rounds", "1", "--markdown"])
    assert "| Spikeloom, channels-last |" in capsys.readouterr().out


@pytest.fixture
def in_this_process(monkeypatch):
    """Let a benchmark measure here what it measures in fresh processes."""

    def measure(module, name):
        return lambda library, size: getattr(module, name)(library, size)

    return lambda module, name: monkeypatch.setattr(module, "_in_fresh_process", measure(module, name))


SMALL = ["--sizes", "12", "--steps", "6", "--batch", "3", "--checked", "4", "--rounds", "2"]


def test_open_neuromorphic_runs(tmp_path, capsys, in_this_process):
    import open_neuromorphic

    in_this_process(open_neuromorphic, "alone")
    figures = tmp_path / "figures.json"
    open_neuromorphic.main([*SMALL, "--markdown", "--json", str(figures)])
    assert "### Linear(12, 12) and LIF, T=6, batch 3, fp32, cpu" in capsys.readouterr().out
    (found,) = json.loads(figures.read_text())["figures"]
    assert found["rows"]["Spikeloom"]["spikes_off"] == 0
    assert all(len(found["rows"]["Spikeloom"][way]["rounds"]) == 2 for way in ("forward", "backward"))


def test_open_neuromorphic_times_no_other_layer(monkeypatch):
    import open_neuromorphic
    from rival_layers import Layer
    from torch import nn

    import spikeloom as sl

    def other(linear):
        net = nn.Sequential(linear, sl.LIF(tau=2.1))
        return Layer(linear, net, net)

    def broken(linear):
        raise OSError("no library")

    monkeypatch.setattr(open_neuromorphic, "_in_fresh_process", open_neuromorphic.alone)
    for name, maker in (("Other", other), ("Broken", broken)):
        monkeypatch.setitem(open_neuromorphic.MAKERS, name, maker)
    found = open_neuromorphic.measure(open_neuromorphic.Size(n=30, steps=9, batch=4), checked=9, rounds=1)
    assert {"Spikeloom", open_neuromorphic.CEILING} <= set(found.rows)
    assert not {"Other", "Broken"} & set(found.rows)
    assert found.absent["Other"].startswith("Other is not the layer that it is compared with")
    assert found.absent["Broken"] == "no library"


def test_layers_in_time_or_batch_first_get_the_same_data():
    from rival_layers import Entrant, Layer, Size
    from torch import nn

    size = Size(n=5, steps=7, batch=3)
    x, g = size.data()
    linear = nn.Linear(5, 5)
    results = [Entrant(Layer(linear, linear, linear, axes), x, g).results() for axes in ("TBn", "BTn")]
    (first, gradients), (second, others) = results
    torch.testing.assert_close(first, second)
    for a, b in zip(gradients, others, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_open_neuromorphic_measures_no_gpu_where_there_is_none(capsys):
    import open_neuromorphic

    open_neuromorphic.main(["--device", "cuda"])
    assert capsys.readouterr().out == "no GPU: not measured\n"


def test_transformer_runs(capsys):
    import transformer

    size = ["--dim", "8", "--heads", "2", "--tokens", "3", "--steps", "2", "--batch", "2"]
    transformer.main([*size, "--rounds", "1", "--markdown"])
    printed = capsys.readouterr().out
    assert "### Training step, a Spikformer block, D=8, 2 heads, 3 tokens, T=2, batch 2" in printed
    for layout in ("tokens last", "channels first"):
        assert f"| Spikeloom, NormNeuron, {layout} |" in printed


@pytest.mark.parametrize("more", [(), ("--no-input-gradient",)])
def test_recurrent_runs(more, capsys):
    import recurrent

    recurrent.main(["--units", "6", "--steps", "5", "--batch", "2", "--rounds", "1", "--markdown", *more])
    printed = capsys.readouterr().out
    assert "n=6, Spikeloom" in printed
    assert ("x without gradient" in printed) == bool(more)


def test_a_block_is_the_same_in_both_layouts():
    import transformer

    blocks = transformer.entrants(transformer.Size(dim=8, heads=2, tokens=5, steps=3, batch=2))
    with torch.no_grad():
        last, first = (blocks[f"Spikeloom, {layout}"] for layout in transformer.LAYOUTS)
        y = last.net.block(last.x)
        torch.testing.assert_close(y, first.net.block(first.x).transpose(2, 3))
    assert y.max() > 1  # spikes add up along the residual


ON_CPU = ["--device", "cpu", "--rounds", "2", "--markdown"]
NO_GPU = not torch.cuda.is_available()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", ["gpu", "gpu_step"])
def test_gpu_benchmarks_measure_nothing_without_a_gpu(name, capsys):
    __import__(name).main([])
    assert capsys.readouterr().out == "no GPU: not measured\n"


def test_gpu_runs(capsys):
    import gpu

    gpu.main([*ON_CPU, "--parts", "neuron", "graph", "recurrent", "--steps", "3", "--neurons", "40"])
    printed = capsys.readouterr().out
    for dtype in ("float32", "bfloat16"):
        assert f"| LIF, T=3, N=40, {dtype}, cpu | Spikeloom |" in printed
    assert "| kernels a step of Recurrent, forward | 0.0 |" in printed  # none on a GPU


def test_gpu_compares_with_the_truth_of_the_rounded_input():
    import gpu

    case = gpu.Case(T=5, N=300, dtype=torch.bfloat16, device=torch.device("cpu"))
    (row,) = [row for name, row in gpu.neuron(case, rounds=1).rows.items() if name == "Spikeloom"]
    assert row.deviation.flips == 0
    assert 0 < row.deviation.input_gradient < gpu.NEAR[torch.bfloat16]
    assert row.kept == 2.0


def test_gpu_first_use_over_the_second(capsys, monkeypatch):
    import gpu

    taken = [5.0, 2.0]

    def wall(call):
        assert call() != 0  # a gradient's sum: both passes are done
        return taken.pop(0)

    monkeypatch.setattr(gpu, "wall", wall)
    gpu.main(["--device", "cpu", "--only", "first"])
    assert capsys.readouterr().out == "3.0\n"


def test_a_step_to_be_captured_trains():
    from gpu_graph import Training, losses

    training = Training(torch.device("cpu"))
    first, *_, last = losses(training, training.step, 12)
    assert last < first


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU, reason="needs a GPU")
def test_a_captured_step_is_the_step():
    from gpu_graph import graph

    assert set(graph(rounds=1, device=torch.device("cuda"))) == {"step", "replay"}


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU, reason="needs a GPU")
def test_clocks_of_a_gpu():
    from harness import events, queued

    x = torch.randn(1 << 22, device="cuda")
    assert 0 < queued(lambda: x + 1) < 1
    assert 0 < events(lambda: x + 1) < 1


TINY = ["--tiny", "--batch", "2", "--rounds", "1", "--no-memory", "--markdown"]


def test_models_run(capsys):
    import models

    models.main([*TINY, "--models", "qkformer"])
    printed = capsys.readouterr().out
    for version in (models.OURS, models.CEILING, models.FOLDED):
        assert f"| {version}, channels-last |" in printed


def test_models_times_no_other_network():
    import models

    found = models.entrants("spikformer", tiny=True, batch=2)
    models.check("spikformer", found)
    other = models.entrants("spikformer", tiny=True, batch=2)[f"{models.OURS}, channels-last"]
    with torch.no_grad():
        next(other.net.parameters()).mul_(1.5)
    with pytest.raises(RuntimeError, match=r"spikformer: another is not the same network: .* off by"):
        models.check("spikformer", {**found, "another": other})


def test_an_unknown_model_is_refused(capsys):
    import models

    with pytest.raises(SystemExit):
        models.main(["--models", "sew"])
    assert "no model sew; there are sew_resnet18, ms_resnet18" in capsys.readouterr().err


def test_sew_resnet_has_the_papers_parameters():
    from sew_resnet import ours

    assert sum(p.numel() for p in ours(1000).parameters()) == 11_689_512


def test_gpu_step_checks_and_times_a_network():
    import gpu_step

    cpu = torch.device("cpu")
    size = gpu_step.Size(steps=2, batch=1, pixels=32, classes=10)
    found = gpu_step.alone("Spikeloom", "channels-last", size, rounds=1, device=cpu)
    assert len(found["rounds"]) == 1
    assert found["peak"] == 0  # of a GPU's memory


def test_gpu_step_reports_what_failed_beside_what_ran(monkeypatch, capsys):
    import gpu_step

    def process(script, flag, name, layout, *words, environment):
        if "channels-last" in layout:
            raise RuntimeError("a process failed:\nOutOfMemoryError: too large")
        return {"rounds": [0.2, 0.1, 0.3], "first": 4.0, "peak": 2**30}

    monkeypatch.setattr(gpu_step, "in_fresh_process", process)
    names = ["Spikeloom", gpu_step.CEILING]
    gpu_step.main(["--device", "cpu", "--markdown", "--entrants", *names])
    printed = capsys.readouterr().out
    assert "| Spikeloom, contiguous | 200 (100 - 300) | - | 1.00x | 1.00 | 4.0 |" in printed
    assert "| Spikeloom, channels-last | OutOfMemoryError: too large | - | - | - | - |" in printed
