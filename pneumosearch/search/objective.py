"""Where a trial meets a training: each epoch is reported to the pruner and recorded, and may end the trial.

A trial of a study with folds trains once for each fold. The pruner sees the first; a trial that it lets through trains
on the others too, and has the mean over all for its value.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from pneumosearch.config import Fold, RunSpec, TrialConfig
from pneumosearch.data.protocols import Dataset, WritesDown
from pneumosearch.errors import TrainingError
from pneumosearch.metrics import direction
from pneumosearch.network.backend import resolved_precision, versions
from pneumosearch.records import attributes
from pneumosearch.records.dataset import DataDescription
from pneumosearch.records.epoch import History, kept_epoch, mean_epoch
from pneumosearch.records.trial import Screening, TrialRecord, is_baseline
from pneumosearch.search.checkpoint_sync import download, upload
from pneumosearch.search.cost import Limits
from pneumosearch.search.events import EpochEnded, FoldStarted, TrialStarted
from pneumosearch.search.leases import check_lease
from pneumosearch.search.session import Deferred, Interrupted, TrialSession
from pneumosearch.search.steps import step_reporter
from pneumosearch.space import Space
from pneumosearch.storage.store import add_test_opening, trial_record
from pneumosearch.storage.trial_files import network_file
from pneumosearch.studyfile import StudySpec
from pneumosearch.training.loop import TrainingResult, train
from pneumosearch.training.plots import learning_curves

#: The trained network is kept of the baseline and of a trial that is among this many best when it ends.
KEPT_MODELS = 5


@dataclass(frozen=True)
class Objective:
    """An Optuna objective: `study.optimize(Objective(session, spec))` works, and `runner.StudyRun` does more.

    Args:
        session: Where files are kept, images, listener, and the flag that is looked at after every epoch.
        spec: What a trial chooses from, and how it is trained and judged.
        keep_all: Keep the network of every trial, not only of the best ones.
    """

    session: TrialSession
    spec: StudySpec
    keep_all: bool = False
    _datasets: dict[tuple[int, str], tuple[Fold | None, Dataset]] = field(default_factory=dict, init=False)

    @cached_property
    def space(self) -> Space:
        """What a trial chooses from."""
        return self.spec.search_space()

    def __call__(self, trial: optuna.Trial, defers: Callable[[], bool] = lambda: False) -> float:
        """Train the trial's configuration and return the metric at the kept epoch; with folds, the mean over them.

        Args:
            trial: Trains the run among its attributes, where it has one; else what the spec says of its configuration.
            defers: Asked after each epoch but the last whether the trial stops there, to go on later.

        Raises:
            optuna.TrialPruned: The pruner stopped it after an epoch, or it is over budget.
            TrainingError: A loss was not finite.
            Interrupted: The session should stop.
            Deferred: The trial lets others go first, as `defers` says.
        """
        config = self.space.suggest(trial)
        run = self._earlier_run(trial)
        if run is None:
            twin = None if self.spec.repeat_duplicates else _same_config(trial, config)
            if twin is not None:
                return self._repeat(trial, twin)
            run = self.new_run(config, trial.number)
            self._check_limits(trial, run)
        first, *others = run.trainings
        dataset = self._images(trial, first)
        self._record_start(trial, run, dataset)
        self.session.listener(TrialStarted(trial.number, run))
        folder = self._checkpoints(trial)
        begun = [each.position for each in others if attributes.history_of(each.position).count(trial)]
        if begun:  # an earlier process has done with the folds before the last of these
            results = [self._train_fold(trial, each, folder) for each in run.trainings[begun[-1] :]]
        else:
            results = [self._train_first(trial, first, dataset, folder, defers)]
            results += [self._train_fold(trial, each, folder) for each in others]
        return self._end(trial, folder, run, results[-1])

    def new_run(self, config: TrialConfig, number: int = 0) -> RunSpec:
        """Return what trial `number` trains with this configuration, as the study says.

        The seed is the study's + number, so that the first trial equals the baseline command's.
        """
        spec = self.spec
        return RunSpec(
            config=config,
            seed=spec.seed + number,
            protocol=spec.protocol,
            n_folds=spec.folds if spec.protocol == "folds" else None,
            precision=resolved_precision(spec.precision),
            deterministic=spec.deterministic,
            stress=spec.stress,
            battery=spec.judged_by_battery,
            precise=spec.precise,
        )

    def dataset(self, training: RunSpec, write_down: WritesDown | None = None) -> Dataset:
        """Open the images of a training; `write_down` is called first where the test folder is among them."""
        form, fold = (training.config.image_size, training.config.equalization), training.judging_fold
        load = self.session.source.load
        if training.protocol == "original":  # each trial that reads the test folder has it written down
            return load(training.protocol, *form, write_down=write_down)
        if form not in self._datasets or self._datasets[form][0] != fold:  # one fold at a time: its copies are large
            dataset = load(training.protocol, *form, stress=training.stress, battery=training.battery, fold=fold)
            self._datasets[form] = fold, dataset
        return self._datasets[form][1]

    def described(self, run: RunSpec) -> DataDescription:
        """Describe the images as `run` needs them, with folds as the first does; the test folder stays shut."""
        if run.protocol == "original":
            return self.session.source.described(run.protocol, run.config.image_size, run.config.equalization)
        return self.dataset(run.trainings[0]).description

    def _train_first(
        self, trial: optuna.Trial, first: RunSpec, dataset: Dataset, folder: Path, defers: Callable[[], bool]
    ) -> TrainingResult:
        """Train the only training of a trial, or that of its first fold, which the pruner may stop."""
        download(self.session.store, trial, folder, first, dataset.description.fingerprint)
        self._screen(trial, first, folder)
        on_step = step_reporter(self.session.listener, trial.number, self.session.steps_every)
        return train(
            first, dataset, folder, lambda history: self._epoch_ended(trial, folder, first, history, defers), on_step
        )

    def _train_fold(self, trial: optuna.Trial, training: RunSpec, folder: Path) -> TrainingResult:
        """Train on a fold after the first."""
        number, own = training.position, folder / f"fold-{training.position}"
        self.session.listener(FoldStarted(trial.number, training))
        dataset = self._images(trial, training)
        download(self.session.store, trial, own, training, dataset.description.fingerprint)
        on_step = step_reporter(self.session.listener, trial.number, self.session.steps_every)
        try:
            result = train(
                training, dataset, own, lambda history: self._fold_epoch_ended(trial, own, number, history), on_step
            )
        except TrainingError as error:
            raise TrainingError(f"fold {number + 1} of {training.n_folds}: {error}") from error
        shutil.rmtree(folder / f"fold-{number - 1}", ignore_errors=True)  # a trial that is taken up begins with this
        return result

    def _images(self, trial: optuna.Trial, run: RunSpec) -> Dataset:
        """Open the images of a trial, which is written down before the test folder judges it."""
        why = f"{run.protocol} protocol: the test folder judges each of {run.config.epochs} epochs"

        def write_down(test_fingerprint: str) -> None:
            add_test_opening(trial.study, trial.number, why, test_fingerprint)

        return self.dataset(run, write_down)

    def clean_up(self, study: optuna.Study, number: int) -> None:
        """Remove the checkpoint of a trial that will not go on."""
        self.session.store.remove_state(study.study_name, number)

    def _checkpoints(self, trial: optuna.Trial) -> Path:
        """Return the folder of the trial's checkpoint. A trial that resumes another takes over its folder."""
        store, study = self.session.store, trial.study.study_name
        folder = store.checkpoint_folder(study, trial.number)
        continues = attributes.CONTINUES.of(trial)
        if continues is not None and not folder.exists():
            earlier = store.checkpoint_folder(study, continues)
            if earlier.exists():
                earlier.rename(folder)
        return folder

    def _screen(self, trial: optuna.Trial, run: RunSpec, folder: Path) -> None:
        """Train the low-resolution rung: one epoch on small images, which may prune. Baseline and control have none."""
        if self.spec.screening is None or self._is_reference(trial, run):
            return
        config = run.config.model_copy(
            update={"image_size": min(self.spec.screening, run.config.image_size), "epochs": 1}
        )
        small = run.model_copy(update={"config": config})

        def ended(history: History) -> None:
            screening = Screening(image_size=config.image_size, epoch=history[-1])
            attributes.SCREENING.set(trial, screening)
            trial.report(history[-1].evaluation(self.spec.prune_by), 0)

        if not attributes.SCREENING.on(trial):
            on_step = step_reporter(self.session.listener, trial.number, self.session.steps_every, screening=True)
            train(small, self._images(trial, small), folder / "screening", ended, on_step)
        if not attributes.HISTORY.count(trial) and trial.should_prune():
            raise optuna.TrialPruned("at its screening")
        if self.session.stop():
            raise Interrupted

    def _check_limits(self, trial: optuna.Trial, run: RunSpec) -> None:
        limits = Limits(self.spec.max_parameters, self.spec.max_seconds_an_epoch)
        excess = limits.excess(run.config, lambda: map(trial_record, trial.study.get_trials(deepcopy=False)))
        if excess and not self._is_reference(trial, run):  # which is always trained
            attributes.PASSED_OVER.set(trial, excess)
            attributes.RUN.set(trial, run)
            raise optuna.TrialPruned(excess)

    def _is_reference(self, trial: optuna.Trial, run: RunSpec) -> bool:
        """Tell whether `trial` is the baseline or the control: others are compared with it, so it is trained whole."""
        return is_baseline(trial) or (self.spec.control and run.config == self.space.control)

    def _earlier_run(self, trial: optuna.Trial) -> RunSpec | None:
        """Return the run that `trial` began before, or that of the trial which it resumes; None where it begins one."""
        untrained = attributes.DUPLICATE_OF.on(trial) or attributes.PASSED_OVER.on(trial)
        if attributes.RUN.on(trial) and not untrained:
            return attributes.RUN.of(trial)
        number = attributes.CONTINUES.of(trial)
        if number is None:
            return None
        earlier = trial.study.get_trials(deepcopy=False)[number]
        self._take_screening(trial, earlier)
        return attributes.RUN.needed(earlier.user_attrs)

    def _take_screening(self, trial: optuna.Trial, earlier: FrozenTrial) -> None:
        screening = attributes.SCREENING.of(earlier)
        if screening is not None:
            attributes.SCREENING.copy(earlier, trial)
            trial.report(screening.epoch.evaluation(self.spec.prune_by), 0)

    def _repeat(self, trial: optuna.Trial, earlier: FrozenTrial) -> float:
        """End `trial` without training it, as the `earlier` one with the same configuration ended."""
        attributes.DUPLICATE_OF.set(trial, earlier.number)  # first: a process that takes over repeats it again
        for attribute in (attributes.RUN, attributes.DATA, attributes.VERSIONS, attributes.N_PARAMETERS):
            attribute.copy(earlier, trial)
        self.session.listener(TrialStarted(trial.number, attributes.RUN.needed(earlier.user_attrs)))
        self._take_screening(trial, earlier)
        for number in range(len(attributes.RUN.needed(earlier.user_attrs).trainings)):
            epochs = attributes.history_of(number)
            history = tuple(epoch.model_copy(update={"seconds": 0.0}) for epoch in epochs.of(earlier))
            epochs.extend(trial, history)
        for epoch in attributes.HISTORY.of(trial):
            trial.report(epoch.evaluation(self.spec.prune_by), epoch.epoch)
        if earlier.state == TrialState.PRUNED or earlier.value is None:
            raise optuna.TrialPruned(f"as trial {earlier.number}")
        return earlier.value

    def _record_start(self, trial: optuna.Trial, run: RunSpec, dataset: Dataset) -> None:
        attributes.RUN.set(trial, run)
        attributes.DATA.set(trial, dataset.description)
        attributes.VERSIONS.set(trial, versions())

    def _epoch_ended(
        self, trial: optuna.Trial, folder: Path, run: RunSpec, history: History, defers: Callable[[], bool]
    ) -> None:
        check_lease(trial)
        upload(self.session.store, trial, folder, history)
        for epoch in history[attributes.HISTORY.count(trial) :]:
            trial.report(epoch.evaluation(self.spec.prune_by), epoch.epoch)
        attributes.HISTORY.extend(trial, history)
        self.session.listener(EpochEnded(trial.number, history))
        if len(history) < run.config.epochs and not self._is_reference(trial, run) and trial.should_prune():
            self._add_picture(trial, history)
            raise optuna.TrialPruned(f"after epoch {len(history)}")
        if self.session.stop():
            raise Interrupted
        if len(history) < run.config.epochs and defers():
            raise Deferred

    def _fold_epoch_ended(self, trial: optuna.Trial, folder: Path, number: int, history: History) -> None:
        """Record an epoch of a fold after the first; the pruner has let the trial through."""
        check_lease(trial)
        upload(self.session.store, trial, folder, history, number)
        attributes.history_of(number).extend(trial, history)
        self.session.listener(EpochEnded(trial.number, history, number))
        if self.session.stop():
            raise Interrupted

    def _end(self, trial: optuna.Trial, folder: Path, run: RunSpec, result: TrainingResult) -> float:
        """Record the size and the picture of a finished trial and, if it is good, its network; return its value."""
        histories = (attributes.HISTORY.of(trial), *attributes.further_folds(trial.user_attrs))
        kept = [kept_epoch(history, run.config.keep) for history in histories]
        value = mean_epoch(kept).evaluation(self.spec.metric)
        attributes.N_PARAMETERS.set(trial, result.n_parameters)
        self._add_picture(trial, histories[0])
        if self.keep_all or self._is_reference(trial, run) or self._is_good(trial, run, histories, value):
            path = folder / network_file(trial.number)
            kept_training = result if len(histories) == 1 else self._first_again(trial, run.trainings[0], folder)
            kept_training.save(path)
            self.session.store.add_artifact(trial, path, "application/zip")
        return value

    def _first_again(self, trial: optuna.Trial, first: RunSpec, folder: Path) -> TrainingResult:
        """Return the first fold's finished training from its checkpoint: other folds have used its network since."""
        dataset = self._images(trial, first)
        download(self.session.store, trial, folder, first, dataset.description.fingerprint)

        def ended(history: History) -> None:
            check_lease(trial)
            if self.session.stop():
                raise Interrupted

        return train(first, dataset, folder, ended)

    def _is_good(self, trial: optuna.Trial, run: RunSpec, histories: Sequence[History], value: float) -> bool:
        """Tell whether a trial that has just ended is among the best so far."""
        sign = -1.0 if direction(self.spec.metric) == "maximize" else 1.0
        history, *folds = histories
        own = TrialRecord(
            number=trial.number, state="complete", run=run, value=value, history=history, folds=tuple(folds)
        )
        floor = self.spec.floor or {}

        def place(other: FrozenTrial) -> tuple[bool, float]:  # the smaller, the better
            return bool(floor) and trial_record(other).below(floor), sign * (other.value or 0.0)

        complete = trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return sum(place(other) <= (own.below(floor), sign * value) for other in complete) < KEPT_MODELS

    def _add_picture(self, trial: optuna.Trial, history: History) -> None:
        folder = self.session.store.checkpoint_folder(trial.study.study_name, trial.number)
        path = folder / "learning-curves.png"
        learning_curves(history, path, title=f"{trial.study.study_name}, trial {trial.number}")
        self.session.store.add_artifact(trial, path, "image/png")


def _same_config(trial: optuna.Trial, config: TrialConfig) -> FrozenTrial | None:
    """Return the ended trial before `trial` that trained `config` for the most epochs."""
    default, wanted = (each.model_dump(mode="json") for each in (TrialConfig(), config))
    ended = trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    begun = (t for t in ended if attributes.HISTORY.count(t) or attributes.SCREENING.on(t))
    trained = (t for t in begun if t.number < trial.number and not attributes.DUPLICATE_OF.on(t))
    same = (t for t in trained if {**default, **attributes.RUN.stored(t)["config"]} == wanted)
    return max(same, key=attributes.HISTORY.count, default=None)
