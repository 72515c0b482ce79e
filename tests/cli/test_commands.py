"""Every command as a user types it: in a process of its own, or, for its words and exit code, in this one."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from pneumosearch.data.phantoms import MARKER, MIN_IMAGES, write_phantoms
from pneumosearch.published import PUBLISHED_PARAMETERS
from tests.conftest import ROOT
from tests.support.postgres import free_port
from tests.support.terminal import Terminal
from tests.tracking.test_tensorboard_runs import figures

COMMANDS = [
    "baseline",
    "study",
    "worker",
    "serve",
    "report",
    "confirm",
    "predict",
    "evaluate",
    "export",
    "figures",
    "rerun",
    "dashboard",
    "data fetch",
    "data check",
    "data audit",
    "data phantoms",
]
TINY_STUDY = """
name = "tiny"
pruner = "none"
[fixed]
image_size = 32
width = 0.25
[space]
zoom = { low = 0.0, high = 0.5 }
epochs = { low = 2, high = 10 }
"""


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory, phantoms: Path) -> Terminal:
    """A folder in which a study of four trials has run on phantoms."""
    terminal = Terminal(tmp_path_factory.mktemp("studied"))
    (terminal.folder / "tiny.toml").write_text(TINY_STUDY)
    summary = terminal.json("study", "tiny.toml", "--trials", "4", "--data", str(phantoms), "--log", "tensorboard:runs")
    assert len(summary["trials"]) == 4
    return terminal


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_and_stands_in_the_readme(terminal: Terminal, command: str) -> None:
    out, _ = terminal.call(*command.split(), "--help")
    assert f"Example: pneumosearch {command}" in " ".join(out.split())
    assert f"pneumosearch {command}" in (ROOT / "README.md").read_text()


def test_all_commands_are_listed(terminal: Terminal) -> None:
    out = terminal.call("--help")[0] + terminal.call("data", "--help")[0]
    assert all(re.search(rf"│ {command.split()[-1]} ", out) for command in COMMANDS)
    assert terminal.run("--version")[0].startswith("pneumosearch 0.")


@pytest.mark.slow
def test_baseline_prints_its_history_and_the_store_keeps_it(terminal: Terminal, phantoms: Path) -> None:
    summary = terminal.json("baseline", "--epochs", "1", "--data", str(phantoms))
    assert (summary["n_parameters"], summary["protocol"], summary["seed"]) == (PUBLISHED_PARAMETERS, "holdout", 232)
    [epoch] = summary["history"]
    assert {"epoch", "train_accuracy", "train_loss", "validation_loss", "learning_rate", "seconds"} <= epoch.keys()
    assert 0 < epoch["validation_accuracy"] <= 1
    assert epoch["test_accuracy"] is None
    report = terminal.called_json("report", "--name", "baseline-holdout")
    assert report["baseline"]["history"] == summary["history"]
    assert report["test_openings"] == 0


@pytest.mark.slow
def test_original_protocol_judges_by_the_test_folder_and_says_so(terminal: Terminal, phantoms: Path) -> None:
    out, err = terminal.run("baseline", "--epochs", "1", "--protocol", "original", "--data", str(phantoms))
    assert "PHANTOMS" in err
    assert "published train" not in out + err
    report = terminal.called_json("report", "--name", "baseline-original")
    assert report["test_openings"] == 1
    assert report["baseline"]["history"][0]["test_accuracy"] > 0
    assert report["baseline"]["history"][0]["validation_accuracy"] is None
    terminal.run("figures", "drawn", "--name", "baseline-original", "--data", str(phantoms))
    page = (terminal.folder / "drawn" / "index.html").read_text()
    assert f"{report['data']['n_train']} images in batches of 32" in page
    assert terminal.called_json("report", "--name", "baseline-original")["test_openings"] == 1


def test_study_result_is_one_json_object(studied: Terminal) -> None:
    summary = studied.called_json("report", "--name", "tiny")
    assert [trial["state"] in ("complete", "pruned") for trial in summary["trials"]] == [True] * 4
    assert summary["baseline"]["number"] == 0
    assert summary["data"]["kind"] == "phantoms"
    assert summary["test_openings"] == 0


def test_study_writes_its_trials_to_tensorboard(studied: Terminal) -> None:
    [folder] = (studied.folder / "runs").iterdir()
    assert [run.name for run in sorted(folder.iterdir())] == [f"trial-{number:04d}" for number in range(4)]
    steps = figures(folder / "trial-0003", "train/loss")
    assert [step for step, _ in steps] == list(range(1, len(steps) + 1))
    assert len(figures(folder / "trial-0003", "final/value")) == 1


def test_report_comes_in_every_format_and_says_phantoms(studied: Terminal) -> None:
    table, _ = studied.run("report", "--name", "tiny")
    assert "PHANTOMS" in table
    markdown, _ = studied.call("report", "--name", "tiny", "--format", "markdown")
    assert markdown.startswith("# Study tiny")
    studied.call("report", "--name", "tiny", "--format", "csv", "--output", "out/tiny.csv")
    with (studied.folder / "out" / "tiny.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 4


def test_study_goes_on_and_is_not_repeated(studied: Terminal, phantoms: Path) -> None:
    before = studied.called_json("report", "--name", "tiny")["trials"]
    out, err = studied.run("study", "tiny.toml", "--trials", "4", "--data", str(phantoms))
    assert "resuming 'tiny': 4 of 4 trials" in err
    assert "PHANTOMS" in out
    assert studied.called_json("report", "--name", "tiny")["trials"] == before


def test_dry_run_prints_the_plan_and_trains_nothing(studied: Terminal, terminal: Terminal, phantoms: Path) -> None:
    plan = studied.called_json("study", "tiny.toml", "--trials", "30", "--dry-run", "--data", str(phantoms))
    assert plan["space"].keys() == {"zoom", "epochs"}
    assert plan["first"][0]["changes"] == {"image_size": 32, "width": 0.25}
    assert plan["seconds"] > 0  # the four trials of this store tell the speed
    assert len(studied.called_json("report", "--name", "tiny")["trials"]) == 4
    wide = str(ROOT / "studies" / "wide.toml")
    out, _ = terminal.call("study", wide, "--dry-run", "--data", str(phantoms))
    assert "warmup_epochs" in out
    assert "when lr_schedule is cosine" in out
    assert "unknown until a trial has run" in out
    terminal.call("report", "--name", "wide", code=1)


def test_precision_is_an_option_and_the_original_protocol_refuses_it(terminal: Terminal, phantoms: Path) -> None:
    arguments = ("baseline", "--protocol", "original", "--precision", "bfloat16", "--data", str(phantoms))
    _, err = terminal.call(*arguments, code=1)
    assert err.strip() == "error: --precision bfloat16: the original protocol computes in float32, as published"
    plan = terminal.called_json("study", "--dry-run", "--precision", "bfloat16", "--data", str(phantoms))
    assert plan["precision"] == "bfloat16"


@pytest.mark.slow
def test_rerun_is_equal_to_the_last_digit(studied: Terminal) -> None:
    out, _ = studied.run("rerun", "tiny", "1", "--quiet")
    assert "equal to the last digit" in out
    assert studied.json("rerun", "tiny", "2")["identical"] is True


@pytest.mark.slow
def test_figures_look_into_the_network_that_a_study_keeps(studied: Terminal, tmp_path: Path) -> None:
    told = studied.json("figures", "drawn", "--name", "tiny", "--trial", "0")  # from the study's own images
    assert told["left_out"] == []
    assert {"feature-maps.png", "dropout.svg"} <= set(told["files"])
    assert "trial 0 of study 'tiny', with its stored network" in told["about"]
    assert "no study 'tyni'" in studied.call("figures", "drawn", "--name", "tyni", code=1)[1]
    write_phantoms(tmp_path / "others", n_images=160, seed=9)
    err = studied.call("figures", "drawn", "--name", "tiny", "--data", str(tmp_path / "others"), code=1)[1]
    assert "not the images of study 'tiny'" in err


def test_dashboard_serves_the_studies_with_their_note(studied: Terminal) -> None:
    port = free_port()
    process = studied.start("dashboard", "--port", str(port))
    try:
        studies = _fetch(f"http://127.0.0.1:{port}/api/studies")["study_summaries"]
        tiny = next(study for study in studies if study["study_name"] == "tiny")
        detail = _fetch(f"http://127.0.0.1:{port}/api/studies/{tiny['study_id']}?after=0")
        assert "PHANTOMS" in detail["note"]["body"]
        assert detail["objective_names"] == ["validation accuracy on PHANTOMS"]
        assert len(detail["trials"]) == 4
        assert all(trial["artifacts"] for trial in detail["trials"])
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert "Traceback" not in err


def _fetch(url: str) -> Any:
    deadline = time.monotonic() + 120  # a busy machine takes long to start a process
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


@pytest.mark.slow
def test_ctrl_c_and_kill_leave_a_study_that_ends_like_its_twin(
    studied: Terminal, terminal: Terminal, phantoms: Path
) -> None:
    (terminal.folder / "tiny.toml").write_text(TINY_STUDY)
    command = ("study", "tiny.toml", "--trials", "4", "--data", str(phantoms))
    for sign in (signal.SIGINT, signal.SIGKILL):
        process = terminal.start(*command)
        assert process.stderr is not None
        next(line for line in process.stderr if "epoch 2" in line)
        process.send_signal(sign)
        _, err = process.communicate(timeout=120)
        if sign == signal.SIGINT:
            assert process.returncode == 130
            assert "run the same command again to resume" in err
    terminal.run(*command)
    assert _numbers(terminal) == _numbers(studied)


def _numbers(terminal: Terminal) -> list[Any]:
    trials: list[Any] = terminal.called_json("report", "--name", "tiny")["trials"]
    for trial in trials:
        del trial["seconds"]
        for epoch in trial["history"]:
            del epoch["seconds"]
    return trials


def test_data_check_compares_with_the_published_counts(terminal: Terminal, phantoms: Path, real_images: Path) -> None:
    out, _ = terminal.run("data", "check", "--data", str(real_images))
    assert "3,875" in out
    assert "The counts equal the published counts." in out
    summary = terminal.called_json("data", "check", "--data", str(phantoms))
    assert summary["agrees"] is False
    assert summary["published"] == {"train": [1341, 3875], "val": [8, 8], "test": [234, 390]}


@pytest.mark.slow
def test_two_classes_of_ones_own_from_the_study_to_another_hospital(terminal: Terminal, phantoms: Path) -> None:
    own = terminal.folder / "own"
    shutil.copytree(phantoms, own)
    (own / MARKER).unlink()
    for split in ("train", "val", "test"):
        (own / split / "NORMAL").rename(own / split / "HEALTHY")
        (own / split / "PNEUMONIA").rename(own / split / "TB")
    (terminal.folder / "tiny.toml").write_text('classes = ["healthy", "TB"]\n' + TINY_STUDY)
    summary = terminal.json("study", "tiny.toml", "--trials", "1", "--data", "own")
    assert (summary["data"]["classes"], summary["reference"]) == (["healthy", "TB"], [])
    for command in (["rerun", "tiny", "0"], ["confirm", "--name", "tiny"]):
        _, err = terminal.call(*command, "--data", "own", "--classes", "TB,healthy", code=1)
        assert "study 'tiny' was started with other classes (healthy,TB, now TB,healthy)" in err
    assert "Kermany" not in terminal.call("report", "--name", "tiny")[0]

    write_phantoms(terminal.folder / "other", n_images=MIN_IMAGES, seed=9)
    said, _ = terminal.call("evaluate", "other", "--name", "tiny", "--classes", "NORMAL,PNEUMONIA", "--page", "p.html")
    assert "PNEUMONIA stands for TB" in " ".join(said.split())
    assert "PHANTOMS" in (terminal.folder / "p.html").read_text()
    found = terminal.called_json("evaluate", "own/train", "--study", "tiny")
    assert found["total"]["trained_on"] == sum(found["total"]["counts"].values())
    _, err = terminal.call("evaluate", "own/test", "--name", "tiny", code=1)
    assert "in the sealed test folder of the study" in err
    rows = terminal.called_json("predict", "own/val", "--name", "tiny")["predictions"]
    assert {row["decision"] for row in rows} <= {"healthy", "TB"}


def test_data_phantoms_writes_a_folder(terminal: Terminal) -> None:
    terminal.run("data", "phantoms", "drawn", "--images", "150", "--seed", "3")
    assert len(list((terminal.folder / "drawn").rglob("*.jpeg"))) == 150
    _, err = terminal.call("data", "phantoms", "drawn", "--images", "150", code=1)
    assert "not empty" in err


def _broken(name: str, phantoms: Path, folder: Path) -> list[str]:
    """Arguments of one misuse, with the files that it needs."""
    copy = folder / "copy"
    if name in ("truncated", "empty class", "wrong split"):
        shutil.copytree(phantoms, copy)
        normal = copy / "train" / "NORMAL"
        image = sorted(normal.iterdir())[0]
        if name == "truncated":
            image.write_bytes(image.read_bytes()[:500])
        elif name == "empty class":
            shutil.rmtree(normal)
            normal.mkdir()
        else:
            (copy / "train").rename(copy / "training")
    (folder / "bad.toml").write_text('colour = "red"\n')
    (folder / "without.toml").write_text("[space]\nzoom = { low = 0.4, high = 0.5 }\n")
    (folder / "classes.toml").write_text('classes = ["a", "A"]\n')
    (folder / "type.toml").write_text('seed = "many"\n')
    return {
        "no folder": ["study", "--data", "nowhere"],
        "truncated": ["study", "--data", "copy"],
        "empty class": ["study", "--data", "copy"],
        "wrong split": ["baseline", "--data", "copy"],
        "unknown key": ["study", "bad.toml", "--data", str(phantoms)],
        "no baseline": ["study", "without.toml", "--data", str(phantoms)],
        "wrong type": ["study", "type.toml", "--data", str(phantoms)],
        "bad url": ["study", "--storage", "nonsense", "--data", str(phantoms)],
        "no trials": ["study", "--trials", "0", "--data", str(phantoms)],
        "bad timeout": ["study", "--timeout", "soon", "--data", str(phantoms)],
        "bad name": ["study", "--name", "../../x", "--data", str(phantoms)],
        "no store": ["report"],
        "no file": ["study", "none.toml"],
        "one class": ["study", "--classes", "SICK", "--data", str(phantoms)],
        "equal classes": ["data", "check", "--classes", "NORMAL,normal", "--data", str(phantoms)],
        "other classes": ["data", "audit", "--classes", "NORMAL,SICK", "--data", str(phantoms)],
        "classes in a file": ["study", "classes.toml", "--data", str(phantoms)],
    }[name]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no folder", "nowhere: no such folder"),
        ("truncated", r"copy/train/NORMAL/.*: cannot be decoded \(.+\); mend or remove it, or pass --skip-unreadable"),
        ("empty class", "copy/train/NORMAL: no image in this folder"),
        ("wrong split", r"copy/train/NORMAL: no such folder \(copy holds test, training, val\)"),
        ("unknown key", "bad.toml: unknown key 'colour'"),
        ("no baseline", "without.toml: space.zoom: the range does not contain the baseline's 0.3"),
        ("wrong type", "type.toml: seed: input should be a valid integer"),
        ("bad url", "'nonsense' is no storage URL"),
        ("no trials", "options: trials: "),
        ("bad timeout", "--timeout 'soon': wanted a duration"),
        ("bad name", "options: name:"),
        ("no store", "results/pneumosearch.db: no such storage yet"),
        ("no file", "none.toml: no such study file"),
        ("one class", "--classes 'SICK': wanted two folder names.*train holds NORMAL, PNEUMONIA$"),
        ("equal classes", "--classes 'NORMAL,normal': the two names are equal.*holds NORMAL, PNEUMONIA$"),
        ("other classes", r".*train/SICK: no such folder .*holds NORMAL, PNEUMONIA\); wanted .* NORMAL and SICK$"),
        ("classes in a file", "classes.toml: classes 'a,A': the two names are equal"),
    ],
)
def test_misuse_is_told_in_one_line_with_exit_code_1(
    terminal: Terminal, phantoms: Path, name: str, message: str
) -> None:
    out, err = terminal.call(*_broken(name, phantoms, terminal.folder), code=1)
    last = err.strip().splitlines()[-1]
    assert re.match(f"error: {message}", last), last
    assert "Traceback" not in err
    assert out == ""


def test_wrong_usage_is_exit_code_2(terminal: Terminal) -> None:
    assert "No such option" in terminal.call("study", "--trails", "5", code=2)[1]


def test_debug_shows_the_traceback(terminal: Terminal) -> None:
    assert "Traceback" in terminal.call("--debug", "report", code=1)[1]


def test_no_color_is_honoured(studied: Terminal) -> None:
    studied.environment["FORCE_COLOR"] = "1"
    try:
        assert "\x1b[" in studied.run("report", "--name", "tiny")[0]
        studied.environment["NO_COLOR"] = "1"
        assert not re.search(r"\x1b\[[0-9;]*3[0-9]", studied.run("report", "--name", "tiny")[0])
    finally:
        for name in ("FORCE_COLOR", "NO_COLOR"):
            studied.environment.pop(name, None)


@pytest.mark.parametrize("arguments", [["--help"], ["study", "--help"], ["report", "--name", "tiny"]])
def test_looking_never_imports_tensorflow(studied: Terminal, arguments: list[str]) -> None:
    code = (
        "import sys\nfrom pneumosearch.cli import main\n"
        f"sys.argv = ['pneumosearch', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'tensorflow', 'keras', 'torch', 'jax'} & set(sys.modules)), file=sys.stderr)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=studied.folder, capture_output=True, text=True, check=True
    )
    assert process.stderr.strip() == "[]"


def test_import_is_light() -> None:
    code = "import sys, pneumosearch; print({'tensorflow', 'keras', 'optuna', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
