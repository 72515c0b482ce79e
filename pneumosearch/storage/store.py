"""The one store: an Optuna storage that holds every training, and the folder of their artifacts."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.artifacts import ArtifactMeta, get_all_artifact_meta
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState
from pydantic import ValidationError

from pneumosearch._utils.collector import paused_collector
from pneumosearch.config import first_problem
from pneumosearch.errors import StoreError, first_difference, printable
from pneumosearch.metrics import Metric, direction
from pneumosearch.records import attributes
from pneumosearch.records.classes import PUBLISHED_CLASSES, Classes, same_classes
from pneumosearch.records.dataset import DataDescription
from pneumosearch.records.finalists import Repeated, with_repetitions
from pneumosearch.records.trial import REPLICATES, Purpose, State, StudyRecord, TestOpening, TrialRecord
from pneumosearch.storage.optuna_private import study_id, trial_id
from pneumosearch.storage.queries import read_trials
from pneumosearch.storage.retry import RetryingStorage
from pneumosearch.storage.trial_files import SAFE_NAME, TrialFiles, network_file
from pneumosearch.storage.urls import PATIENCE, explained, open_storage, safe_url

_STATES: Final[dict[TrialState, State]] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Store(TrialFiles):
    """The storage at `url` and the artifacts below `results`.

    Args:
        url: An SQLAlchemy URL, as Optuna takes it, or grpc://HOST:PORT of a server of pneumosearch.
        results: Folder of artifacts, checkpoints and caches.
        must_exist: Refuse a storage that is not there yet, for commands that only read.
        patience: For how long calls wait for a database that has gone away, s.
        opening_patience: The same for the first connection; as long where not given.
        artifacts: URL of the artifacts that all machines share, as `artifacts_url` takes it. None where this machine
            keeps its own, below `results`.

    Raises:
        ConfigError: The artifacts' URL cannot be used.
        StoreError: The URL is malformed, its driver is missing, or the database cannot be opened or written.
    """

    def __init__(
        self,
        url: str,
        results: Path,
        *,
        must_exist: bool = False,
        patience: float = PATIENCE,
        opening_patience: float | None = None,
        artifacts: str | None = None,
    ) -> None:
        self.url = url
        self.storage = open_storage(url, must_exist=must_exist, patience=patience, opening_patience=opening_patience)
        super().__init__(results, artifacts)

    def use_artifacts_of(self, *names: str) -> None:
        """Share the artifacts of the first of these studies that has any to share, where no URL was given.

        Raises:
            ConfigError: The package that they need is missing.
        """
        if self.shared_artifacts is not None or not any(names):
            return
        with explained(self.url):
            urls = {s.study_name: attributes.ARTIFACTS.stored(s) for s in self.storage.get_all_studies()}
        found = next((url for url in map(urls.get, names) if isinstance(url, str)), None)
        if found is not None:
            self._share(found)

    def set_artifacts(self, name: str) -> None:
        """Write down for the workers that join a study that its artifacts are now where they were said to be."""
        study = self.load_study(name)
        with explained(self.url):
            if self.artifacts_url is None:
                attributes.ARTIFACTS.clear(study)
            else:
                attributes.ARTIFACTS.set(study, self.artifacts_url)

    def names(self) -> list[str]:
        """Return the names of the studies of pneumosearch, sorted; one that could not be ours is none of them."""
        with explained(self.url):
            studies = self.storage.get_all_studies()
            ours = [study.study_name for study in studies if attributes.PURPOSE.on(study)]
            return sorted(name for name in ours if SAFE_NAME.fullmatch(name))

    def open_study(
        self,
        name: str,
        purpose: Purpose,
        metric: Metric,
        spec: dict[str, Any],
        data: DataDescription,
        *,
        sampler: BaseSampler | None = None,
        pruner: BasePruner | None = None,
    ) -> optuna.Study:
        """Create a study, or go on with the one of this name, with a sampler and a pruner, which no store keeps.

        Raises:
            StoreError: The stored study has another spec or other data, so that its trials could not be compared.
        """
        with explained(self.url):
            study = optuna.create_study(
                storage=self.storage,
                study_name=name,
                direction=direction(metric),
                load_if_exists=True,
                sampler=sampler,
                pruner=pruner,
            )
            if not attributes.PURPOSE.on(study) and study.get_trials(deepcopy=False):
                raise StoreError(f"study '{name}' in {safe_url(self.url)} was not made by pneumosearch; use --name")
            _check_same(study, purpose, spec, data)
            _name_metric(study, metric, data)
            about = attributes.METRIC.entry(metric) | attributes.SPEC.entry(spec) | attributes.DATA.entry(data)
            about |= attributes.PURPOSE.entry(purpose)
            if self.artifacts_url is not None:
                about |= attributes.ARTIFACTS.entry(self.artifacts_url)
            for key, value in about.items():
                if study.user_attrs.get(key) is None:
                    study.set_user_attr(key, value)
        return study

    def load_study(self, name: str) -> optuna.Study:
        """Open an existing study of pneumosearch. Raises `StoreError` where there is none, naming those there are."""
        names = self.names()
        if name not in names:
            there = f"it holds {', '.join(names)}" if names else "it holds no study yet"
            raise StoreError(f"no study '{name}' in {safe_url(self.url)}; {there}")
        with explained(self.url):
            return optuna.load_study(storage=self.storage, study_name=name)

    def set_goal(self, name: str, n_trials: int) -> None:
        """Write down how many trials a study shall have, for the workers that join it."""
        study = self.load_study(name)
        with explained(self.url):
            attributes.GOAL.set(study, n_trials)

    def goal(self, name: str) -> int:
        """Return how many trials a study shall have. Raises `StoreError` where no search said."""
        study = self.load_study(name)
        with _as_written_here(f"study '{name}'"):
            goal = attributes.GOAL.of(study)
        if goal is None:
            raise StoreError(f"study '{name}' does not say how many trials it shall have; run 'pneumosearch study'")
        return goal

    def record(self, name: str) -> StudyRecord:
        """Read a study with all its trials. Raises `StoreError` where it is not as this version writes one."""
        study = self.load_study(name)
        with explained(self.url), _as_written_here(f"study '{name}'"), paused_collector():
            stored = study.user_attrs
            data, metric = attributes.DATA.needed(stored), attributes.METRIC.needed(stored)
            spec = attributes.SPEC.needed(stored)
            record = StudyRecord(
                name=name,
                purpose=attributes.PURPOSE.needed(stored),
                metric=metric,
                spec=spec,
                data=data,
                trials=_merged([trial_record(row) for row in self._rows(study_id(study))]),
                test_openings=tuple(self.test_openings(data)),
                informed_by=attributes.EARLIER.among(stored) or (),
            )
            if not spec.get("finalists"):
                return record
            return with_repetitions(record, **spec["finalists"], found=self._repeated(name, metric))

    def _repeated(self, name: str, metric: Metric) -> list[Repeated]:
        """Return the repetitions of the trials of study `name` on other folds that have ended."""
        if name + REPLICATES not in self.names():
            return []
        rows = self._rows(study_id(self.load_study(name + REPLICATES)))
        return [each for each in (_repeated(row, name, metric) for row in rows) if each]

    def data(self, name: str) -> DataDescription:
        """Return the data of a study. Raises `StoreError` where it is not as this version writes one."""
        study = self.load_study(name)
        with explained(self.url), _as_written_here(f"study '{name}'"):
            return attributes.DATA.needed(study.user_attrs)

    def begun(self, name: str) -> dict[str, Any] | None:
        """Return the settings that study `name` began with (`StudySpec.identity`); None where it is not there."""
        with explained(self.url):
            return attributes.SPEC.of(self.load_study(name)) if name in self.names() else None

    def classes_of(self, name: str, given: Classes | None) -> Classes:
        """Return the classes of study `name`; where it is not there yet, the given ones, or the published ones.

        Raises:
            StoreError: The study was started with others than those given.
        """
        if name not in self.names():
            return given or PUBLISHED_CLASSES
        before = self.data(name).classes
        _check_classes(name, before, given or before)
        return before

    def _rows(self, identifier: int) -> Sequence[FrozenTrial]:
        storage = self.storage
        if isinstance(storage, RetryingStorage):
            return storage.with_retry(lambda: read_trials(storage.engine, identifier, results_only=True))
        return storage.get_all_trials(identifier, deepcopy=False)

    def test_openings(self, data: DataDescription) -> list[TestOpening]:
        """Return every run of this store that read the test folder beside these development images, oldest first."""
        openings = []
        for study in self.storage.get_all_studies():
            about = attributes.DATA.stored(study)
            if about and about["fingerprint"] == data.fingerprint:
                openings += attributes.TEST_OPENINGS.among(study.user_attrs)
        return sorted(openings, key=lambda opening: opening.time)

    def fail_trial(self, name: str, number: int, reason: str) -> TrialRecord:
        """Mark a trial that is running, but whose process is gone, as failed; one that has ended stays as it is."""
        study = self.load_study(name)
        with explained(self.url):
            trial = study.get_trials(deepcopy=False)[number]
            with suppress(UpdateFinishedTrialError):
                attributes.FAILURE.set_by_id(self.storage, trial_id(trial), reason)
                study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
            return trial_record(study.get_trials(deepcopy=False)[number])

    def read_artifact(self, study: str, filename: str, number: int | None = None) -> bytes | None:
        """Return an artifact of a study, or of its trial `number`; None where there is none or its file is gone."""
        ids = {meta.filename: meta.artifact_id for meta in self._artifacts_of(study, number)}
        if filename not in ids:
            return None
        try:
            return self.artifacts.read(ids[filename], lambda file: bytes(file.read()))
        except ArtifactNotFound:
            return None

    def network(self, study: str, number: int) -> bytes | None:
        """Return the kept network of a trial, a `.keras` file of plain layers; None where it keeps none."""
        return self.read_artifact(study, network_file(number), number)

    def study_artifacts(self, name: str) -> list[ArtifactMeta]:
        """Return what the store says of the artifacts of a study itself, not of its trials."""
        return self._artifacts_of(name, None)

    def artifact_content(self, meta: ArtifactMeta) -> bytes:
        """Return the content of an artifact. Raises `StoreError` where its file is missing."""
        try:
            return self.artifacts.read(meta.artifact_id, lambda file: bytes(file.read()))
        except ArtifactNotFound as error:
            place, remedy = self.artifacts_url or self.results / "artifacts", "its folder --results, or --artifacts"
            raise StoreError(f"{place}: the artifact '{meta.filename}' is missing; give {remedy}") from error

    def _artifacts_of(self, study: str, number: int | None) -> list[ArtifactMeta]:
        loaded = self.load_study(study)
        with explained(self.url):
            owner = loaded if number is None else loaded.get_trials(deepcopy=False)[number]
            return get_all_artifact_meta(owner, storage=self.storage)


def add_test_opening(study: optuna.Study, number: int | None, why: str, test_fingerprint: str) -> None:
    """Write down that trial `number` reads the test folder, or a confirmation, which has no number.

    What is resumed counts once: a trial by its number, a confirmation by what `why` says of it. Openings at the
    same moment are all kept.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    opening = TestOpening(study=study.study_name, trial=number, time=now, why=why, test_fingerprint=test_fingerprint)
    attributes.TEST_OPENINGS.add(study, opening)


