"""The images that a network's study holds, by content: which trained it, and which are sealed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pneumosearch.data.labelled import LabelledFolder
from pneumosearch.data.manifest import ManifestPart, read_manifest
from pneumosearch.data.names import path_of
from pneumosearch.errors import DataError, StoreError
from pneumosearch.inference.predict import Classifier
from pneumosearch.records.classes import Classes
from pneumosearch.storage.store import Store

_FEW: Final = 0.1  # largest share of sealed images, of the folder's and of the test folder's, that are passed over


@dataclass(frozen=True)
class KnownImages:
    """Digests of the files of a study's data folder. Test files are hashed, as for a fingerprint; none is decoded."""

    folder: Path
    fingerprint: str  # of train and val
    development: frozenset[str]  # train and val: what trained, or chose epoch, threshold and configuration
    sealed: frozenset[str]  # the test folder


def known_images(folder: Path, classes: Classes, skipped: tuple[str, ...] = ()) -> KnownImages:
    """Read the files of a study's data folder.

    Args:
        folder: The data folder.
        classes: Of the study.
        skipped: Names of images that the study left out as unreadable.

    Raises:
        DataError: It is no data folder with these classes.
    """
    manifest = read_manifest(folder, classes=classes)
    development, test = manifest.part("development"), manifest.part("test")
    used = development.without({*skipped, *development.unreadable})
    return KnownImages(manifest.folder, used.fingerprint, _digests(development), _digests(test))


def _digests(part: ManifestPart) -> frozenset[str]:
    return frozenset(part.without(part.unreadable).digests)


def of_study(store: Store, name: str, data: Path | None) -> KnownImages:
    """Read the images of study `name`: in `data`, or else where it found them.

    Raises:
        StoreError: They are not at hand, so that its sealed test images could not be told from others.
    """
    described = store.data(name)
    for folder in (data, path_of(described.folder)):
        found = _matching(folder, described.classes, described.fingerprint, described.skipped)
        if found is not None:
            return found
    raise StoreError(
        f"study '{name}': its images are neither in {described.folder} nor given by --data, so that its sealed test "
        "images cannot be recognised; give --data, or export the network and pass --model"
    )


def of_model(classifier: Classifier, data: Path | None, store: Store | None) -> KnownImages | None:
    """Read the images of an exported network's study where they are at hand: in `data`, or known to the store."""
    if classifier.fingerprint is None:
        return None
    descriptions = [store.data(name) for name in store.names()] if store else []
    of_it = (each for each in descriptions if each.fingerprint == classifier.fingerprint)
    places = {str(data): (data, ()), **{each.folder: (path_of(each.folder), each.skipped) for each in of_it}}
    for folder, skipped in places.values():
        found = _matching(folder, classifier.classes, classifier.fingerprint, skipped)
        if found is not None:
            return found
    return None


def _matching(folder: Path | None, classes: Classes, fingerprint: str, skipped: tuple[str, ...]) -> KnownImages | None:
    try:
        found = known_images(folder, classes, skipped) if folder is not None else None
    except DataError:
        return None
    return found if found is not None and found.fingerprint == fingerprint else None


def unsealed(labelled: LabelledFolder, known: KnownImages) -> tuple[LabelledFolder, tuple[str, ...]]:
    """Return the images of a folder that are not sealed, and the names of the few that are.

    Raises:
        DataError: Sealed images are more than a tenth of the folder's, or of the test folder's.
    """
    images, digests = labelled.files.images, labelled.files.digests
    sealed = [i for i, digest in enumerate(digests) if digest in known.sealed]
    names = tuple(images[i].name for i in sealed)
    found = {digests[i] for i in sealed}
    if len(sealed) > _FEW * len(images) or len(found) > _FEW * len(known.sealed):
        raise DataError(
            f"{labelled.files.folder}: {len(sealed):,} of its {len(images):,} images, such as {names[0]}, are in the "
            f"sealed test folder of the study ({known.folder / 'test'}); only 'pneumosearch confirm' opens it"
        )
    return labelled.chosen([i for i in range(len(images)) if i not in set(sealed)]), names
