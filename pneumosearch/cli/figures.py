"""The command that draws the study's own figures."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from pneumosearch.cli import options


def figures(
    folder: Annotated[Path, typer.Argument(help="Folder for the figures and index.html.", metavar="DIR")],
    name: options.StudyName = "default",
    trial: Annotated[int, typer.Option(min=0, help="Whose network is looked into; 0 is the baseline.")] = 0,
    data: options.Data = None,
    storage: options.Storage = None,
    results: options.Results = options.RESULTS,
    skip_unreadable: options.SkipUnreadable = False,
    json: options.Json = False,
) -> None:
    """Draw the study's own figures from the images and a trained network.

    Example: [bold]pneumosearch figures drawn --name default --trial 0 --data chest_xray[/bold]
    """
    from pneumosearch.cli.views import print_json
    from pneumosearch.illustrations.gallery import left_out, write_gallery
    from pneumosearch.illustrations.subject import subject_of

    source = options.open_source(data, results, skip_unreadable)
    store = options.open_store(storage, results)
    subject = subject_of(store, source, name, trial)
    written = write_gallery(subject, folder)
    if missing := left_out(subject):
        print(
            f"left out: {', '.join(missing)}; no trained network was found ({subject.about}). "
            f"'pneumosearch study --name {name}' trains the baseline as trial 0 and keeps its network",
            file=sys.stderr,
        )
    if json:
        print_json({"folder": str(folder), "files": written, "left_out": list(missing), "about": subject.about})
    else:
        print(f"{folder}: {', '.join(written)}")
