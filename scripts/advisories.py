"""Looks pinned versions up in a stored copy of OSV's advisories for PyPI, where no service can be reached."""

import json
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

ADVISORIES = "a zip file of advisories in OSV's format, such as its export of all for PyPI"

_FIRST = Version("0.dev0")


class Finding(NamedTuple):
    """An advisory that names a pinned version."""

    package: str
    version: str
    advisory: str
    summary: str
    fixed: tuple[str, ...]

    def __str__(self) -> str:
        remedy = f"fixed in {', '.join(self.fixed)}" if self.fixed else "no fixed version is known"
        return f"{self.package} {self.version}: {self.advisory}: {self.summary} ({remedy})"


def pinned(path: Path) -> dict[str, Version]:
    """Return the exact version of each package that a constraints file pins."""
    versions: dict[str, Version] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        requirement = Requirement(text)
        (exact,) = requirement.specifier
        versions[canonicalize_name(requirement.name)] = Version(exact.version)
    return versions


def look_up(versions: dict[str, Version], advisories: Iterable[dict[str, Any]]) -> list[Finding]:
    """Return each advisory that is not withdrawn and names a pinned version."""
    found = []
    for advisory in advisories:
        if advisory.get("withdrawn"):
            continue
        for affected in advisory.get("affected", ()):
            package = affected.get("package", {})
            name = canonicalize_name(str(package.get("name", "")))
            if package.get("ecosystem") == "PyPI" and name in versions and _names(affected, versions[name]):
                summary = str(advisory.get("summary") or advisory.get("details", "")).partition("\n")[0]
                about = (str(advisory["id"]), summary, _fixes(affected))
                found.append(Finding(name, str(versions[name]), *about))
    return sorted(set(found))


def _names(affected: dict[str, Any], version: Version) -> bool:
    """Tell whether an advisory's list of versions, or one of its ranges, holds a version."""
    listed = (_version(text) for text in affected.get("versions", ()))
    return version in listed or any(_holds(span["events"], version) for span in _ranges(affected))


def _ranges(affected: dict[str, Any]) -> list[dict[str, Any]]:
    return [span for span in affected.get("ranges", ()) if span["type"] == "ECOSYSTEM"]


def _holds(events: Iterable[dict[str, str]], version: Version) -> bool:
    """Follow a range's events in the order of their versions up to `version`."""
    moments = [(_version(text), kind) for event in events for kind, text in event.items()]
    inside = False
    for moment, kind in sorted(moment for moment in moments if moment[0] <= version):
        if kind == "introduced":
            inside = True
        elif kind == "fixed" or (kind == "last_affected" and moment < version):
            inside = False
    return inside


def _version(text: str) -> Version:
    """Return a version; one that is none by Python's rules stands before all others."""
    try:
        return Version(text)
    except InvalidVersion:
        return _FIRST


def _fixes(affected: dict[str, Any]) -> tuple[str, ...]:
    return tuple(event["fixed"] for span in _ranges(affected) for event in span["events"] if "fixed" in event)


def stored(path: Path) -> Iterator[dict[str, Any]]:
    """Read the advisories of a zip file, one JSON file each."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".json")]
        if not names:
            raise ValueError("it holds no JSON file")
        for name in names:
            yield json.loads(archive.read(name))


def main(constraints: str, database: str) -> int:
    """Print what is found; return 0 where that is nothing, 1 where it is something, 2 where nothing was looked up."""
    try:
        versions = pinned(Path(constraints))
    except (OSError, ValueError, InvalidRequirement) as error:
        print(f"error: {constraints}: wanted NAME==VERSION in each line ({error})", file=sys.stderr)
        return 2
    try:
        advisories = list(stored(Path(database)))
        found = look_up(versions, advisories)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        print(f"error: {database}: wanted {ADVISORIES} ({error})", file=sys.stderr)
        return 2
    newest = max((str(advisory.get("modified", "")) for advisory in advisories), default="")
    print(*found, sep="\n", end="\n" if found else "")
    print(
        f"{len(versions)} packages, {len(advisories)} advisories to {newest[:10]}, {len(found)} found", file=sys.stderr
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
