"""`spikeloom bench NAME`: run a benchmark of the source checkout."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ..names import unknown
from .arguments import Misuse, first_word

FOLDER = Path(__file__).resolve().parents[3] / "benchmarks"


def run(argv: Sequence[str]) -> int:
    """Run the verb; return the benchmark's exit code."""
    scripts = [path for path in sorted(FOLDER.glob("*.py")) if '__name__ == "__main__"' in path.read_text()]
    known = {path.stem: path for path in scripts}
    name, rest = first_word(argv, f"bench: the benchmark ({', '.join(known) or 'none here'})")
    if name is None:
        print(f"usage: spikeloom bench NAME [its options]\n\nbenchmarks: {', '.join(known)}")
        return 0
    if not known:
        raise Misuse(
            f"bench: no benchmarks in {FOLDER}; they come with the source checkout: clone it, and install it "
            "with `pip install -e .`"
        )
    if name not in known:
        raise unknown("benchmark", name, known)
    # a process of its own: a benchmark chooses its threads before torch starts
    return subprocess.run([sys.executable, str(known[name]), *rest], check=False).returncode
