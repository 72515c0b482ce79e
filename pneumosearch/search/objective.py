"""Where a trial meets a training: the configuration goes in, every epoch is reported, recorded and may prune."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from pneumosearch.config import Precision, RunSpec, TrialConfig
from pneumosearch.config import Protocol as DataProtocol
from pneumosearch.data.protocols import Dataset, DataSource
from pneumosearch.metrics import Metric, PruneMetric, direction
from pneumosearch.network.backend import versions
from pneumosearch.records.epoch import EpochMetrics, History, kept_epoch
from pneumosearch.records.trial import Screening
from pneumosearch.search.checkpoint_sync import deposit, fetch
from pneumosearch.search.cost import Limits
from pneumosearch.search.events import EpochEnded, Listener, TrialStarted
from pneumosearch.search.leases import check_owned
from pneumosearch.space import Space
from pneumosearch.storage.store import Store, network_file, trial_record
from pneumosearch.training.loop import TrainingResult, train
from pneumosearch.training.plots import learning_curves

#: The trained network is kept of the baseline and of a trial that is among this many best when it ends.
KEPT_MODELS = 5


class Interrupted(Exception):
    """The study was asked to stop; the trial has saved its epoch and can go on."""


class Deferred(Interrupted):
    """The trial has saved its epoch and lets others go first."""


@dataclass
class StopFlag:
    """Why training should stop after the present epoch; empty while it should not."""

    deadline: float = float("inf")  # of `time.monotonic`
    reason: str = ""

    @classmethod
    def after(cls, seconds: float) -> "StopFlag":
        """Stop when this time is over."""
        return cls(time.monotonic() + seconds)

    def __call__(self) -> bool:
        """Tell whether to stop."""
        if not self.reason and time.monotonic() >= self.deadline:
            self.reason = "the time is up"
        return bool(self.reason)


@dataclass(frozen=True)
class Session:
    """What all trials of one run of the program share: store, images, who listens, and when to stop."""

    store: Store
    source: DataSource
    listener: Listener
    stop: StopFlag


@dataclass
class Objective:
    """An Optuna objective: `study.optimize(Objective(...))` works, and `study.run_study` does more.

    Args:
        session: Store, images, listener, and the flag that is looked at after every epoch.
        space: What a trial chooses from.
        metric: What is searched for, on the images that judge an epoch.
        prune_by: What the pruner sees after each epoch, on the same images.
        protocol: Which images those are.
        precision: Of the computation.
        seed_of: Trial number to training seed.
        repeat_duplicates: Train a configuration again that an earlier trial has trained, with another seed.
        limits: What a configuration may cost to be trained.
        screening: Train an epoch on images of this side first, which the pruner sees as epoch 0.
        keep_all: Keep the network of every trial, not only of the best.
        stress: Judge each epoch by changed copies of the validation images too.
        precise: Judge each epoch with precise batch normalisation too.
        defers: Asked after each epoch but the last whether a trial stops there, to go on later.
    """

    session: Session
    space: Space
    metric: Metric
    prune_by: PruneMetric
    protocol: DataProtocol
    precision: Precision
    seed_of: Callable[[int], int]
    repeat_duplicates: bool = True
    limits: Limits = field(default_factory=Limits)
    screening: int | None = None
    keep_all: bool = False
    stress: bool = False
    precise: bool = False
    defers: Callable[[optuna.Trial], bool] = lambda trial: False
    _datasets: dict[tuple[int, str], Dataset] = field(default_factory=dict)

    def __call__(self, trial: optuna.Trial) -> float:
        """Train the trial's configuration and return the metric at the kept epoch.

        Raises:
            optuna.TrialPruned: The pruner stopped it after an epoch, or it is passed over for what it would cost.
            TrainingError: A loss was not finite.
            Interrupted: The session should stop.
            Deferred: The trial lets others go first, as `defers` says.
        """
        config = self.space.suggest(trial)
        run = self._continued_run(trial)
        if run is None:
            earlier = None if self.repeat_duplicates else _same_config(trial, config)
            if earlier is not None:
                return self._repeat(trial, earlier)
            seed = self.seed_of(trial.number)
            judged = {"stress": self.stress, "precise": self.precise}
            run = RunSpec(config=config, seed=seed, protocol=self.protocol, precision=self.precision, **judged)
            self._check_limits(trial, run)
        dataset = self.dataset(config)
        self._record_start(trial, run, dataset)
        self.session.listener(TrialStarted(trial.number, run))
        folder = self._checkpoints(trial)
        fetch(self.session.store, trial, folder, run, dataset.description.fingerprint)
        self._screen(trial, run, folder)
        result = train(run, dataset, folder, lambda history: self._epoch_ended(trial, folder, config, history))
        value = kept_epoch(result.history, config.keep).evaluation(self.metric)
        self._keep(trial, folder, result, value)
        return value

    def dataset(self, config: TrialConfig) -> Dataset:
        """Open the images as `config` wants them, once."""
        form = (config.image_size, config.equalization)
        if form not in self._datasets:
            self._datasets[form] = self.session.source.load(self.protocol, *form, stress=self.stress)
        return self._datasets[form]

    def clean_up(self, study: optuna.Study, number: int) -> None:
        """Remove the state of a trial that will not go on."""
        self.session.store.remove_state(study.study_name, number)

    def _checkpoints(self, trial: optuna.Trial) -> Path:
        """Return the folder of the trial's state: that of the trial it continues, where there is one."""
        store, study = self.session.store, trial.study.study_name
        folder = store.checkpoint_folder(study, trial.number)
        if "continues" in trial.user_attrs and not folder.exists():
            earlier = store.checkpoint_folder(study, trial.user_attrs["continues"])
            if earlier.exists():
                earlier.rename(folder)
        return folder

    def _screen(self, trial: optuna.Trial, run: RunSpec, folder: Path) -> None:
        """Train one epoch on small images, which may prune; the baseline is trained in any case."""
        if self.screening is None or trial.number == 0:
            return
        config = run.config.model_copy(update={"image_size": min(self.screening, run.config.image_size), "epochs": 1})
        small = run.model_copy(update={"config": config})

        def ended(history: History) -> None:
            screening = Screening(image_size=config.image_size, epoch=history[-1])
            trial.set_user_attr("screening", screening.model_dump(exclude_none=True))
            trial.report(history[-1].evaluation(self.prune_by), 0)

        if "screening" not in trial.user_attrs:
            train(small, self.dataset(config), folder / "screening", ended)
        if not trial.user_attrs.get("history") and trial.should_prune():
            raise optuna.TrialPruned("at its screening")
        if self.session.stop():
            raise Interrupted

    def _check_limits(self, trial: optuna.Trial, run: RunSpec) -> None:
        excess = self.limits.excess(run.config, lambda: map(trial_record, trial.study.get_trials(deepcopy=False)))
        if excess and trial.number > 0 and "history" not in trial.user_attrs:  # the baseline is trained in any case
            trial.set_user_attr("run", run.model_dump(mode="json"))
            trial.set_user_attr("passed_over", excess)
            raise optuna.TrialPruned(excess)

    def _continued_run(self, trial: optuna.Trial) -> RunSpec | None:
        """Return the run that `trial` goes on with; None where it begins one."""
        number = trial.user_attrs.get("continues")
        if number is None:
            return None
        earlier = trial.study.get_trials(deepcopy=False)[number]
        self._take_screening(trial, earlier)
        return RunSpec.model_validate(earlier.user_attrs["run"])

    def _take_screening(self, trial: optuna.Trial, earlier: FrozenTrial) -> None:
        if "screening" in earlier.user_attrs:
            trial.set_user_attr("screening", earlier.user_attrs["screening"])
            trial.report(Screening.model_validate(earlier.user_attrs["screening"]).epoch.evaluation(self.prune_by), 0)

    def _repeat(self, trial: optuna.Trial, earlier: FrozenTrial) -> float:
        """End `trial` as the `earlier` one of its configuration ended, without a training."""
        for name in ("run", "data", "versions", "n_parameters"):
            if name in earlier.user_attrs:
                trial.set_user_attr(name, earlier.user_attrs[name])
        trial.set_user_attr("duplicate_of", earlier.number)
        self.session.listener(TrialStarted(trial.number, RunSpec.model_validate(earlier.user_attrs["run"])))
        self._take_screening(trial, earlier)
        epochs = earlier.user_attrs.get("history", [])
        history = tuple(EpochMetrics.model_validate({**epoch, "seconds": 0.0}) for epoch in epochs)
        trial.set_user_attr("history", [epoch.model_dump(exclude_none=True) for epoch in history])
        for epoch in history:
            trial.report(epoch.evaluation(self.prune_by), epoch.epoch)
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

    def _epoch_ended(self, trial: optuna.Trial, folder: Path, config: TrialConfig, history: History) -> None:
        check_owned(trial)
        deposit(self.session.store, trial, folder, history)
        recorded = len(trial.user_attrs.get("history", []))
        for epoch in history[recorded:]:
            trial.report(epoch.evaluation(self.prune_by), epoch.epoch)
        if len(history) > recorded:
            trial.set_user_attr("history", [epoch.model_dump(exclude_none=True) for epoch in history])
        self.session.listener(EpochEnded(trial.number, history))
        if len(history) < config.epochs and trial.should_prune():
            self._add_picture(trial, history)
            raise optuna.TrialPruned(f"after epoch {len(history)}")
        if self.session.stop():
            raise Interrupted
        if len(history) < config.epochs and self.defers(trial):
            raise Deferred

    def _keep(self, trial: optuna.Trial, folder: Path, result: TrainingResult, value: float) -> None:
        """Record what the finished training leaves: its size, its picture and, if it is good, the network."""
        trial.set_user_attr("n_parameters", result.n_parameters)
        self._add_picture(trial, result.history)
        if self.keep_all or trial.number == 0 or self._is_good(trial, value):
            path = folder / network_file(trial.number)
            result.save(path)
            self.session.store.add_artifact(trial, path, "application/zip")

    def _is_good(self, trial: optuna.Trial, value: float) -> bool:
        complete = trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        sign = 1.0 if direction(self.metric) == "maximize" else -1.0
        at_least_as_good = sum(sign * (other.value or 0.0) >= sign * value for other in complete)
        return at_least_as_good < KEPT_MODELS

    def _add_picture(self, trial: optuna.Trial, history: History) -> None:
        folder = self.session.store.checkpoint_folder(trial.study.study_name, trial.number)
        path = folder / "learning-curves.png"
        learning_curves(history, path, title=f"{trial.study.study_name}, trial {trial.number}")
        self.session.store.add_artifact(trial, path, "image/png")


def _same_config(trial: optuna.Trial, config: TrialConfig) -> FrozenTrial | None:
    """Return the ended trial before `trial` that trained `config` furthest."""
    wanted = config.model_dump(mode="json")
    ended = trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    trained = (t for t in ended if t.number < trial.number and t.user_attrs.keys() & {"history", "screening"})
    same = (t for t in trained if t.user_attrs["run"]["config"] == wanted and "duplicate_of" not in t.user_attrs)
    return max(same, key=lambda t: len(t.user_attrs.get("history", [])), default=None)
