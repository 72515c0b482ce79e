"""What a study takes over from earlier ones."""

from pathlib import Path

import pytest

from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import ConfigError, PneumosearchError, StoreError
from pneumosearch.metrics import Metric
from pneumosearch.records.trial import StudyRecord
from pneumosearch.report.summary import csv_text
from pneumosearch.search import objective as objective_module
from pneumosearch.search.dry_run import dry_run
from pneumosearch.search.earlier import MAX_TRIALS, earlier_studies, from_csv
from pneumosearch.search.runner import StudyRun, open_search
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.space import Choice, Range, Space
from pneumosearch.storage.store import Store
from pneumosearch.studyfile import StudySpec, checked_spec
from tests.conftest import ROOT, TINY
from tests.support.fakes import SilentListener, a_study, a_trial
from tests.support.searching import fake_train

SPACE = Space({"zoom": Range(low=0.0, high=0.5), "batch_size": Choice(choices=(16, 32, 64))})


def a_file(tmp_path: Path, *trials: object, metric: Metric = "accuracy") -> Path:
    record = a_study(*trials).model_copy(update={"metric": metric})  # type: ignore[arg-type]
    path = tmp_path / "first.csv"
    path.write_text(csv_text(record))
    return path


def some_trials() -> list[object]:
    return [
        a_trial(0, 0.80),
        a_trial(1, 0.90, zoom=0.1, batch_size=16),
        a_trial(2, 0.70, state="pruned", zoom=0.2),
        a_trial(3, 0.70, 0.71, state="pruned", zoom=0.4, batch_size=64),
    ]


def test_trials_inform_by_rank_and_stopped_ones_rank_behind_complete_ones(tmp_path: Path) -> None:
    study = from_csv(a_file(tmp_path, *some_trials()), SPACE)
    assert [(trial.values["zoom"], round(trial.score, 2)) for trial in study.trials] == [
        (0.1, 1.0),
        (0.3, 0.67),
        (0.4, 0.33),
        (0.2, 0.0),
    ]
    assert study.trials[0].values == {"zoom": 0.1, "batch_size": 16}
    assert study.passed_over == {}


def test_what_is_passed_over_is_counted_by_reason(tmp_path: Path) -> None:
    failed, running = a_trial(4, state="failed", zoom=0.1), a_trial(5, 0.9, state="running")
    outside = [a_trial(6, 0.95, zoom=0.6), a_trial(7, 0.94, zoom=0.7), a_trial(8, 0.5, batch_size=128)]
    repeat = a_trial(9, 0.9, zoom=0.1, batch_size=16).model_copy(update={"duplicate_of": 1})
    study = from_csv(a_file(tmp_path, *some_trials(), failed, running, *outside, repeat), SPACE)
    assert len(study.trials) == 4
    assert study.passed_over == {
        "failed": 1,
        "not ended": 1,
        "repeated another": 1,
        "with zoom outside the space": 2,
        "with batch_size outside the space": 1,
    }
    assert max(trial.score for trial in study.trials) < 1  # two better ones lie outside
    assert study.in_words().startswith(f"4 trials of {tmp_path / 'first.csv'} (6 passed over: 1 failed, 1 not ended")


def test_only_fields_that_both_studies_search_inform(tmp_path: Path) -> None:
    space = Space({"zoom": Range(low=0.0, high=0.5), "dropout_1": Range(low=0.0, high=0.8)})
    study = from_csv(a_file(tmp_path, *some_trials()), space)
    assert {name for trial in study.trials for name in trial.values} == {"zoom"}


def test_less_is_better_where_the_metric_says_so(tmp_path: Path) -> None:
    study = from_csv(a_file(tmp_path, *some_trials(), metric="loss"), SPACE)
    assert [trial.values["zoom"] for trial in study.trials[:2]] == [0.3, 0.1]


@pytest.mark.parametrize(("name", "n"), [("hour", 50), ("small", 24)])
def test_files_of_earlier_versions_are_read(name: str, n: int) -> None:
    study = from_csv(ROOT / "results" / f"{name}.csv", StudySpec().search_space())
    assert len(study.trials) + sum(study.passed_over.values()) == n
    assert set(study.trials[0].values) == set(StudySpec().space)


def test_file_that_does_not_tell_whether_more_is_better_is_refused() -> None:
    with pytest.raises(ConfigError, match="no column 'metric', so that nobody knows whether more is better; add one"):
        from_csv(ROOT / "results" / "robust.csv", StudySpec().search_space())


