import csv
import io
import json
import warnings
from typing import Any

import optuna
import pytest
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from rich.console import Console

from pneumosearch.config import RunSpec
from pneumosearch.metrics import Metric, direction
from pneumosearch.published import PUBLISHED_TABLE
from pneumosearch.records.earlier import EarlierStudy, EarlierTrial
from pneumosearch.records.trial import StudyRecord, TestOpening, TrialRecord
from pneumosearch.report import tables
from pneumosearch.report.importance import importance
from pneumosearch.report.page import page
from pneumosearch.report.progress import ending_line
from pneumosearch.report.summary import csv_text, study_summary
from pneumosearch.studyfile import checked_spec
from tests.support.fakes import a_history, a_study, a_trial

OPENING = TestOpening(
    study="baseline-original", trial=0, time="2026-01-01T00:00:00+00:00", why="x", test_fingerprint="t"
)


def some_study(kind: str = "images") -> StudyRecord:
    return a_study(
        a_trial(0, 0.74, 0.90),
        a_trial(1, 0.95, zoom=0.1),
        a_trial(2, 0.99, state="pruned", zoom=0.5),
        a_trial(3, 0.92, batch_size=16, epochs=5),
        a_trial(4, state="failed", width=0.5),
        kind=kind,
    )


def test_json_has_the_promised_keys() -> None:
    summary = study_summary(some_study())
    promised = {"study", "data", "protocol", "reference", "baseline", "trials", "best", "test_openings"}
    assert promised <= summary.keys()
    keys = {"number", "state", "config", "epochs_run", "train_accuracy", "validation_accuracy", "test_accuracy"}
    assert keys | {"seconds", "history"} <= summary["trials"][0].keys()
    assert summary["reference"][0] == {"epoch": 1, "test_accuracy": 0.625, "train_accuracy": 0.825}
    assert (summary["study"], summary["protocol"], summary["test_openings"]) == ("default", "holdout", 0)
    assert summary["data"]["kind"] == "images"
    json.dumps(summary, allow_nan=False)


def test_report_ranks_complete_trials_and_ignores_pruned_ones() -> None:
    record = some_study()
    assert study_summary(record)["best"]["number"] == 1
    assert [row[0] for row in tables.trial_rows(record, 10)] == ["0", "1", "3"]
    assert [row[0] for row in tables.trial_rows(record, 1)] == ["0", "1"]


@pytest.mark.parametrize(
    ("metric", "trials", "line"),
    [
        ("accuracy", [(0, 0.74), (1, 0.9), (2, 0.95)],
         "90.0 %, +16.0 points on the baseline without any search. "
         "In the search trial 2 differs from it by +5.0 points, partly by luck: confirm trains both again."),
        ("accuracy", [(1, 0.9), (2, 0.95)],
         "90.0 %. In the search trial 2 differs from it by +5.0 points, partly by luck: confirm trains both again."),
        ("accuracy", [(0, 0.74), (1, 0.9), (2, 0.8)],
         "90.0 %, +16.0 points on the baseline without any search. The search has found nothing better yet."),
        ("accuracy", [(0, 0.95), (1, 0.9)],
         "90.0 %, -5.0 points on the baseline without any search. The search has found nothing better yet."),
        ("auc", [(0, 0.74), (1, 0.9), (2, 0.95)],
         "0.9000, +0.1600 on the baseline without any search. "
         "In the search trial 2 differs from it by +0.0500, partly by luck: confirm trains both again."),
        ("accuracy", [(0, 0.74), (2, 0.8)], "failed, so nothing tells yet what the search gave."),
    ],
)  # fmt: skip
def test_report_tells_what_the_search_gave_beside_the_control(
    metric: Metric, trials: list[tuple[int, float]], line: str
) -> None:
    values, others = dict(trials), {"label_smoothing": 0.1}
    record = a_study(
        *(
            a_trial(n, values.get(n, 0.1), state="complete" if n in values else "failed", **fields)
            for n, fields in enumerate(({}, others, {**others, "dropout_1": 0.5}))
        )
    )
    record = record.model_copy(update={"metric": metric, "spec": {**record.spec, "control": True, "others": others}})
    wanted = f"Control (trial 1, the baseline's values trained like the others): {line}"
    assert wanted in tables.summary_lines(record)
    assert wanted.replace("'", "&#39;") in page(record, None, top=3)
    assert study_summary(record)["control"]["number"] == 1
    marked = [row[0] for row in tables.trial_rows(record, 3) if row[-1].endswith("it is the control")]
    assert marked == ["1"] * (1 in values)
    plain = record.model_copy(update={"spec": {**record.spec, "control": False}})
    assert (plain.control, tables.control_line(plain), study_summary(plain)["control"]) == (None, "", None)


