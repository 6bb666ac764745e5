"""Memory of freed CPU tensors, kept for the next ones."""

from __future__ import annotations

import ctypes
import functools
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


@functools.cache
def keep_freed_memory() -> bool:
    """Let this process keep the memory of freed CPU tensors for the next ones; return whether it can.

    The C library of Linux (glibc) takes each block of more than 32 MiB from the system and gives it back when
    it is freed, so that every page of the next one faults anew: a copy into a fresh tensor takes about three
    times as long as one into ready memory. After this call the main thread's blocks of any size come from the
    heap, which keeps them. The process then holds on to as much memory as it ever needed, and up to a few of
    its largest blocks more, for gaps between them.

    It acts on the whole process, PyTorch and all, so it is for programs to call, first of all, not for
    libraries. Without glibc (other systems, musl) it does nothing and returns False.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
