"""A study whose configurations KerasTuner proposes: same space, trainings, data, seeds and store as under Optuna.

`OracleProposer` calls KerasTuner's oracles as `keras_tuner.Tuner.search` does. That method itself would turn whatever a
training raises into an INVALID trial and go on.
"""

from collections.abc import Mapping
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

import optuna
from optuna.trial import FrozenTrial, TrialState

from pneumosearch.config import TrialConfig
from pneumosearch.errors import ConfigError, PneumosearchError, StoreError
from pneumosearch.metrics import direction
from pneumosearch.network import backend
from pneumosearch.records import attributes
from pneumosearch.records.epoch import kept_epoch
from pneumosearch.records.trial import BASELINE
from pneumosearch.search.proposers import NothingToPropose, Proposer
from pneumosearch.search.pruners import KEPT_CHECKPOINTS, latest
from pneumosearch.space import Scalar, Space
from pneumosearch.storage.optuna_private import enqueued_values
from pneumosearch.storage.store import trial_record
from pneumosearch.studyfile import StudySpec

if TYPE_CHECKING:
    import keras_tuner

_ENDED: Final = (TrialState.COMPLETE, TrialState.PRUNED)


def hypermodel(space: Space | None = None, *, plain: bool = True) -> "keras_tuner.HyperModel":
    """Return the network over a space as a `keras_tuner.HyperModel`, for a KerasTuner script of one's own.

    Args:
        space: What is searched; the default study's without an argument. The baseline is its default point. Only
            fields of the network and its compilation take effect: batch size, epochs, augmentation and learning-rate
            callbacks belong to the script's own `fit`.
        plain: Whether of plain Keras layers, taking (batch, size, size, 3) in [0, 1], or of the layers that train
            here, taking (batch, size, size, 1) grey levels 0 to 255 as `uint8`. Both give (batch, 1) probabilities.
    """
    backend.start()
    from pneumosearch.search.keras_tuner.oracles import Network

    return Network(space or Space(), plain=plain)


def proposals(spec: StudySpec, n: int) -> list[TrialConfig]:
    """Return KerasTuner's first `n` configurations if all were equally good; fewer where its grid ends."""
    space, oracle = spec.search_space(), _oracle(spec)
    found: list[TrialConfig] = []
    while len(found) < n:
        asked = oracle.create_trial(str(len(found)))
        if asked.status != "RUNNING":
            break
        found.append(space.config(_searched(asked)))
        _tell(oracle, asked, 0.0)
    return found


