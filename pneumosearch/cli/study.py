"""The command that searches."""

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import typer

from pneumosearch.cli import engines, executors, options
from pneumosearch.config import SearchProtocol
from pneumosearch.studyfile import DEFAULT_SAMPLER, SAMPLER_NAMES, PrunerName, seconds_of
from pneumosearch.workers.crew import Crew, prestarted

if TYPE_CHECKING:
    from pneumosearch._utils.processes import Helper
    from pneumosearch.data.protocols import DataSource
    from pneumosearch.search.runner import Outcome
    from pneumosearch.storage.store import Store
    from pneumosearch.studyfile import StudySpec


StudyFile = Annotated[Path | None, typer.Argument(help="Study file (TOML).", metavar="[STUDY.toml]")]
Trials = Annotated[
    int | None, typer.Option(help="Trials in all, those of earlier runs counted.", show_default="the file's, or 50")
]
StudyName = Annotated[str | None, typer.Option(help="Name in the store.", show_default="the file's, or default")]
Seed = Annotated[int | None, typer.Option(help="Seed of the search and its trainings.", show_default="232")]
Sampler = Annotated[
    str | None, typer.Option(help=f"{', '.join(SAMPLER_NAMES)} or module:Class.", show_default=DEFAULT_SAMPLER)
]
Pruner = Annotated[
    PrunerName | None,
    typer.Option(help="When trials stop early.", show_default="the file's, or the default's"),
]
StudyProtocol = Annotated[
    SearchProtocol | None,
    typer.Option(
        help="Images that judge. holdout: a tenth, by patient. folds: a cross-validation, each fold in its turn. "
        "brightness: the darkest and the brightest.",
        show_default="the file's, or holdout",
    ),
]
Folds = Annotated[
    int | None,
    typer.Option(help="Of --protocol folds: trainings of each configuration.", show_default="the file's, or 5"),
]
Workers = Annotated[
    int, typer.Option(min=1, help="Training processes at once. On this machine they share its cores and accelerators.")
]
Grace = Annotated[str, typer.Option(help="Reclaim a trial of another machine after this time without a heartbeat.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print space, first trials and cost; no training.")]


