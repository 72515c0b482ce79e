"""Links between the documents lead somewhere, and the README keeps to its size."""

from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.conftest import ROOT
from tests.support.documents import DOCUMENTS, RECORDS, anchors, links, words


@pytest.mark.parametrize("path", [*DOCUMENTS, *RECORDS], ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path: Path) -> None:
    for link in links(path):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        target, _, anchor = unquote(link).partition("#")
        there = (path.parent / target).resolve() if target else path
        assert there.exists(), f"{link}: not there"
        assert there.is_relative_to(ROOT), f"{link}: outside of the repository"
        if anchor:
            assert anchor in anchors(there), f"{link}: no such heading; there are {sorted(anchors(there))}"


def test_every_document_is_linked_from_the_readme_or_from_one_that_is() -> None:
    seen, open_ = set[Path](), [ROOT / "README.md"]
    while open_:
        path = open_.pop()
        if path in seen:
            continue
        seen.add(path)
        targets = (link.partition("#")[0] for link in links(path) if not link.startswith("http"))
        open_ += [(path.parent / target).resolve() for target in targets if target.endswith(".md")]
    assert {*DOCUMENTS, *RECORDS} <= seen, sorted({*DOCUMENTS, *RECORDS} - seen)


def test_readme_is_short_and_its_pictures_are_small() -> None:
    readme = ROOT / "README.md"
    assert len(readme.read_text().splitlines()) <= 200
    assert words(readme) < 1200
    pictures = [ROOT / link for link in links(readme) if link.endswith((".svg", ".png"))]
    assert pictures
    assert all(picture.stat().st_size < 300_000 for picture in pictures)
