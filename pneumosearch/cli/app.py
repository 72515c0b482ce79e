"""The Typer application and the commands `baseline`, `report` and `rerun`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from pneumosearch import __version__
from pneumosearch.cli import options
from pneumosearch.cli.confirm import confirm
from pneumosearch.cli.data import data_app
from pneumosearch.cli.doctor import doctor
from pneumosearch.cli.figures import figures
from pneumosearch.cli.leaving import leaving
from pneumosearch.cli.models import evaluate, export, predict
from pneumosearch.cli.network import dashboard, serve
from pneumosearch.cli.study import study
from pneumosearch.cli.worker import worker
from pneumosearch.config import RunSpec, SingleProtocol, TrialConfig
from pneumosearch.errors import ConfigError, PneumosearchError, as_message, printable
from pneumosearch.published import PUBLISHED_SEED
from pneumosearch.report import Format

app = typer.Typer(
    name="pneumosearch",
    help="Hyperparameter search whose winner can be believed, around a published chest X-ray network.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
app.add_typer(data_app)


def main() -> None:
    """Run the command line.

    Exit codes: 0 success, 1 error (one line on standard error), 2 wrong usage, 130 interrupted.
    """
    debug = "--debug" in sys.argv
    try:
        with leaving:
            app()
    except PneumosearchError as error:
        if debug:
            raise
        print(f"error: {as_message(str(error))}", file=sys.stderr)
        raise SystemExit(1) from error
    except KeyboardInterrupt:
        print("interrupted; run the same command again to resume", file=sys.stderr)
        raise SystemExit(130) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"pneumosearch {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hyperparameter search whose winner can be believed, around a published chest X-ray network."""


@app.command()
def baseline(
    epochs: Annotated[int, typer.Option(min=1, max=1000, help="Epochs to train.")] = TrialConfig().epochs,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Seed of weights, shuffling and augmentation.")
    ] = PUBLISHED_SEED,
    protocol: Annotated[
        SingleProtocol,
        typer.Option(
            help="original: evaluate on the test folder, as published. holdout: on a validation split by patient. "
            "brightness: on a validation split of the darkest and the brightest images."
        ),
    ] = "holdout",
    precision: options.Precision = None,
    deterministic: options.Deterministic = False,
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
    """Train the published network and compare it with the published accuracies.

    Example: [bold]pneumosearch baseline --protocol original --data chest_xray[/bold]
    """
    from pneumosearch.cli.live.epochs import EpochView
    from pneumosearch.cli.views import print_json
    from pneumosearch.dashboard.server import write_note
    from pneumosearch.network.backend import resolved_precision
    from pneumosearch.report.summary import baseline_summary
    from pneumosearch.search.runner import train_once
    from pneumosearch.search.session import Session, StopFlag, stopping_on_ctrl_c

    if protocol == "original" and precision == "bfloat16":
        raise ConfigError("--precision bfloat16: the original protocol computes in float32, as published")
    store = options.open_store(storage, results, artifacts, f"baseline-{protocol}", begins=True)
    named = store.classes_of(f"baseline-{protocol}", options.classes_of(classes, data))
    source = options.open_source(data, results, skip_unreadable, patient_pattern, named)
    computed_in = "float32" if protocol == "original" else resolved_precision(precision or "auto")
    run = RunSpec(
        config=TrialConfig(epochs=epochs),
        seed=seed,
        protocol=protocol,
        precision=computed_in,
        deterministic=deterministic,
    )
    stop = StopFlag()
    with EpochView(source.manifest.shown_as, quiet=quiet, json=json) as view, stopping_on_ctrl_c(stop, view.say):
        view.show_device()
        record = train_once(
            Session(store, source, view, stop, view.steps_every), f"baseline-{protocol}", "baseline", run
        )
    if record is None:
        raise _interrupted()
    write_note(store, f"baseline-{protocol}")
    if json:
        print_json(baseline_summary(record))
    else:
        view.print_result(record)


def _interrupted() -> typer.Exit:
    print("stopped after a saved epoch; run the same command again to resume", file=sys.stderr)
    return typer.Exit(130)


for command in (doctor, study, worker, serve, dashboard, confirm, predict, evaluate, export, figures):
    app.command()(command)


@app.command()
def report(
    name: options.StudyName = "default",
    top: Annotated[int, typer.Option(min=1, help="Number of best trials to show.")] = 10,
    format: Annotated[Format, typer.Option("--format", "-f", help="Form of the report.")] = "table",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the report to this file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write an HTML page with figures to this file.")] = None,
    pictures: Annotated[
        bool,
        typer.Option("--pictures/--no-pictures", help="Show misclassified test images on the page, or only name them."),
    ] = True,
    json: options.Json = False,
    storage: options.Storage = None,
    artifacts: options.Artifacts = None,
    results: options.Results = options.RESULTS,
) -> None:
    """Compare the trials of a study with the baseline and the published accuracies.

    Example: [bold]pneumosearch report --name default --top 10 --html report.html[/bold]
    """
    from pneumosearch.report import render

    if html is not None and (json or output is not None or format != "table"):
        raise ConfigError("--html excludes --json, --format and --output")
    if html is None and not pictures:
        raise ConfigError("--no-pictures applies to the page of --html; give both")
    store = options.open_store(storage, results, artifacts, name, must_exist=True)
    if html is not None:
        from pneumosearch.report.page import write_page

        write_page(store, name, html, top=top, pictures=pictures)
        print(printable(f"{html}: written"), file=sys.stderr)
        return
    render(store, name, "json" if json else format, top=top, output=output)


@app.command()
def rerun(
    study: Annotated[str, typer.Argument(help="Name of the study.")],
    trial: Annotated[int, typer.Argument(min=0, help="Number of the trial.")],
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
    """Train a stored trial again and check whether its history is equal to the last digit.

    Example: [bold]pneumosearch rerun default 17[/bold]
    """
    from pneumosearch.cli.live.epochs import EpochView
    from pneumosearch.cli.views import print_json
    from pneumosearch.search.rerun import rerun_trial, stored_folder
    from pneumosearch.search.session import Session, StopFlag, stopping_on_ctrl_c

    store = options.open_store(storage, results, artifacts, study, must_exist=True)
    record = store.record(study)
    pattern = patient_pattern or record.data.patient_pattern
    named = store.classes_of(study, options.classes_of(classes, data))
    source = options.open_source(data or stored_folder(record), results, skip_unreadable, pattern, named)
    stop = StopFlag()
    with EpochView(source.manifest.shown_as, quiet=quiet, json=json) as view, stopping_on_ctrl_c(stop, view.say):
        view.show_device()
        comparison = rerun_trial(Session(store, source, view, stop, view.steps_every), record, trial)
    if comparison is None:
        raise _interrupted()
    if json:
        print_json(comparison.as_dict())
    else:
        print(comparison.verdict())


if os.environ.get("NO_COLOR"):
    import typer.rich_utils

    typer.rich_utils.COLOR_SYSTEM = None
