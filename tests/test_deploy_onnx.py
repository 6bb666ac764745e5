"""ONNX files, run by onnxruntime, against the networks that they were written from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from zoo import NEURONS

import spikeloom as sl
from spikeloom.deploy.onnx import ExportError, check_onnx, onnx_model, to_onnx

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from spikeloom.deploy.onnx.check import session


@pytest.fixture(autouse=True)
def _truth() -> Iterator[None]:
    with sl.backend("eager"):  # no kernel to compile
        yield


def lively(net: nn.Module, x: Tensor) -> nn.Module:
    """Return the network in evaluation, its norms settled on inputs like x, its thresholds low."""
    net.train()
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 0.7
    with torch.no_grad():
        for _ in range(3):
            net(x)
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.bias += 0.1
            if isinstance(module, sl.Neuron):
                module.v_threshold = 0.2
    return net.eval()


def equal(net: nn.Module, x: Tensor, rtol: float = 0.0, **options: Any) -> Tensor:
    """Check that a file gives what the network does, at x's sizes, and where they are open, at others."""
    run = session(onnx_model(net, x, **options))
    sizes = [tuple(x.shape[:2])]
    if options.get("open_axes", "TB") == "TB" and options.get("loop") != "unrolled":
        sizes += [(1, 1), (7, 3)]
    outs = []
    for steps, batch in sizes:
        z = x if (steps, batch) == sizes[0] else x.flatten(0, 1)[torch.arange(steps * batch) % len(x)]
        z = z.reshape(steps, batch, *x.shape[2:])
        with torch.no_grad():
            wanted = sl.fold(net)(z)
        got = torch.from_numpy(run.run(["y"], {"x": z.numpy()})[0])
        assert got.shape == wanted.shape
        if rtol:
            torch.testing.assert_close(got, wanted, rtol=rtol, atol=rtol)
        else:
            assert torch.equal(got, wanted)
        outs.append(wanted)
    assert outs[0].std() > 0, "a silent network shows nothing"
    return outs[0]


@pytest.mark.parametrize("name", [name for name in NEURONS if name not in ("NoisyLIF", "DendSN")])
@pytest.mark.parametrize("loop", ["scan", "unrolled"])
def test_every_neuron_to_the_bit(name: str, loop: str) -> None:
    entry, x = NEURONS[name], NEURONS[name].input(6, 2, 3, 5)
    for options in [{}, *list(entry.variants())[-1:]]:
        equal(entry.make(**options).eval(), x, loop=loop)
    equal(entry.make(**entry.tensors("channel", [2, 3, 5])).eval(), x, loop=loop)


def conv() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        sl.PerStep(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)),
        sl.LIF(tau=torch.rand(4) + 1.5),
        sl.PerStep(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 10)),
        sl.PLIF(),
    )


@pytest.mark.filterwarnings("ignore:fold leaves")
@pytest.mark.parametrize("loop", ["scan", "unrolled"])
def test_networks_to_the_bit(loop: str) -> None:
    torch.manual_seed(0)
    x = 3 * torch.rand(4, 2, 2, 8, 8)
    equal(lively(conv(), x), x, loop=loop)
    fed = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, bias=False))
    equal(sl.Recurrent(sl.LIF(), fed).eval(), x, 1e-6, loop=loop)
    tokens = nn.Sequential(
        sl.Recurrent(sl.LIF(), nn.Linear(8, 8)), sl.NormNeuron(nn.BatchNorm1d(8), sl.IF(), channel_axis=-1)
    )
    y = 3 * torch.randn(4, 2, 8, 8)
    equal(lively(tokens, y), y, loop=loop)


MODELS = {
    "conv_snn": ({"channels": (4, 6), "image_size": 8}, (1, 8, 8)),
    "sew_resnet18": ({}, (3, 32, 32)),
    "spikformer_4_384_cifar10": ({"dim": 32, "depth": 1, "heads": 2}, (3, 32, 32)),
    "spike_driven_transformer_2_256_cifar10_dvs": ({"dim": 32}, (2, 64, 64)),
}


@pytest.mark.parametrize("name", MODELS)
def test_models(name: str) -> None:
    torch.manual_seed(0)
    options, shape = MODELS[name]
    net, x = sl.create_model(name, **options), 2 * torch.rand(2, 2, *shape)
    equal(lively(net, x), x, 1e-5, open_axes="" if "sew" in name else "TB")


