import re
import tomllib

from fields import DOCUMENT, fields_markdown
from pneumosearch.config import TrialConfig
from pneumosearch.metrics import METRICS
from pneumosearch.space import DEFAULT_DIMENSIONS
from pneumosearch.studyfile import StudySpec
from tests.conftest import ROOT


def test_documented_tables_are_those_of_this_version() -> None:
    assert DOCUMENT.read_text() == fields_markdown(), "scripts/fields writes it"


def test_every_field_and_metric_has_a_row_with_its_meaning() -> None:
    rows = [line.strip("| ").split(" | ") for line in fields_markdown().splitlines() if line.startswith("| `")]
    assert [row[0].strip("`") for row in rows] == [*StudySpec.model_fields, *TrialConfig.model_fields, *METRICS]
    assert all(row[3].endswith(".") for row in rows[: -len(METRICS)])


def test_rows_have_range_and_default() -> None:
    text = fields_markdown()
    assert "| `image_size` | whole number, ≥ 32, ≤ 1024 | `150` | Side of the square input, in pixels. |" in text
    assert "| `vertical_flip` | `true`, `false` | `true` |" in text
    assert "| `pruner` | `none`, `median`, `halving`, `hyperband`, `promote` | see meaning |" in text


def test_documented_space_is_the_one_of_a_file_without_a_space() -> None:
    section = (ROOT / "docs" / "study-files.md").read_text().partition("## The design card's space")[2]
    block = re.search(r"```toml\n(.*?)```", section, re.DOTALL)
    assert block
    assert tomllib.loads(block[1])["space"] == {
        name: dimension.model_dump(mode="json", exclude_defaults=True) for name, dimension in DEFAULT_DIMENSIONS.items()
    }
