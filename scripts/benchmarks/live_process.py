"""A side's process: started, watched each second, and killed with all its children when its time is up."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

_LOOK_EVERY: Final = 1.0  # seconds


@dataclass(frozen=True)
class Ending:
    """How a process went."""

    seconds: float
    exit_status: int | None  # None where it was killed because its time was up
    peak_mib: int  # the most that it and its children held in memory at once, as sampled


@contextmanager
def ending_tidily() -> Iterator[None]:
    """Let SIGTERM end this process as an exception does, so that no side that it has started outlives it."""
    previous = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def run_until(
    command: list[str],
    budget: float,
    log: Path,
    look: Callable[[float], None],
    environment: Mapping[str, str] | None = None,
) -> Ending:
    """Run `command` until it ends or `budget` seconds are over; none of its processes is left.

    Args:
        command: Program and arguments.
        budget: Seconds of wall-clock time, from before the process is started.
        log: File for what it prints.
        look: Called every second with the time since the start, and once when all is over.
        environment: Added to this process's; so is RACE_STARTED, the start as `time.time` counts.
    """
    started = time.time()
    variables = {**os.environ, **(environment or {}), "RACE_STARTED": str(started)}
    peak, status = 0, None
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=variables, start_new_session=True
        )
        try:
            while status is None and (left := started + budget - time.time()) > 0:
                with suppress(subprocess.TimeoutExpired):
                    status = process.wait(min(_LOOK_EVERY, left))
                peak = max(peak, _memory(process.pid))
                look(time.time() - started)
        finally:
            _kill(process)
    seconds = min(time.time() - started, budget)
    look(seconds)
    return Ending(seconds, status, peak >> 20)


def _memory(pid: int) -> int:
    """Return the resident memory of a process and all below it, in bytes; shared pages count in each."""
    total = 0
    for process in _tree(pid):
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def _tree(pid: int) -> Iterable[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process, its session, and those below it that have left the session."""
    below = _tree(process.pid)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for each in below:
        with suppress(psutil.Error):
            each.kill()
    process.wait()
    psutil.wait_procs([each for each in below if each.pid != process.pid], timeout=10)
