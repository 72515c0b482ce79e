"""How to run a study again: its study file, the commands, versions and seeds."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from pneumosearch.records.trial import StudyRecord


def study_file(record: StudyRecord) -> str:
    """Return the study as a study file; it reads back as the stored spec.

    Args:
        record: A search, whose spec has a space.
    """
    return study_text({"name": record.name, **record.spec})


def study_text(spec: Mapping[str, Any]) -> str:
    """Return what a study file with these values holds."""
    tables = {key: value for key, value in spec.items() if isinstance(value, dict)}
    lines = [f"{key} = {_toml(value)}" for key, value in spec.items() if key not in tables and value is not None]
    for key, values in tables.items():
        lines += ["", f"[{key}]", *(f"{_key(name)} = {_toml(value)}" for name, value in values.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """Write a plain value as TOML, which writes scalars and lists as JSON does; what is not set is left out."""
    if isinstance(value, Mapping):
        there = [f"{_key(key)} = {_toml(each)}" for key, each in value.items() if each is not None and each != {}]
        return "{ " + ", ".join(there) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(each) for each in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name if name.isascii() and name.replace("_", "").isalnum() else json.dumps(name, ensure_ascii=False)


def command(*arguments: str) -> str:
    """Return a command line of pneumosearch that a shell reads as these arguments."""
    return shlex.join(["pneumosearch", *arguments])


def commands(record: StudyRecord) -> list[tuple[str, str]]:
    """Return what can be run again, in words, and the command for it."""
    name, folder = record.name, record.data.folder_name
    best = next((trial.number for trial in record.ranking()), None)
    found = []
    if record.purpose == "search":
        again = command("study", f"{name}.toml", "--trials", str(len(record.trials)), "--data", folder)
        found.append(("The search, in an empty store, with the study file below", again))
    elif record.purpose == "baseline":
        protocol = str(record.spec.get("protocol"))
        found.append(("The baseline", command("baseline", "--protocol", protocol, "--data", folder)))
    if best is not None:
        found.append(("The best trial, compared digit by digit", command("rerun", name, str(best), "--data", folder)))
    return found


def versions(record: StudyRecord) -> list[tuple[str, str]]:
    """Return each library with the versions that the trials ran under."""
    names = dict.fromkeys(name for trial in record.trials for name in trial.versions)
    seen = {n: dict.fromkeys(t.versions[n] for t in record.trials if n in t.versions) for n in names}
    return [(name, ", ".join(of_it)) for name, of_it in seen.items()]


def seeds(record: StudyRecord) -> str:
    """Say with which seeds the trials trained."""
    used = sorted({trial.run.seed for trial in record.trials if trial.run is not None})
    if not used:
        return "none yet"
    return str(used[0]) if len(used) == 1 else f"{used[0]} to {used[-1]}, each trial its own"
