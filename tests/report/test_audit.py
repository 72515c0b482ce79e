import io
import json
import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from pneumosearch.cli.app import app
from pneumosearch.data.audit.audit import SEAL_NOTE, Audit, NearPair, audit
from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.names import printable_name
from pneumosearch.errors import PneumosearchError
from pneumosearch.report.audit import print_audit, sentences, straddling_sentence, worst_first
from pneumosearch.report.audit_page import write_page

HOSTILE = "IM-0001-<script>[bold]\x1b[2J.jpeg"


@pytest.fixture(scope="module")
def hostile(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms with a copy of a training image, of a hostile name, in the test folder, and a broken image."""
    folder = tmp_path_factory.mktemp("hostile") / "x & <y>"
    shutil.copytree(phantoms, folder)
    normal = sorted((folder / "train" / "NORMAL").iterdir())
    data = normal[0].read_bytes()
    (folder / "test" / "NORMAL" / HOSTILE).write_bytes(data + b"\0")  # the same image in another file
    normal[3].write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def found(hostile: Path) -> Audit:
    return audit(read_manifest(hostile))


def printed(found: Audit) -> str:
    text = io.StringIO()
    print_audit(found, Console(file=text, width=200, color_system=None))
    return text.getvalue()


def test_tables_tell_what_is_wrong_and_that_the_seal_holds(found: Audit) -> None:
    text = printed(found)
    assert "1 of 161 images cannot be decoded" in text
    assert "not a JPEG, PNG, BMP, TIFF, WebP or DICOM" in text
    assert printable_name(HOSTILE) in text
    assert "\x1b" not in text
    assert re.search(r"[1-9]\d* across splits", text)
    assert "Near-duplicate pairs that straddle the validation split: 0" in text
    assert "PHANTOMS" in text
    assert SEAL_NOTE in " ".join(text.split())


def test_page_needs_nothing_else_and_runs_no_name_as_code(found: Audit, tmp_path: Path) -> None:
    write_page(found, tmp_path / "pages" / "audit.html")
    page = (tmp_path / "pages" / "audit.html").read_text()
    assert "<script" not in page
    assert "x &amp; &lt;y&gt;" in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(source.startswith(("data:image/jpeg;base64,", "#")) for source in sources)
    assert all('alt="X-ray ' in image for image in re.findall(r"<img [^>]*>", page))
    assert page.count('<figure role="img" aria-label="') + page.count('class="overview" role="img"') == 13
    assert "prefers-color-scheme: dark" in page


def test_pairs_across_splits_come_first() -> None:
    def a_pair(distance: int, one_split: bool, one_patient: bool) -> NearPair:
        fixed = {"first": "a", "second": "b", "one_class": True, "straddles": False}
        return NearPair.model_validate(
            {**fixed, "distance": distance, "one_split": one_split, "one_patient": one_patient}
        )

    alike, other, leak = a_pair(0, True, True), a_pair(20, True, False), a_pair(30, False, True)
    assert worst_first([alike, other, leak]) == [leak, other, alike]


def test_straddling_pairs_are_bad_and_no_split_is_no_all_clear() -> None:
    assert [straddling_sentence(n).level for n in (0, 3, None)] == ["good", "bad", "note"]


def test_features_that_tell_nothing_are_no_note(found: Audit) -> None:
    about_models = [sentence for sentence in sentences(found) if "twelve plain features" in sentence.text]
    levels = {c.model.auc_low > 0.5: "note" if c.model.auc_low > 0.5 else "good" for c in found.comparisons if c.model}
    assert len(about_models) == 3
    assert {sentence.level for sentence in about_models} == set(levels.values())


def test_a_page_that_cannot_be_written_is_told(found: Audit, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PneumosearchError, match="cannot be written"):
        write_page(found, tmp_path / "file" / "audit.html")


def test_audit_command_gives_one_json_object_and_the_page(phantoms: Path, tmp_path: Path) -> None:
    page = tmp_path / "audit.html"
    result = CliRunner().invoke(app, ["data", "audit", "--data", str(phantoms), "--json", "--html", str(page)])
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert Audit.model_validate(summary).kind == "phantoms"
    assert summary["n_images"] == 160
    assert summary["unreadable"] == []
    assert "decoded 160 of 160 images" in result.stderr
    assert page.read_text().startswith("<!doctype html>")
