"""KerasTuner beside Optuna: same space, same networks, same trainings, same store."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from pneumosearch.config import RunSpec, TrialConfig
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import ConfigError, PneumosearchError, StoreError, TrainingError
from pneumosearch.network.compile_cache import compiled_model
from pneumosearch.records.attributes import HISTORY
from pneumosearch.records.epoch import History
from pneumosearch.records.trial import StudyRecord
from pneumosearch.search import objective as objective_module
from pneumosearch.search.dry_run import dry_run
from pneumosearch.search.keras_tuner.engine import hypermodel, proposals
from pneumosearch.search.runner import StudyRun, open_search
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.space import DEFAULT_DIMENSIONS, Space
from pneumosearch.storage.store import Store
from pneumosearch.studyfile import StudySpec, checked_spec
from pneumosearch.training.loop import TrainingResult
from tests.conftest import TINY
from tests.support.fakes import SilentListener
from tests.support.searching import fake_train
from tests.support.terminal import Terminal

SPACE = {
    "zoom": {"low": 0.0, "high": 0.5, "step": 0.05},
    "batch_size": {"choices": [16, 32]},
    "vertical_flip": {"choices": [True, False]},
    "lr_schedule": {"choices": ["plateau", "cosine"]},
    "warmup_epochs": {"low": 0.0, "high": 2.0, "step": 0.5, "when": {"lr_schedule": "cosine"}},
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "units_1": {"low": 8, "high": 1024, "log": True},
}


def a_spec(tuner: str = "random", space: dict[str, Any] = SPACE, epochs: int = 9, **values: Any) -> StudySpec:
    fixed = {name: value for name, value in {**TINY, "epochs": epochs, **values}.items() if name not in space}
    given: dict[str, object] = {"name": "tiny", "engine": "keras-tuner", "tuner": tuner, "fixed": fixed, "space": space}
    return checked_spec(given, "test")


def search(store: Store, source: DataSource, spec: StudySpec, stop: StopFlag | None = None) -> StudyRun:
    return open_search(Session(store, source, SilentListener(), stop or StopFlag()), spec)


def outcome(record: StudyRecord) -> list[Any]:
    return [
        (t.number, t.state, t.value, t.run, t.failure, t.continues, [e.numbers() for e in t.history])
        for t in record.trials
    ]


def attributes(store: Store) -> list[dict[str, Any]]:
    return [trial.user_attrs for trial in store.load_study("tiny").get_trials()]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[tuple[RunSpec, int]]:
    """Replace trainings; list what was trained, from the start or from a checkpoint's number of epochs."""
    trained: list[tuple[RunSpec, int]] = []

    def remembered(run: RunSpec, dataset: Any, folder: Path, on_epoch: Any, *_: Any) -> TrainingResult:
        done = int((folder / "epochs").read_text()) if (folder / "epochs").exists() else 0
        trained.append((run, done))

        def saved(history: History) -> None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "epochs").write_text(str(len(history)))
            on_epoch(history)

        return fake_train(run, dataset, folder, saved)

    monkeypatch.setattr(objective_module, "train", remembered)
    monkeypatch.setattr(objective_module, "learning_curves", lambda history, path, title: path.write_bytes(b"picture"))
    return trained


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("tuner", ["random", "bayesian", "hyperband", "grid"])
def test_study_that_stops_often_proposes_what_an_undisturbed_one_does(
    store: Store, source: DataSource, tmp_path: Path, tuner: str
) -> None:
    names = ("zoom", "units_1", "learning_rate", "vertical_flip")
    spec = a_spec(tuner, {**{name: SPACE[name] for name in names}, "epochs": {"low": 2, "high": 10}})
    for n in (1, 3, 7):
        assert search(store, source, spec).until(n).finished >= n
    twin = Store(f"sqlite:///{tmp_path}/twin.db", tmp_path / "twin")
    search(twin, source, spec).until(7)
    assert outcome(store.record("tiny")) == outcome(twin.record("tiny"))
    record = store.record("tiny")
    assert record.baseline
    assert record.baseline.run
    assert record.baseline.run.config == spec.search_space().centre
    assert {entry["engine"] for entry in attributes(store)} == {f"keras-tuner {tuner}"}
    assert [entry["run"]["seed"] for entry in attributes(store) if "continues" not in entry] == [
        232 + number for number, entry in enumerate(attributes(store)) if "continues" not in entry
    ]


