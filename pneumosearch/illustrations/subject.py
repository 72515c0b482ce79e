"""Chooses the images and the network for the figures."""

from pneumosearch.config import TrialConfig
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import StoreError
from pneumosearch.illustrations.gallery import Subject
from pneumosearch.storage.store import Store


def subject_of(store: Store, source: DataSource, name: str, number: int) -> Subject:
    """Return the network of a trial and training images at its input size.

    The images are always those of the "holdout" protocol, so the test folder is not read. If the store has no study,
    the subject is the baseline without training.

    Args:
        store: Store with the study.
        source: Source of the images.
        name: Name of the study.
        number: Number of the trial.

    Raises:
        StoreError: The study or the trial does not exist, or the trial was trained on other images.
        DataError: Images cannot be read.
    """
    if not store.names():
        config = TrialConfig()
        dataset = source.load("holdout", config.image_size, config.equalization)
        n_train = dataset.description.n_train
        return Subject(dataset, config, (), None, n_train, "no training, because the store has no study yet")
    record = store.record(name)
    trial = next((trial for trial in record.trials if number in (trial.number, *trial.earlier)), None)
    if trial is None or trial.run is None:
        raise StoreError(f"study '{name}' has no trained trial {number}; it has {len(record.trials)}, counted from 0")
    config = trial.run.config
    dataset = source.load("holdout", config.image_size, config.equalization)
    if dataset.description.fingerprint != record.data.fingerprint:
        folder = dataset.description.folder
        raise StoreError(f"{folder}: not the images of study '{name}' ({record.data.folder}); give --data")
    network = store.network(name, trial.number)
    state = "with its stored network" if network else "whose network was not stored"
    n_train = (trial.data or dataset.description).n_train
    about = f"trial {trial.number} of study '{name}', {state}"
    plain = source.load("holdout", config.image_size) if config.equalization != "none" else None
    return Subject(dataset, config, trial.history, network, n_train, about, plain)
