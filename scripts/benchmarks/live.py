"""The live race: sides in turn, each for the same time on the same images; results are kept as they finish."""

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
    """What is the same for all; a race goes on only under the terms that it was begun with."""

    budget_s: float
    share: float
    study: dict[str, Any]
    data: str  # fingerprint of train and val

    def check(self, path: Path) -> None:
        """Compare with those in `path`, or write them there.

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
                    f"{path}: this race was begun with another {key}; go on as it was, or choose --output"
                )


@dataclass(frozen=True)
class Race:
    """A race below `output`: who, how often, how long, over what."""

    output: Path
    sides: Sequence[Side]
    seeds: int
    budget: float  # seconds a run

    def run(self, course: Course) -> None:
        """Let all sides run once a seed, A B C A B C; what is finished is not run again."""
        for seed in range(1, self.seeds + 1):
            for side in self.sides:
                folder = self.output / "runs" / side.name / f"seed-{seed}"
                if side.missing is None and not (folder / SUMMARY).exists():
                    _run(side, course, seed, folder, self.budget)

    @property
    def skipped(self) -> dict[str, str]:
        """The sides that cannot run here, and why."""
        return {side.name: side.missing for side in self.sides if side.missing is not None}


def _run(side: Side, course: Course, seed: int, folder: Path, budget: float) -> None:
    """Run one side with one seed from the beginning; the summary, which says that it is finished, is written last."""
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
    shutil.rmtree(folder / "work")  # the libraries' own files: gigabytes of weights
    write_text(folder / SUMMARY, json.dumps(summary, indent=1))
    note = f", with status {ending.exit_status}; see {folder}/log.txt" if crashed else ""
    print(f"{side.name}, seed {seed}: ended after {ending.seconds:.0f} s{note}", file=sys.stderr)


def _python_path() -> str:
    """Let the sides' processes import what this one does: this checkout and its scripts."""
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
    """Run what is missing of a race, write its table and picture, and return its figures.

    Args:
        data: Folder of X-rays or phantoms.
        output: Folder of the race: `race.json`, `race.md`, `race.svg`, and `runs` with what they are made of.
        study: Study file whose space is raced; the default study without it.
        size: Side of the images, pixels; the study's where not given.
        share: Of the training patients, in (0, 1].
        budget: Seconds a run.
        seeds: Runs of each side.
        sides: Names, of `SIDES`.
        baseline_accuracy: Validation accuracy, a fraction, that a side is timed to reach; measured where not given.

    Raises:
        ConfigError: An unknown side, none that can run, a space that the peers do not know, another race in `output`.
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
    """Return the command of a race as the page tells it, with the options that were given."""
    given = (f"{name} {value}" for name, value in options.items() if value is not None)
    return f"scripts/bench search --live {' '.join(given)}"


def _where(runs: Runs) -> dict[str, str]:
    """Return when and on what the runs were made; a race may be gone on with another day, or on another machine."""
    summaries = [run.summary for own in runs.values() for run in own]
    dates = sorted(summary["date"] for summary in summaries)
    told = {key: ", ".join(sorted({str(s[key]) for s in summaries})) for key in ("commit", "processor", "cores")}
    return {"date": f"{dates[0]} to {dates[-1]}", **told}


def publish(own: Race, course: Course, baseline_accuracy: float | None, command: str) -> dict[str, Any]:
    """Write table, picture and figures of what has been run, and return the figures. Raises `ConfigError` for none."""
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
