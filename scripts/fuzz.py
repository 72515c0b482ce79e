"""Fuzzes pneumosearch: no input may cause a traceback, a hang, a crash or high memory use."""

import contextlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final, NamedTuple, NoReturn, get_args

import psutil
import typer

from pneumosearch.errors import PneumosearchError
from tests.support import hostile

#: Memory for an input: the limit on the address space of a process is its size at the start plus this.
MEMORY: Final = 1 << 30
_SECONDS: Final = 20.0  # time limit of an input
_STARTING: Final = 120.0  # seconds for a process to be ready


class Hang(BaseException):
    """An input exceeded the time limit."""


class Finding(NamedTuple):
    """An input that caused harm; `scripts/fuzz --target TARGET --first NUMBER --cases 1` repeats it."""

    target: str
    number: int
    what: str  # "traceback", "hang" or "crash"
    detail: str


def feed_study_file(draw: random.Random, folder: Path) -> None:
    """Read a study file."""
    from pneumosearch.studyfile import read_study_file

    path = folder / "study.toml"
    path.write_bytes(hostile.study_file(draw))
    read_study_file(path).search_space()


def feed_image(draw: random.Random, folder: Path) -> None:
    """Decode an image as training and prediction do, and measure it as the audit does."""
    from pneumosearch.data.audit.features import read_image
    from pneumosearch.data.cache import network_input
    from pneumosearch.data.manifest import ImageFile

    name = "image" + draw.choice((".jpeg", ".png", ".jpg"))
    (folder / name).write_bytes(hostile.image_file(draw))
    pixels = network_input(folder / name, draw.choice((32, 150)), draw.choice(("area", "nearest")), "clahe")
    if pixels.shape[0] not in (32, 150):
        raise AssertionError(f"shape {pixels.shape}")
    read_image(folder, ImageFile(name, "train", 0))


def feed_folder(draw: random.Random, folder: Path) -> None:
    """Audit a data folder and open its images."""
    from rich.console import Console

    from pneumosearch.data.audit.audit import audit
    from pneumosearch.data.cache import load_pixels
    from pneumosearch.data.manifest import read_manifest
    from pneumosearch.inference.predict import image_files
    from pneumosearch.report.audit import print_audit
    from pneumosearch.report.audit_page import write_page

    hostile.image_folder(draw, folder / "chest")
    manifest = read_manifest(folder / "chest")
    image_files([folder / "chest"])
    with contextlib.suppress(PneumosearchError):
        load_pixels(manifest.part("development"), 32, "area", folder / "cache", skip_unreadable=True)
    found = audit(manifest)
    text = io.StringIO()
    print_audit(found, Console(file=text))
    _check_harmless(text.getvalue())
    write_page(found, folder / "page.html")


def feed_trial(draw: random.Random, folder: Path) -> None:
    """Report a study in which the attributes of a trial or of the study itself are damaged."""
    from optuna.trial import TrialState, create_trial

    from pneumosearch.report import Format, render
    from pneumosearch.storage.store import Store
    from pneumosearch.storage.urls import sqlite_url

    (folder / "store.db").write_bytes(_stored())
    store, trials = Store(sqlite_url(folder / "store.db"), folder), _attributes()
    study = store.load_study("fuzzed")
    with contextlib.redirect_stdout(io.StringIO()) as said:
        if draw.random() < 0.3:
            for key, value in hostile.attributes(draw, dict(study.user_attrs)).items():
                study.set_user_attr(key, value)
        for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL):
            damaged = hostile.attributes(draw, trials) if draw.random() < 0.7 else trials
            value = draw.choice((0.9, float("inf"), 1e308)) if state == TrialState.COMPLETE else None
            study.add_trial(create_trial(state=state, value=value, user_attrs=damaged))
        for form in get_args(Format):
            render(store, "fuzzed", form, top=5, output=None)
    _check_harmless(said.getvalue())


