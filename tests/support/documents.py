"""The documents for people: which there are, their code blocks, links and headings."""

import contextlib
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import typer
from sybil import Example, Sybil
from sybil.document import Document
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser
from sybil.typing import Parser

from pneumosearch.cli.app import app
from pneumosearch.studyfile import checked_spec
from tests.conftest import ROOT

#: What a reader of the repository reads; the results and the log hold links only.
DOCUMENTS: Final = (
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
)
RECORDS: Final = tuple(sorted(path for path in (ROOT / "results").rglob("*.md")))

_USAGE_ERROR: Final[type[Exception]] = typer.BadParameter.__mro__[1]  # click's, of which typer has a copy of its own
_LINK: Final = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_FENCED: Final = re.compile(r"^( *)```.*?^\1``` *$", re.MULTILINE | re.DOTALL)
_HEADING: Final = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_NUMBER: Final = re.compile(r"[+-]?\d+(?:[.,]\d+)*")


def examples(path: Path) -> list[Example]:
    """Return the code blocks of a document in their order, each with what tries it."""
    parsers: list[Parser] = [
        SkipParser(),
        PythonCodeBlockParser(),
        CodeBlockParser("bash", run_commands),
        CodeBlockParser("text", compare_output),
        CodeBlockParser("sh", check_commands),
        CodeBlockParser("toml", check_study_file),
    ]
    document: Document = Sybil(parsers=parsers, path=str(path.parent), filenames=[path.name]).parse(path)
    return list(document.examples())


def languages(path: Path) -> list[str]:
    """Return the languages of the fenced blocks of a document; empty where a block names none."""
    return re.findall(r"^ *```(\S*)[^\n]*\n.*?^ *```", path.read_text(), re.MULTILINE | re.DOTALL)


def run_commands(example: Example) -> None:
    """Run a `bash` block and remember what it prints; one that was run in this folder before is not run again."""
    before: dict[str, str] = example.namespace.setdefault("before", {})
    if example.parsed not in before:
        command = ["bash", "-c", "set -euo pipefail\n" + example.parsed]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, f"{example.parsed}\n{done.stdout}"
        before[example.parsed] = done.stdout
    example.namespace["printed"] = before[example.parsed]


def compare_output(example: Example) -> None:
    """Hold a `text` block to what the `bash` block before it printed; others are pictures of something else."""
    printed: str | None = example.namespace.pop("printed", None)
    if printed is not None:
        missing = first_missing(example.parsed.splitlines(), printed.splitlines())
        assert missing is None, f"no line like {missing!r} in:\n{printed}"


def first_missing(expected: Iterable[str], printed: Iterable[str]) -> str | None:
    """Return the first expected line that is not printed, in its order; numbers are not compared.

    A line of three dots stands for nothing or anything; three dots inside a line for any text.
    """
    left = iter([_structure(line) for line in printed])
    for line in expected:
        if line.strip() in ("", "..."):
            continue
        pattern = re.compile(".*".join(re.escape(part.strip()) for part in _structure(line).split("...")))
        if not any(pattern.search(candidate) for candidate in left):
            return line
    return None


def _structure(line: str) -> str:
    """Return a line without what differs from run to run and terminal to terminal: digits, widths of columns."""
    return " ".join(_NUMBER.sub("#", re.sub(r"[│┃━─┏┓┡┩┳╇└┘┴┼├┤╷╵|]+", " ", line)).split())


def check_commands(example: Example) -> None:
    """Check that what `sh` blocks call exists, with the options given; nothing is run."""
    for line in example.parsed.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.match(r"^\w+=", words[0]):
            words = words[1:]
        if words[:1] == ["pneumosearch"] or words[:1] == ["scripts/run"]:
            check_call(words[1:])
        elif words and words[0].startswith("scripts/"):
            assert (ROOT / words[0]).is_file(), line


def check_call(arguments: list[str]) -> None:
    """Parse the arguments of a call of pneumosearch, without doing it.

    Raises:
        AssertionError: No such command, an option that it does not have, or a value that it does not take.
    """
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        name = next((word for word in arguments if not word.startswith("-")), None)
        if name is None:  # --help or --version alone
            break
        assert name in command.commands, f"no such command: {name}"
        command, arguments = command.commands[name], arguments[arguments.index(name) + 1 :]
    try:
        with contextlib.suppress(typer.Exit):  # as --help and --version raise it
            command.make_context(command.name, list(arguments))
    except _USAGE_ERROR as error:
        raise AssertionError(str(error)) from error


def check_study_file(example: Example) -> None:
    """Check a study file."""
    checked_spec(tomllib.loads(example.parsed), f"{Path(example.path).name}:{example.line}")


def links(path: Path) -> list[str]:
    """Return where the links of a document lead; code is not looked at."""
    text = re.sub(r"`[^`\n]*`", "", _FENCED.sub("", path.read_text()))
    return [target.strip("<>") for target in _LINK.findall(text)]


def anchors(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    found: dict[str, int] = {}
    for heading in _HEADING.findall(_FENCED.sub("", path.read_text())):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        n = found.get(anchor, 0)
        found[anchor] = n + 1
    return {anchor if i == 0 else f"{anchor}-{i}" for anchor, n in found.items() for i in range(n)}


def words(path: Path) -> int:
    """Return the number of words of a document, as `wc -w` counts them."""
    return len(path.read_text().split())


def install_shims(folder: Path) -> None:
    """Write `pneumosearch` and `scripts/run` to a folder, which call the checkout under test."""
    for name in ("pneumosearch", "scripts/run"):
        shim = folder / name
        shim.parent.mkdir(parents=True, exist_ok=True)
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pneumosearch "$@"\n')
        shim.chmod(0o755)
