"""The command `figures`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pneumosearch.cli import options

if TYPE_CHECKING:
    from pneumosearch.storage.store import Store


def figures(
    folder: Annotated[Path, typer.Argument(help="Folder for the figures and index.html.", metavar="DIR")],
    name: options.StudyName = "default",
    trial: Annotated[int, typer.Option(min=0, help="Trial whose network is shown; 0 is the baseline.")] = 0,
    data: options.Data = None,
    patient_pattern: options.PatientPattern = None,
    classes: options.ClassNames = None,
    storage: options.Storage = None,
    artifacts: options.Artifacts = None,
    results: options.Results = options.RESULTS,
    skip_unreadable: options.SkipUnreadable = False,
    json: options.Json = False,
) -> None:
    """Draw the figures of the published study from the images and a trained network.

    Example: [bold]pneumosearch figures drawn --name default --trial 0 --data chest_xray[/bold]
    """
    from pneumosearch.cli.views import print_json
    from pneumosearch.illustrations.gallery import left_out, write_gallery
    from pneumosearch.illustrations.subject import subject_of
    from pneumosearch.search.rerun import stored_folder

    store = options.open_store(storage, results, artifacts, name)
    if name in store.names():
        record = store.record(name)
        data = data or stored_folder(record)
        patient_pattern = patient_pattern or record.data.patient_pattern
    named = store.classes_of(name, options.classes_of(classes, data))
    source = options.open_source(data, results, skip_unreadable, patient_pattern, named)
    subject = subject_of(store, source, name, trial)
    written = write_gallery(subject, folder)
    if missing := left_out(subject):
        print(
            f"left out: {', '.join(missing)}; no trained network was found ({subject.about}). "
            + _how_to_have_network(store, name, trial),
            file=sys.stderr,
        )
    if json:
        print_json({"folder": str(folder), "files": written, "left_out": list(missing), "about": subject.about})
    else:
        print(f"{folder}: {', '.join(written)}")


def _how_to_have_network(store: "Store", name: str, trial: int) -> str:
    from pneumosearch.inference.export import how_to_have_network

    if not store.names():
        return f"'pneumosearch study --name {name}' trains the baseline as trial 0 and stores its network"
    record = store.record(name)
    return how_to_have_network(store, record, record.trial(trial))