class Functions(nn.Module):
    """Whatever a forward may call, at axes counted from either end."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 2)
        y = torch.cat([a.transpose(-1, -2).mT, (1 - b).movedim(2, -1).permute(0, 1, 4, 2, 3)], dim=2)
        y = y.unflatten(-1, (2, -1)).sum((-1,), keepdim=True).squeeze(-1) / x.shape[0]
        z = torch.stack([t * 2 for t in y.unbind(2)], 2)[..., 1:, None, 0]
        z = torch.where(z > 1, z.clamp(max=3.0), functional.gelu(z) - torch.maximum(z, -z.abs()))
        pooled = functional.max_pool2d(
            functional.pad(-x.abs().flatten(0, 1), (1, 1, 0, 1)), 2, ceil_mode=True
        )
        pooled = functional.avg_pool2d(functional.pad(pooled, (1, 0, 0, 2)), (2, 1), 1, (1, 0))
        w = functional.glu(pooled.unflatten(0, x.shape[:2]), 2).flatten(3)
        y = torch.cat([z.reshape(*x.shape[:2], -1), w.amax(2), w.mean(-1).cumsum(2)], -1)
        return y @ torch.ones(y.shape[-1], 3)


def test_functions() -> None:
    torch.manual_seed(0)
    x = 3 * torch.randn(4, 2, 6, 4, 4)
    found = equal(Functions().eval(), x, 1e-5)
    assert found.shape == (4, 2, 3)


def test_a_stream_goes_on_from_states() -> None:
    torch.manual_seed(0)
    net, x = lively(conv(), 3 * torch.rand(4, 2, 2, 8, 8)), 3 * torch.rand(9, 2, 2, 8, 8)
    net.append(sl.Recurrent(sl.LIF(v_reset=-0.5), nn.Linear(10, 10))).eval()
    run = session(onnx_model(net, x[:2], states=True))
    names = [i.name for i in run.get_overridable_initializers()]
    stream, fed, given = sl.Stream(sl.fold(net)), [], {}  # type: ignore[var-annotated]
    for chunk in x.split([4, 1, 4]):
        y, *last = run.run(None, {"x": chunk.numpy(), **given})
        fed.append(torch.from_numpy(y))
        given = dict(zip(names, last, strict=True))
        wanted = stream(chunk)
        assert torch.equal(fed[-1], wanted)
        assert set(names) == set(stream.state)
        for name in names:
            torch.testing.assert_close(torch.from_numpy(given[name]), stream.state[name])
    assert [o.name for o in run.get_outputs()] == ["y", *(f"{name}:next" for name in names)]


class OfAStep(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x_t * (i + 1) for i, x_t in enumerate(x)])


class Sorted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sort().values


class OfItself(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * float(x.mean())


class Slow(sl.IF):
    eager = True


@pytest.mark.filterwarnings("ignore:Slow runs its step")
def test_what_cannot_be_written_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    x, path = torch.rand(3, 2, 4), tmp_path / "net.onnx"
    for layer, message in {
        OfAStep(): r"'1'.*open_axes",
        Sorted(): r"sort\(\) '1' has no counterpart",
        OfItself(): r"'1' has an argument that depends on the input",
        Slow(): r"Slow '1': its class says eager",
        sl.NoisyLIF(): r"NoisyLIF '1' draws noise",
        sl.PerStep(nn.Linear(4, 4).double()): r"float32.*float64.*net.float\(\)",
        sl.nn.EGRU(4, 4): "EGRU '1'",
    }.items():
        net = nn.Sequential(sl.PerStep(nn.Linear(4, 4)), layer).eval()
        with pytest.raises(ExportError, match=message):
            to_onnx(net, x, path)
    assert not list(tmp_path.iterdir())
    equal(nn.Sequential(sl.IF(), OfAStep()).eval(), x + 1, open_axes="B")
    hooked = nn.Sequential(sl.PerStep(nn.Linear(4, 4))).eval()
    hooked[0][0].register_forward_hook(lambda module, args, out: out + 1)
    with pytest.raises(ExportError, match=r"Linear '0.0' has hooks"):
        to_onnx(hooked, x, path)
    for options in ({"loop": "while"}, {"open_axes": "H"}):
        with pytest.raises(ValueError, match="take"):
            to_onnx(sl.IF().eval(), x, path, **options)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="training mode"):
        to_onnx(sl.IF(), x, path)


def test_files_are_checked(tmp_path: Path) -> None:
    net, x, path = sl.LIF().eval(), 3 * torch.rand(3, 2, 4), tmp_path / "net.onnx"
    to_onnx(net, x, path)
    agreement = check_onnx(path, net, x)
    assert agreement is not None
    assert (agreement.equal, agreement.largest) == (1.0, 0.0)
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]
    data = path.read_bytes()
    for bad in (b"", data[: len(data) // 2], b"\0" * 100, data.replace(b"Scan", b"Spam")):
        path.write_bytes(bad)
        with pytest.raises(ExportError, match="no valid ONNX file"):
            check_onnx(path)
    with pytest.raises(ExportError, match="no valid ONNX file"):
        check_onnx(tmp_path / "none.onnx")
