"""Which process trains a trial, and whether it still can: so that none is trained twice and none is left behind."""

import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import optuna
import psutil
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial

#: A trial of another machine is suspected to be left behind when no sign of life came for so many seconds.
GRACE: Final = 60.0

#: So many signs of life come in that time.
_BEATS: Final = 4

#: A trial that was taken up as often without a new epoch has failed: it ends whatever trains it.
MAX_TAKEN_UP: Final = 10

Owner = dict[str, Any]


class LostTrial(Exception):
    """Another process has taken up the trial, as no sign of life came from this one."""


@dataclass
class Watch:
    """Looks for running trials whose process is gone.

    On this machine the system tells at once. Of another, only signs of life do, by this machine's clock: a trial is
    left behind when none came for `grace` seconds and, as the storage may have been away itself, none until a second
    look.
    """

    grace: float = GRACE
    clock: Callable[[], float] = time.monotonic
    _seen: dict[int, tuple[Any, float, float | None]] = field(default_factory=dict)  # sign, since, suspected since

    def left_behind(self, trial: FrozenTrial) -> bool:
        """Tell whether nobody trains the running `trial`, as far as can be seen from here."""
        owner = trial.user_attrs.get("owner")
        if owner is None:
            return True
        if owner["host"] == _host():
            return not _lives(owner)
        sign, now = (owner, trial.user_attrs.get("beat")), self.clock()
        before, since, suspected = self._seen.get(trial.number, (None, now, None))
        if sign != before:
            self._seen[trial.number] = (sign, now, None)
        elif now - since > self.grace and suspected is None:
            self._seen[trial.number] = (sign, since, now)
        return suspected is not None and sign == before and now - suspected > self.grace / 2


def own(trial: optuna.Trial, epochs: int) -> int:
    """Write down that this process trains `trial`, which has `epochs`; return how often any did since that epoch."""
    earlier = trial.user_attrs.get("taken_up", {"epochs": -1, "times": 0})
    times = earlier["times"] + 1 if earlier["epochs"] == epochs else 1
    trial.set_user_attr("taken_up", {"epochs": epochs, "times": times})
    trial.set_user_attr("owner", this_process())
    return times


def check_owned(trial: optuna.Trial) -> None:
    """Raise `LostTrial` where a trial that this process owned has another owner now."""
    if "owner" not in trial.user_attrs:  # which are as this process knows them: a loop that is not ours asked for it
        return
    if trial.storage.get_trial(trial._trial_id).user_attrs["owner"] != this_process():
        raise LostTrial


@contextmanager
def beating(storage: optuna.storages.BaseStorage, trial_id: int, grace: float = GRACE) -> Iterator[None]:
    """Give signs of life of a trial while the block runs, for those who take it up after `grace` seconds without."""
    ended = threading.Event()

    def beat() -> None:
        count = 0
        while not ended.wait(grace / _BEATS):
            count += 1
            try:
                storage.set_trial_user_attr(trial_id, "beat", f"{os.getpid()}:{count}")
            except UpdateFinishedTrialError:
                return  # by another process, as the training will notice
            except Exception:  # noqa: BLE001, S112  the storage is away; the training's own writing tells of it
                continue

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def this_process() -> Owner:
    """Return what tells this process from all others."""
    return identity(psutil.Process())


def identity(process: psutil.Process) -> Owner:
    """Return what tells a process of this machine from all others."""
    # On Linux psutil adds the time of boot, which moves when the clock is set; the time since then does not.
    started = process.create_time() - (psutil.boot_time() if psutil.LINUX else 0.0)
    return {"host": _host(), "pid": process.pid, "started": round(started, 2)}


def _host() -> str:
    """Name where process numbers mean something: the machine, or the container."""
    namespace = Path("/proc/self/ns/pid")
    return platform.node() + (f" {namespace.stat().st_ino}" if namespace.exists() else "")


def _lives(owner: Owner) -> bool:
    try:
        process = psutil.Process(owner["pid"])
        # One that has ended stays as a zombie while nobody asks for its exit status, as in many a container.
        ended = process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE
        return not ended and identity(process) == owner
    except psutil.NoSuchProcess:
        return False
