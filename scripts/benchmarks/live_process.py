"""The process of a side: started, observed every second, killed with all its children when its time is up."""

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
    """How a process ended."""

    seconds: float
    exit_status: int | None  # None if it was killed because its time was up
    peak_mib: int  # largest sampled memory of the process and its children


@contextmanager
def ending_tidily() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that no side outlives this process."""
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
    """Run `command` until it ends or `budget` seconds are over; all its processes end.

    Args:
        command: Program and arguments.
        budget: Seconds of wall-clock time, including the start of the process.
        log: File for the output.
        look: Called with the seconds since the start, every second and once at the end.
        environment: Environment variables to add; RACE_STARTED, the start as in `time.time`, is added too.
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
    """Return the resident memory of a process and its descendants in bytes; shared pages count several times."""
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
    """Kill a process, its session, and descendants that have left the session."""
    below = _tree(process.pid)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for each in below:
        with suppress(psutil.Error):
            each.kill()
    process.wait()
    psutil.wait_procs([each for each in below if each.pid != process.pid], timeout=10)
