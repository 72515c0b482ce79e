"""What commands print: results as JSON, plans, and why they stopped."""

import json
import sys
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pneumosearch.report.changes import differences_text, named, others_text

if TYPE_CHECKING:
    from pneumosearch.search.dry_run import DryRun


def print_json(value: Any) -> None:
    """Print one JSON object on standard output."""
    print(json.dumps(value, indent=2, allow_nan=False))


def stopped(reason: str, progress: str, *, can_resume: bool = True) -> typer.Exit:
    """Print why a command stopped early. Return the exit to raise: code 130 if interrupted, otherwise 0."""
    how = "; run the same command again to resume" if can_resume else ""
    print(f"stopped ({reason}) with {progress}{how}", file=sys.stderr)
    return typer.Exit(130 if reason == "interrupted" else 0)


def print_plan(plan: "DryRun") -> None:
    """Print the space, the first configurations and the cost of a study on standard output."""
    from pneumosearch.records.earlier import informed_line
    from pneumosearch.search.dry_run import dimension_text

    console, space = Console(), plan.spec.search_space()
    ranges = Table("field", "published", "range", title=f"Study '{plan.spec.name}': searched fields")
    for name, dimension in space.dimensions.items():
        ranges.add_row(name, str(getattr(space.centre, name)), escape(dimension_text(dimension)))
    console.print(ranges)
    if space.fixed:
        console.print(f"Fixed: {named(space.fixed)}", markup=False)
    if space.others:
        console.print(others_text(space.others), markup=False, highlight=False)
    if plan.informed_by:
        console.print(informed_line(plan.informed_by), markup=False, highlight=False)
    first = Table("trial", "parameters", "MMAC", "s/epoch", "epochs", "configuration", title="The first trials")
    for number, trial in enumerate(plan.first):
        seconds = "unknown" if trial.seconds_an_epoch is None else f"{trial.seconds_an_epoch:.0f}"
        cost = (f"{trial.n_parameters:,}", f"{trial.multiply_adds / 1e6:.0f}", seconds, str(trial.config.epochs))
        differences = differences_text(trial.config, space.centre, space.others) if number else "the baseline"
        first.add_row(str(number), *cost, differences)
    console.print(first)
    time = "unknown until a trial has run" if plan.seconds is None else f"about {plan.seconds / 60:.0f} min"
    finalists = plan.spec.finalists
    repetitions = f" and {plan.n_repetitions} repetitions of finalists" if finalists else ""
    trials = f"{plan.n_trials} trials{repetitions}"
    if plan.spec.protocol == "folds":
        trials = f"{plan.n_trials} trials on {plan.spec.folds} folds each, {plan.n_trainings} trainings"
    console.print(f"{trials} like these without pruning: {time}.", highlight=False)