def test_of_very_many_trials_some_of_all_ranks_are_kept(tmp_path: Path) -> None:
    n = MAX_TRIALS + 50
    path = tmp_path / "many.csv"
    rows = "".join(f"complete,{i / n},1,accuracy,{0.5 * i / n}\n" for i in range(n))
    path.write_text("state,value,epochs_run,metric,zoom\n" + rows)
    study = from_csv(path, SPACE)
    assert len(study.trials) == MAX_TRIALS
    assert [study.trials[0].score, study.trials[-1].score] == [1.0, 0.0]
    assert study.passed_over == {f"beyond the {MAX_TRIALS} that are kept": 50}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it has no trial"),
        ("value,epochs_run\n0.9,1\n", "no column 'state'; wanted a table that 'pneumosearch report --format csv'"),
        ("state,value,epochs_run,metric,zoom\ncomplete,good,1,accuracy,0.1\n", "line 2: could not convert"),
        ("state,value,epochs_run,metric,zoom\ncomplete,nan,1,accuracy,0.1\n", "line 2: value .* must be finite"),
        ("state,value,epochs_run,metric,zoom\ncomplete,0.9,1,best,0.1\n", "unknown metric 'best'"),
        (
            "state,value,epochs_run,metric,zoom\ncomplete,0.9,1,accuracy,0.1\ncomplete,0.8,1,accuracy,0.1\n",
            r"2 trials with a result, and none of the searched fields differs between them \(zoom, batch_size\)",
        ),
        (
            "state,value,epochs_run,metric,zoom\ncomplete,0.9,1,accuracy,0.8\ncomplete,0.8,1,accuracy,0.9\n",
            r"no trial inside the space \(2 with zoom outside the space\)",
        ),
    ],
)
def test_file_that_cannot_inform_is_told_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        from_csv(path, SPACE)
    assert str(caught.value).startswith(f"learn_from: {path}: ")
    assert "\n" not in str(caught.value)


def test_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"learn_from: .*no\.csv: no such file"):
        from_csv(tmp_path / "no.csv", SPACE)


SPEC = checked_spec(
    {
        "name": "second",
        "pruner": "none",
        "sampler": "random",
        "learn_from": ["first.csv"],
        "fixed": {**TINY, "epochs": 2},
        "space": {"zoom": {"low": 0.0, "high": 0.5}, "batch_size": {"choices": [16, 32]}},
    },
    "test",
)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objective_module, "train", fake_train)


def search(store: Store, source: DataSource, spec: StudySpec) -> StudyRun:
    return open_search(Session(store, source, SilentListener(), StopFlag()), spec)


def configurations(record: StudyRecord) -> list[object]:
    return [trial.run for trial in record.trials]


@pytest.mark.usefixtures("fake")
def test_study_keeps_what_it_learnt_whatever_happens_to_the_file(
    tmp_path: Path, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    whole, halved = (Store(f"sqlite:///{tmp_path / name}.db", tmp_path / name) for name in ("whole", "halved"))
    a_file(tmp_path, *some_trials())
    assert search(whole, source, SPEC).until(6).done
    assert search(halved, source, SPEC).until(3).done
    (tmp_path / "first.csv").unlink()
    assert search(halved, source, SPEC).until(6).finished == 6
    record = halved.record("second")
    assert configurations(record) == configurations(whole.record("second"))
    assert len(record.trials) == 6  # nothing of the earlier study is a trial
    assert [study.source for study in record.informed_by] == ["first.csv"]
    with pytest.raises(StoreError, match=r"started with another learn_from \(\['first.csv'\], now \[\]\)"):
        search(halved, source, SPEC.model_copy(update={"learn_from": ()}))


@pytest.mark.usefixtures("fake")
def test_study_of_the_same_store_informs_another(store: Store, source: DataSource) -> None:
    first = SPEC.model_copy(update={"name": "first", "learn_from": ()})
    assert search(store, source, first).until(5).done
    alone = SPEC.model_copy(update={"learn_from": ()})
    informed = SPEC.model_copy(update={"learn_from": ("first",)})
    (taken,) = earlier_studies(store, informed)
    best = min(trial.run.config.zoom for trial in store.record("first").trials if trial.run)
    assert taken.trials[0].values["zoom"] == best  # accuracy depends on zoom alone
    planned = dry_run(informed, 5, None, informed_by=(taken,))
    assert [trial.config for trial in planned.first] != [trial.config for trial in dry_run(alone, 5, None).first]
    assert planned.as_dict()["informed_by"] == [{"source": "first", "trials": 5, "passed_over": {}}]
    with pytest.raises(StoreError, match=r"learn_from: no study 'none' in .*; it holds first; a file must end in .csv"):
        search(store, source, SPEC.model_copy(update={"learn_from": ("none",)}))
    assert store.names() == ["first"]  # a mistake begins no study


@pytest.mark.usefixtures("fake")
def test_study_that_began_alone_goes_on_alone(store: Store, source: DataSource) -> None:
    run = search(store, source, SPEC.model_copy(update={"learn_from": ()}))
    stored = run.study.user_attrs["spec"]
    assert stored.pop("learn_from") == []  # as stores of earlier versions are
    run.study.set_user_attr("spec", stored)
    assert search(store, source, SPEC.model_copy(update={"learn_from": ()})).until(1).finished == 1
    with pytest.raises(PneumosearchError, match="learn_from"):
        search(store, source, SPEC)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "a", "learn_from": ["a"]}, "learn_from: 'a' is this study itself; name an earlier one"),
        ({"learn_from": ["a", "b", "a"]}, "learn_from: 'a' is there twice"),
        ({"learn_from": "a", "engine": "keras-tuner"}, "learn_from: needs engine = 'optuna', not 'keras-tuner'"),
        ({"learn_from": [3]}, "learn_from"),
    ],
)
def test_study_that_cannot_learn_is_told(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        checked_spec(settings, "file.toml")


def test_python_may_give_one_name_or_path() -> None:
    assert checked_spec({"learn_from": Path("wide.csv")}, "Study.search").learn_from == ("wide.csv",)
    assert checked_spec({"learn_from": ["first", Path("wide.csv")]}, "Study.search").learn_from == ("first", "wide.csv")
