"""Files that other people's tools read, and what is generated: well-formed and current."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

import pneumosearch
from contract import BEGIN, DOCUMENT, END, contract, with_contract
from pictures import PICTURES, outcomes
from tests.conftest import ROOT


def test_import_contract_in_the_architecture_is_the_present_one() -> None:
    text = DOCUMENT.read_text()
    assert with_contract(text) == text, "run scripts/contract"
    assert BEGIN in text
    assert END in text
    assert "`confirm`" in contract()


def test_architecture_names_only_modules_that_are_there() -> None:
    text = DOCUMENT.read_text()
    named = set(re.findall(r"`([a-z_]+/[a-z_]+)(?:\.py)?`", text)) | set(re.findall(r"`([a-z_]+)/`", text))
    outside = {"studies", "tests", "results", "docs", "scripts", "audit", "keras_tuner"}
    for name in named - outside:
        path = ROOT / "pneumosearch" / name
        assert path.is_dir() or path.with_suffix(".py").is_file() or (ROOT / name).exists(), name


def test_walk_to_a_training_step_has_at_most_twelve_rooms() -> None:
    walk = DOCUMENT.read_text().partition("## From `pneumosearch study` to `train_on_batch`")[2].partition("\n## ")[0]
    steps = re.findall(r"^(\d+)\. ", walk, re.MULTILINE)
    assert 5 <= len(steps) <= 12


def test_workflow_is_well_formed_and_covers_every_supported_python() -> None:
    workflow: dict[Any, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())
    assert set(workflow) >= {"name", True, "jobs"}  # YAML 1.1 reads the key `on` as True
    [job] = workflow["jobs"].values()
    assert job["strategy"]["matrix"]["os"] == ["ubuntu-latest", "macos-latest"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert {"run": "scripts/test"} in job["steps"]
    assert all(("uses" in step) != ("run" in step) for step in job["steps"])


def test_citation_is_well_formed() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation.keys() >= {"cff-version", "message", "title", "authors", "license", "version"}
    assert citation["version"] == pneumosearch.__version__
    assert all(reference.keys() >= {"type", "title", "authors"} for reference in citation["references"])


def test_public_names_are_there_and_documented() -> None:
    documented = (ROOT / "docs" / "python.md").read_text()
    for name in pneumosearch.__all__:
        assert getattr(pneumosearch, name) is not None
        assert name in dir(pneumosearch)
        assert name == "__version__" or f"`{name}`" in documented, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pneumosearch.nothing


def test_importing_public_names_of_plain_values_brings_no_tensorflow() -> None:
    names = "Choice, Range, RunSpec, Space, Store, StudySpec, TrialConfig, read_study_file, study_summary"
    code = f"import sys\nfrom pneumosearch import {names}\nprint({{'tensorflow', 'keras', 'torch'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_picture_of_the_winners_shows_the_committed_figures() -> None:
    winner, baseline = outcomes("hour")
    assert (round(winner.validation, 1), round(winner.test, 1), round(baseline.test, 1)) == (96.9, 78.2, 89.4)
    assert winner.low < winner.test < winner.high
    assert (PICTURES / "winners.svg").read_text().startswith("<?xml")
    assert json.loads((ROOT / "results" / "hour-confirmation.json").read_text())["verdict"]["conclusion"] == "worse"
