"""The code of the documents does what they say: `python` and `bash` blocks are run, `sh` and `toml` ones checked."""

import os
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.documents import DOCUMENTS, check_call, examples, first_missing, install_shims, languages

#: Documents whose blocks train. The README's quick start is the tutorial's, so both are tried in one folder.
QUICK_START = ("docs/tutorial.md", "README.md")
TRAINING = ("docs/python.md",)
#: What a block may be: run, checked, or a picture of something else.
LANGUAGES = {"python", "bash", "sh", "toml", "text", "diff"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder: empty but for the study files, in an environment where pneumosearch is a command."""
    install_shims(tmp_path / "bin")
    work = tmp_path / "work"
    work.mkdir()
    (work / "studies").symlink_to(ROOT / "studies")
    (work / "scripts").symlink_to(tmp_path / "bin" / "scripts")
    monkeypatch.chdir(work)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("COLUMNS", "120")
    return work


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if name(path) not in (*QUICK_START, *TRAINING)], ids=name)
def test_code_blocks_run(path: Path, folder: Path) -> None:
    for example in examples(path):
        example.evaluate()


@pytest.mark.slow
@pytest.mark.parametrize("path", TRAINING)
def test_code_blocks_that_train_run(path: str, folder: Path) -> None:
    """What one block makes, the next finds."""
    for example in examples(ROOT / path):
        example.evaluate()


@pytest.mark.slow
def test_quick_start_and_tutorial_run_as_written(folder: Path) -> None:
    before: dict[str, str] = {}
    for path in QUICK_START:
        for example in examples(ROOT / path):
            example.namespace["before"] = before
            example.evaluate()


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_every_block_says_what_it_is(path: Path) -> None:
    assert set(languages(path)) <= LANGUAGES


def test_a_call_with_an_unknown_option_or_command_is_found() -> None:
    check_call(["study", "studies/wide.toml", "--trials", "3"])
    check_call(["data", "phantoms", "there"])
    with pytest.raises(AssertionError, match="No such option"):
        check_call(["study", "--trails", "3"])
    with pytest.raises(AssertionError, match="no such command: searhc"):
        check_call(["searhc"])


def test_printed_lines_are_compared_without_their_digits() -> None:
    printed = ["trial 0: the baseline", "│ 0 │ complete │  85.4 │", "best accuracy 0.9 (trial 3), -2.1 points"]
    assert first_missing(["trial 7: the baseline", "...", "0 complete 64.6"], printed) is None
    assert first_missing(["best accuracy ... points"], printed) is None
    assert first_missing(["0 complete 1.0", "trial 0: the baseline"], printed) == "trial 0: the baseline"
