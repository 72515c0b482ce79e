"""This machine shared out among training processes: cores, accelerators, memory."""

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psutil

from pneumosearch._utils.cgroups import cpu_quota, memory_left

#: What a training process takes at 150 pixels, in bytes: 1.0 GB after the first trial, 1.7 GB after the tenth.
#: Measured by `scripts/bench trial`; figures in results/LOG.md.
PROCESS_MEMORY: Final = 1_700_000_000

#: Environment variables that say with how many threads a process computes; the first is TensorFlow's.
THREADS: Final = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")

#: Those by which a process takes an accelerator's memory as it needs it, so that several processes share one.
GROWING: Final = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}

_WINDOWS_CUDA: Final = Path("/usr/lib/wsl/lib/libcuda.so.1")


def environments(
    workers: int, *, cores: int | None = None, devices: Sequence[str] | None = None
) -> list[dict[str, str]]:
    """Return the environment variables of each of `workers` training processes; what the user has set wins.

    A process alone has the whole machine, as its libraries see it. Of several, each has an equal share of the cores (at
    least one) and one of the accelerators, in turn.

    Args:
        workers: How many at once.
        cores: Of this machine; those that this process may use where not given.
        devices: Accelerators, as `CUDA_VISIBLE_DEVICES` names them; those that can be seen where not given.
    """
    if workers == 1:
        return [{}]
    shared = thread_variables(max(1, (usable_cores() if cores is None else cores) // workers))
    found = visible_devices() if devices is None else devices
    if not found:
        return [dict(shared) for _ in range(workers)]
    return [{**shared, "CUDA_VISIBLE_DEVICES": found[number % len(found)]} for number in range(workers)]


def usable_cores() -> int:
    """Return how many cores this process may use: those it may run on, or the CPU quota of its container if less."""
    allowed = _allowed_cores()
    quota = cpu_quota()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def quota_variables() -> dict[str, str]:
    """Return the variables that keep a process within its CPU quota, which its libraries do not see; none without."""
    cores = usable_cores()
    return thread_variables(cores) if cores < _allowed_cores() else {}


def _allowed_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_variables(threads: int) -> dict[str, str]:
    """Return the environment variables by which a process computes with so many threads, but those already set."""
    return {name: str(threads) for name in THREADS if name not in os.environ}


def threads_a_training() -> int:
    """Return how many threads a training of this process has. The last digits of its numbers depend on them."""
    given = os.environ.get(THREADS[0], "")
    return int(given) if given.isdecimal() and int(given) > 0 else usable_cores()


def visible_devices(folder: Path = Path("/dev"), windows_cuda: Path = _WINDOWS_CUDA) -> list[str]:
    """Return NVIDIA's accelerators as `CUDA_VISIBLE_DEVICES` names them: those that it allows, or all there are.

    Args:
        folder: Of the system's devices.
        windows_cuda: NVIDIA's library in the Windows Subsystem for Linux, which shows all accelerators as one device.
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
    """Say that so many processes may not fit into this machine's memory; None where they do."""
    free = free_memory()
    if workers * PROCESS_MEMORY <= free:
        return None
    fit = max(1, free // PROCESS_MEMORY)
    return (
        f"{workers} training processes may take {workers * PROCESS_MEMORY / 1e9:.1f} GB, and {free / 1e9:.1f} GB are "
        f"free; --workers {fit} is safer"
    )
