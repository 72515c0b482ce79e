"""The commands `predict`, `evaluate` and `export`."""

import csv
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pneumosearch.cli import options
from pneumosearch.errors import StoreError, as_message, printable

if TYPE_CHECKING:
    from pneumosearch.inference.known_images import KnownImages
    from pneumosearch.inference.predict import Classifier, Prediction
    from pneumosearch.storage.store import Store

Format = Literal["table", "csv", "json"]


def predict(
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.", metavar="IMAGE|DIR...")],
    model: Annotated[
        Path | None,
        typer.Option(help="Exported folder or .keras file.", show_default="the confirmed winner, or the best trial"),
    ] = None,
    name: options.StudyName = "default",
    explain: Annotated[Path | None, typer.Option(help="Folder for Grad-CAM heat maps.")] = None,
    format: Annotated[Format, typer.Option("--format", "-f", help="Form of the output.")] = "table",
    json: options.Json = False,
    storage: options.Storage = None,
    artifacts: options.Artifacts = None,
    results: options.Results = options.RESULTS,
) -> None:
    """Classify X-rays: probability of the positive class, and decision at the threshold. Not for clinical use.

    Example: [bold]pneumosearch predict chest.jpeg other/ --model exported --explain heat --format csv[/bold]
    """
    from pneumosearch.cli.live.bars import counting, working
    from pneumosearch.inference.export import stored_classifier
    from pneumosearch.inference.predict import WARNING, file_classifier, image_files, predictions

    paths, passed_over = image_files(images)
    for passed in passed_over:
        print(as_message(passed.remark()), file=sys.stderr)
    with working("loading the network"):
        if model is not None:
            classifier = file_classifier(model)
        else:
            classifier = stored_classifier(options.open_store(storage, results, artifacts, name, must_exist=True), name)
    print(f"{WARNING}; model: {classifier.about}", file=sys.stderr)
    with counting("classifying images", len(paths)) as one_more:
        found = list(_reporting_errors(predictions(classifier, paths, explain), one_more))
    _PRINT["json" if json else format](classifier, [one for one in found if one.error is None])
    if any(one.error for one in found):
        raise typer.Exit(1)


def _reporting_errors(predictions: "Iterable[Prediction]", one_more: Callable[[], None]) -> "Iterable[Prediction]":
    """Yield the predictions; print on standard error why images are unreadable or unlike those of the training."""
    from pneumosearch.data.names import printable_name

    for prediction in predictions:
        if prediction.error:
            print(f"error: {as_message(prediction.error)}", file=sys.stderr)
        if prediction.remarks:
            name = printable_name(str(prediction.path))
            print(as_message(f"warning: {name}: {'; '.join(prediction.remarks)}"), file=sys.stderr)
        one_more()
        yield prediction


def _print_json(classifier: "Classifier", found: "list[Prediction]") -> None:
    from pneumosearch.cli.views import print_json
    from pneumosearch.data.names import printable_name
    from pneumosearch.inference.predict import WARNING

    rows = [
        {
            "image": printable_name(str(p.path)),
            "probability": p.probability,
            "decision": p.decision,
            "remarks": list(p.remarks),
        }
        for p in found
    ]
    about = {"model": classifier.about, "classes": list(classifier.classes), "threshold": classifier.threshold}
    print_json({**about, "warning": WARNING, "predictions": rows})


def _print_csv(classifier: "Classifier", found: "list[Prediction]") -> None:
    from pneumosearch.data.names import printable_name
    from pneumosearch.report.summary import spreadsheet_safe

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("image", "probability", "decision", "threshold", "remarks"))
    for one in found:
        name, remarks = spreadsheet_safe(printable_name(str(one.path))), "; ".join(one.remarks)
        writer.writerow((name, f"{one.probability:.6f}", spreadsheet_safe(one.decision), classifier.threshold, remarks))


def _print_table(classifier: "Classifier", found: "list[Prediction]") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from pneumosearch.data.names import printable_name
    from pneumosearch.records.classes import class_words

    positive = escape(class_words(classifier.classes)[1])
    table = Table("image", f"probability of {positive}", f"decision at {classifier.threshold:.3f}")
    table.columns[0].overflow = "fold"  # names of images often differ only at the end
    if any(one.remarks for one in found):
        table.add_column("remarks", overflow="fold")
    for one in found:
        cells = [escape(printable_name(str(one.path))), f"{one.probability:.4f}", escape(one.decision or "")]
        table.add_row(*cells, *(["; ".join(one.remarks)] if len(table.columns) > len(cells) else []))
    Console().print(table)


_PRINT: dict[Format, Any] = {"json": _print_json, "csv": _print_csv, "table": _print_table}


