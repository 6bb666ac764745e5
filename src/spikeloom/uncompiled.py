"""Running compiled code uncompiled, where a thread-local decides what happens."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_lock = threading.Lock()
_running = 0
_stance: Any = None


@contextmanager
def uncompiled(what: str) -> Iterator[None]:
    """Run compiled code uncompiled while any thread is inside of this.

    A graph compiled outside would be replayed inside, blind to a thread-local: Dynamo guards on none. Its
    stance is the process's, hence the count. `what` names the caller, for the message.
    """
    global _running, _stance
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and importing it takes a second
        yield
        return
    with _lock:
        if _running == 0:
            try:
                _stance = torch.compiler.set_stance("force_eager")
            except RuntimeError as error:
                raise RuntimeError(
                    f"{what} is called inside compiled code; it runs uncompiled: call it outside of "
                    "torch.compile"
                ) from error
        _running += 1
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            if _running == 0:
                _stance.__exit__(None, None, None)