def test_interrupted_trial_goes_on_from_its_checkpoint(
    store: Store, source: DataSource, fake: list[tuple[RunSpec, int]]
) -> None:
    stop = StopFlag()

    class StopsInTheThirdTrial(SilentListener):
        def epoch_ended(self, number: int, history: History) -> None:
            stop.reason = "interrupted" if (number, len(history)) == (2, 4) else ""

    result = open_search(Session(store, source, StopsInTheThirdTrial(), stop), a_spec("bayesian")).until(4)
    assert (result.finished, result.stopped) == (2, "interrupted")
    interrupted = attributes(store)[2]["run"]
    assert search(store, source, a_spec("bayesian")).until(4).finished == 4
    assert [done for _, done in fake] == [0, 0, 0, 4, 0]
    assert attributes(store)[2]["run"] == interrupted


@pytest.mark.usefixtures("fake")
def test_conditional_fields_are_chosen_where_their_condition_holds(store: Store, source: DataSource) -> None:
    search(store, source, a_spec()).until(8)
    trials = store.load_study("tiny").get_trials()
    assert {trial.params["lr_schedule"] for trial in trials} == {"plateau", "cosine"}
    for trial in trials:
        assert ("warmup_epochs" in trial.params) == (trial.params["lr_schedule"] == "cosine")
        assert isinstance(trial.params["vertical_flip"], bool)
    assert len({trial.params["learning_rate"] for trial in trials}) == 8


@pytest.mark.usefixtures("fake")
def test_bayesian_search_learns_that_less_zoom_is_better(store: Store, source: DataSource) -> None:
    spec = a_spec("bayesian", space={"zoom": {"low": 0.0, "high": 0.5}})
    search(store, source, spec).until(7)
    zooms = [trial.params["zoom"] for trial in store.load_study("tiny").get_trials()]
    assert min(zooms[3:]) < 0.02  # accuracy of the fakes is 0.9 - zoom


def test_hyperband_continues_promoted_trials_from_their_checkpoints(
    store: Store, source: DataSource, fake: list[tuple[RunSpec, int]]
) -> None:
    spec = a_spec("hyperband")
    search(store, source, spec).until(12)
    kept = attributes(store)
    assert [entry["round"] for entry in kept][:9] == [0] * 9
    promoted = [entry for entry in kept if "continues" in entry]
    assert promoted
    for entry in promoted:
        earlier = kept[entry["continues"]]
        assert entry["run"] == earlier["run"]
        assert entry["round"] == earlier["round"] + 1
        assert len(HISTORY.among(earlier)) == earlier["stops_after"] < len(HISTORY.among(entry))
    assert [done for _, done in fake if done] == [kept[entry["continues"]]["stops_after"] for entry in promoted]
    record = store.record("tiny")
    assert {len(trial.history) for trial in record.trials} == {1, 3, 9}
    assert record.baseline
    assert (record.baseline.state, len(record.baseline.history)) == ("complete", 9)
    best = max(range(1, 9), key=lambda number: HISTORY.among(kept[number])[0].evaluation("accuracy"))
    assert best in {entry["continues"] for entry in promoted}
    folders = list((store.results / "checkpoints" / "tiny").iterdir())
    assert 0 < len(folders) <= 10


@pytest.mark.usefixtures("fake")
def test_baseline_that_hyperband_promotes_is_not_trained_again(store: Store, source: DataSource) -> None:
    spec = a_spec("hyperband", {"batch_size": {"low": 8, "high": 64}}, zoom=0.0)
    run: Any = search(store, source, spec)
    run.until(9)
    params = [str(trial.params) for trial in store.load_study("tiny").get_trials()]
    assert params.count(params[0]) == 1
    promotions = [trial.hyperparameters.values.get("tuner/trial_id") for trial in run.proposer.oracle.trials.values()]
    assert promotions.count("0000") == 1
    assert all(entry.get("continues") != 0 for entry in attributes(store))


