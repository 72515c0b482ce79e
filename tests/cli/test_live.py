"""What a person sees on a terminal while trials train."""

import contextlib
import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rich.text import Text

from pneumosearch.cli.live import bars, fetching, region, view
from pneumosearch.cli.live.confirmation import ConfirmationView
from pneumosearch.cli.live.curve import Curve
from pneumosearch.cli.live.study import StudyView
from pneumosearch.cli.live.times import TimeLeft
from pneumosearch.cli.live.view import View
from pneumosearch.config import RunSpec, TrialConfig
from pneumosearch.search.events import (
    EpochEnded,
    FoldStarted,
    PartsDone,
    Repeating,
    StepsDone,
    TrialDeferred,
    TrialEnded,
    TrialEvent,
    TrialStarted,
)
from tests.support.fakes import a_history, a_study, a_trial
from tests.support.terminal import Terminal


class Screen:
    """A terminal of fixed size that keeps what is written to it."""

    def __init__(self, width: int, height: int = 40, *, colour: bool = True) -> None:
        self.out = io.StringIO()
        self.console = region.SharedConsole(
            file=self.out,
            width=width,
            height=height,
            force_terminal=True,
            no_color=not colour,
            color_system="truecolor",
        )

    def lines(self, shown: View) -> list[str]:
        """What the live region of a view shows now."""
        with self.console.capture() as captured:
            self.console.print(shown.content())
        return [line.rstrip() for line in Text.from_ansi(captured.get()).plain.splitlines()]


@pytest.fixture(params=[80, 160])
def screen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Screen:
    found = Screen(request.param)
    for module in (view, bars, fetching):
        monkeypatch.setattr(module, "console", lambda: found.console)
    return found


def a_run(number: int, **config: object) -> RunSpec:
    return RunSpec(config=TrialConfig.checked({"image_size": 75, **config}, "test"), seed=number)


def several_workers() -> Iterator[TrialEvent]:
    """Events of three processes, as they come: mixed."""
    yield TrialStarted(0, a_run(0))
    yield TrialEnded(a_trial(0, 0.7, 0.85, image_size=75))
    yield TrialStarted(1, a_run(1, zoom=0.1))
    yield TrialStarted(2, a_run(2, learning_rate=0.002, dropout_1=0.3, zoom=0.25, lr_reduce_mode="min", batch_size=16))
    yield StepsDone(1, 1, 1, 165, 0.9, None)
    yield StepsDone(2, 0, 1, 40, 0.9, None)
    yield StepsDone(1, 1, 80, 165, 0.5, 200.0)
    yield TrialStarted(3, a_run(3, zoom=0.2))
    yield StepsDone(1, 1, 165, 165, 0.4, 300.0)
    yield StepsDone(2, 1, 20, 330, 0.7, 150.0)
    yield EpochEnded(1, a_history(0.9))
    yield StepsDone(1, 2, 41, 165, 0.3, 210.0)


def test_what_all_trials_but_the_baseline_have_is_said_once_and_left_out_of_the_table(screen: Screen) -> None:
    plain = a_study(a_trial(0, 0.7, 0.85, image_size=75))
    record = plain.model_copy(update={"spec": {**plain.spec, "others": {"label_smoothing": 0.1}}})
    with StudyView("images", 50, "accuracy", quiet=False) as shown:
        shown.show_earlier(lambda: record)
        shown(TrialStarted(1, a_run(1, label_smoothing=0.1, zoom=0.1)))
        assert screen.lines(shown)[0] == "trial 1: zoom=0.1"
    assert screen.out.getvalue().count("In all trials but the baseline: label_smoothing=0.1.") == 1


def test_each_worker_has_its_line_and_each_trial_its_differences(screen: Screen) -> None:
    shown = StudyView("images", 50, "accuracy", quiet=False)
    for event in several_workers():
        shown(event)
    lines = screen.lines(shown)
    assert lines[0] == "trial 1: zoom=0.1"  # not the size, which the baseline of this study has too
    assert lines[1].startswith("trial 2: dropout_1=0.3, zoom=0.25, learning_rate=0.002")
    assert lines[2] == "trial 3: zoom=0.2"
    assert lines[3].split() == ["trial", "epoch", "step", "images/s", "accuracy", "best", "loss"]
    first, second, third = (re.sub("━|╸|╺", " ", line).split() for line in lines[4:7])
    assert first == ["1", "2/10", "41/165", "224", "0.9000", "0.9000", "█▃▂▁"]
    assert second == ["2", "1/10", "20/330", "150", "–", "–", "▁"]
    assert third[:3] == ["3", "0/10", "starts"]
    assert "1 complete, 0 pruned, 0 failed; best accuracy 0.8500 (trial 0)" in lines[-1]
    assert lines[-2].startswith("1 of 50 trials ━")
    assert max(map(len, lines)) <= screen.console.width


