"""The command that joins a study from anywhere."""

import sys
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from pneumosearch.cli import options
from pneumosearch.cli.study import Grace, Workers, run_search
from pneumosearch.studyfile import seconds_of
from pneumosearch.workers.crew import Crew, prestarted

_LOOK_FOR_STUDY: Final = 2.0  # seconds between two looks for a study that is not there yet

Name = Annotated[str, typer.Option(help="Name of the study in the store.")]


def worker(
    name: Name = "default",
    workers: Workers = 1,
    wait: Annotated[str | None, typer.Option(help="Wait so long, such as 10m, for the study to begin.")] = None,
    grace: Grace = "60s",
    timeout: options.Timeout = None,
    max_failures: Annotated[int, typer.Option(min=1, help="Stop when as many trials in a row fail alike.")] = 3,
    data: options.Data = None,
    patient_pattern: options.PatientPattern = None,
    classes: options.ClassNames = None,
    log: options.Log = None,
    storage: options.Storage = None,
    artifacts: options.Artifacts = None,
    results: options.Results = options.RESULTS,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Join a study that `pneumosearch study` began, on this machine or another, until it has all its trials.

    What is searched, and how many trials, is read from the store. Any number of workers may come and go.

    Example: [bold]pneumosearch worker --name default --storage postgresql://me@db.example/studies[/bold]
    """
    from pneumosearch.cli.views import print_json, stopped

    seconds_of(timeout)  # so that an error names the option
    _wait_for(storage, results, name, seconds_of(wait, "--wait") if wait else 0.0)
    crew = Crew(workers, seconds_of(grace, "--grace"), max_failures)
    with prestarted(crew) as helpers:  # meanwhile, these imports take a second
        from pneumosearch.search.rerun import stored_folder
        from pneumosearch.workers.local import joined_spec

        store = options.open_store(storage, results, artifacts, name)
        spec = joined_spec(store, name, timeout=timeout, log=log or ())
        record, named = store.record(name), store.classes_of(name, options.classes_of(classes, data))
        pattern = patient_pattern or spec.patient_pattern
        folder, skip = data or stored_folder(record), bool(record.data.skipped)
        source = options.open_source(folder, results, skip, pattern, named)
        outcome = run_search(store, source, spec, crew, helpers, quiet=quiet, json=json, joins=True)
    if json:
        print_json({"study": name, "finished": outcome.finished, "trials": spec.trials, "done": outcome.done})
    elif not quiet:
        print(f"study '{name}' has {outcome.finished} of {spec.trials} trials", file=sys.stderr)
    if outcome.stopped:
        raise stopped(outcome.stopped, f"{outcome.finished} of {spec.trials} trials", can_resume=not outcome.done)


def _wait_for(storage: str | None, results: Path, name: str, seconds: float) -> None:
    """Wait until the store has the study. Raises `StoreError` where it has not in time."""
    from pneumosearch.errors import StoreError

    deadline = time.monotonic() + seconds
    while True:
        try:
            options.open_store(storage, results, must_exist=True).load_study(name)
        except StoreError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_LOOK_FOR_STUDY)
        else:
            return