def test_what_all_trials_but_the_baseline_have_is_said_once() -> None:
    others: dict[str, Any] = {"label_smoothing": 0.1, "noise": 0.05}
    record = a_study(a_trial(0, 0.7), a_trial(1, 0.9, **others, zoom=0.1), a_trial(2, 0.8, **{**others, "noise": 0.1}))
    record = record.model_copy(update={"spec": {**record.spec, "others": others}})
    shown = {row[0]: row[-1] for row in tables.trial_rows(record, 3)}
    assert shown == {"0": "nothing: it is the baseline", "1": "zoom=0.1", "2": "noise=0.1"}
    line = "In all trials but the baseline: label_smoothing=0.1, noise=0.05."
    assert tables.summary_lines(record)[0] == line
    assert page(record, None, top=3).count(line) == 1


def test_finalists_are_compared_with_the_control_by_repetition() -> None:
    others: dict[str, Any] = {"label_smoothing": 0.1}
    control = a_trial(1, 0.9, **others).model_copy(update={"repeated": (0.8, 0.9)})
    best = a_trial(2, 0.91, **others, dropout_1=0.5).model_copy(update={"repeated": (0.88, 0.9)})
    record = a_study(a_trial(0, 0.7), control, best)
    record = record.model_copy(update={"spec": {**record.spec, "control": True, "others": others}})
    assert tables.control_line(record).endswith(". On repetition trial 2 differs from it by +4.0 points.")


def a_study_with_floor(floor: dict[str, float]) -> StudyRecord:
    """Values that grow with the number, and figures that do not."""
    trials = [a_trial(n, accuracy, zoom=n / 10) for n, accuracy in enumerate((0.90, 0.94, 0.99, 0.97, 0.93))]
    valued = [trial.model_copy(update={"value": 0.5 + trial.number / 10}) for trial in trials]
    record = a_study(*valued, a_trial(5, 0.5, state="pruned", zoom=0.9))
    return record.model_copy(update={"spec": {**record.spec, "floor": floor or None}})


@pytest.mark.parametrize(
    ("floor", "order", "below"),
    [
        ({}, [4, 3, 2, 1, 0], None),
        ({"auc": 0.95}, [3, 2, 4, 1, 0], 3),
        ({"auc": 0.97}, [3, 2, 4, 1, 0], 3),  # reached is not below
        ({"loss": 0.025}, [2, 4, 3, 1, 0], 4),  # a loss is at most its floor
        ({"auc": 0.5, "sensitivity": 0.98}, [2, 4, 3, 1, 0], 4),  # all of them count
        ({"stress_auc": 0.5}, [4, 3, 2, 1, 0], 5),  # what was not measured is not reached
    ],
)
def test_trials_below_the_floor_rank_behind_all_others(floor: dict[str, float], order: list[int], below: int) -> None:
    record = a_study_with_floor(floor)
    assert [trial.number for trial in record.ranking()] == order
    summary = study_summary(record)
    assert summary["best"]["number"] == order[0]
    assert summary["below_floor"] == below
    marks = [trial["below_floor"] for trial in summary["trials"]]
    assert marks[5] is None
    assert marks.count(True) == (below or 0)


