"""Cores, accelerators and memory of this machine, and how training processes share them."""

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psutil

from pneumosearch._utils.cgroups import cpu_quota, memory_left

#: Memory of a training process at 150 pixels in bytes: 1.0 GB after the first trial, 1.7 GB after the tenth.
#: Measured with `scripts/bench trial`; see results/LOG.md.
PROCESS_MEMORY: Final = 1_700_000_000

#: Environment variables for the number of threads of a process; the first is TensorFlow's.
THREADS: Final = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")

#: Environment variables that let processes share an accelerator: each allocates memory only as it needs it.
GROWING: Final = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}

_WINDOWS_CUDA: Final = Path("/usr/lib/wsl/lib/libcuda.so.1")


def environments(
    workers: int, *, cores: int | None = None, devices: Sequence[str] | None = None
) -> list[dict[str, str]]:
    """Return the environment variables of each of `workers` training processes. Variables set by the user win.

    A single process gets the whole machine. Of several processes, each gets an equal share of the cores (at least one)
    and one accelerator, round robin; processes on the same accelerator share its memory.

    Args:
        workers: Number of processes at the same time.
        cores: Number of cores to share; by default those that this process may use.
        devices: Accelerators as in `CUDA_VISIBLE_DEVICES`; by default all that are visible.
    """
    if workers == 1:
        return [{}]
    shared = thread_variables(max(1, (usable_cores() if cores is None else cores) // workers))
    found = visible_devices() if devices is None else devices
    if not found:
        return [dict(shared) for _ in range(workers)]
    return [{**shared, "CUDA_VISIBLE_DEVICES": found[number % len(found)]} for number in range(workers)]


def usable_cores() -> int:
    """Return the number of cores that this process may use: its CPU affinity, limited by the quota of its container."""
    allowed = _allowed_cores()
    quota = cpu_quota()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def quota_variables() -> dict[str, str]:
    """Return the variables that keep a process within its CPU quota, which libraries ignore; empty without a quota."""
    cores = usable_cores()
    return thread_variables(cores) if cores < _allowed_cores() else {}


def _allowed_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_variables(threads: int) -> dict[str, str]:
    """Return the environment variables that set the number of threads, except those that are already set."""
    return {name: str(threads) for name in THREADS if name not in os.environ}


def threads_a_training() -> int:
    """Return the number of threads of a training in this process; the last digits of its results depend on it."""
    given = os.environ.get(THREADS[0], "")
    return int(given) if given.isdecimal() and int(given) > 0 else usable_cores()


def visible_devices(folder: Path = Path("/dev"), windows_cuda: Path = _WINDOWS_CUDA) -> list[str]:
    """Return the NVIDIA accelerators: those in `CUDA_VISIBLE_DEVICES`, or all if it is not set.

    Args:
        folder: Folder of the device files.
        windows_cuda: CUDA library of the Windows Subsystem for Linux, which shows all accelerators as one device.
    """
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [name.strip() for name in allowed.split(",") if name.strip() not in ("", "-1")]
    numbers = (re.fullmatch(r"nvidia(\d+)", path.name) for path in folder.glob("nvidia*"))
    found = sorted((match[1] for match in numbers if match), key=int)
    return found or (["0"] if (folder / "dxg").exists() and windows_cuda.exists() else [])


def free_memory() -> int:
    """Return the bytes that this process may still take: of the machine, or of its container if less."""
    free, left = int(psutil.virtual_memory().available), memory_left()
    return free if left is None else min(free, left)


def memory_warning(workers: int) -> str | None:
    """Return a warning if `workers` training processes may not fit into free memory, otherwise None."""
    free = free_memory()
    if workers * PROCESS_MEMORY <= free:
        return None
    fit = max(1, free // PROCESS_MEMORY)
    return (
        f"{workers} training processes may need {workers * PROCESS_MEMORY / 1e9:.1f} GB, but {free / 1e9:.1f} GB are "
        f"free; --workers {fit} is safer"
    )
