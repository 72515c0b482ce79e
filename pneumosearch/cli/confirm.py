"""The command that confirms a search."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pneumosearch.cli import executors, options
from pneumosearch.cli.study import Grace, Workers
from pneumosearch.studyfile import seconds_of
from pneumosearch.workers.crew import Crew, prestarted

if TYPE_CHECKING:
    from pneumosearch._utils.processes import Helper
    from pneumosearch.confirm.replicates import ConfirmationPlan
    from pneumosearch.data.protocols import DataSource
    from pneumosearch.records.confirmation import Confirmation
    from pneumosearch.storage.store import Store


def confirm(
    name: options.StudyName = "default",
    top: Annotated[int, typer.Option(min=1, max=100, help="How many of the best configurations to confirm.")] = 3,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Trainings of each, and of the baseline.")] = 5,
    control: Annotated[
        bool, typer.Option("--control/--no-control", help="Confirm the study's control too, if it has one.")
    ] = True,
    timeout: options.Timeout = None,
    workers: Workers = 1,
    executor: executors.Executor = "local",
    ray_address: executors.RayAddress = None,
    worker_cpus: executors.WorkerCpus = None,
    worker_gpus: executors.WorkerGpus = None,
    max_restarts: executors.MaxRestarts = None,
    grace: Grace = "60s",
    data: options.Data = None,
    patient_pattern: options.PatientPattern = None,
    classes: options.ClassNames = None,
    storage: options.Storage = None,
    artifacts: options.Artifacts = None,
    results: options.Results = options.RESULTS,
    skip_unreadable: options.SkipUnreadable = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train the best configurations and the baseline on fresh seeds, then judge them by the test images, once.

    Each seed is judged by another fifth of the patients, and the best mean of the search's metric names the winner.
    Then the test folder is opened. The same command again goes on where it stopped, and opens nothing when it had
    finished. Other machines join with [bold]pneumosearch worker --name default-confirm[/bold]; this command alone
    opens the test folder. The study's control, the baseline's values trained like the others, is confirmed wherever it
    ranks: it may be the best, and the verdict says whether the search gave more.

    --json leaves out what is known of each test image (label, patient, probabilities): the artifact
    confirmation-1.json (2, 3, ...) of the study has it.

    Example: [bold]pneumosearch confirm --name default --top 3 --seeds 5 --workers 2 --data chest_xray[/bold]
    """
    from pneumosearch.cli.views import print_json
    from pneumosearch.confirm.replicates import as_begun, plan_confirmation
    from pneumosearch.confirm.run import stored_confirmation
    from pneumosearch.metrics import floor_words
    from pneumosearch.report.latest_confirmation import confirmation_summary, print_confirmation
    from pneumosearch.search.rerun import stored_folder

    stop_after = seconds_of(timeout)
    cluster = executors.cluster_of(executor, ray_address, worker_cpus, worker_gpus, max_restarts)
    crew = Crew(workers, seconds_of(grace, "--grace"), cluster=cluster)
    store = options.open_store(storage, results, artifacts, name, must_exist=True)
    record, named = store.record(name), store.classes_of(name, options.classes_of(classes, data))
    plan = as_begun(store, plan_confirmation(record, top, seeds, control=control))
    if (n_finalists := len(plan.candidates) - 1) < top:
        _warn(f"--top {top}: study '{name}' has only {n_finalists} complete besides the baseline")
    if control and record.spec.get("control") and record.control not in plan.candidates:
        _warn(f"the control of study '{name}' is not complete, so it is not confirmed")
    below = [plan.label(trial) for trial in plan.candidates[1:] if record.below_floor(trial)]
    if below:
        _warn(f"below the study's floor ({floor_words(record.floor)}): {', '.join(below)}")
    confirmation = stored_confirmation(store, plan)
    if confirmation is None:
        pattern = patient_pattern or record.data.patient_pattern
        with prestarted(crew) as helpers:
            source = options.open_source(data or stored_folder(record), results, skip_unreadable, pattern, named)
            confirmation = _confirmed(store, source, plan, crew, helpers, stop_after, quiet=quiet, json=json)
    if json:
        print_json(confirmation_summary(confirmation))
    else:
        print_confirmation(confirmation, record.data.shown_as)


def _confirmed(
    store: "Store",
    source: "DataSource",
    plan: "ConfirmationPlan",
    crew: Crew,
    helpers: list["Helper"],
    stop_after: float,
    *,
    quiet: bool,
    json: bool,
) -> "Confirmation":
    """Train what is missing, open the test folder and judge; leave the command where it was stopped before that."""
    from pneumosearch.cli.live.confirmation import ConfirmationView
    from pneumosearch.cli.views import stopped
    from pneumosearch.confirm.replicates import finished_replicates
    from pneumosearch.search.session import StopFlag
    from pneumosearch.study import Watcher, run_confirmation

    stop = StopFlag.after(stop_after)
    metric = "accuracy" if plan.n_folds is None else plan.record.metric  # which earlier versions did not record
    with ConfirmationView(source.manifest.shown_as, metric, quiet=quiet, json=json) as view:
        watcher = Watcher(view, view.say, _warn, view.steps_every)
        confirmation = run_confirmation(store, source, plan, crew, watcher, stop=stop, helpers=helpers)
    if confirmation is None:
        raise stopped(stop.reason, f"{len(finished_replicates(store, plan))} of {len(plan.runs)} replicates")
    return confirmation


def _warn(text: str) -> None:
    print(text, file=sys.stderr)
