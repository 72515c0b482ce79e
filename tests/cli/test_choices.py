"""The choices of options are those of the types that check them."""

import re
from typing import get_args

import pytest
from typer.testing import CliRunner

from pneumosearch.cli.app import app
from pneumosearch.config import PrecisionChoice, SearchProtocol, SingleProtocol, TrialConfig
from pneumosearch.published import PUBLISHED_SEED
from pneumosearch.report import Format
from pneumosearch.studyfile import SAMPLER_NAMES, EngineName, PrunerName, TunerName


@pytest.mark.parametrize(
    ("command", "option", "choices"),
    [
        ("study", "--pruner", PrunerName),
        ("study", "--engine", EngineName),
        ("study", "--tuner", TunerName),
        ("study", "--precision", PrecisionChoice),
        ("baseline", "--precision", PrecisionChoice),
        ("study", "--protocol", SearchProtocol),
        ("baseline", "--protocol", SingleProtocol),
        ("report", "--format", Format),
    ],
)
def test_option_has_the_choices_of_its_type(command: str, option: str, choices: object) -> None:
    result = CliRunner().invoke(app, [command, option, "nonsense"])
    assert result.exit_code == 2
    assert tuple(re.findall(r"'([\w-]+)'", result.stderr.split("is not one of")[1])) == get_args(choices)


def test_help_of_sampler_names_all_of_them() -> None:
    text = CliRunner().invoke(app, ["study", "--help"], env={"COLUMNS": "200"}).stdout
    assert ", ".join(SAMPLER_NAMES) in text


def test_baseline_trains_as_published_by_default() -> None:
    text = CliRunner().invoke(app, ["baseline", "--help"], env={"COLUMNS": "200"}).stdout
    defaults = {line.split()[1]: line for line in text.splitlines() if "default:" in line}
    assert f"[default: {TrialConfig().epochs}]" in defaults["--epochs"]
    assert f"[default: {PUBLISHED_SEED}]" in defaults["--seed"]
