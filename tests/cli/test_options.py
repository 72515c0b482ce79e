"""What the shared options mean."""

from pathlib import Path

import pytest

from pneumosearch.cli import options
from pneumosearch.cli.options import open_source, open_store


@pytest.mark.parametrize("name", ["run?1", "run#1", "a%20b", "Läufe 2"])
def test_results_of_any_name_keep_their_own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    open_store(None, Path(name))
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*.db")] == [Path(name) / "pneumosearch.db"]


def test_without_images_phantoms_are_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(options, "PHANTOM_IMAGES", 150)
    first, again = (open_source(None, tmp_path / "results", False) for _ in range(2))
    assert (first.manifest.kind, len(first.manifest.images)) == ("phantoms", 150)
    assert first.manifest.folder == again.manifest.folder == tmp_path / "results" / "phantoms" / "150-seed232"


def test_phantoms_of_an_earlier_version_go_on_to_serve_the_studies_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phantoms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    earlier = tmp_path / "results" / "phantoms" / "600-seed232"
    earlier.parent.mkdir(parents=True)
    earlier.symlink_to(phantoms)
    assert len(open_source(None, tmp_path / "results", False).manifest.images) == 160
    assert "of an earlier version; remove them" in capsys.readouterr().err
