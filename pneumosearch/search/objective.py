"""Where a trial meets a training: each epoch is reported to the pruner and recorded, and may end the trial."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from pneumosearch.config import RunSpec, TrialConfig
from pneumosearch.data.protocols import Dataset
from pneumosearch.metrics import direction
from pneumosearch.network.backend import resolved_precision, versions
from pneumosearch.records.epoch import EpochMetrics, History, kept_epoch
from pneumosearch.records.trial import Screening
from pneumosearch.search.checkpoint_sync import download, upload
from pneumosearch.search.cost import Limits
from pneumosearch.search.events import EpochEnded, TrialStarted
from pneumosearch.search.leases import check_lease
from pneumosearch.search.session import Deferred, Interrupted, Session
from pneumosearch.space import Space
from pneumosearch.storage.store import network_file, trial_record
from pneumosearch.studyfile import StudySpec
from pneumosearch.training.loop import TrainingResult, train
from pneumosearch.training.plots import learning_curves

#: The trained network is kept of the baseline and of a trial that is among this many best when it ends.
KEPT_MODELS = 5


@dataclass(frozen=True)
class Objective:
    """An Optuna objective: `study.optimize(Objective(session, spec))` works, and `runner.StudyRun` does more.

    Args:
        session: Store, images, listener, and the flag that is looked at after every epoch.
        spec: What a trial chooses from, and how it is trained and judged.
        keep_all: Keep the network of every trial, not only of the best ones.
    """

    session: Session
    spec: StudySpec
    keep_all: bool = False
    _datasets: dict[tuple[int, str], Dataset] = field(default_factory=dict, init=False)

    @cached_property
    def space(self) -> Space:
        """What a trial chooses from."""
        return self.spec.search_space()

    def __call__(self, trial: optuna.Trial, defers: Callable[[], bool] = lambda: False) -> float:
        """Train the trial's configuration and return the metric at the kept epoch.

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
        dataset = self.dataset(run)
        self._record_start(trial, run, dataset)
        self.session.listener(TrialStarted(trial.number, run))
        folder = self._checkpoints(trial)
        download(self.session.store, trial, folder, run, dataset.description.fingerprint)
        self._screen(trial, run, folder)
        result = train(run, dataset, folder, lambda history: self._epoch_ended(trial, folder, run, history, defers))
        value = kept_epoch(result.history, run.config.keep).evaluation(self.spec.metric)
        self._keep(trial, folder, result, value)
        return value

    def new_run(self, config: TrialConfig, number: int = 0) -> RunSpec:
        """Return what trial `number` trains with this configuration, as the study says.

        The seed is the study's + number, so that the first trial equals the baseline command's.
        """
        spec = self.spec
        return RunSpec(
            config=config,
            seed=spec.seed + number,
            protocol=spec.protocol,
            precision=resolved_precision(spec.precision),
            stress=spec.stress,
            precise=spec.precise,
        )

    def dataset(self, run: RunSpec) -> Dataset:
        """Open the images as `run` needs them, once for each size and equalization."""
        form = (run.config.image_size, run.config.equalization)  # the same for all trials otherwise
        if form not in self._datasets:
            self._datasets[form] = self.session.source.load(run.protocol, *form, stress=run.stress)
        return self._datasets[form]

    def clean_up(self, study: optuna.Study, number: int) -> None:
        """Remove the checkpoint of a trial that will not go on."""
        self.session.store.remove_state(study.study_name, number)

    def _checkpoints(self, trial: optuna.Trial) -> Path:
        """Return the folder of the trial's checkpoint. A trial that resumes another takes over its folder."""
        store, study = self.session.store, trial.study.study_name
        folder = store.checkpoint_folder(study, trial.number)
        if "continues" in trial.user_attrs and not folder.exists():
            earlier = store.checkpoint_folder(study, trial.user_attrs["continues"])
            if earlier.exists():
                earlier.rename(folder)
        return folder

    def _screen(self, trial: optuna.Trial, run: RunSpec, folder: Path) -> None:
        """Train the low-resolution rung: one epoch on small images, which may prune. The baseline has none."""
        if self.spec.screening is None or trial.number == 0:
            return
        config = run.config.model_copy(
            update={"image_size": min(self.spec.screening, run.config.image_size), "epochs": 1}
        )
        small = run.model_copy(update={"config": config})

        def ended(history: History) -> None:
            screening = Screening(image_size=config.image_size, epoch=history[-1])
            trial.set_user_attr("screening", screening.model_dump(exclude_none=True))
            trial.report(history[-1].evaluation(self.spec.prune_by), 0)

        if "screening" not in trial.user_attrs:
            train(small, self.dataset(small), folder / "screening", ended)
        if not trial.user_attrs.get("history") and trial.should_prune():
            raise optuna.TrialPruned("at its screening")
        if self.session.stop():
            raise Interrupted

    def _check_limits(self, trial: optuna.Trial, run: RunSpec) -> None:
        limits = Limits(self.spec.max_parameters, self.spec.max_seconds_an_epoch)
        excess = limits.excess(run.config, lambda: map(trial_record, trial.study.get_trials(deepcopy=False)))
        if excess and trial.number > 0:  # the baseline is always trained
            trial.set_user_attr("passed_over", excess)
            trial.set_user_attr("run", run.model_dump(mode="json"))
            raise optuna.TrialPruned(excess)

    def _earlier_run(self, trial: optuna.Trial) -> RunSpec | None:
        """Return the run that `trial` began before, or that of the trial which it resumes; None where it begins one."""
        attributes = trial.user_attrs
        if "run" in attributes and not attributes.keys() & {"duplicate_of", "passed_over"}:
            return RunSpec.model_validate(attributes["run"])
        number = trial.user_attrs.get("continues")
        if number is None:
            return None
        earlier = trial.study.get_trials(deepcopy=False)[number]
        self._take_screening(trial, earlier)
        return RunSpec.model_validate(earlier.user_attrs["run"])

    def _take_screening(self, trial: optuna.Trial, earlier: FrozenTrial) -> None:
        if "screening" in earlier.user_attrs:
            trial.set_user_attr("screening", earlier.user_attrs["screening"])
            trial.report(
                Screening.model_validate(earlier.user_attrs["screening"]).epoch.evaluation(self.spec.prune_by), 0
            )

    def _repeat(self, trial: optuna.Trial, earlier: FrozenTrial) -> float:
        """End `trial` without training it, as the `earlier` one with the same configuration ended."""
        trial.set_user_attr("duplicate_of", earlier.number)  # first: a process that takes over repeats it again
        for name in ("run", "data", "versions", "n_parameters"):
            if name in earlier.user_attrs:
                trial.set_user_attr(name, earlier.user_attrs[name])
        self.session.listener(TrialStarted(trial.number, RunSpec.model_validate(earlier.user_attrs["run"])))
        self._take_screening(trial, earlier)
        epochs = earlier.user_attrs.get("history", [])
        history = tuple(EpochMetrics.model_validate({**epoch, "seconds": 0.0}) for epoch in epochs)
        trial.set_user_attr("history", [epoch.model_dump(exclude_none=True) for epoch in history])
        for epoch in history:
            trial.report(epoch.evaluation(self.spec.prune_by), epoch.epoch)
        if earlier.state == TrialState.PRUNED or earlier.value is None:
            raise optuna.TrialPruned(f"as trial {earlier.number}")
        return earlier.value

    def _record_start(self, trial: optuna.Trial, run: RunSpec, dataset: Dataset) -> None:
        trial.set_user_attr("run", run.model_dump(mode="json"))
        trial.set_user_attr("data", dataset.description.model_dump(mode="json"))
        trial.set_user_attr("versions", versions())
        if dataset.evaluated == "test":
            why = f"{run.protocol} protocol: the test folder judges each of {run.config.epochs} epochs"
            self.session.store.add_test_opening(trial.study, trial.number, why, dataset.description)

    def _epoch_ended(
        self, trial: optuna.Trial, folder: Path, run: RunSpec, history: History, defers: Callable[[], bool]
    ) -> None:
        check_lease(trial)
        upload(self.session.store, trial, folder, history)
        recorded = len(trial.user_attrs.get("history", []))
        for epoch in history[recorded:]:
            trial.report(epoch.evaluation(self.spec.prune_by), epoch.epoch)
        if len(history) > recorded:
            trial.set_user_attr("history", [epoch.model_dump(exclude_none=True) for epoch in history])
        self.session.listener(EpochEnded(trial.number, history))
        if len(history) < run.config.epochs and trial.should_prune():
            self._add_picture(trial, history)
            raise optuna.TrialPruned(f"after epoch {len(history)}")
        if self.session.stop():
            raise Interrupted
        if len(history) < run.config.epochs and defers():
            raise Deferred

    def _keep(self, trial: optuna.Trial, folder: Path, result: TrainingResult, value: float) -> None:
        """Record the size and the picture of a finished training and, if it is good, its network."""
        trial.set_user_attr("n_parameters", result.n_parameters)
        self._add_picture(trial, result.history)
        if self.keep_all or trial.number == 0 or self._is_good(trial, value):
            path = folder / network_file(trial.number)
            result.save(path)
            self.session.store.add_artifact(trial, path, "application/zip")

    def _is_good(self, trial: optuna.Trial, value: float) -> bool:
        complete = trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        sign = 1.0 if direction(self.spec.metric) == "maximize" else -1.0
        at_least_as_good = sum(sign * (other.value or 0.0) >= sign * value for other in complete)
        return at_least_as_good < KEPT_MODELS

    def _add_picture(self, trial: optuna.Trial, history: History) -> None:
        folder = self.session.store.checkpoint_folder(trial.study.study_name, trial.number)
        path = folder / "learning-curves.png"
        learning_curves(history, path, title=f"{trial.study.study_name}, trial {trial.number}")
        self.session.store.add_artifact(trial, path, "image/png")


def _same_config(trial: optuna.Trial, config: TrialConfig) -> FrozenTrial | None:
    """Return the ended trial before `trial` that trained `config` for the most epochs."""
    wanted = config.model_dump(mode="json")
    ended = trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    trained = (t for t in ended if t.number < trial.number and t.user_attrs.keys() & {"history", "screening"})
    same = (t for t in trained if t.user_attrs["run"]["config"] == wanted and "duplicate_of" not in t.user_attrs)
    return max(same, key=lambda t: len(t.user_attrs.get("history", [])), default=None)