def trial_record(trial: FrozenTrial) -> TrialRecord:
    """Read what the store knows of a trial. Raises `StoreError` where it is not as this version writes one."""
    stored, state = trial.user_attrs, _STATES[trial.state]
    state = "passed over" if attributes.PASSED_OVER.on(trial) and state == "pruned" else state
    with _as_written_here(f"trial {trial.number}"):
        return TrialRecord(
            number=trial.number,
            state=state,
            run=attributes.RUN.among(stored),
            value=trial.value if state == "complete" else None,  # Optuna gives pruned trials their last value
            history=attributes.HISTORY.among(stored),
            folds=attributes.further_folds(stored),
            screening=attributes.SCREENING.among(stored),
            n_parameters=attributes.N_PARAMETERS.among(stored),
            failure=_printable(attributes.FAILURE.among(stored)),
            diverged=attributes.DIVERGED.among(stored) or False,
            passed_over=_printable(attributes.PASSED_OVER.among(stored)),
            duplicate_of=attributes.DUPLICATE_OF.among(stored),
            continues=attributes.CONTINUES.among(stored),
            versions=attributes.VERSIONS.among(stored) or {},
            data=attributes.DATA.among(stored),
        )


def _repeated(row: FrozenTrial, study: str, metric: Metric) -> Repeated | None:
    """Return a repetition of a trial of `study`; None where it has not ended, or is of another kind."""
    origin, position = attributes.REPLICATE_OF.of(row), attributes.REPLICATE.of(row)
    ended, run = row.state in (TrialState.COMPLETE, TrialState.FAIL), attributes.RUN.of(row)
    if not ended or origin is None or origin.study != study or position is None or run is None or run.fold is None:
        return None
    kept = trial_record(row).kept if row.state == TrialState.COMPLETE else None
    return Repeated(origin.trial, position, kept.evaluation(metric) if kept else None)


