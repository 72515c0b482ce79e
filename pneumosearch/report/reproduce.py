"""How to repeat a study: its study file, the commands, versions and seeds."""

import shlex
from collections.abc import Mapping
from typing import Any

import tomli_w

from pneumosearch.records.classes import own_classes
from pneumosearch.records.trial import StudyRecord


def study_file(record: StudyRecord) -> str:
    """Return the text of a study file that reads back as the stored specification.

    Args:
        record: A search, whose specification has a space.
    """
    return study_text({"name": record.name, **record.spec})


def study_text(spec: Mapping[str, Any]) -> str:
    """Return the text of a study file with these values. TOML has no null, so fields that are None are left out."""
    # An empty table of the study itself stays: `others` without an entry differs from its default.
    return tomli_w.dumps({key: _without_none(value) for key, value in spec.items() if value is not None})


def _without_none(value: Any) -> Any:
    """Return a copy of plain values without None and without empty tables, such as a range's missing condition."""
    if isinstance(value, Mapping):
        return {key: _without_none(each) for key, each in value.items() if each is not None and each != {}}
    if isinstance(value, list | tuple):
        return [_without_none(each) for each in value]
    return value


def command(*arguments: str) -> str:
    """Return a command line of pneumosearch, quoted so that a shell passes on exactly these arguments."""
    return shlex.join(["pneumosearch", *arguments])


def commands(record: StudyRecord) -> list[tuple[str, str]]:
    """Return what can be repeated as pairs of a description and a command."""
    name, folder = record.name, record.data.folder_name
    best = next((trial.number for trial in record.ranking()), None)
    found = []
    if record.purpose == "search":
        search = command("study", f"{name}.toml", "--trials", str(len(record.trials)), "--data", folder)
        found.append(("The search, in an empty store, with the study file below", search))
    elif record.purpose == "baseline":
        protocol = str(record.spec.get("protocol"))
        own = () if (names := own_classes(record.data.classes)) is None else ("--classes", ",".join(names))
        found.append(("The baseline", command("baseline", "--protocol", protocol, "--data", folder, *own)))
    if best is not None:
        found.append(("The best trial, compared digit by digit", command("rerun", name, str(best), "--data", folder)))
    return found


def versions(record: StudyRecord) -> list[tuple[str, str]]:
    """Return each library with the versions that the trials used."""
    names = dict.fromkeys(name for trial in record.trials for name in trial.versions)
    seen = {n: dict.fromkeys(t.versions[n] for t in record.trials if n in t.versions) for n in names}
    return [(name, ", ".join(of_it)) for name, of_it in seen.items()]


def seeds(record: StudyRecord) -> str:
    """Return the seeds of the trials as text: one number, or the range that they span."""
    used = sorted({trial.run.seed for trial in record.trials if trial.run is not None})
    if not used:
        return "none yet"
    return str(used[0]) if len(used) == 1 else f"{used[0]} to {used[-1]}, a different one for each trial"
