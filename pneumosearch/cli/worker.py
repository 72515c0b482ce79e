"""The command that joins a study from anywhere."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pneumosearch.cli import options
from pneumosearch.cli.study import Grace, Workers, run_search
from pneumosearch.errors import ConfigError, StoreError
from pneumosearch.studyfile import seconds_of
from pneumosearch.workers.crew import Crew, prestarted, ready

if TYPE_CHECKING:
    from pneumosearch._utils.processes import Helper
    from pneumosearch.data.protocols import DataSource
    from pneumosearch.search.runner import Outcome
    from pneumosearch.storage.store import Store
    from pneumosearch.workers.work import Replicates

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

    What is searched, and how many trials, is read from the store. Any number of workers may come and go. With --name
    NAME-confirm they train what `pneumosearch confirm` wants; they never open the test folder.

    Example: [bold]pneumosearch worker --name default --storage postgresql://me@db.example/studies[/bold]
    """
    from pneumosearch.cli.views import print_json, stopped

    seconds_of(timeout)  # so that an error names the option
    _wait_for(storage, results, name, seconds_of(wait, "--wait") if wait else 0.0)
    crew = Crew(workers, seconds_of(grace, "--grace"), max_failures)
    with prestarted(crew) as helpers:  # meanwhile, these imports take a second
        from pneumosearch.search.rerun import stored_folder
        from pneumosearch.workers.work import Replicates, joined_work

        store = options.open_store(storage, results, artifacts, name)
        work = joined_work(store, name, timeout=timeout, log=log or ())
        record, named = store.record(name), store.classes_of(name, options.classes_of(classes, data))
        pattern = patient_pattern or record.data.patient_pattern
        folder, skip = data or stored_folder(record), bool(record.data.skipped)
        source = options.open_source(folder, results, skip, pattern, named)
        if isinstance(work, Replicates):
            if log:
                raise ConfigError("--log: is for searches; TensorBoard and MLflow take no replicates")
            outcome = _join_confirmation(store, source, work, crew, helpers, timeout, quiet=quiet, json=json)
            what, n = "replicates", work.n
        else:
            outcome = run_search(store, source, work.spec, crew, helpers, quiet=quiet, json=json, joins=True)
            what, n = "trials", work.n_trials
    if json:
        print_json({"study": name, "finished": outcome.finished, what: n, "done": outcome.done})
    elif not quiet:
        print(f"study '{name}' has {outcome.finished} of {n} {what}", file=sys.stderr)
    if outcome.stopped:
        raise stopped(outcome.stopped, f"{outcome.finished} of {n} {what}", can_resume=not outcome.done)


def _join_confirmation(
    store: "Store",
    source: "DataSource",
    work: "Replicates",
    crew: Crew,
    helpers: list["Helper"],
    timeout: str | None,
    *,
    quiet: bool,
    json: bool,
) -> "Outcome":
    """Train replicates until all are there. The command that leads the confirmation opens the test folder."""
    from pneumosearch.cli.live.confirmation import ConfirmationView
    from pneumosearch.search.session import Session, StopFlag, stopping_on_ctrl_c

    stop, record = StopFlag.after(seconds_of(timeout)), store.record(work.study)
    metric = "accuracy" if work.wanted.n_folds is None else record.metric  # which earlier versions did not record
    with (
        ConfirmationView(source.manifest.shown_as, metric, quiet=quiet, json=json) as view,
        ready(crew, helpers, store.url, view.say) as train,
        stopping_on_ctrl_c(stop, view.say),
    ):
        return train(Session(store, source, view, stop, view.steps_every), work)


def _wait_for(storage: str | None, results: Path, name: str, seconds: float) -> None:
    """Wait until the study, or the confirmation, has begun. Raises `StoreError` where it has not in time."""
    from pneumosearch.workers.work import joined_work

    deadline = time.monotonic() + seconds
    while True:
        try:
            joined_work(options.open_store(storage, results, must_exist=True), name)
        except StoreError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_LOOK_FOR_STUDY)
        else:
            return