@contextmanager
def _as_written_here(what: str) -> Iterator[None]:
    """Turn what reading the attributes of another version raises inside into one line about `what`."""
    try:
        yield
    except ValidationError as error:
        raise StoreError(f"{what}: written by another version of pneumosearch ({first_problem(error)})") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{what}: written by another version of pneumosearch ({error!r})") from error


def _printable(text: str | None) -> str | None:
    return None if text is None else printable(text)


def _merged(trials: list[TrialRecord]) -> tuple[TrialRecord, ...]:
    """Leave out the trials that others continue, whose histories these hold."""
    chains: dict[int, tuple[int, ...]] = {}
    for trial in trials:
        chains[trial.number] = () if trial.continues is None else (*chains[trial.continues], trial.continues)
    continued = {trial.continues for trial in trials}
    kept = (trial for trial in trials if trial.number not in continued)
    return tuple(t.model_copy(update={"earlier": chains[t.number]}) if t.continues is not None else t for t in kept)


def _name_metric(study: optuna.Study, metric: Metric, data: DataDescription) -> None:
    """Label the dashboard's axes; on phantoms they say so."""
    judged_by = "test" if data.test_fingerprint else "validation"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([f"{judged_by} {metric}" + (" on PHANTOMS" if data.kind == "phantoms" else "")])


