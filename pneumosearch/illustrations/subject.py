"""Which images and which network the figures show."""

from pneumosearch.config import TrialConfig
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import StoreError
from pneumosearch.illustrations.gallery import Subject
from pneumosearch.storage.store import Store


def subject_of(store: Store, source: DataSource, name: str, number: int) -> Subject:
    """Return training images at the size that trial `number` of study `name` saw, and its kept network.

    The images are those of the "holdout" protocol in any case, so that the test folder stays closed; how many images
    the trial trained on is what the store says.

    While the store holds no study at all, the subject is the baseline, untrained.

    Raises:
        StoreError: There is no such study or trial, or it was trained on other images.
        DataError: Images cannot be read.
    """
    if not store.names():
        config = TrialConfig()
        dataset = source.load("holdout", config.image_size, config.equalization)
        n_train = dataset.description.n_train
        return Subject(dataset, config, (), None, n_train, "no training: there is no study yet")
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
    state = "whose network is kept" if network else "whose network was not kept"
    n_train = (trial.data or dataset.description).n_train
    about = f"trial {trial.number} of study '{name}', {state}"
    return Subject(dataset, config, trial.history, network, n_train, about)
