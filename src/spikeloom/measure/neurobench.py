"""Our networks in the harness of NeuroBench (Yik et al. 2025, arXiv:2304.04640), which is not needed here.

from neurobench.benchmarks import Benchmark
from neurobench.models import TorchModel

model = sl.measure.neurobench_model(net, TorchModel)
report = Benchmark(model, loader, [], [], metrics).run()
sl.measure.neurobench_gaps(report, sl.measure.profile(net, x))  # []
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from torch import Tensor, nn

from ..nn.time import spiking_layers
from .report import Profile

Model = TypeVar("Model")
_SUM = 1e-5  # the harness adds counts up in single precision


class BatchFirst(nn.Module):
    """A network whose batch is axis 0, as the harness has it: `[B, T, ...]` to `[B, T, K]` or `[B, K]`.

    Arguments:
        net: maps `[T, B, ...]` to `[T, B, K]`, or to `[B, K]`.
        timed: whether samples have a time axis; without, a batch is handed on as it is.
    """

    def __init__(self, net: nn.Module, timed: bool = True) -> None:
        super().__init__()
        self.net, self.timed = net, timed

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's outputs, the batch first."""
        y: Tensor = self.net(x.transpose(0, 1) if self.timed else x)
        return y.transpose(0, 1) if y.ndim > 2 else y


def neurobench_model(net: nn.Module, model: Callable[[nn.Module], Model], timed: bool = True) -> Model:
    """Return a network as the harness takes it.

    Its layers are the network's own, so that its hooks see what flows; what fires, also within a
    `Recurrent`, is named to it as an activation. Nothing is to be reset, since a call begins anew.

    Arguments:
        net: the network; it is put into evaluation mode.
        model: the harness's class of networks, `neurobench.models.TorchModel`, or one like it.
        timed: as in `BatchFirst`.
    """
    made: Any = model(BatchFirst(net, timed).eval())
    for kind in dict.fromkeys(type(layer) for _, layer, _ in spiking_layers(net)):
        made.add_activation_module(kind)
    return cast(Model, made)


def neurobench_gaps(report: Mapping[str, Any], found: Profile) -> list[str]:
    """Return where a report says something else than our own counts of the same samples; none if nowhere.

    The harness swallows errors and then says 0.0 or None; products it sees of `nn.Linear` and `nn.Conv1d` to
    `nn.Conv3d` alone, called as modules. By definition it counts no weight that is 0, so that effective
    operations may be fewer where it reports a ConnectionSparsity, and no padding, so that dense ones may be
    fewer of convolutions.

    Arguments:
        report: what `Benchmark.run` returned; ParameterCount, ActivationSparsity and SynapticOperations are
            looked at, as far as they are there.
        found: what `profile` says.
    """
    whole: tuple[float, bool] = found.parameters, False
    ours = {"ParameterCount": whole}  # by name: the figure, and whether theirs may be less
    if not math.isnan(found.firing_rate):
        ours["ActivationSparsity"] = 1 - found.firing_rate, False
    theirs = {name: report[name] for name in ours if name in report}
    if "SynapticOperations" in report:
        said = report["SynapticOperations"] or {}  # 0.0 where the metric failed
        theirs["Effective"] = said.get("Effective_MACs", 0.0) + said.get("Effective_ACs", 0.0)
        theirs["Dense"] = said.get("Dense", 0.0)
        ours["Effective"] = (
            math.fsum(row.effective for row in found.rows),
            bool(report.get("ConnectionSparsity")),
        )
        ours["Dense"] = found.dense, any(row.kind.startswith("Conv") for row in found.rows)
    return [
        f"{name}: {said} in the report, {ours[name][0]:g} counted here"
        for name, said in theirs.items()
        if said is None or not _agree(said, *ours[name])
    ]


def _agree(theirs: float, ours: float, less: bool) -> bool:
    close = math.isclose(theirs, ours, rel_tol=_SUM, abs_tol=1e-9)
    return close or (less and 0 < theirs < ours)