def _check_same(study: optuna.Study, purpose: Purpose, spec: dict[str, Any], data: DataDescription) -> None:
    about, name = study.user_attrs, study.study_name  # read once: another process may be writing them
    begun_as = attributes.PURPOSE.among(about)  # written last
    if begun_as is None:
        return
    # A store of an earlier version says nothing of them: there were none.
    stored = {"others": {}, "floor": None, "learn_from": [], **attributes.SPEC.needed(about)}
    if begun_as != purpose:
        raise StoreError(f"'{name}' is a {begun_as} in this store; choose another --name")
    changed = [key for key in spec if key in stored and stored[key] != spec[key]]
    if changed:
        difference = first_difference(changed[0], stored[changed[0]], spec[changed[0]])
        raise StoreError(
            f"study '{name}' was started with another {difference}; go on as it was, or choose another --name"
        )
    before = attributes.DATA.needed(about)
    _check_classes(name, before.classes, data.classes)
    if before.fingerprint != data.fingerprint:
        raise StoreError(f"study '{name}' was started on other images ({before.folder}); choose another --name")
    _check_patients(name, before.patient_rule, data.patient_rule)


def _check_classes(name: str, before: Classes, now: Classes) -> None:
    """Raise `StoreError` where the labels would have another meaning."""
    if not same_classes(before, now):
        raise StoreError(
            f"study '{name}' was started with other classes ({','.join(before)}, now {','.join(now)}); go on as it "
            "was, or choose another --name"
        )


def _check_patients(name: str, before: str | None, now: str | None) -> None:
    """Raise `StoreError` where another rule for patients would give another validation split."""
    if before == now:
        return
    if before is None and now == "mendeley":
        raise StoreError(
            f"study '{name}' was started when patients of such names were not known, so that its validation images may "
            "show patients of training; choose another --name, or go on as before with --patient-pattern '(.*)'"
        )
    raise StoreError(
        f"study '{name}' was started with another rule for patients ({before or 'the published names'}, "
        f"now {now or 'the published names'}); go on as it was, or choose another --name"
    )
