"""Leases of trials: which process trains a trial, and whether it still lives. No trial is trained twice or lost.

They are ours because Optuna's heartbeat fails the trial of a lost process and repeats it under another number, with
another seed, waits for a process of this machine that is known to be dead, and does not exist over gRPC.
"""

import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import optuna
import psutil
from optuna.exceptions import UpdateFinishedTrialError

from pneumosearch.records.attributes import BEAT, OWNER, TAKEN_UP, HasAttributes, Owner, TakenUp
from pneumosearch.storage.optuna_private import trial_id

#: Seconds without a heartbeat after which the lease of a trial on another machine is suspected to have expired.
GRACE: Final = 60.0

#: Heartbeats in that time.
_BEATS: Final = 4

#: A trial that was claimed as often without a new epoch has failed: it ends whatever trains it.
MAX_CLAIMS: Final = 10


class LostLease(Exception):
    """Another process has reclaimed the trial, as it missed the heartbeats of this one."""


class Leased(HasAttributes, Protocol):
    """A trial, or another job that one process has."""

    @property
    def number(self) -> int:
        """Among its like."""


@dataclass
class Leases:
    """Finds the running trials whose lease has expired.

    On this machine, a lease expires with the process that holds it. On another, it expires when no heartbeat came for
    `grace` seconds of this machine's clock. A second look must confirm that, since the storage itself may have been
    away.
    """

    grace: float = GRACE
    clock: Callable[[], float] = time.monotonic
    # By trial: its last heartbeat, when that was first seen, and since when the lease is suspected.
    _seen: dict[int, tuple[Any, float, float | None]] = field(default_factory=dict, init=False)

    def expired(self, trial: Leased) -> bool:
        """Tell whether nobody trains the running `trial`, as far as this process can see."""
        owner = OWNER.of(trial)
        if owner is None:
            return True
        if owner.host == _host():
            return not _lives(owner)
        heartbeat, now = (owner, BEAT.of(trial)), self.clock()
        before, since, suspected = self._seen.get(trial.number, (None, now, None))
        if heartbeat != before:
            self._seen[trial.number] = (heartbeat, now, None)
        elif now - since > self.grace and suspected is None:
            self._seen[trial.number] = (heartbeat, since, now)
        return suspected is not None and heartbeat == before and now - suspected > self.grace / 2


def claim(trial: optuna.Trial, epochs: int) -> int:
    """Write that this process trains `trial`, which has `epochs`; return how often it was claimed since that epoch."""
    earlier = TAKEN_UP.of(trial)
    times = earlier.times + 1 if earlier and earlier.epochs == epochs else 1
    TAKEN_UP.set(trial, TakenUp(epochs=epochs, times=times))
    OWNER.set(trial, this_process())
    return times


def check_lease(trial: optuna.Trial) -> None:
    """Raise `LostLease` where another process has reclaimed the trial."""
    if not OWNER.on(trial):  # a loop that is not ours asked for the trial
        return
    if OWNER.of(trial.storage.get_trial(trial_id(trial))) != this_process():
        raise LostLease


@contextmanager
def heartbeats(storage: optuna.storages.BaseStorage, identifier: int, grace: float = GRACE) -> Iterator[None]:
    """Renew the lease of a trial while the block runs; others reclaim the trial after `grace` seconds without."""
    ended = threading.Event()

    def beat() -> None:
        count = 0
        while not ended.wait(grace / _BEATS):
            count += 1
            try:
                BEAT.set_by_id(storage, identifier, f"{os.getpid()}:{count}")
            except UpdateFinishedTrialError:
                return  # another process ended the trial, as the training will notice
            except Exception:  # noqa: BLE001, S112  the storage is away; the training meets it at its next epoch
                continue

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def this_process() -> Owner:
    """Return what identifies this process."""
    return identity(psutil.Process())


def identity(process: psutil.Process) -> Owner:
    """Return what identifies a process of this machine."""
    # On Linux psutil adds the time of boot, which moves when the clock is set; the time since then does not.
    started = process.create_time() - (psutil.boot_time() if psutil.LINUX else 0.0)
    return Owner(host=_host(), pid=process.pid, started=round(started, 2))


def _host() -> str:
    """Return the running system, or the container on it, in which process numbers are unique.

    A host name is no proof: images of a cloud share theirs, and so does every `localhost`. The number of this boot is
    random; where the system has none, the network card's address stands in.
    """
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    start = boot.read_text().strip() if boot.exists() else f"{uuid.getnode():x}"
    return f"{platform.node()} {start}" + (f" {namespace.stat().st_ino}" if namespace.exists() else "")


def _lives(owner: Owner) -> bool:
    try:
        process = psutil.Process(owner.pid)
        # An ended process stays as a zombie until its parent reads the exit status; in many containers none does.
        ended = process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE
        return not ended and identity(process) == owner
    except psutil.NoSuchProcess:
        return False
