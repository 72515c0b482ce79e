"""What the shared options mean."""

from pathlib import Path

import pytest

from pneumosearch.cli.options import open_store


@pytest.mark.parametrize("name", ["run?1", "run#1", "a%20b", "Läufe 2"])
def test_results_of_any_name_keep_their_own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    open_store(None, Path(name))
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*.db")] == [Path(name) / "pneumosearch.db"]