@pytest.mark.parametrize("width", [80, 160])
def test_report_marks_and_counts_what_is_below_the_floor(width: int) -> None:
    record = a_study_with_floor({"auc": 0.95, "loss": 0.2})
    rows = {row[0]: row[1] for row in tables.trial_rows(record, 5)}
    assert rows == {n: "complete" + ", below the floor" * (n in "014") for n in "01234"}
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(tables.trials_table(record, 5, width))
    assert out.getvalue().count("below") == 3
    floor = "Floor: AUC at least 0.9500, loss at most 0.2000 at the kept epoch; 3 of 5 complete trials are below it and"
    assert floor in " ".join(tables.plain_text(record, top=3).split())
    assert "Floor" not in tables.plain_text(a_study_with_floor({}), top=3)
    assert [row["below_floor"] for row in csv.DictReader(io.StringIO(csv_text(record)))][3:] == ["False", "True", ""]


def test_finalists_are_ranked_by_their_repetitions_and_marked_with_their_number() -> None:
    plain = a_study(a_trial(0, 0.9), a_trial(1, 0.97, zoom=0.1), a_trial(2, 0.96, zoom=0.2), a_trial(3, 0.95, zoom=0.4))
    repeated = {1: (0.93, 0.95), 2: (0.952, 0.954)}
    trials = tuple(t.model_copy(update={"repeated": repeated.get(t.number, ())}) for t in plain.trials)
    record = plain.model_copy(update={"trials": trials})
    assert [trial.number for trial in record.ranking()] == [2, 1, 3, 0]
    headings = [heading for heading, _ in tables.trial_columns(record)]
    column = headings.index("accuracy on repetition")
    cells = [row[column] for row in tables.trial_rows(record, 3)]
    assert cells == ["–", "95.3 % ± 0.1 % (n = 2)", "94.0 % ± 1.4 % (n = 2)", "–"]
    assert "accuracy on repetition" not in [heading for heading, _ in tables.trial_columns(plain)]
    rows = list(csv.DictReader(io.StringIO(csv_text(record))))
    assert [row["n_repeated"] for row in rows] == ["0", "2", "2", "0"]
    assert study_summary(record)["trials"][2]["repeated"] == [0.952, 0.954]


def on_folds(trial: TrialRecord, *accuracies: float) -> TrialRecord:
    """The same trial with one epoch on each further fold."""
    run = trial.run and RunSpec.model_validate({**dict(trial.run), "protocol": "folds", "n_folds": len(accuracies) + 1})
    folds = tuple(a_history(accuracy) for accuracy in accuracies)
    return trial.model_copy(update={"run": run, "folds": folds})


def test_trials_on_folds_show_mean_and_spread_over_them() -> None:
    baseline, pruned = on_folds(a_trial(0, 0.9), 0.8, 0.7), a_trial(1, 0.95, state="pruned", zoom=0.1)
    single = a_study(baseline.model_copy(update={"value": 0.8}), pruned)
    record = single.model_copy(update={"spec": {**single.spec, "protocol": "folds", "folds": 3}})
    headings = [heading for heading, _ in tables.trial_columns(record)]
    (cells,) = tables.trial_rows(record, 3)
    shown = dict(zip(headings, cells, strict=True))
    assert shown["accuracy over folds"] == "80.0 % ± 10.0 % (n = 3)"
    assert (shown["validation %"], shown["AUC"], shown["epochs"]) == ("80.0", "0.8000", "3/30")
    assert "in the first of 3 folds, each of which judges in its turn; folds protocol" in tables.data_line(record)
    assert "4 epochs in" in tables.counts_line(record)
    summary = study_summary(record)
    assert summary["n_folds"] == 3
    first = summary["trials"][0]
    assert (first["validation_accuracy"], first["epochs_run"]) == (pytest.approx(0.8), 3)
    assert [fold["value"] for fold in first["folds"]] == [0.9, 0.8, 0.7]
    assert [fold["fold"] for fold in first["folds"]] == [0, 1, 2]
    assert len({fold["seed"] for fold in first["folds"]}) == 3
    rows = list(csv.DictReader(io.StringIO(csv_text(record))))
    assert [row["n_folds"] for row in rows] == ["3", "0"]
    assert float(rows[0]["deviation_of_folds"]) == pytest.approx(0.1)
    assert "0.8000 ± 0.1000 over 3 folds" in ending_line(record.trials[0], "accuracy")
    html = page(record, None, top=3)
    assert "validation accuracy 80.0 % ± 10.0 % (n = 3) over its folds" in html
    assert "the mean of a trial over 3 folds; of a pruned one, its first fold" in html


