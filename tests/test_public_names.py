"""Tests reach the package by its public names, so that what is private can be changed without them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

#: Private names of other libraries for which there is no other way, and why.
OF_OTHERS = {
    "_pslinux": "psutil's own copy of the time of the start, which only the system could change",
    "_create_new_trial": "of Optuna's RDBStorage: the moment between a commit and its answer",
    "_get_trials": "of Optuna's RDBStorage: which trials are read from the database",
    "_repr_html_": "by which notebooks ask for HTML",
    "_storage": "a module of optuna-dashboard, whose cache is kept for seconds",
}
#: Part of a public interface in spite of the underscore: named tuples have no other room for methods.
NAMED_TUPLE = {"_replace", "_asdict", "_fields", "_make"}
_PRIVATE = re.compile(r"_[A-Za-z]\w*")
_REACHING = {"setattr", "getattr", "delattr", "hasattr", "object", "patch"}


def private_names(code: str) -> Iterator[tuple[int, str]]:
    """Give line and name wherever code reaches into what is another's own."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and not _is_own(node.value):
            names = [node.attr]
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [part for alias in node.names for part in alias.name.split(".")]
        elif isinstance(node, ast.Call) and _name(node.func) in _REACHING:
            texts = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            names = [part for text in texts for part in text.split(".")]
        else:
            continue
        yield from ((node.lineno, name) for name in names if _PRIVATE.fullmatch(name))


def _is_own(value: ast.expr) -> bool:
    return isinstance(value, ast.Name) and value.id in ("self", "cls")


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("run._behind()", ["_behind"]),
        ("from pneumosearch.storage.urls import _parsed", ["_parsed"]),
        ("monkeypatch.setattr(module, '_kept', 3)", ["_kept"]),
        ("monkeypatch.setattr('package.module._kept', 3)", ["_kept"]),
        ("self._mine = trial.__class__.name", []),
        ("text = '_private'", []),
    ],
)
def test_ways_to_reach_a_private_name_are_known(code: str, found: list[str]) -> None:
    assert [name for _, name in private_names(code)] == found


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda path: path.stem)
def test_tests_use_public_names(path: Path) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for line, name in private_names(path.read_text(encoding="utf-8"))
        if name not in OF_OTHERS.keys() | NAMED_TUPLE
    ]
    assert not found, "private names; test by behaviour, or make it public where it is worth a name: " + "; ".join(
        found
    )