def study(
    study_file: StudyFile = None,
    trials: Trials = None,
    name: StudyName = None,
    seed: Seed = None,
    engine: engines.Engine = None,
    tuner: engines.Tuner = None,
    sampler: Sampler = None,
    pruner: Pruner = None,
    learn_from: options.LearnFrom = None,
    protocol: StudyProtocol = None,
    folds: Folds = None,
    timeout: options.Timeout = None,
    workers: Workers = 1,
    executor: executors.Executor = "local",
    ray_address: executors.RayAddress = None,
    worker_cpus: executors.WorkerCpus = None,
    worker_gpus: executors.WorkerGpus = None,
    max_restarts: executors.MaxRestarts = None,
    grace: Grace = "60s",
    dry_run: DryRun = False,
    max_failures: Annotated[int, typer.Option(min=1, help="Stop when as many trials in a row fail alike.")] = 3,
    precision: options.Precision = None,
    deterministic: options.Deterministic = False,
    data: options.Data = None,
    patient_pattern: options.PatientPattern = None,
    classes: options.ClassNames = None,
    log: options.Log = None,
    storage: options.Storage = None,
    artifacts: options.Artifacts = None,
    results: options.Results = options.RESULTS,
    skip_unreadable: options.SkipUnreadable = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Search around the baseline; the same command again goes on where it stopped.

    Example: [bold]pneumosearch study studies/default.toml --trials 50 --data chest_xray[/bold]

    With what others found: [bold]pneumosearch study --name next --learn-from default --learn-from wide.csv[/bold]
    """
    seconds_of(timeout)  # so that an error names the option
    cluster = executors.cluster_of(executor, ray_address, worker_cpus, worker_gpus, max_restarts)
    given: dict[str, object] = {"name": name, "seed": seed, "precision": precision, "sampler": sampler}
    given |= {"pruner": pruner, "patient_pattern": patient_pattern, "deterministic": deterministic or None}
    given |= {"trials": trials, "timeout": timeout, "log": log or None, "learn_from": learn_from or None}
    given |= {"protocol": protocol, "folds": folds, "classes": options.classes_of(classes, data)}
    given = {key: value for key, value in given.items() if value is not None}
    given = engines.engine_changes(_as_told(study_file), engine, tuner) | given
    spec = _as_told(study_file, given)
    crew = Crew(workers, seconds_of(grace, "--grace"), max_failures, cluster)
    with nullcontext([]) if dry_run else prestarted(crew) as helpers:
        store = options.open_store(storage, results, artifacts, spec.name, begins=not dry_run)
        named = store.classes_of(spec.name, spec.classes)
        source = options.open_source(data, results, skip_unreadable, spec.patient_pattern, named)
        if study_file is None:
            spec = _default_study(store, source, spec.name, given, quiet=quiet or json)
        if dry_run:
            _print_plan(store, spec, json)
            return
        if artifacts and spec.name in store.names():
            store.set_artifacts(spec.name)
        outcome = run_search(store, source, spec, crew, helpers, quiet=quiet, json=json)
    _print_outcome(store, spec, outcome, json)


def _default_study(
    store: "Store", source: "DataSource", name: str, given: dict[str, object], *, quiet: bool
) -> "StudySpec":
    """Return the default study for these images, or the study of this name as it began, with what is given."""
    from pneumosearch.default_study import default_study

    phantoms = source.manifest.kind == "phantoms"
    spec = default_study(given, phantoms=phantoms, begun=store.begun(name))
    if phantoms and not quiet:
        fixed = ", ".join(f"{name}={value}" for name, value in spec.fixed.items())
        print(f"phantoms and no study file: all trials, the published network too, have {fixed}", file=sys.stderr)
    return spec


def run_search(
    store: "Store",
    source: "DataSource",
    spec: "StudySpec",
    crew: Crew,
    helpers: list["Helper"],
    *,
    quiet: bool,
    json: bool,
    joins: bool = False,
) -> "Outcome":
    """Train and show until the study has its trials, or something stops it.

    Args:
        store: For the study.
        source: The images.
        spec: The study.
        crew: Who trains.
        helpers: Processes that were started early.
        quiet: Show nothing but warnings of `--log`.
        json: The result is printed as JSON: a terminal shows the live region, anything else nothing.
        joins: Another command leads the study, and has written earlier trials to other tools.
    """
    from pneumosearch import study
    from pneumosearch.cli.live.study import StudyView

    view = StudyView(source.manifest.shown_as, spec.trials, spec.metric, quiet=quiet, json=json, floor=spec.floor or {})
    watcher = study.Watcher(view, view.say, _warn if view.quiet else view.say, view.steps_every)
    with view:
        begun = partial(view.show_earlier, lambda: store.record(spec.name))
        return study.run_search(store, source, spec, crew, watcher, helpers=helpers, begun=begun, joins=joins)


def _warn(text: str) -> None:
    print(text, file=sys.stderr)


def _print_outcome(store: "Store", spec: "StudySpec", outcome: "Outcome", json: bool) -> None:
    from pneumosearch.cli.views import print_json, stopped
    from pneumosearch.dashboard.server import write_note
    from pneumosearch.report.summary import study_summary
    from pneumosearch.report.tables import print_report

    record = store.record(spec.name)
    write_note(store, spec.name)
    if json:
        print_json(study_summary(record))
    else:
        print_report(record, top=5)
    if outcome.stopped:
        raise stopped(outcome.stopped, f"{outcome.finished} of {spec.trials} trials", can_resume=not outcome.done)


def _print_plan(store: "Store", spec: "StudySpec", json: bool) -> None:
    from pneumosearch.cli.views import print_json, print_plan
    from pneumosearch.search.dry_run import dry_run
    from pneumosearch.search.earlier import earlier_studies
    from pneumosearch.search.runner import settled

    earlier = store.record(spec.name) if spec.name in store.names() else None
    planned = dry_run(settled(store, spec), spec.trials, earlier, informed_by=earlier_studies(store, spec))
    if json:
        print_json(planned.as_dict())
    else:
        print_plan(planned)


def _as_told(study_file: Path | None, given: Mapping[str, object] = MappingProxyType({})) -> "StudySpec":
    """Return the study of the file, or the default study, with what the options say."""
    from pneumosearch.default_study import default_study
    from pneumosearch.studyfile import checked_spec, read_study_file

    if study_file is None:
        return default_study(given)
    spec = read_study_file(study_file)
    return checked_spec({**spec.model_dump(mode="json"), **given}, "options") if given else spec