def test_trials_show_only_what_differs_from_the_baseline() -> None:
    rows = tables.trial_rows(some_study(), 10)
    assert [row[-1] for row in rows] == ["nothing: it is the baseline", "zoom=0.1", "batch_size=16, epochs=5"]


def test_fields_that_a_study_fixes_in_all_trials_stand_once_with_its_baseline() -> None:
    fixed: dict[str, Any] = {"image_size": 64, "epochs": 8}
    record = a_study(a_trial(0, 0.7, **fixed), a_trial(1, 0.9, zoom=0.1, **fixed), a_trial(2, 0.8, image_size=64))
    differences = [row[-1] for row in tables.trial_rows(record, 10)]
    assert differences == ["the baseline, with image_size=64, epochs=8", "zoom=0.1", "epochs=10"]


def test_sealed_accuracy_is_not_shown_and_the_seal_is_told() -> None:
    text = tables.plain_text(some_study(), top=5)
    assert "sealed" in text
    assert "The test set was never opened from this store." in text
    opened = tables.plain_text(a_study(a_trial(0, 0.9), openings=(OPENING,)), top=5)
    assert "opened 1 time from this store: 0 by this study, 1 by baseline-original" in " ".join(opened.split())


def test_published_table_stands_beside_real_images_and_never_beside_phantoms() -> None:
    real = " ".join(tables.plain_text(some_study(), top=5).split())
    assert all(f"{100 * row.test_accuracy:.1f}" in real for row in PUBLISHED_TABLE)
    for text in (tables.plain_text(some_study("phantoms"), top=5), tables.markdown(some_study("phantoms"), top=5)):
        assert "PHANTOMS" in text
        assert "86.2" not in text
        assert "Kermany" not in text


def test_counts_are_told() -> None:
    assert "5 trials: 3 complete, 1 pruned, 1 failed" in " ".join(tables.plain_text(some_study(), top=5).split())


def test_wilson_interval_of_624_images_is_told() -> None:
    assert tables.wilson_text(0.862) == "83.3 to 88.7"