def test_trial_on_a_later_fold_shows_which_and_what_it_had_before(screen: Screen) -> None:
    shown = StudyView("images", 50, "accuracy", quiet=False)
    run = a_run(1, zoom=0.1).model_copy(update={"protocol": "folds", "n_folds": 3})
    for event in (
        TrialStarted(1, run),
        EpochEnded(1, a_history(0.7, 0.9)),
        FoldStarted(1, run.trainings[1]),
        EpochEnded(1, a_history(0.8), fold=1),
        StepsDone(1, 2, 41, 165, 0.3, 210.0),
    ):
        shown(event)
    lines = screen.lines(shown)
    training, best = (re.sub("━|╸|╺", " ", line) for line in lines if line.split()[:1] == ["1"])
    assert "fold 2: 2/10" in training
    assert "0.8500" in best
    assert "3/30" in best


def test_best_trials_are_the_complete_ones_and_then_those_with_an_epoch(screen: Screen) -> None:
    shown = StudyView("images", 50, "accuracy", quiet=False)
    shown.show_earlier(
        lambda: a_study(
            a_trial(0, 0.8), a_trial(1, 0.85, zoom=0.1), a_trial(2, 0.99, state="pruned"), a_trial(3, state="failed")
        )
    )
    for event in (TrialStarted(4, a_run(4)), EpochEnded(4, a_history(0.7, 0.9)), TrialStarted(5, a_run(5))):
        shown(event)
    lines = screen.lines(shown)
    (start,) = (number for number, line in enumerate(lines) if line.split()[:1] == ["best"])
    rows = [line.split()[:5] for line in lines[start + 1 : start + 5]]
    assert rows[0][:3] == ["1", "0.8500", "+0.0500"]
    assert rows[1][:3] == ["0", "0.8000", "1/10"]
    assert rows[2][:3] == ["2", "0.9900", "+0.1900"]
    assert rows[3] == ["4", "0.9000", "+0.1000", "2/10", "training"]
    assert lines[start + 5] == ""


def test_trials_below_the_floor_come_behind_the_others(screen: Screen) -> None:
    shown = StudyView("images", 50, "accuracy", quiet=False, floor={"loss": 0.17})
    high = a_trial(2, 0.82, zoom=0.2).model_copy(update={"value": 0.95})  # its loss is 0.18
    shown.show_earlier(lambda: a_study(a_trial(0, 0.8), a_trial(1, 0.85, zoom=0.1), high))
    lines = screen.lines(shown)
    rows = [line.split() for line in lines if line[:8].strip() in ("0", "1", "2")]
    assert [row[0] for row in rows] == ["1", "2", "0"]
    assert "below" not in rows[0]
    assert rows[1][4:8] == ["complete,", "below", "the", "floor"]
    assert "best accuracy 0.8500 (trial 1)" in lines[-1]


def test_fetching_shows_a_bar_for_each_step(screen: Screen) -> None:
    with fetching.FetchView() as shown:
        shown("download", 3_000_000, None)
        for done in (500_000_000, 1_235_512_464):
            shown("download", done, 1_235_512_464)
        shown("unpack", 5856, 5856)
    drawn = Text.from_ansi(screen.out.getvalue()).plain
    assert "downloading" in drawn
    assert "1.2/1.2 GB" in drawn
    assert "unpacking" in drawn
    assert "5856/5856" in drawn


