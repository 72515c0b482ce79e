"""The live race of libraries: order, kills, resuming, and what its sides are given."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import typer
from optuna.trial import TrialState
from typer.testing import CliRunner

from benchmarks import live
from benchmarks.live_data import prepare, race_spec
from benchmarks.live_process import run_until
from benchmarks.live_sides import EPOCHS_FILE, SIDES, Ours, Peer
from benchmarks.peers import UNDERSTOOD
from benchmarks.search import search
from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.protocols import DataSource
from pneumosearch.data.splits import leak_groups
from pneumosearch.default_study import default_study
from pneumosearch.errors import ConfigError
from pneumosearch.storage.store import Store
from pneumosearch.studyfile import StudySpec, checked_spec, read_study_file
from tests.conftest import ROOT
from tests.support.fakes import SPEC, a_description, a_history

FAKE = """
import json, os, subprocess, sys, time
from pathlib import Path
option = dict(zip(sys.argv[1::2], sys.argv[2::2]))
epochs = Path(option["--epochs-file"])
with open(epochs.parents[3] / "order.txt", "a") as order:
    order.write(NAME + option["--seed"] + " ")
for epoch, accuracy in enumerate((0.7, 0.7, BEST), start=1):
    values = {"val_accuracy": accuracy, "val_auc": accuracy, "val_loss": 1 - accuracy}
    line = {"seconds": 0.1 * epoch, "trial": epoch // 2, "epoch": epoch, **values}
    with epochs.open("a") as file:
        file.write(json.dumps(line) + "\\n")
"""
ENDLESS = (
    FAKE
    + """
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
(epochs.parents[3] / "child.txt").write_text(str(child.pid))
time.sleep(600)
"""
)
CRASHING = FAKE + "sys.exit(3)"


def fake(name: str, script: str, best: float) -> Peer:
    return Peer(name, ("-c", f"NAME, BEST = {name[0]!r}, {best}\n{script}"))


@pytest.fixture
def raced(monkeypatch: pytest.MonkeyPatch, phantoms: Path, study_file: Path, tmp_path: Path) -> list[str]:
    """The command of a race of two fakes."""
    monkeypatch.setitem(SIDES, "pneumosearch", fake("pneumosearch", ENDLESS, 0.9))
    monkeypatch.setitem(SIDES, "optuna", fake("optuna", CRASHING, 0.8))
    monkeypatch.setitem(SIDES, "ray", Peer("ray", ("-c", ""), needs="no_such_module"))
    options = {"--data": phantoms, "--space": study_file, "--output": tmp_path / "race", "--budget": "2s"}
    more = ["--seeds", "2", "--sides", "pneumosearch,optuna,ray", "--json"]
    return ["--live", *(str(each) for pair in options.items() for each in pair), *more]


def run_search(arguments: list[str]) -> Any:
    app = typer.Typer()
    app.command()(search)
    return CliRunner().invoke(app, arguments)


def test_race_runs_sides_in_turn_kills_them_in_time_and_goes_on(
    raced: list[str], phantoms: Path, tmp_path: Path
) -> None:
    done = run_search(raced)
    assert done.exit_code == 0, done.stderr
    figures = json.loads(done.stdout)
    ours, theirs = figures["sides"]
    assert [ours["side"], theirs["side"]] == ["pneumosearch", "optuna"]
    assert ours["best_accuracy"][-1] == {"low": 0.9, "median": 0.9, "high": 0.9}
    assert (ours["failures"], theirs["failures"]) == (0, 2)
    assert figures["skipped"] == {"ray": "no_such_module is not installed"}
    assert figures["baseline_accuracy"] == 0.7
    (ratio,) = figures["ratios"]
    assert (ratio["final_accuracy"], ratio["faster_by"]) == (0.8, pytest.approx(1.0))

    output = tmp_path / "race"
    order = output / "order.txt"
    assert order.read_text() == "p1 o1 p2 o2 "
    summary = json.loads((output / "runs" / "pneumosearch" / "seed-2" / "summary.json").read_text())
    assert summary["exit_status"] is None
    assert summary["seconds"] == 2.0
    assert summary["peak_mib"] > 0
    assert figures["processor"] == summary["processor"]
    assert figures["date"].split(" to ")[0] <= summary["date"]
    assert not psutil.pid_exists(int((output / "child.txt").read_text()))
    assert not (output / "runs" / "pneumosearch" / "seed-2" / "work").exists()
    assert "ray: no_such_module is not installed" in (output / "race.md").read_text()
    assert "<svg" in (output / "race.svg").read_text()
    assert f"`scripts/bench search --live --data {phantoms.name} --space" in (output / "race.md").read_text()

    (output / "runs" / "optuna" / "seed-1" / "summary.json").unlink()  # as if it had been interrupted
    assert run_search(raced).exit_code == 0
    assert order.read_text() == "p1 o1 p2 o2 o1 "
    lines = (output / "runs" / "optuna" / "seed-1" / EPOCHS_FILE).read_text().splitlines()
    assert len(lines) == 3
    picture = (output / "race.svg").read_bytes()
    assert run_search(raced).exit_code == 0  # nothing is left to run
    assert (output / "race.svg").read_bytes() == picture


def test_race_goes_on_only_under_its_own_terms(raced: list[str], tmp_path: Path) -> None:
    assert run_search([*raced, "--sides", "optuna", "--seeds", "1"]).exit_code == 0
    refused = run_search([*raced, "--budget", "3s"]).exception
    assert isinstance(refused, ConfigError)
    assert "this race started with another budget_s" in str(refused)
    refused = run_search([*raced, "--budget", "2s,ray=3s"]).exception
    assert "this race started with another budgets_s" in str(refused)


def test_race_runs_one_seed_at_a_time_and_tells_all_that_are_there(raced: list[str], tmp_path: Path) -> None:
    raced = [*raced, "--budget", "3s,pneumosearch=2s"]
    alone = run_search([*raced, "--seed", "2", "--sides", "pneumosearch"])
    assert json.loads(alone.stdout)["command"].endswith("--seed 2 --sides pneumosearch")
    done = run_search([*raced, "--seed", "1", "--sides", "optuna"])
    figures = json.loads(done.stdout)
    order = tmp_path / "race" / "order.txt"
    assert order.read_text() == "p2 o1 "
    told = [(run["side"], run["seed"], run["budget_s"]) for run in figures["runs"]]
    assert told == [("pneumosearch", 2, 2.0), ("optuna", 1, 3.0)]
    assert figures["seeds"] == {"pneumosearch": 1, "optuna": 1}
    assert "--budget 3s,pneumosearch=2s" in figures["command"]
    assert figures["command"].endswith("--seeds 2 --sides pneumosearch,optuna")
    (tmp_path / "race" / "race.md").unlink()
    done = run_search([*raced, "--seeds", "0", "--sides", "optuna"])
    assert json.loads(done.stdout) == figures
    assert (tmp_path / "race" / "race.md").exists()
    assert order.read_text() == "p2 o1 "
    later = json.loads(run_search([*raced, "--seed", "4", "--sides", "optuna"]).stdout)
    assert later["command"].endswith("--seed 1 --sides pneumosearch,optuna  # and with --seed 2  # and with --seed 4")


def test_race_without_a_run_has_no_page(raced: list[str]) -> None:
    refused = run_search([*raced, "--seeds", "0", "--sides", "optuna"]).exception
    assert isinstance(refused, ConfigError)
    assert "has no finished run" in str(refused)


def test_budgets_are_of_all_sides_and_of_some() -> None:
    budgets = live.Budgets.read("1h,pneumosearch=20m,optuna=30m")
    assert [budgets.of(side) for side in ("pneumosearch", "optuna", "ray")] == [1200, 1800, 3600]
    assert budgets.times("pneumosearch") == [360, 900, 1200]  # a tenth and a quarter of the hour too
    assert budgets.times("ray") == [360, 900, 1200, 1800, 3600]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("soon", "--budget 'soon': wanted a duration"),
        ("1h,hyperopt=2h", "--budget hyperopt: wanted some of pneumosearch"),
        ("1h,optuna", "--budget optuna= '': wanted a duration"),
    ],
)
def test_other_budgets_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        live.Budgets.read(text)


def test_race_of_nobody_is_refused(raced: list[str]) -> None:
    refused = run_search([*raced, "--sides", "ray"]).exception
    assert isinstance(refused, ConfigError)
    assert str(refused) == "--sides: none can run here: ray: no_such_module is not installed"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either --replay CURVES.csv or --live"),
        (["--live", "--replay", "x.csv"], "either --replay CURVES.csv or --live"),
    ],
)
def test_search_wants_one_kind_of_comparison(arguments: list[str], message: str) -> None:
    done = run_search(arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_unknown_side_is_refused(phantoms: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--sides hyperopt: wanted some of pneumosearch, pneumosearch-default, "):
        live.race(
            phantoms,
            tmp_path,
            None,
            size=None,
            share=1,
            budget="1s",
            seeds=[1],
            sides=["hyperopt"],
            baseline_accuracy=None,
        )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fixed": {"equalization": "clahe"}}, "do not know 'equalization'"),
        ({"others": {"early_stopping": True}}, "do not know 'early_stopping'"),
        ({"space": {"optimizer": {"choices": ["adam", "sgd"]}}}, "do not know 'optimizer'"),
        ({"space": {"image_size": {"choices": [75, 150]}}}, "one image size"),
    ],
)
def test_space_that_peers_do_not_know_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        race_spec(checked_spec(values, "test"), None)


def test_all_sides_get_the_split_of_the_protocol(phantoms: Path, tmp_path: Path) -> None:
    spec = race_spec(StudySpec(), 32)
    course = prepare(phantoms, spec, 1.0, tmp_path / "course")
    for folder in (phantoms, course.images):
        dataset = DataSource(read_manifest(folder), tmp_path / "cache").load("holdout", 32)
        images = read_manifest(folder).part("development").images
        for side, indices in ((course.train, dataset.train.indices), (course.validation, dataset.evaluation.indices)):
            wanted = {images[i].name.replace("/NORMAL/", "-").replace("/PNEUMONIA/", "-") for i in indices}
            assert {path.name for path in side.glob("*/*")} == wanted
    assert (course.images / "test").resolve() == (phantoms / "test").resolve()
    assert read_study_file(course.study).search_space().describe() == spec.search_space().describe()
    space = json.loads(course.space.read_text())
    assert space["baseline"]["image_size"] == 32
    assert list(space["searched"]) == list(spec.space)


def test_peers_have_what_the_default_study_sets_for_its_trials(phantoms: Path, tmp_path: Path) -> None:
    spec = race_spec(default_study(), None)
    course = prepare(phantoms, spec, 1.0, tmp_path / "course")
    assert read_study_file(course.study) == spec
    space = json.loads(course.space.read_text())
    assert space["baseline"]["vertical_flip"] is False
    assert space["baseline"].keys() == UNDERSTOOD
    assert list(space["searched"]) == [name for name in spec.space if name in UNDERSTOOD]


def test_share_takes_whole_patients_of_both_classes(phantoms: Path, tmp_path: Path) -> None:
    course = prepare(phantoms, race_spec(StudySpec(), None), 0.5, tmp_path / "course")
    whole, cut = read_manifest(phantoms), read_manifest(course.images)
    assert cut.kind == "phantoms"
    assert cut.counts()["val"] == whole.counts()["val"]
    for label in (0, 1):
        assert cut.counts()["train"][label] / whole.counts()["train"][label] == pytest.approx(0.5, abs=0.07)
    part = whole.part("development")
    kept = {image.name for image in cut.images}
    in_train = [(image, g) for image, g in zip(part.images, leak_groups(part), strict=True) if image.split == "train"]
    inside = {group for image, group in in_train if image.name in kept}
    assert not inside & {group for image, group in in_train if image.name not in kept}


def test_store_tells_epochs_as_they_come_and_failures(tmp_path: Path) -> None:
    watch = Ours("pneumosearch").watch(tmp_path)
    watch.look(1.0)
    work = tmp_path / "work"
    store = Store(f"sqlite:///{work / 'pneumosearch.db'}", work)
    watch.look(2.0)
    study = store.open_study("race", "search", "accuracy", SPEC, a_description())
    first, second = study.ask(), study.ask()
    epochs = [epoch.model_dump(exclude_none=True) for epoch in a_history(0.8, 0.9)]
    first.set_user_attr("history", epochs[:1])
    watch.look(3.0)
    first.set_user_attr("history", epochs)
    watch.look(4.0)
    second.set_user_attr("duplicate_of", 0)
    second.set_user_attr("history", epochs)
    study.tell(second, state=TrialState.FAIL)
    promoted = study.ask()
    promoted.set_user_attr("continues_after", 1)
    promoted.set_user_attr("history", epochs)
    watch.look(5.0)
    lines = [json.loads(line) for line in (tmp_path / EPOCHS_FILE).read_text().splitlines()]
    assert [(line["seconds"], line["trial"], line["epoch"]) for line in lines] == [(3, 0, 1), (4, 0, 2), (5, 2, 2)]
    assert [line["val_accuracy"] for line in lines] == [0.8, 0.9, 0.9]
    assert watch.failures() == 1


def test_process_that_ends_early_gives_its_status(tmp_path: Path) -> None:
    looks: list[float] = []
    ending = run_until([sys.executable, "-c", "print('hello')"], 60, tmp_path / "log.txt", looks.append)
    assert ending.exit_status == 0
    assert ending.seconds < 60
    assert looks
    assert (tmp_path / "log.txt").read_text() == "hello\n"


def test_race_that_is_terminated_takes_its_side_with_it(tmp_path: Path) -> None:
    side = "import os, time; open('pid.txt', 'w').write(str(os.getpid())); time.sleep(600)"
    race = (
        "import sys; from pathlib import Path; from benchmarks.live_process import ending_tidily, run_until\n"
        f"with ending_tidily(): run_until([sys.executable, '-c', {side!r}], 600, Path('log.txt'), lambda seconds: None)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'scripts'}"}
    process = subprocess.Popen([sys.executable, "-c", race], cwd=tmp_path, env=environment)
    pid = tmp_path / "pid.txt"
    for _ in range(600):
        if pid.exists() and pid.read_text():
            break
        time.sleep(0.1)
    process.terminate()
    assert process.wait(30) == 128 + 15
    assert not psutil.pid_exists(int(pid.read_text()))