def test_csv_has_a_line_a_trial_and_harmless_cells() -> None:
    record = some_study()
    failed = record.trials[4].model_copy(update={"failure": "=HYPERLINK(1)"})
    record = record.model_copy(update={"trials": (*record.trials[:4], failed)})
    rows = list(csv.DictReader(io.StringIO(csv_text(record))))
    assert [row["number"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert (rows[1]["zoom"], rows[1]["validation_accuracy"]) == ("0.1", "0.95")
    assert rows[4]["failure"] == "'=HYPERLINK(1)"


def test_markdown_is_a_table() -> None:
    text = tables.markdown(some_study(), top=5)
    lines = [line for line in text.splitlines() if line.startswith("| 1 |")]
    assert any("zoom=0.1" in line for line in lines)


def test_importance_finds_what_matters() -> None:
    trials = [
        a_trial(n, 0.9 if zoom < 0.2 else 0.7, zoom=zoom, batch_size=batch)
        for n, (zoom, batch) in enumerate((z / 20, b) for z in range(10) for b in (16, 32, 64))
    ]
    shares = importance(a_study(*trials))
    assert sum(shares.values()) == pytest.approx(1)
    assert next(iter(shares)) == "zoom"
    assert importance(a_study(*trials[:3])) == {}


SEARCHED = {
    "zoom": {"low": 0.0, "high": 0.5, "step": 0.05},
    "learning_rate": {"low": 0.0001, "high": 0.1, "log": True},
    "dropout_1": {"low": 0.0, "high": 0.8},
    "epochs": {"low": 5, "high": 10},
    "filters_1": {"low": 4, "high": 64, "log": True},
    "batch_size": {"choices": [16, 32, 64]},
    "n_blocks": {"choices": [5]},
    "lr_schedule": {"choices": ["plateau", "cosine"]},
    "lr_reduce_patience": {"low": 2, "high": 8, "step": 2, "when": {"lr_schedule": "plateau"}},
}


@pytest.mark.parametrize("n", [4, 30, 400])
@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_importance_is_that_of_optuna(n: int, metric: Metric) -> None:
    spec: dict[str, object] = {"name": "default", "space": SEARCHED}
    space = checked_spec(spec, "test").search_space()
    study = optuna.create_study(direction=direction(metric), sampler=optuna.samplers.RandomSampler(seed=1))
    trials = []
    for number in range(n):
        drawn = study.ask()
        config = space.suggest(drawn)
        value = round(0.5 + config.zoom / 4 + config.dropout_1 / 8 + 0.1 * (config.lr_reduce_patience == 4), 2)
        study.tell(drawn, value)
        trials.append(a_trial(number, value, state="complete", **config.changes()))
    record = a_study(*trials).model_copy(update={"spec": spec, "metric": metric})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        expected = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    assert importance(record) == pytest.approx(expected)


def test_importance_of_a_field_that_few_trials_chose_warns_of_nothing() -> None:
    crop = {"choices": [1.0, 0.6]}, {"choices": [1.0, 1.3], "when": {"crop_area": 0.6}}
    record = a_study(*(a_trial(n, 0.7 + 0.02 * n, crop_area=1.0 if n else 0.6) for n in range(6)))
    space = {"crop_area": crop[0], "crop_aspect": crop[1]}
    record = record.model_copy(update={"spec": {"name": "default", "space": space}})
    assert set(importance(record)) == {"crop_area", "crop_aspect"}  # a warning would be an error here


@pytest.mark.parametrize(("width", "headings"), [(80, 5), (120, 9), (200, 9)])
def test_no_column_of_the_table_vanishes_on_a_narrow_terminal(width: int, headings: int) -> None:
    table = tables.trials_table(some_study(), 5, width)
    assert len(table.columns) == headings
    text = io.StringIO()
    Console(file=text, width=width, color_system=None).print(table)
    assert "differs" in text.getvalue()
    assert "zoom" in text.getvalue()


def test_what_a_study_searches_for_has_a_column_where_no_other_shows_it() -> None:
    record = some_study().model_copy(update={"metric": "stress_auc"})
    headings = [heading for heading, _ in tables.trial_columns(record)]
    column = headings.index("AUC of changed copies")
    rows = {cells[0]: cells for cells in tables.trial_rows(record, 5)}
    assert rows["1"][column] == "0.9500"
    assert all(len(cells) == len(headings) for cells in rows.values())
    assert "AUC of changed copies" in tables.markdown(record, top=5)
    assert headings.count("AUC") == 1
    assert "AUC of changed copies" not in tables.markdown(some_study(), top=5)


def test_report_on_own_classes_shows_no_published_figure() -> None:
    record = some_study()
    own = record.model_copy(update={"data": record.data.model_copy(update={"classes": ("HEALTHY", "TB")})})
    assert "86.2" in tables.plain_text(record, top=5)  # the published accuracy after five epochs
    for text in (tables.plain_text(own, top=5), tables.markdown(own, top=5)):
        assert "86.2" not in text
        assert "published" not in text.lower()
    assert study_summary(own)["reference"] == []
    assert tables.epoch_headings("test", own.data.shown_as) == tables.epoch_headings("test", "phantoms")


def test_report_says_what_informed_the_sampler_and_counts_none_of_it() -> None:
    trials = tuple(EarlierTrial(values={"zoom": 0.1}, score=score) for score in (1.0, 0.0))
    first = EarlierStudy(source="wide.csv", trials=trials, passed_over={"failed": 1, "with zoom outside the space": 2})
    second = EarlierStudy(source="small", trials=trials[:1], passed_over={"not ended": 1})
    record = some_study().model_copy(update={"informed_by": (first, second)})
    line = (
        "Informed by 2 trials of wide.csv (3 passed over: 1 failed, 2 with zoom outside the space); 1 trial of small "
        "(1 passed over: not ended)."
    )
    assert line in tables.summary_lines(record)
    assert line in page(record, None, top=5)
    summary = study_summary(record)
    assert summary["informed_by"][1] == {"source": "small", "trials": 1, "passed_over": {"not ended": 1}}
    assert len(summary["trials"]) == len(some_study().trials)
    assert not any(text.startswith("Informed") for text in tables.summary_lines(some_study()))
