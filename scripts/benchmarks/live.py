"""The live race: libraries run in turn, each for the same time on the same images; finished runs are kept."""

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.common import ROOT, circumstances
from benchmarks.live_data import Course, prepare, race_spec
from benchmarks.live_process import ending_tidily, run_until
from benchmarks.live_report import draw, markdown
from benchmarks.live_rows import Runs, read_runs, results
from benchmarks.live_sides import EPOCHS_FILE, SIDES, Side
from pneumosearch._utils.atomic import write_text
from pneumosearch.data.manifest import read_manifest
from pneumosearch.errors import ConfigError
from pneumosearch.studyfile import StudySpec, read_study_file

SUMMARY: Final = "summary.json"


@dataclass(frozen=True)
class Terms:
    """Conditions that are equal for all sides. A race only resumes under the conditions that it started with."""

    budget_s: float
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
            if stored[key] != value:
                raise ConfigError(
                    f"{path}: this race started with another {key}; use that one, or choose another --output"
                )


@dataclass(frozen=True)
class Race:
    """A race in the folder `output`: sides, number of runs, time, images."""

    output: Path
    sides: Sequence[Side]
    seeds: int
    budget: float  # seconds per run

    def run(self, course: Course) -> None:
        """Run all sides once per seed in the order A B C A B C; finished runs are skipped."""
        for seed in range(1, self.seeds + 1):
            for side in self.sides:
                folder = self.output / "runs" / side.name / f"seed-{seed}"
                if side.missing is None and not (folder / SUMMARY).exists():
                    _run(side, course, seed, folder, self.budget)

    @property
    def skipped(self) -> dict[str, str]:
        """The sides that cannot run on this machine, and why."""
        return {side.name: side.missing for side in self.sides if side.missing is not None}


def _run(side: Side, course: Course, seed: int, folder: Path, budget: float) -> None:
    """Run one side with one seed from the start. The summary is written last and marks the run as finished."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "work").mkdir(parents=True)
    (folder / EPOCHS_FILE).touch()
    watch = side.watch(folder)
    command = side.command(course, seed, folder)
    ending = run_until(command, budget, folder / "log.txt", watch.look, {"PYTHONPATH": _python_path()})
    crashed = ending.exit_status not in (None, 0)
    summary = {
        "side": side.name,
        "seed": seed,
        "budget_s": budget,
        **asdict(ending),
        "failures": watch.failures() + crashed,
        **circumstances(),
    }
    shutil.rmtree(folder / "work")  # files of the libraries: gigabytes of weights
    write_text(folder / SUMMARY, json.dumps(summary, indent=1))
    note = f", with status {ending.exit_status}; see {folder}/log.txt" if crashed else ""
    print(f"{side.name}, seed {seed}: ended after {ending.seconds:.0f} s{note}", file=sys.stderr)


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
    budget: float,
    seeds: int,
    sides: Sequence[str],
    baseline_accuracy: float | None,
) -> dict[str, Any]:
    """Run the missing runs of a race, write its table and plot, and return its results.

    Args:
        data: Folder of X-rays or phantoms.
        output: Folder of the race: `race.json`, `race.md`, `race.svg`, and the folder `runs`.
        study: Study file with the space of the race; None is the default study.
        size: Side of the images in pixels; None is the size of the study.
        share: Share of the training patients, in (0, 1].
        budget: Seconds per run.
        seeds: Number of runs of each side.
        sides: Names in `SIDES`.
        baseline_accuracy: Validation accuracy in [0, 1] whose time is measured; None measures it first.

    Raises:
        ConfigError: An unknown side, no side that can run, a space that peers do not support, another race in `output`.
        DataError: The data folder cannot be used.
    """
    unknown = [name for name in sides if name not in SIDES]
    if unknown:
        raise ConfigError(f"--sides {unknown[0]}: wanted some of {', '.join(SIDES)}")
    spec = race_spec(read_study_file(study) if study else StudySpec(), size)
    given, output = output, output.resolve()
    own = Race(output, [SIDES[name] for name in sides], seeds, budget)
    fingerprint = read_manifest(data).part("development").fingerprint
    Terms(budget, share, spec.model_dump(mode="json"), fingerprint).check(output / "terms.json")
    course = prepare(data, spec, share, output / "course")
    with ending_tidily():
        own.run(course)
    options = {"--data": data.name, "--space": study, "--size": size, "--share": share, "--budget": f"{budget:g}s"}
    options |= {"--seeds": seeds, "--sides": ",".join(sides), "--baseline-accuracy": baseline_accuracy}
    options["--output"] = given
    return publish(own, course, baseline_accuracy, _command(options))


def _command(options: Mapping[str, object]) -> str:
    """Return the command of a race for the page, with the given options."""
    given = (f"{name} {value}" for name, value in options.items() if value is not None)
    return f"scripts/bench search --live {' '.join(given)}"


def _where(runs: Runs) -> dict[str, str]:
    """Return the dates and machines of the runs; a race may resume on another day or another machine."""
    summaries = [run.summary for own in runs.values() for run in own]
    dates = sorted(summary["date"] for summary in summaries)
    machines = {key: ", ".join(sorted({str(s[key]) for s in summaries})) for key in ("commit", "processor", "cores")}
    return {"date": f"{dates[0]} to {dates[-1]}", **machines}


def publish(own: Race, course: Course, baseline_accuracy: float | None, command: str) -> dict[str, Any]:
    """Write the table, the plot and the results of the finished runs, and return the results.

    Raises:
        ConfigError: No run has finished.
    """
    runs = read_runs(own.output, [side.name for side in own.sides], own.seeds)
    if not runs:
        raise ConfigError("--sides: none can run here: " + "; ".join(f"{s}: {why}" for s, why in own.skipped.items()))
    terms = json.loads((own.output / "terms.json").read_text())
    figures = results(runs, own.budget, baseline_accuracy)
    n_validation = sum(path.is_file() for path in course.validation.rglob("*"))
    figures |= {
        "command": command,
        "skipped": own.skipped,
        "terms": terms,
        "n_validation": n_validation,
        **_where(runs),
    }
    write_text(own.output / "race.json", json.dumps(figures, indent=1))
    write_text(own.output / "race.md", markdown(figures))
    draw(runs, own.budget, own.output / "race.svg")
    return figures