class OracleProposer(Proposer):
    """Proposes what an oracle of KerasTuner proposes, in one process at a time.

    The store keeps each trial as if Optuna had proposed it, and each process replays the stored trials to its oracle:
    after an interruption the oracle proposes what it would have proposed without one.

    Hyperband's trials have user attributes `bracket` and `round`, and `stops_after` where they stop before the space's
    last epoch. A promoted trial `continues` the earlier one with the same run and seed, from its checkpoint; where that
    was removed, it trains the first epochs again, with the same numbers. Both count as one trial. The baseline is never
    stopped; where Hyperband promotes it, its history has the result already. It is never deferred, as KerasTuner needs
    its result to decide, and a stopped trial that KerasTuner did not promote is never resumed.

    Args:
        study: With trials that this oracle proposed, or none.
        spec: The study's, of engine "keras-tuner".

    Raises:
        ConfigError: There is nothing for KerasTuner to search.
    """

    def __init__(self, study: optuna.Study, spec: StudySpec) -> None:
        self.study, self.spec, self.space = study, spec, spec.search_space()
        self.oracle: Any = _oracle(spec)  # a keras_tuner.Oracle
        self._has_more = True
        self._asked: list[Any] = []  # KerasTuner's trials, by our number
        self._numbers: dict[str, int] = {}  # ours, by KerasTuner's identifier

    @property
    def engine(self) -> str:
        """The origin of a trial, as its attribute names it."""
        return f"{self.spec.engine} {self.spec.tuner}"

    @property
    def exhausted(self) -> str:
        """Why there is nothing more to propose; empty while there is."""
        return "" if self._has_more else f"{self.engine} has nothing more to try"

    def propose(self) -> None:
        """Enqueue KerasTuner's next proposal, unless a trial waits already.

        Raises:
            NothingToPropose: KerasTuner has no further proposal.
            StoreError: The stored trials are not what this version of KerasTuner proposes.
        """
        self._catch_up()
        if self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            return
        proposal = self._proposal()
        if proposal is None:
            raise NothingToPropose
        self.study.enqueue_trial(self._params(proposal), user_attrs=self._attributes(proposal))

    def label(self, trial: optuna.Trial) -> None:
        """Add the engine, and Hyperband's bracket and round: the baseline was enqueued without them."""
        self._catch_up()
        for name, value in self._attributes(self._asked[trial.number]).items():
            trial.set_user_attr(name, value)

    def resumes(self) -> bool:
        """Tell whether Hyperband's next proposal resumes a trial, which is counted already."""
        if self.spec.tuner != "hyperband" or not self._has_more:
            return False
        self._catch_up()
        proposal = self._proposal()
        return proposal is not None and self._earlier(proposal) is not None

    def resumable(self) -> set[int]:
        """Return the numbers of the stopped trials of Hyperband's present bracket that it most likely promotes."""
        return self._promotable() if self.spec.tuner == "hyperband" else set()

    def _catch_up(self) -> None:
        """Replay to KerasTuner what the store has and the oracle does not know yet, in order."""
        for trial in self.study.get_trials(deepcopy=False):
            params = enqueued_values(trial)
            if trial.number == len(self._asked):
                self._ask(params)
            asked = self._asked[trial.number] if trial.number < len(self._asked) else None
            if asked is None or self._params(asked) != params:
                raise StoreError(
                    f"study '{self.study.study_name}': trial {trial.number} is not what {self.engine} proposes there; "
                    "another version of KerasTuner made it; choose another --name"
                )
            if asked.status == "RUNNING" and trial.state.is_finished():
                self._tell(asked, trial)

    def _proposal(self) -> Any:
        """Return KerasTuner's proposal after the stored trials, None where it has none."""
        number = len(self.study.get_trials(deepcopy=False))
        if len(self._asked) == number:
            self._ask()
        return self._asked[number] if len(self._asked) > number else None

    def _ask(self, recalled: Mapping[str, Scalar] | None = None) -> None:
        """Let KerasTuner propose our next trial; `recalled` are its values where the trial is stored already."""
        while True:
            number = len(self.oracle.trials)
            if recalled is not None:
                self.oracle.recall(recalled)
            asked = self.oracle.create_trial(str(number))
            if asked.status == "IDLE":
                raise PneumosearchError(f"study '{self.study.study_name}': another process is training its trials")
            if asked.status != "RUNNING":
                self._has_more = False
                return
            earlier = self._earlier(asked)
            if earlier is None or earlier.state != TrialState.COMPLETE:
                self._numbers[asked.trial_id] = len(self._asked)
                self._asked.append(asked)
                return
            self._numbers[asked.trial_id] = earlier.number  # it was trained to its end: nothing is left to train
            self._tell(asked, earlier)

    def _earlier(self, asked: Any) -> FrozenTrial | None:
        """Return our trial that KerasTuner promotes, None where it proposes a new configuration."""
        identifier = asked.hyperparameters.values.get("tuner/trial_id")
        if identifier is None:
            return None
        return self.study.get_trials(deepcopy=False)[self._numbers[identifier]]

    def _tell(self, asked: Any, trial: FrozenTrial) -> None:
        """Report to the oracle how good the trial was at its kept epoch, among the epochs that KerasTuner gave it."""
        record = trial_record(trial)
        history = record.history[: asked.hyperparameters.values.get("tuner/epochs")]
        if record.value is not None and len(history) == len(record.history):
            _tell(self.oracle, asked, record.value, len(history))  # with folds, the mean over them
        elif trial.state in _ENDED and history and record.run:
            kept = kept_epoch(history, record.run.config.keep)
            _tell(self.oracle, asked, kept.evaluation(self.spec.metric), len(history))
        else:
            asked.status, asked.message = "FAILED", record.failure or record.passed_over
            self.oracle.end_trial(asked)

    def _params(self, asked: Any) -> dict[str, Scalar]:
        """Return the values of a proposal as Optuna stores them."""
        return self.space.chosen(self.space.config(_searched(asked)))

    def _attributes(self, asked: Any) -> dict[str, Any]:
        """Return the user attributes of a proposal's trial."""
        values = asked.hyperparameters.values
        entries = attributes.ENGINE.entry(self.engine)
        if self.spec.tuner != "hyperband":
            return entries
        entries |= attributes.BRACKET.entry(values["tuner/bracket"]) | attributes.ROUND.entry(values["tuner/round"])
        of_baseline = self._numbers[asked.trial_id] == BASELINE
        if values["tuner/epochs"] < self.space.centre.epochs and not of_baseline:
            entries |= attributes.STOPS_AFTER.entry(values["tuner/epochs"])
        earlier = self._earlier(asked)
        if earlier is not None:
            entries |= attributes.CONTINUES.entry(earlier.number)
            entries |= attributes.CONTINUES_AFTER.entry(values["tuner/initial_epoch"])
        return entries

    def _promotable(self) -> set[int]:
        self._catch_up()
        newest_first = latest(self.study.get_trials(deepcopy=False))[::-1]
        bracket = attributes.BRACKET.of(newest_first[0])
        present = takewhile(lambda trial: attributes.BRACKET.of(trial) == bracket, newest_first)
        stopped = [t for t in present if t.state == TrialState.PRUNED and self._asked[t.number].score is not None]
        sign = 1.0 if direction(self.spec.metric) == "maximize" else -1.0
        ranked = sorted(stopped, key=lambda t: (attributes.ROUND.of(t) or 0, sign * self._asked[t.number].score))
        return {trial.number for trial in ranked[-KEPT_CHECKPOINTS:]}


def _oracle(spec: StudySpec) -> Any:
    """Return the oracle of a study. Hyperband itself chooses the epochs of a trial."""
    space = spec.search_space()
    if spec.tuner == "hyperband":
        searched = {name: dimension for name, dimension in space.dimensions.items() if name != "epochs"}
        space = Space(searched, space.fixed, others=space.others)
    if not space.dimensions:
        raise ConfigError(f"study '{spec.name}': space: nothing for KerasTuner's {spec.tuner} to search")
    backend.start()
    from pneumosearch.search.keras_tuner.oracles import make_oracle

    return make_oracle(spec.tuner or "random", space, spec.metric, spec.seed)


def _searched(asked: Any) -> dict[str, Scalar]:
    """Return the values of a proposal without KerasTuner's own entries."""
    values: Mapping[str, Scalar] = asked.hyperparameters.values
    return {name: value for name, value in values.items() if not name.startswith("tuner/")}


def _tell(oracle: Any, asked: Any, score: float, epochs: int = 0) -> None:
    from pneumosearch.search.keras_tuner.oracles import SCORE

    oracle.update_trial(asked.trial_id, {SCORE: score}, step=epochs)
    asked.status = "COMPLETED"
    oracle.end_trial(asked)
