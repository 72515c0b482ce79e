"""A kept network or seed ensemble judged on a labelled folder, such as another hospital's."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import metadata

import numpy as np
import numpy.typing as npt

from pneumosearch.data.labelled import LabelledFolder
from pneumosearch.data.names import printable_name
from pneumosearch.errors import DataError
from pneumosearch.inference.known_images import KnownImages, unsealed
from pneumosearch.inference.predict import WARNING, Classifier, predictions
from pneumosearch.inference.scoring import HALF, figures
from pneumosearch.intervals import Floats
from pneumosearch.records.evaluation import ALL, MAX_NAMED, Evaluation, Figures, Group, JudgedImages

OneMore = Callable[[], None]


def _ignored() -> None:
    """Count nothing."""


def evaluate(
    classifier: Classifier, labelled: LabelledFolder, known: KnownImages | None, one_more: OneMore = _ignored
) -> tuple[Evaluation, JudgedImages]:
    """Judge a network on a labelled folder.

    Args:
        classifier: The network or ensemble.
        labelled: The folder.
        known: The images of the network's study; None where they are not at hand, so that none is recognised.
        one_more: Called when an image is classified.

    Raises:
        DataError: The folder is, or largely overlaps with, the study's sealed test folder; or no image of a class can
            be read.
    """
    n_all, bad = len(labelled.files.images), labelled.files.unreadable
    if bad:
        readable = [i for i, image in enumerate(labelled.files.images) if image.name not in bad]
        labelled = labelled.chosen(readable)
    labelled, sealed = unsealed(labelled, known) if known else (labelled, ())
    judged = _Judged(classifier, labelled, known, one_more)
    unreadable = bad | judged.errors
    for label, name in enumerate(labelled.classes):
        if label not in judged.labels:
            raise DataError(f"{labelled.files.folder}: of {n_all:,} images, none of the class {name} can be judged")
    groups = sorted(set(judged.groups))
    evaluation = Evaluation(
        model=classifier.about,
        classes=classifier.classes,
        threshold=classifier.threshold,
        warning=WARNING,
        version=metadata.version("pneumosearch"),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        folder=printable_name(str(labelled.files.folder)),
        kind=labelled.kind,
        folder_classes=labelled.classes,
        fingerprint=judged.fingerprint,
        known=known is not None,
        sealed=sealed[:MAX_NAMED],
        n_sealed=len(sealed),
        unreadable=dict(list(unreadable.items())[:MAX_NAMED]),
        n_unreadable=len(unreadable),
        total=judged.group(ALL, np.ones(len(judged.labels), dtype=np.bool_)),
        groups=tuple(judged.group(name, np.array(judged.groups) == name) for name in groups) if len(groups) > 1 else (),
    )
    return evaluation, JudgedImages(tuple(judged.labels), judged.probabilities, tuple(judged.patients))


class _Judged:
    """The images that could be classified, in the order of the folder, as columns."""

    def __init__(
        self, classifier: Classifier, labelled: LabelledFolder, known: KnownImages | None, one_more: OneMore
    ) -> None:
        self._classifier = classifier
        self.errors: dict[str, str] = {}
        files, kept = labelled.files, list[int]()
        probabilities, unlike = list[float](), list[bool]()
        found = predictions(classifier, [files.path(image) for image in files.images])
        for i, prediction in enumerate(found):
            if prediction.probability is None or not np.isfinite(prediction.probability):
                self.errors[files.images[i].name] = prediction.error or f"{files.images[i].name}: no finite answer"
            else:
                kept.append(i)
                probabilities.append(prediction.probability)
                unlike.append(bool(prediction.remarks))
            one_more()
        images = [files.images[i] for i in kept]
        self.fingerprint = files.without(self.errors).fingerprint
        self.probabilities: Floats = np.array(probabilities)
        self.labels = [image.label for image in images]
        self.patients = [image.patient for image in images]
        self.groups = [labelled.groups[i] for i in kept]
        self._unlike = np.array(unlike, dtype=np.bool_)
        development = known.development if known else frozenset[str]()
        self._seen = np.array([files.digests[i] in development for i in kept], dtype=np.bool_)

    def group(self, name: str, inside: npt.NDArray[np.bool_]) -> Group:
        chosen = np.flatnonzero(inside).tolist()
        labels, patients = [self.labels[i] for i in chosen], [self.patients[i] for i in chosen]
        own = self._classifier.threshold
        return Group(
            name=name,
            counts={of: labels.count(label) for label, of in enumerate(self._classifier.classes)},
            patients=len(set(patients)),
            trained_on=int(self._seen[inside].sum()),
            unlike=int(self._unlike[inside].sum()),
            at_half=self._figures(labels, chosen, patients, HALF),
            at_threshold=self._figures(labels, chosen, patients, own) if own != HALF else None,
        )

    def _figures(self, labels: Sequence[int], chosen: list[int], patients: Sequence[str], threshold: float) -> Figures:
        return figures(labels, self.probabilities[chosen], patients, threshold)