@pytest.mark.usefixtures("fake")
def test_grid_ends_when_everything_was_tried(store: Store, source: DataSource) -> None:
    spec = a_spec("grid", space={"zoom": {"low": 0.1, "high": 0.3, "step": 0.1}, "batch_size": {"choices": [16, 32]}})
    result = search(store, source, spec).until(50)
    assert (result.finished, result.done) == (6, True)
    assert result.stopped == "keras-tuner grid has nothing more to try"
    tried = {(t.params["zoom"], t.params["batch_size"]) for t in store.load_study("tiny").get_trials()}
    assert tried == {(zoom, size) for zoom in (0.1, 0.2, 0.3) for size in (16, 32)}


def test_failures_are_told_to_both_and_end_the_study(
    store: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(run: RunSpec, *others: Any) -> TrainingResult:
        if run.seed == 232:
            return fake_train(run, *others)
        raise TrainingError("epoch 2: training loss is nan") if run.seed % 2 else ValueError("out of luck")

    monkeypatch.setattr(objective_module, "train", fails)
    run = search(store, source, a_spec())
    run.until(5)
    record = store.record("tiny")
    assert [trial.state for trial in record.trials] == ["complete", *["failed"] * 4]
    assert record.trials[1].failure == "epoch 2: training loss is nan"
    assert record.trials[2].failure == "ValueError: out of luck"
    again: Any = search(store, source, a_spec())
    again.next_trial()
    known = list(again.proposer.oracle.trials.values())
    assert [trial.status for trial in known] == ["COMPLETED", *["FAILED"] * 4, "RUNNING"]
    assert known[1].message == "epoch 2: training loss is nan"

    monkeypatch.setattr(objective_module, "train", lambda run, *others: fails(run.model_copy(update={"seed": 1})))
    other = a_spec().model_copy(update={"name": "other"})
    final = open_search(Session(store, source, SilentListener(), StopFlag()), other, max_failures=2)
    with pytest.raises(PneumosearchError, match="2 trials in a row failed with: epoch 2: training loss is nan"):
        final.until(9)


def test_study_of_other_proposals_is_refused(store: Store, source: DataSource, fake: Any) -> None:
    spec = a_spec("grid")
    search(store, source, spec).until(2)
    store.load_study("tiny").enqueue_trial({"zoom": 0.05})
    with pytest.raises(StoreError, match="trial 2 is not what keras-tuner grid proposes there"):
        search(store, source, spec).until(4)


def test_trials_of_another_process_that_kerastuner_waits_for_are_an_error(store: Store, source: DataSource) -> None:
    spec = a_spec("grid")
    for _ in range(2):
        trial = search(store, source, spec).next_trial()
        trial.set_user_attr("owner", {"host": "elsewhere", "pid": 1, "started": 0.0})
    with pytest.raises(PneumosearchError, match="study 'tiny': another process is training its trials"):
        search(store, source, spec).until(4)


def test_space_without_a_searched_field_is_refused(store: Store, source: DataSource) -> None:
    spec = StudySpec.model_validate(
        {"engine": "keras-tuner", "tuner": "hyperband", "fixed": TINY, "space": {"epochs": {"low": 2, "high": 10}}}
    )
    with pytest.raises(ConfigError, match="nothing for KerasTuner's hyperband to search"):
        search(store, source, spec)


def test_plan_shows_what_kerastuner_would_propose() -> None:
    spec = StudySpec.model_validate({"engine": "keras-tuner", "tuner": "bayesian"})
    planned = dry_run(spec, 50, None)
    assert [trial.config for trial in planned.first] == proposals(spec, 5)
    assert planned.first[0].config == TrialConfig()
    assert planned.as_dict()["tuner"] == "bayesian"


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


def layers(model: Any) -> list[Any]:
    """Types and settings of layers, without the names and seeds that count up in a process."""
    hidden = {"name", "seed", "build_config"}
    return [(type(layer), {k: v for k, v in layer.get_config().items() if k not in hidden}) for layer in model.layers]


def corners() -> Iterator[dict[str, Any]]:
    """The baseline, all lower and all upper ends, and each end for itself."""
    baseline = Space().baseline()
    yield baseline
    for end in (0, -1):
        yield {name: dimension.corners()[end] for name, dimension in DEFAULT_DIMENSIONS.items()}
    yield {**baseline, "width": 1.25, "filters_1": 24, "dropout_1": 0.8, "lr_reduce_mode": "min"}


@pytest.mark.parametrize("values", list(corners()))
def test_both_engines_build_the_same_network_from_the_same_values(values: dict[str, Any]) -> None:
    import keras
    import keras_tuner

    space = Space()
    config = space.suggest(optuna.trial.FixedTrial(values))
    optunas = compiled_model(RunSpec(config=config))
    keras.backend.clear_session()
    hp = keras_tuner.HyperParameters()
    hp.values = dict(values)
    kerastuners = hypermodel(space, plain=False).build(hp)
    assert layers(kerastuners) == layers(optunas)
    assert kerastuners.count_params() == optunas.count_params()
    assert kerastuners.optimizer.get_config() == optunas.optimizer.get_config()
    assert kerastuners.get_compile_config() == optunas.get_compile_config()
    plain = hypermodel(space).build(hp)
    assert [w.shape for w in plain.weights] == [w.shape for w in optunas.weights]


def test_kerastuners_ranges_are_ours() -> None:
    import keras_tuner

    hp = keras_tuner.HyperParameters()
    hypermodel(checked_spec({"space": SPACE}, "test").search_space()).build(hp)
    declared = {entry.name: entry for entry in hp.space}
    assert list(declared) == list(SPACE)
    assert declared["zoom"].values == [round(0.05 * i, 2) for i in range(11)]
    assert (declared["learning_rate"].min_value, declared["learning_rate"].sampling) == (1e-4, "log")
    assert (declared["units_1"].min_value, declared["units_1"].max_value) == (8, 1024)
    assert declared["warmup_epochs"].conditions[0].get_config() == {"name": "lr_schedule", "values": ["cosine"]}
    assert "warmup_epochs" not in hp.values


@pytest.mark.slow
def test_hypermodel_serves_a_kerastuner_script(tmp_path: Path) -> None:
    import keras_tuner

    from pneumosearch.search.keras_tuner.engine import hypermodel
    from pneumosearch.space import Choice, Space

    x, y = np.random.default_rng(0).random((8, 32, 32, 3), dtype="float32"), np.array([0, 1] * 4)
    space = Space({"filters_1": Choice(choices=(8, 16)), "learning_rate": Choice(choices=(0.001, 0.01))}, TINY)
    tuner = keras_tuner.RandomSearch(hypermodel(space), objective="val_accuracy", max_trials=2, directory=tmp_path)
    tuner.search(x, y, validation_data=(x, y), epochs=1, verbose=0)
    assert [trial.status for trial in tuner.oracle.trials.values()] == ["COMPLETED"] * 2  # a failure is only printed
    best = tuner.get_best_hyperparameters()[0]
    assert space.config(best.values).filters_1 in (8, 16)
    assert tuner.hypermodel.build(best).output_shape == (None, 1)


@pytest.mark.slow
def test_killed_search_goes_on_and_its_promoted_trial_reruns_to_the_last_digit(
    terminal: Terminal, phantoms: Path
) -> None:
    values = ["image_size = 32", "width = 0.25", "epochs = 3", "[space]", "zoom = { low = 0.0, high = 0.5 }"]
    (terminal.folder / "tiny.toml").write_text("\n".join(['name = "tiny"', "[fixed]", *values]))
    engine = ("--engine", "keras-tuner", "--tuner", "hyperband")
    command = ("study", "tiny.toml", *engine, "--trials", "3", "--data", str(phantoms))
    process = terminal.start(*command)
    assert process.stderr is not None
    for line in process.stderr:
        if "epoch 2" in line:
            break
    process.kill()
    process.communicate()
    summary = terminal.json(*command)
    assert [len(trial["history"]) for trial in summary["trials"]].count(3) >= 1
    assert summary["counts"]["failed"] == 0
    assert summary["spec"]["tuner"] == "hyperband"
    last = summary["trials"][-1]["number"]
    assert terminal.json("rerun", "tiny", str(last))["identical"]
