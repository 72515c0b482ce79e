"""The live race: libraries run in turn, each for its time on the same images.

A finished run of a side with a seed is kept and not run again, so that a race may take days and several commands. Each
has its hardware, commit and date. When a run is over, its incumbents are judged, outside of its time: the networks
that the side had at the times of the tables (see `live_incumbents`, `live_judging`).
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.common import ROOT, circumstances
from benchmarks.live_data import Course, prepare, race_spec
from benchmarks.live_incumbents import NETWORKS
from benchmarks.live_process import ending_tidily, run_until
from benchmarks.live_report import draw, markdown
from benchmarks.live_rows import SUMMARY, Runs, read_runs, results, times_of
from benchmarks.live_sides import EPOCHS_FILE, SIDES, Side
from pneumosearch._utils.atomic import write_text
from pneumosearch.data.manifest import read_manifest
from pneumosearch.default_study import default_study
from pneumosearch.errors import ConfigError
from pneumosearch.studyfile import read_study_file, seconds_of

_ABOUT_RUN: Final = ("side", "seed", "budget_s", "date", "commit", "processor", "cores")


@dataclass(frozen=True)
class Budgets:
    """Wall-clock time of a run, by side."""

    seconds: float
    by_side: Mapping[str, float]  # of the sides that have another

    @classmethod
    def read(cls, text: str) -> "Budgets":
        """Read a time for all sides and times for some, such as `60m` or `60m,pneumosearch=20m`.

        Raises:
            ConfigError: Anything else.
        """
        common, *others = text.split(",")
        pairs = [each.partition("=")[::2] for each in others]
        _check_sides([side for side, _ in pairs], "--budget")
        by_side = {side: seconds_of(time, f"--budget {side}=") for side, time in pairs}
        return cls(seconds_of(common, "--budget"), by_side)

    def of(self, side: str) -> float:
        """Return the seconds of a side."""
        return self.by_side.get(side, self.seconds)

    def times(self, side: str) -> list[float]:
        """Return the seconds after which the incumbents of a side are judged: those of the tables up to its budget."""
        return [time for time in times_of({self.seconds, *self.by_side.values()}) if time <= self.of(side)]


@dataclass(frozen=True)
class Terms:
    """Conditions of a race, which only resumes under those that it started with."""

    budget_s: float
    budgets_s: Mapping[str, float]  # of the sides that have another
    share: float
    study: dict[str, Any]
    data: str  # fingerprint of train and val

    def check(self, path: Path) -> None:
        """Compare the terms with those in `path`, or write them there.

        Raises:
            ConfigError: They differ; the message names the first.
        """
        own = json.loads(json.dumps(asdict(self)))
        if not path.exists():
            write_text(path, json.dumps(own, indent=1))
            return
        stored = json.loads(path.read_text())
        for key, value in own.items():
            if stored.get(key, {}) != value:  # earlier races had one budget
                raise ConfigError(
                    f"{path}: this race started with another {key}; use that one, or choose another --output"
                )


@dataclass(frozen=True)
class Race:
    """A race in the folder `output`: sides, seeds and times."""

    output: Path
    sides: Sequence[Side]
    seeds: Sequence[int]
    budgets: Budgets

    def run(self, course: Course) -> None:
        """Run all sides once per seed in the order A B C A B C; finished runs are skipped, but for their judging."""
        for seed in self.seeds:
            for side in self.sides:
                folder = self.output / "runs" / side.name / f"seed-{seed}"
                if side.missing is None and not (folder / SUMMARY).exists():
                    _run(side, course, seed, folder, self.budgets)
                if (folder / NETWORKS).exists():
                    _judge(course, folder)

    @property
    def skipped(self) -> dict[str, str]:
        """The sides that cannot run on this machine, and why."""
        return {side.name: side.missing for side in self.sides if side.missing is not None}


def _run(side: Side, course: Course, seed: int, folder: Path, budgets: Budgets) -> None:
    """Run one side with one seed from the start. The summary is written last and marks the run as finished."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "work").mkdir(parents=True)
    (folder / EPOCHS_FILE).touch()
    watch, budget = side.watch(folder), budgets.of(side.name)
    command = side.command(course, seed, folder)
    ending = run_until(command, budget, folder / "log.txt", watch.look, {"PYTHONPATH": _python_path()})
    crashed = ending.exit_status not in (None, 0)
    summary = {
        "side": side.name,
        "seed": seed,
        "budget_s": budget,
        **asdict(ending),
        "failures": watch.failures() + crashed,
        "incumbents": [asdict(each) for each in watch.keep(budgets.times(side.name))],
        **circumstances(),
    }
    shutil.rmtree(folder / "work")  # files of the libraries: gigabytes of weights
    write_text(folder / SUMMARY, json.dumps(summary, indent=1))
    note = f", with status {ending.exit_status}; see {folder}/log.txt" if crashed else ""
    print(f"{side.name}, seed {seed}: ended after {ending.seconds:.0f} s{note}", file=sys.stderr)


