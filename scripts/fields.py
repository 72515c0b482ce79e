"""The tables of `docs/fields.md`, generated from the fields' types, defaults and docstrings.

`scripts/fields` writes them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from pneumosearch.config import TrialConfig
from pneumosearch.metrics import METRICS
from pneumosearch.studyfile import StudySpec

DOCUMENT: Final = Path(__file__).parent.parent / "docs" / "fields.md"

_INTRODUCTION: Final = """\
# Keys, hyperparameters and metrics

Written by `scripts/fields` from the types, defaults and docstrings in
`pneumosearch/studyfile.py`, `pneumosearch/config.py` and `pneumosearch/metrics.py`. Do not edit it by hand.
"""

_STUDY: Final = """\
## Keys of a study file

All keys are optional. Without a file, a study has all defaults.
"""

_CONFIG: Final = """\
## Hyperparameters

These are the names of `[space]`, `[fixed]` and `[others]`. The defaults are the published network and its training.
"""

_METRICS: Final = """\
## Metrics

An epoch records those that the study needs. `metric` takes those for *search*; `prune_by` takes *prune* as well;
`floor` takes all.
"""

_BOUNDS: Final = {"minimum": "≥ ", "exclusiveMinimum": "> ", "maximum": "≤ ", "exclusiveMaximum": "< "}
_TYPES: Final = {"integer": "whole number", "number": "number", "string": "text", "object": "table"}


def fields_markdown() -> str:
    """Return the tables of study keys, hyperparameters and metrics as one Markdown document."""
    return "\n".join((
        *(_INTRODUCTION, _STUDY, *_table(StudySpec)),
        *("", _CONFIG, *_table(TrialConfig)),
        *("", _METRICS, *_metrics()),
        "",
    ))  # fmt: skip


def _table(model: type[BaseModel]) -> Iterator[str]:
    yield from _rows(("name", "values", "default", "meaning"))
    for name, schema in model.model_json_schema()["properties"].items():
        meaning = " ".join(schema["description"].split())
        yield _row(f"`{name}`", _values(schema), _default(schema), meaning)


def _metrics() -> Iterator[str]:
    yield from _rows(("name", "meaning", "better", "shown as", "judges", "for", "default `prune_by`"))
    for name, kind in METRICS.items():
        better, unit = "larger" if kind.direction == "maximize" else "smaller", "%" if kind.percent else "number"
        follower = f"`{kind.prune_by}`" if kind.use == "search" else ""
        yield _row(f"`{name}`", kind.words, better, unit, kind.judge, kind.use, follower)


def _rows(head: tuple[str, ...]) -> Iterator[str]:
    yield _row(*head)
    yield _row(*["---"] * len(head))


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _values(schema: dict[str, Any]) -> str:
    """Return the allowed values of a property of a JSON Schema, in words."""
    if "anyOf" in schema:
        return " or ".join(_values(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type", "object")  # what refers to another model is a table
    if kind == "array":
        if "prefixItems" in schema:
            return f"list of {len(schema['prefixItems'])}: {_values(schema['prefixItems'][0])}"
        return f"list of: {_values(schema['items'])}"
    if kind in ("boolean", "null"):
        return {"boolean": "`true`, `false`", "null": "none"}[kind]
    bounds = [f"{sign}{schema[key]:.12g}" for key, sign in _BOUNDS.items() if key in schema]
    return ", ".join((_TYPES[kind], *bounds))


def _default(schema: dict[str, Any]) -> str:
    """Return the default; a table's and a computed one are in the meaning."""
    default = schema.get("default")
    if "default" not in schema or isinstance(default, dict):
        return "`{}`" if default == {} else "see meaning"
    if default is None:
        return "none"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


if __name__ == "__main__":
    DOCUMENT.write_text(fields_markdown(), encoding="utf-8")
