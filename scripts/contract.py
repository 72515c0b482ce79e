"""The import contract of pyproject.toml as Markdown, for docs/architecture.md."""

import tomllib
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent
DOCUMENT: Final = ROOT / "docs" / "architecture.md"
BEGIN: Final = "<!-- contract: written by scripts/contract -->\n"
END: Final = "<!-- end of contract -->"


def contract(pyproject: Path = ROOT / "pyproject.toml") -> str:
    """Return the contracts as Markdown: the rooms from top to bottom, and what is forbidden besides."""
    contracts = tomllib.loads(pyproject.read_text())["tool"]["importlinter"]["contracts"]
    return "\n".join(_layers(each) if each["type"] == "layers" else _other(each) for each in contracts)


def _layers(contract: dict[str, Any]) -> str:
    rooms = [" and ".join(f"`{room.strip()}`" for room in layer.split("|")) for layer in contract["layers"]]
    numbered = [f"{number}. {room}" for number, room in enumerate(rooms, 1)]
    return "\n".join([f"**{_sentence(contract)}**, from top to bottom:", "", *numbered, ""])


def _other(contract: dict[str, Any]) -> str:
    names = {key: ", ".join(f"`{name.removeprefix('pneumosearch.')}`" for name in contract.get(key, ()))
             for key in ("source_modules", "forbidden_modules", "modules")}  # fmt: skip
    if contract["type"] == "forbidden":
        how = " themselves" if contract.get("allow_indirect_imports") else ""
        return (
            f"**{_sentence(contract)}**: {names['source_modules']} do not{how} import {names['forbidden_modules']}.\n"
        )
    return f"**{_sentence(contract)}** ({contract['type']}): {names['modules'] or names['source_modules']}.\n"


def _sentence(contract: dict[str, Any]) -> str:
    name: str = contract["name"]
    return name[0].upper() + name[1:]


def with_contract(text: str) -> str:
    """Return a document with the present contract between its two marks."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{contract()}\n{END}{rest.split(END, 1)[1]}"


if __name__ == "__main__":
    DOCUMENT.write_text(with_contract(DOCUMENT.read_text()))