@cache
def _stored() -> bytes:
    """Return the SQLite file of a storage with an empty study."""
    from benchmarks.stores import DESCRIPTION
    from pneumosearch.records.dataset import DataDescription
    from pneumosearch.storage.store import Store
    from pneumosearch.storage.urls import sqlite_url
    from pneumosearch.studyfile import StudySpec

    spec, data = StudySpec(name="fuzzed"), DataDescription.model_validate(DESCRIPTION)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(sqlite_url(Path(folder) / "store.db"), Path(folder))
        store.open_study("fuzzed", "search", spec.metric, spec.identity(), data)
        return (Path(folder) / "store.db").read_bytes()


def _attributes() -> dict[str, Any]:
    """Return the attributes of an undamaged trial."""
    from benchmarks.stores import DESCRIPTION
    from pneumosearch.config import RunSpec

    epoch = {"epoch": 1, "train_accuracy": 0.9, "train_loss": 0.2, "learning_rate": 0.001, "seconds": 9.0}
    epoch |= {f"validation_{name}": 0.9 for name in ("accuracy", "loss", "auc", "sensitivity", "specificity")}
    run = RunSpec().model_dump(mode="json")
    return {"run": run, "history": [epoch], "data": DESCRIPTION, "n_parameters": 9, "versions": {"keras": "3"}}


def feed_command(draw: random.Random, folder: Path) -> None:
    """Run a command line in this process; it must print one line on any error and exit with 0, 1 or 2."""
    from pneumosearch.cli import main

    sys.argv = ["pneumosearch", *hostile.command_line(draw)]
    out, said = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
        try:
            main()
            code: Any = 0
        except SystemExit as ended:
            code = ended.code or 0
    if code not in (0, 1, 2):
        raise AssertionError(f"exit code {code}: {said.getvalue()[-200:]}")
    if code == 1 and said.getvalue().strip().count("\n") > 0:
        raise AssertionError(f"more than a line: {said.getvalue()[-500:]}")
    _check_harmless(said.getvalue() + out.getvalue())
    if code != 2 and "HUSH77" in said.getvalue():  # a usage error repeats the command line
        raise AssertionError(f"a password was shown: {said.getvalue()[-500:]}")


def _check_harmless(text: str) -> None:
    """Raise `AssertionError` if text contains terminal control sequences or cannot be printed."""
    bad = sorted(
        {c for c in text if c not in "\n\t" and (ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000)}
    )
    if bad:
        raise AssertionError(f"control characters {bad} in {text[:300]!r}")


TARGETS: Final[dict[str, Callable[[random.Random, Path], None]]] = {
    "study-file": feed_study_file,
    "image": feed_image,
    "folder": feed_folder,
    "trial": feed_trial,
    "command": feed_command,
}
#: Share of the cases for each target, smaller for expensive ones.
_SHARES: Final = {"study-file": 0.4, "image": 0.4, "folder": 0.03, "trial": 0.07, "command": 0.1}


def feed(target: str, number: int, seconds: float = _SECONDS) -> Finding | None:
    """Feed input `number` to a target and return the harm. An error that the product explains is no harm."""
    draw = random.Random(f"{target} {number}")  # noqa: S311  to be repeated, not to be secret
    with tempfile.TemporaryDirectory() as folder:
        try:
            with _at_most(seconds):
                TARGETS[target](draw, Path(folder))
        except PneumosearchError as error:
            if "\n" in str(error).strip():
                return Finding(target, number, "traceback", f"more than a line: {error}")
        except Hang:
            return Finding(target, number, "hang", f"longer than {seconds:g} s")
        except BaseException:  # noqa: BLE001  any exception is a finding
            return Finding(target, number, "traceback", traceback.format_exc())
    return None


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    left = signal.setitimer(signal.ITIMER_REAL, seconds)  # of another timer, which is restored afterwards
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *left)