def evaluate(
    folder: Annotated[Path, typer.Argument(help="Folder with class folders, or with folders of them.", metavar="DIR")],
    model: Annotated[
        Path | None,
        typer.Option(help="Exported folder or .keras file.", show_default="the confirmed winner, or the best trial"),
    ] = None,
    name: Annotated[str, typer.Option("--name", "--study", help="Name of the study in the store.")] = "default",
    page: Annotated[Path | None, typer.Option(help="Write an HTML page with figures to this file.")] = None,
    classes: options.ClassNames = None,
    patient_pattern: options.PatientPattern = None,
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="PNEUMOSEARCH_DATA",
            help="Data folder of the network's study, whose images are recognised.",
            metavar="DIR",
            show_default="where the study found it",
        ),
    ] = None,
    storage: options.Storage = None,
    artifacts: options.Artifacts = None,
    results: options.Results = options.RESULTS,
    json: options.Json = False,
) -> None:
    """Judge a kept network on any labelled folder, such as another hospital's. Not for clinical use.

    DIR holds the class folders (DIR/NORMAL, DIR/PNEUMONIA), or folders that do (DIR/siteA/NORMAL, ...), each of which
    gets a row of its own. Without --model the confirmed winner's seed ensemble is judged, or, while nothing is
    confirmed, the best trial's network. Images of the study's sealed test folder are refused, by content. Images that
    cannot be read are named and left out; the exit code is then 1.

    Example: [bold]pneumosearch evaluate elsewhere --name default --page elsewhere.html[/bold]
    """
    from pneumosearch.cli.live.bars import counting, working
    from pneumosearch.cli.views import print_json
    from pneumosearch.data.labelled import read_labelled
    from pneumosearch.inference.evaluate import evaluate as evaluated
    from pneumosearch.inference.predict import WARNING
    from pneumosearch.records.classes import checked_classes
    from pneumosearch.report.evaluation import evaluation_summary, print_evaluation, write_page

    store = partial(options.open_store, storage, results, artifacts, name, must_exist=True)
    with working("loading the network and looking for the images of its study"):
        classifier, known = _exported(model, data, store) if model else _stored(store(), name, data)
    named = checked_classes(classes.split(","), "--classes") if classes else classifier.classes
    labelled = read_labelled(folder, named, patient_pattern)
    for passed in labelled.passed_over:
        print(as_message(passed.remark()), file=sys.stderr)
    print(f"{WARNING}; model: {classifier.about}", file=sys.stderr)
    with counting("classifying images", len(labelled.files.images)) as one_more:
        found, images = evaluated(classifier, labelled, known, one_more)
    for reason in found.unreadable.values():
        print(f"error: {as_message(reason)}", file=sys.stderr)
    if page is not None:
        write_page(found, images, page)
        print(printable(f"{page}: written"), file=sys.stderr)
    if json:
        print_json(evaluation_summary(found))
    else:
        print_evaluation(found)
    if found.n_unreadable:
        raise typer.Exit(1)


def _stored(store: "Store", name: str, data: Path | None) -> "tuple[Classifier, KnownImages | None]":
    from pneumosearch.inference.export import stored_classifier
    from pneumosearch.inference.known_images import of_study

    known = of_study(store, name, data)  # first: it may say that --data is needed
    return stored_classifier(store, name), known


def _exported(
    model: Path, data: Path | None, open_store: "Callable[[], Store]"
) -> "tuple[Classifier, KnownImages | None]":
    from pneumosearch.inference.known_images import of_model
    from pneumosearch.inference.predict import file_classifier

    classifier = file_classifier(model)
    try:
        store = open_store()
    except StoreError:  # an exported network needs none
        store = None
    return classifier, of_model(classifier, data, store)


def export(
    study: Annotated[str, typer.Argument(help="Name of the study.")],
    trial: Annotated[int, typer.Argument(min=0, help="Number of a trial with a stored network.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write; it must be new or empty.", metavar="DIR")],
    json: options.Json = False,
    storage: options.Storage = None,
    artifacts: options.Artifacts = None,
    results: options.Results = options.RESULTS,
) -> None:
    """Write a trial's network as plain Keras and TensorFlow Lite files, with a model card.

    Example: [bold]pneumosearch export default-confirm 3 exported[/bold]
    """
    from pneumosearch.cli.views import print_json
    from pneumosearch.inference.export import export_trial, what_network

    store = options.open_store(storage, results, artifacts, study, must_exist=True)
    written = sorted(path.name for path in export_trial(store, study, trial, folder).iterdir())
    if which := what_network(store, study, trial):
        print(f"trial {trial}: {which}; the others only judged its configuration", file=sys.stderr)
    if json:
        print_json({"study": study, "trial": trial, "folder": str(folder), "files": written})
    else:
        print(f"{folder}: {', '.join(written)}")
