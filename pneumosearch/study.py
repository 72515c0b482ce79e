"""A study from its search to its confirmation: what the commands `study`, `worker` and `confirm` do, for Python too."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from pneumosearch._utils.processes import Helper
from pneumosearch.config import TrialConfig
from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.protocols import DataSource
from pneumosearch.default_study import default_study
from pneumosearch.errors import PneumosearchError, StoreError
from pneumosearch.metrics import Metric
from pneumosearch.records.classes import Classes
from pneumosearch.records.confirmation import Confirmation
from pneumosearch.records.earlier import informed_line
from pneumosearch.records.trial import StudyRecord, TrialRecord
from pneumosearch.search.events import Listener, Repeating, TrialEnded, TrialEvent, to_all
from pneumosearch.search.rerun import stored_folder
from pneumosearch.search.runner import Outcome, open_search
from pneumosearch.search.session import Session, StopFlag, stopping_on_ctrl_c
from pneumosearch.storage.opening import open_store
from pneumosearch.storage.store import Store
from pneumosearch.storage.urls import advice
from pneumosearch.studyfile import StudySpec, checked_spec, read_study_file, seconds_of
from pneumosearch.tracking.follow import followed
from pneumosearch.workers.crew import Crew, prestarted, ready
from pneumosearch.workers.work import Search

if TYPE_CHECKING:
    import pandas

    from pneumosearch.confirm.replicates import ConfirmationPlan
    from pneumosearch.report.shown import Report

_CALL: Final = "Study.search"  # begins the messages of its errors

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Watcher:
    """Who is told what happens.

    Args:
        listener: Receives what happens in the trials.
        say: Takes a line for the user.
        warn: Takes a warning.
        steps_every: Seconds between two events within an epoch; None for none.
    """

    listener: Listener = lambda event: None
    say: Callable[[str], None] = _log.info
    warn: Callable[[str], None] = _log.warning
    steps_every: float | None = None


def run_search(
    store: Store,
    source: DataSource,
    spec: StudySpec,
    crew: Crew,
    watcher: Watcher,
    *,
    helpers: list[Helper] | None = None,
    begun: Callable[[], None] = lambda: None,
    joins: bool = False,
) -> Outcome:
    """Train until the study has its trials, or something stops it: its timeout, or Ctrl-C after the present epoch.

    Args:
        store: For the study.
        source: The images.
        spec: The study.
        crew: Who trains.
        watcher: Who is told.
        helpers: Processes that were started early, as `crew.prestarted` gives them.
        begun: Called when the study is open and before it trains.
        joins: Another command leads the study, and writes earlier trials to other tools.

    Raises:
        PneumosearchError: Images, store, study or cluster cannot be used, or too many trials fail alike.
    """
    stop = StopFlag.after(seconds_of(spec.timeout))
    # Ray installs its own handler of SIGTERM when it starts, so it must start before ours is installed.
    with (
        followed(store, spec, watcher.warn) as follower,
        ready(crew, helpers or [], store.url, watcher.say) as train,
        stopping_on_ctrl_c(stop, watcher.say),
    ):
        session = Session(store, source, to_all(watcher.listener, follower), stop, watcher.steps_every)
        begins = spec.name not in store.names()
        open_search(session, spec)  # decodes images and finds mistakes here, before processes start
        store.set_goal(spec.name, spec.trials)
        begun()
        record = store.record(spec.name)
        if begins and record.informed_by:
            watcher.say(informed_line(record.informed_by))
        if spec.log and not joins:
            follower.catch_up(record.trials)
        if spec.protocol == "folds":
            watcher.say(f"each configuration that is not pruned trains {spec.folds} times, once for each fold")
        hint = advice(store.url, crew.workers + record.count("running"))
        if hint:
            watcher.say(f"hint: {hint}")
        return train(session, Search(spec, spec.trials))


def run_confirmation(
    store: Store,
    source: DataSource,
    plan: "ConfirmationPlan",
    crew: Crew,
    watcher: Watcher,
    *,
    stop: StopFlag,
    helpers: list[Helper] | None = None,
) -> Confirmation | None:
    """Train what is missing, open the test folder and judge; None where it was stopped before.

    Args:
        store: That holds the search.
        source: The images.
        plan: As `plan_confirmation` makes it.
        crew: Who trains; this process judges.
        watcher: Who is told.
        stop: When to stop; Ctrl-C sets it too.
        helpers: Processes that were started early, as `crew.prestarted` gives them.

    Raises:
        PneumosearchError: As `confirm.run.confirm`.
    """
    from pneumosearch.confirm.run import confirm
    from pneumosearch.dashboard.server import write_note

    # Ray first, as in `run_search`.
    with ready(crew, helpers or [], store.url, watcher.say) as train, stopping_on_ctrl_c(stop, watcher.say):
        session = Session(store, source, watcher.listener, stop, watcher.steps_every)
        confirmation = confirm(session, plan, train, say=watcher.say, warn=watcher.warn)
    if confirmation is not None:
        for study in (plan.record.name, plan.study):
            write_note(store, study)
    return confirmation


@dataclass(frozen=True, repr=False)
class Study:
    """A study in its store: search, look, report and confirm, as the command line does.

    Example:
        study = Study.search("chest_xray", trials=20, name="mine")
        study.trials.plot.scatter("dropout_1", "value")
        study.confirm()

    Args:
        store: That holds the study.
        name: Of the study.
        stopped: Why the search that made it stopped before all was done; empty where nothing stopped it.
    """

    store: Store
    name: str
    stopped: str = field(default="", compare=False)

    @classmethod
    def search(
        cls,
        data: str | Path,
        spec: StudySpec | str | Path | None = None,
        *,
        workers: int = 1,
        results: str | Path = "results",
        storage: str | None = None,
        artifacts: str | None = None,
        skip_unreadable: bool = False,
        say: Callable[[str], None] | None = None,
        listener: Listener | None = None,
        **settings: object,
    ) -> Self:
        """Search around the published network, or go on with a search of this name, until it has its trials.

        Trainings run in processes of their own. Ctrl-C, or a notebook's interrupt, ends the present epoch; the same
        call goes on. The test folder stays sealed.

        Args:
            data: Folder with train and test, each with the two class folders.
            spec: A study, or the path of a study file; without it the default study.
            workers: Trainings at once.
            results: Folder of the store, artifacts, checkpoints and caches.
            storage: URL of the store; by default a file in `results`.
            artifacts: URL of the artifacts that machines share.
            skip_unreadable: Leave out images that cannot be decoded.
            say: Takes a line for the user now and then, such as `print`: how a trial ended, and warnings. Without it
                they go to Python's logging.
            listener: Receives each event of the trials, for a view of your own.
            settings: Keys of study files, such as `name`, `trials`, `metric`, `space`, `timeout`, `log` or
                `learn_from`.

        Raises:
            ConfigError: A setting cannot be used.
            DataError: The images cannot be used.
            StoreError: The store cannot be used, or has another study of this name.
            PneumosearchError: Too many trials fail alike.
        """
        from pneumosearch.dashboard.server import write_note

        chosen, crew, folder = _spec(spec, settings), Crew(workers), Path(results)
        watcher = _watcher(say, listener, chosen.metric)
        with prestarted(crew) as helpers:
            store = open_store(storage, folder, artifacts, chosen.name, begins=True)
            classes = store.classes_of(chosen.name, chosen.classes)
            source = _source(Path(data), folder, skip_unreadable, chosen.patient_pattern, classes)
            if spec is None:
                phantoms = source.manifest.kind == "phantoms"
                chosen = default_study(settings, phantoms=phantoms, begun=store.begun(chosen.name), source=_CALL)
            outcome = run_search(store, source, chosen, crew, watcher, helpers=helpers)
        write_note(store, chosen.name)
        return cls(store, chosen.name, outcome.stopped)

    @classmethod
    def load(
        cls,
        name: str = "default",
        *,
        results: str | Path = "results",
        storage: str | None = None,
        artifacts: str | None = None,
    ) -> Self:
        """Open a study that is in the store, whoever searched it.

        Args:
            name: Of the study.
            results: Folder of the store and its artifacts.
            storage: URL of the store; by default a file in `results`.
            artifacts: URL of the artifacts that machines share; by default those of the study.

        Raises:
            StoreError: There is no such store or study.
        """
        store = open_store(storage, Path(results), artifacts, name, must_exist=True)
        store.load_study(name)
        return cls(store, name)

    @property
    def record(self) -> StudyRecord:
        """All that the store knows of the study now, as plain values."""
        return self.store.record(self.name)

    @property
    def trials(self) -> "pandas.DataFrame":
        """The trials now, a row for each by its number, with the columns of `report --format csv`.

        Accuracies are fractions in [0, 1] at the kept epoch, times seconds. Hyperparameters that no trial changes are
        left out.
        """
        import pandas

        from pneumosearch.report.summary import trial_row

        record = self.record
        trials = record.trials
        changed = {name for trial in trials if trial.run for name in trial.run.config.changes()}
        unchanged = sorted(TrialConfig.model_fields.keys() - changed)
        frame = pandas.DataFrame([trial_row(trial, record) for trial in trials], columns=None if trials else ["number"])
        return frame.set_index("number").drop(columns=unchanged, errors="ignore")

    @property
    def best(self) -> TrialRecord:
        """The best complete trial by the study's metric on validation images. What that is worth, `confirm` tells.

        Raises:
            StoreError: No trial is complete.
        """
        ranking = self.record.ranking()
        if not ranking:
            raise StoreError(f"study '{self.name}' has no complete trial yet")
        return ranking[0]

    def report(self, *, top: int = 10, pictures: bool = True) -> "Report":
        """Return the report as it is now: a table where it is printed, the page in a notebook.

        Args:
            top: Best trials to list besides the baseline.
            pictures: Show the test images that a confirmed winner misclassified; without, they are named only.
        """
        from pneumosearch.report.shown import report_of

        return report_of(self.store, self.name, top=top, pictures=pictures)

    def confirm(
        self,
        data: str | Path | None = None,
        *,
        top: int = 3,
        seeds: int = 5,
        control: bool = True,
        workers: int = 1,
        timeout: str | None = None,
        skip_unreadable: bool = False,
        say: Callable[[str], None] | None = None,
        listener: Listener | None = None,
    ) -> Confirmation:
        """Train the best configurations and the baseline on fresh seeds, then judge them by the test images, once.

        Trainings run in processes of their own, and other machines may join. The same call goes on where it stopped,
        and opens nothing when it had finished.

        Each seed is judged by another fifth of the patients, and the best mean of the search's metric names the winner,
        before the test folder is opened.

        Args:
            data: The images; by default the folder of the search.
            top: How many of the best configurations to confirm.
            seeds: Trainings of each, and of the baseline.
            control: Confirm the study's control too, wherever it ranks, if it has one that is complete.
            workers: Trainings at once.
            timeout: Stop after this time, such as `30m`.
            skip_unreadable: Leave out images that cannot be decoded.
            say: Takes each line for the user.
            listener: Receives each event of the trainings.

        Raises:
            StoreError: There is nothing to confirm, or the images are others than those of the search.
            DataError: Images cannot be read.
            PneumosearchError: It was stopped before its end.
        """
        from pneumosearch.confirm.replicates import as_begun, finished_replicates, plan_confirmation
        from pneumosearch.confirm.run import stored_confirmation

        record, stop = self.record, StopFlag.after(seconds_of(timeout, "timeout"))
        plan = as_begun(self.store, plan_confirmation(record, top, seeds, control=control))
        there = stored_confirmation(self.store, plan)
        if there is not None:
            return there
        folder = Path(data) if data is not None else stored_folder(record)
        if folder is None:
            raise StoreError(f"study '{self.name}': its images are no longer in {record.data.folder}; give data")
        pattern, classes, crew = record.data.patient_pattern, record.data.classes, Crew(workers)
        watcher = _watcher(say, listener, record.metric)
        with prestarted(crew) as helpers:
            source = _source(folder, self.store.results, skip_unreadable, pattern, classes)
            confirmation = run_confirmation(self.store, source, plan, crew, watcher, stop=stop, helpers=helpers)
        if confirmation is None:
            trained = f"{len(finished_replicates(self.store, plan))} of {len(plan.runs)} replicates"
            raise PneumosearchError(f"stopped ({stop.reason}) with {trained}; the same call goes on")
        return confirmation

    def __repr__(self) -> str:
        record = self.record
        best = next(iter(record.ranking()), None)
        found = "" if best is None else f"; best {record.metric} {best.value:.4f} (trial {best.number})"
        return f"<Study '{self.name}': {len(record.trials)} trials, {record.count('complete')} complete{found}>"


def _spec(spec: StudySpec | str | Path | None, settings: Mapping[str, object]) -> StudySpec:
    """Return a study as it is given, with the settings that are given besides."""
    if isinstance(spec, str | Path):
        spec = read_study_file(Path(spec))
    if spec is None:
        return default_study(settings, source=_CALL)
    return checked_spec({**spec.model_dump(mode="json"), **settings}, _CALL) if settings else spec


def _source(data: Path, results: Path, skip_unreadable: bool, pattern: str | None, classes: Classes) -> DataSource:
    return DataSource(read_manifest(data, pattern, classes), results / "cache", skip_unreadable)


def _watcher(say: Callable[[str], None] | None, listener: Listener | None, metric: Metric) -> Watcher:
    from pneumosearch.report.progress import ending_line

    tell = say or _log.info

    def tell_endings(event: TrialEvent) -> None:
        match event:
            case TrialEnded(record):
                tell(ending_line(record, metric))
            case Repeating(study, event=TrialEnded(record)):
                tell(f"{study}: {ending_line(record, 'accuracy')}")

    heard = to_all(tell_endings, *([] if listener is None else [listener]))
    return Watcher(heard, tell, say or _log.warning)