def _work(target: str, numbers: range, sender: Connection) -> None:
    """Feed a target; runs in a separate process, because an input may end the process."""
    os.environ["NO_COLOR"] = "1"
    feed(target, -1, _STARTING)  # warms up: imports all modules
    size = psutil.Process().memory_info().vms + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    for number in numbers:
        sender.send(("started", number))
        found = feed(target, number)
        if found:
            sender.send(("found", found))
    sender.send(("done", psutil.Process().memory_info().rss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


def feed_many(target: str, numbers: range) -> Iterator[Finding | int]:
    """Feed inputs of these numbers to a target in separate processes; yield the findings, then peak memory, KiB."""
    context, peak = get_context("spawn"), 0
    while numbers:
        events, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(target, numbers, sender), daemon=True)
        process.start()
        sender.close()
        at, done = numbers[0], False
        try:
            while events.poll(_STARTING + _SECONDS):
                kind, *content = events.recv()
                if kind == "started":
                    at = content[0]
                elif kind == "found":
                    yield content[0]
                else:
                    done, peak = True, max(peak, content[1])
        except EOFError:
            process.join(10)
        if not done:
            how = "hang" if process.is_alive() else "crash"
            yield Finding(target, at, how, f"the process ended with {process.exitcode}")
        process.kill()
        process.join()
        numbers = numbers[numbers.index(at) + 1 :] if not done else range(0)
    yield peak


def guided(seconds: int) -> dict[str, dict[str, int]]:
    """Let atheris mutate study files, then images, for this many seconds each, in separate processes."""
    if find_spec("atheris") is None:
        raise typer.BadParameter("--guided needs the package atheris, which is not installed")
    result: dict[str, dict[str, int]] = {}
    for target in ("study-file", "image"):
        command = [sys.executable, str(Path(__file__).with_name("guided.py")), target, str(seconds)]
        with tempfile.TemporaryDirectory() as folder:  # atheris leaves a harmful input there
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
            for path in Path(folder).iterdir():
                shutil.copy(path, ".")
                print(f"{target}: {path.name} does harm", file=sys.stderr)
        if done.returncode:
            print(done.stderr[-4000:], file=sys.stderr)
        stats = dict(re.findall(r"stat::(\w+):\s+(\d+)", done.stderr))
        cases, peak = int(stats.get("number_of_executed_units", 0)), int(stats.get("peak_rss_mb", 0))
        result[target] = {"cases": cases, "peak_mib": peak, "harm": done.returncode != 0}
    return result


def fuzz(
    cases: Annotated[int, typer.Option(min=1, help="Total number of inputs.")] = 10_000,
    target: Annotated[str, typer.Option(help=f"One of {', '.join(TARGETS)}, or all.")] = "all",
    first: Annotated[int, typer.Option(min=0, help="Number of the first input of each target.")] = 0,
    seconds: Annotated[
        int | None,
        typer.Option(
            "--guided", min=1, help="Instead, let atheris mutate study files, then images, for this many seconds each."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Feed hostile inputs; exit with code 1 if one of them caused harm.

    Examples: scripts/fuzz --cases 10000 --json; scripts/fuzz --guided 600
    """
    if seconds:
        steered = guided(seconds)
        print(json.dumps(steered, indent=1) if as_json else steered)
        raise typer.Exit(1 if any(each["harm"] for each in steered.values()) else 0)
    if target != "all" and target not in TARGETS:
        raise typer.BadParameter(f"{target}: wanted all, {', '.join(TARGETS)}")
    shares = _SHARES if target == "all" else {target: 1.0}
    findings: list[Finding] = []
    counts, peak, start = {name: round(cases * share) for name, share in shares.items()}, 0, time.monotonic()
    for name, n in counts.items():
        for found in feed_many(name, range(first, first + n)):
            if isinstance(found, int):
                peak = max(peak, found)
                continue
            findings.append(found)
            print(f"{found.target} {found.number}: {found.what}\n{found.detail}", file=sys.stderr)
        print(f"{name}: {n} inputs, {time.monotonic() - start:.0f} s", file=sys.stderr)
    kinds = {"tracebacks": "traceback", "hangs": "hang", "crashes": "crash"}
    harm = {name: sum(each.what == kind for each in findings) for name, kind in kinds.items()}
    result: dict[str, object] = {"cases": sum(counts.values()), **harm, "peak_mib": peak // 1024}
    result |= {"seconds": round(time.monotonic() - start), "by_target": counts}
    print(json.dumps(result, indent=1) if as_json else result)
    raise typer.Exit(1 if findings else 0)


if __name__ == "__main__":
    typer.run(fuzz)