def test_promoted_trial_is_shown_once_and_a_deferred_baseline_waits(screen: Screen) -> None:
    shown = StudyView("images", 50, "accuracy", quiet=False)
    paused = a_trial(1, 0.9, state="pruned", zoom=0.1)
    assert paused.run is not None
    for event in (
        TrialStarted(0, a_run(0)),
        EpochEnded(0, a_history(0.7)),
        TrialDeferred(0),
        TrialEnded(paused),
        TrialStarted(7, paused.run),
        EpochEnded(7, paused.history),
    ):
        shown(event)
    rows = [line.split()[:4] for line in screen.lines(shown)]
    assert ["7", "0.9000", "1/10", "training"] in rows
    assert ["0", "0.7000", "1/10", "waiting"] in rows
    assert ["1", "0.9000", "1/10", "pruned"] not in rows


@pytest.mark.parametrize("height", [10, 16, 24])
def test_many_workers_fit_a_low_terminal(height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(80, height)
    monkeypatch.setattr(view, "console", lambda: screen.console)
    shown = StudyView("images", 50, "accuracy", quiet=False)
    for number in range(12):
        shown(TrialStarted(number, a_run(number)))
        shown(EpochEnded(number, a_history(0.8)))
    lines = screen.lines(shown)
    assert len(lines) <= height
    assert any(re.fullmatch(r"and \d+ more in training", line) for line in lines)
    assert lines[-2].startswith("0 of 50 trials")


def test_ending_of_a_trial_stays_above_the_region(screen: Screen) -> None:
    with StudyView("images", 3, "accuracy", quiet=False) as shown:
        shown(TrialStarted(0, a_run(0)))
        shown(TrialEnded(a_trial(0, 0.7, state="pruned")))
        shown(TrialEnded(a_trial(1, 0.7, 0.8)))
    said = Text.from_ansi(screen.out.getvalue()).plain
    assert "trial 0 pruned after 1 epoch\n" in said
    assert "trial 1 complete after 2 epochs: accuracy 0.8000\n" in said


def two_replicates() -> Iterator[TrialEvent]:
    """Events of two processes, as they come: mixed."""
    yield PartsDone("replicates", 3, 20)
    yield Repeating("s-confirm", 0, TrialStarted(3, a_run(7)))
    yield Repeating("s-confirm", 5, TrialStarted(4, a_run(8)))
    yield Repeating("s-confirm", 0, StepsDone(3, 1, 1, 100, 0.9, None))
    yield Repeating("s-confirm", 0, EpochEnded(3, a_history(0.8)))
    yield Repeating("s-confirm", 0, StepsDone(3, 2, 50, 100, 0.5, 90.0))


def test_replicates_have_a_bar_over_all_and_one_each(screen: Screen) -> None:
    shown = ConfirmationView("images", "accuracy", quiet=False)
    for event in two_replicates():
        shown(event)
    lines = screen.lines(shown)
    assert lines[:2] == ["baseline, seed 7", "trial 5, seed 8"]
    assert re.sub("━|╸|╺", " ", lines[-3]).split()[:4] == ["2/10", "50/100", "90", "0.8000"]
    assert re.sub("━|╸|╺", " ", lines[-2]).split()[:2] == ["0/10", "starts"]
    assert lines[-1].startswith("3 of 20 replicates ━")
    assert max(map(len, lines)) <= screen.console.width


def test_replicates_elsewhere_are_lines_that_name_them(screen: Screen) -> None:
    screen.console.is_interactive = False
    shown = ConfirmationView("images", "accuracy", quiet=False)
    for event in two_replicates():
        shown(event)
    shown(Repeating("s-confirm", 0, TrialEnded(a_trial(3, 0.8, 0.9))))
    assert [line.strip() for line in Text.from_ansi(screen.out.getvalue()).plain.splitlines()] == [
        "baseline, seed 7: epoch 1: train 80.0%, validation accuracy 0.8000, 1.0 s",
        "baseline, seed 7: complete, accuracy 0.9000",
    ]


def test_narrower_terminal_leaves_no_wrapped_rest() -> None:
    screen = Screen(80)
    live = region.Region(screen.console, lambda: Text("x" * 80 + "\n" + "y" * 30), transient=True)
    with live, screen.console.drawing:  # nobody else draws
        live.refresh()
        before = len(screen.out.getvalue())
        screen.console.width = 40
        live.refresh()
        written = screen.out.getvalue()[before:]
    up = "\x1b[2K\x1b[1A"
    assert written.startswith(up + "\r\x1b[2K\x1b[1A\x1b[2K")  # the row that wrapped, then the two that were drawn


def test_nothing_is_coloured_where_the_user_wants_none(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(80, colour=False)
    monkeypatch.setattr(view, "console", lambda: screen.console)
    shown = StudyView("images", 50, "accuracy", quiet=False)
    for event in several_workers():
        shown(event)
    with screen.console.capture() as captured:
        screen.console.print(shown.content())
    assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|9[0-7]|38)[;m]", captured.get())


def test_json_leaves_a_pipe_empty_and_a_terminal_its_region(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    assert StudyView("images", 50, "accuracy", quiet=False, json=True).steps_every is not None
    screen.console.is_interactive = False
    with StudyView("images", 50, "accuracy", quiet=False, json=True) as shown:
        shown(TrialStarted(0, a_run(0)))
        shown(TrialEnded(a_trial(0, 0.7)))
    assert (screen.out.getvalue(), shown.steps_every) == ("", None)
    assert capsys.readouterr() == ("", "")


def test_colours_that_are_forced_make_a_pipe_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert not region.console().is_interactive


def test_curve_has_the_shape_of_the_series_at_any_width() -> None:
    curve = Curve()
    assert curve.bars(8) == ""
    for value in range(1000, 0, -1):
        curve.add(float(value))
    assert curve.bars(8) == "█▇▆▅▄▃▂▁"
    assert len(curve.bars(80)) == 80


def test_time_left_comes_from_what_ended_here_and_counts_down() -> None:
    now = 0.0
    times = TimeLeft(lambda: now)
    times.reached(10)  # by earlier commands
    assert times.seconds(20) is None
    for done in (11, 12):
        now += 60.0
        times.reached(done)
    assert times.seconds(20) == 8 * 60
    now += 30.0
    assert times.seconds(20) == 8 * 60 - 30
    now += 300.0  # this part takes longer than those before
    assert times.seconds(20) == 7 * 60
    assert times.text(20) == "7:30, about 7 min left"


def test_counting_vanishes_when_it_is_done(screen: Screen) -> None:
    with bars.counting("classifying images", 3) as one_more:
        for _ in range(3):
            one_more()
    assert "classifying images" in screen.out.getvalue()
    assert screen.out.getvalue().endswith("\x1b[2K")  # erased


def test_parts_have_their_bars_below_what_is_worked_at(screen: Screen) -> None:
    outer = region.Region(screen.console, lambda: "audit", transient=True)
    inner = region.Region(screen.console, lambda: "decode", transient=True)
    with outer, inner, screen.console.drawing:
        inner.refresh()
        before = len(screen.out.getvalue())
        screen.console.print("a notice")
        written = Text.from_ansi(screen.out.getvalue()[before:]).plain
    assert written.splitlines()[-3:] == ["a notice", "audit", "decode"]


def test_decoding_that_stops_half_way_gives_the_cursor_back(screen: Screen) -> None:
    from pneumosearch.cli.leaving import leaving

    with leaving:
        bars.decoding_progress()(16, 100)
    written = screen.out.getvalue()
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")


def test_decoding_elsewhere_is_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    show = bars.decoding_progress()
    for done in (16, 32, 40):
        show(done, 40)
    assert capsys.readouterr().err == "decoded 40 of 40 images\n"


def test_bar_is_on_the_terminal_and_the_result_alone_on_standard_output(phantoms: Path, tmp_path: Path) -> None:
    terminal, (reading, writing) = Terminal(tmp_path), pty.openpty()
    command = [sys.executable, "-m", "pneumosearch", "data", "audit", "--data", str(phantoms), "--json"]
    with ThreadPoolExecutor(1) as reader, subprocess.Popen(
        command, cwd=tmp_path, env=terminal.environment | {"TERM": "xterm"}, stdout=subprocess.PIPE, stderr=writing
    ) as process:  # fmt: skip
        os.close(writing)
        shown = reader.submit(read_all, reading)
        out, _ = process.communicate(timeout=300)
        said = shown.result(timeout=60).decode()
    assert json.loads(out)["kind"] == "phantoms"
    assert "auditing" in said
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")  # the cursor is back


def read_all(terminal: int) -> bytes:
    """What is written to a terminal until nobody has it open."""
    parts = []
    with contextlib.suppress(OSError):  # so Linux says it
        while part := os.read(terminal, 65536):
            parts.append(part)
    os.close(terminal)
    return b"".join(parts)
