"""The command `doctor`."""

import typer

from pneumosearch.cli import options


def doctor(
    data: options.Data = None,
    classes: options.ClassNames = None,
    storage: options.Storage = None,
    results: options.Results = options.RESULTS,
    json: options.Json = False,
) -> None:
    """Examine this machine: could a study run here? Paste the answer where you ask for help.

    The exit code is 1 where a study could not run.

    Example: [bold]pneumosearch doctor --data chest_xray[/bold]
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pneumosearch.cli.views import print_json
    from pneumosearch.doctor import examine, worst
    from pneumosearch.storage.urls import sqlite_url

    url = storage or sqlite_url(results / "pneumosearch.db")
    findings = examine(data or options.usual_folder(), url, results, options.classes_of(classes, data))
    state = worst(findings)
    if json:
        print_json({"state": state, "findings": [finding.model_dump() for finding in findings]})
    else:
        table = Table("", "", "", box=None, show_header=False)
        colours = {"good": "green", "warning": "yellow", "error": "red"}
        for finding in findings:
            remedy = f"\n-> {finding.remedy}" if finding.remedy else ""
            table.add_row(Text(finding.state, style=colours[finding.state]), finding.subject, finding.text + remedy)
        Console().print(table)
    if state == "error":
        raise typer.Exit(1)