def _judge(course: Course, folder: Path) -> None:
    """Judge the networks that a run has left, and remove them. Where that fails, they stay for the next time."""
    command = [sys.executable, "-m", "benchmarks.live_judging", "--course", str(course.folder), "--run", str(folder)]
    with (folder / "log.txt").open("ab") as log:
        environment = {**os.environ, "PYTHONPATH": _python_path()}
        done = subprocess.run(command, stdout=log, stderr=log, env=environment, check=False)
    if done.returncode == 0:
        shutil.rmtree(folder / NETWORKS)
    else:
        print(f"the incumbents could not be judged; see {folder}/log.txt", file=sys.stderr)


def _check_sides(names: Sequence[str], option: str) -> None:
    unknown = [name for name in names if name not in SIDES]
    if unknown:
        raise ConfigError(f"{option} {unknown[0]}: wanted some of {', '.join(SIDES)}")


def _python_path() -> str:
    """Return PYTHONPATH for the sides: this checkout and its scripts."""
    return os.pathsep.join((str(ROOT / "scripts"), str(ROOT)))


def race(
    data: Path,
    output: Path,
    study: Path | None,
    *,
    size: int | None,
    share: float,
    budget: str,
    seeds: Sequence[int],
    sides: Sequence[str],
    baseline_accuracy: float | None,
) -> dict[str, Any]:
    """Run those of the given runs that are missing, write table and plot of all that are there, and return the results.

    Args:
        data: Folder of X-rays or phantoms.
        output: Folder of the race: `race.json`, `race.md`, `race.svg`, and the folder `runs`.
        study: Study file with the space of the race; None is the default study.
        size: Side of the images in pixels; None is the size of the study.
        share: Share of the training patients, in (0, 1].
        budget: As `Budgets.read` takes it.
        seeds: A run of each side has each of these; none only writes table and plot.
        sides: Names in `SIDES`.
        baseline_accuracy: Validation accuracy in [0, 1] whose time is measured; None measures it first.

    Raises:
        ConfigError: An unknown side, no side that can run, a space that peers do not support, another race in `output`.
        DataError: The data folder cannot be used.
    """
    _check_sides(sides, "--sides")
    budgets, manifest = Budgets.read(budget), read_manifest(data)
    fixed = {} if size is None else {"fixed": {"image_size": size}}
    spec = read_study_file(study) if study else default_study(fixed, phantoms=manifest.kind == "phantoms")
    spec = race_spec(spec, size)
    given, output = output, output.resolve()
    own = Race(output, [SIDES[name] for name in sides], seeds, budgets)
    fingerprint = manifest.part("development").fingerprint
    terms = Terms(budgets.seconds, budgets.by_side, share, spec.model_dump(mode="json"), fingerprint)
    terms.check(output / "terms.json")
    course = Course(output / "course")
    if seeds or not course.space.exists():  # another command may be racing with these files
        prepare(data, spec, share, course.folder)
    with ending_tidily():
        own.run(course)
    options = {"--data": data.name, "--space": study, "--size": size, "--share": share, "--budget": budget}
    options |= {"--baseline-accuracy": baseline_accuracy, "--output": given}
    return publish(own, course, baseline_accuracy, options)


def _command(options: Mapping[str, object], runs: Runs) -> str:
    """Return for the page the command that makes all these runs: the given options, with the sides and seeds there."""
    first, *more = sorted({run.summary["seed"] for own in runs.values() for run in own})
    all_from_one = [first, *more] == list(range(1, len(more) + 2))
    which = {"--seeds": len(more) + 1} if more and all_from_one else {"--seed": first}
    whole = {**options, **which, "--sides": ",".join(runs)}
    given = " ".join(f"{name} {value}" for name, value in whole.items() if value is not None)
    also = "" if all_from_one else "".join(f"  # and with --seed {seed}" for seed in more)
    return f"scripts/bench search --live {given}{also}"


def _where(runs: Runs) -> dict[str, str]:
    """Return the dates and machines of the runs; a race may resume on another day or another machine."""
    summaries = [run.summary for own in runs.values() for run in own]
    dates = sorted(summary["date"] for summary in summaries)
    machines = {key: ", ".join(sorted({str(s[key]) for s in summaries})) for key in ("commit", "processor", "cores")}
    return {"date": f"{dates[0]} to {dates[-1]}", **machines}


def publish(
    own: Race, course: Course, baseline_accuracy: float | None, options: Mapping[str, object]
) -> dict[str, Any]:
    """Write the table, the plot and the results of the finished runs, and return the results.

    Raises:
        ConfigError: No run has finished.
    """
    runs = read_runs(own.output, SIDES)
    if not runs and not own.skipped:
        raise ConfigError(f"--seeds 0: {options['--output']} has no finished run")
    if not runs:
        raise ConfigError("--sides: none can run here: " + "; ".join(f"{s}: {why}" for s, why in own.skipped.items()))
    terms = json.loads((own.output / "terms.json").read_text())
    figures = results(runs, baseline_accuracy)
    n_validation = sum(path.is_file() for path in course.validation.rglob("*"))
    figures |= {
        "command": _command(options, runs),
        "skipped": own.skipped,
        "terms": terms,
        "n_validation": n_validation,
        **_where(runs),
        "runs": [{key: run.summary[key] for key in _ABOUT_RUN} for own_runs in runs.values() for run in own_runs],
    }
    write_text(own.output / "race.json", json.dumps(figures, indent=1))
    write_text(own.output / "race.md", markdown(figures))
    draw(runs, figures["budget_s"], own.output / "race.svg")
    return figures
