"""How the benchmarks report: options, fresh processes, tables, the machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

# read before our own work adds to it
_LOAD = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


@dataclass
class Table:
    """A table for the terminal and for docs/benchmarks.md, with notes below."""

    title: str
    columns: Sequence[str] = ()
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        if len(cells) != len(self.columns):
            raise ValueError(f"{len(cells)} cells for {len(self.columns)} columns of {self.title!r}")
        self.rows.append([str(cell) for cell in cells])

    def markdown(self) -> str:
        lines = [_line(self.columns), _line("---" for _ in self.columns), *(_line(row) for row in self.rows)]
        return "\n".join([f"### {self.title}", "", *lines, "", *self.notes, ""])

    def show(self) -> None:
        from rich.console import Console
        from rich.table import Table as Rich

        rich = Rich(
            title=self.title, title_justify="left", caption="\n".join(self.notes), caption_justify="left"
        )
        for i, column in enumerate(self.columns):
            rich.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
        for row in self.rows:
            rich.add_row(*row)
        Console().print(rich)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def machine() -> dict[str, str]:
    """Describe what it was measured on."""
    return {
        "CPU": _cpu(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        **({"GPU": torch.cuda.get_device_name(), "CUDA": str(torch.version.cuda)} if has_gpu() else {}),
        "torch": torch.__version__,
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "load before": f"{_LOAD:.1f}" + (" (BUSY: do not trust these figures)" if _LOAD > 0.5 else ""),
    }


def has_gpu() -> bool:
    """Whether torch sees a CUDA (or ROCm) device."""
    return torch.cuda.is_available()


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def arguments(description: str, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"rounds of measurement ({rounds})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures, too")
    parser.add_argument("--markdown", action="store_true", help="print the table for docs/benchmarks.md")
    return parser


def in_fresh_process(script: str, *arguments: object, environment: Mapping[str, str] | None = None) -> Any:
    """Run a script with this Python in a new process; return the JSON that its last line prints."""
    command = [sys.executable, script, *(str(argument) for argument in arguments)]
    done = subprocess.run(
        command, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def report(tables: Iterable[Table], options: argparse.Namespace, figures: Any) -> None:
    """Print the tables and the machine, and write the figures (dataclasses and all) where asked to."""
    for table in tables:
        if options.markdown:
            print(table.markdown())
        else:
            table.show()
    here = machine()
    print("; ".join(f"{key}: {value}" for key, value in here.items()))
    if options.json:
        written = {"machine": here, "figures": figures}
        options.json.write_text(json.dumps(written, indent=1, default=asdict) + "\n")
