"""Which images and which network the figures show."""

from pneumosearch.config import TrialConfig
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import StoreError
from pneumosearch.illustrations.gallery import Subject
from pneumosearch.store import Store


def subject_of(store: Store, source: DataSource, name: str, number: int) -> Subject:
    """Return the training images as trial `number` of study `name` saw them, and its kept network.

    Without such a study the subject is the baseline, untrained.

    Raises:
        StoreError: The study has no such trial.
        DataError: Images cannot be read.
    """
    if name not in store.names():
        config = TrialConfig()
        dataset = source.load("holdout", config.image_size, config.equalization)
        return Subject(dataset, config, (), None, f"no training: there is no study '{name}' yet")
    record = store.record(name)
    trial = next((trial for trial in record.trials if number in (trial.number, *trial.earlier)), None)
    if trial is None or trial.run is None:
        raise StoreError(f"study '{name}' has no trained trial {number}; it has {len(record.trials)}, counted from 0")
    config = trial.run.config
    dataset = source.load("holdout", config.image_size, config.equalization)
    network = store.network(name, trial.number)
    state = "whose network is kept" if network else "whose network was not kept"
    return Subject(dataset, config, trial.history, network, f"trial {trial.number} of study '{name}', {state}")
