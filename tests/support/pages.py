"""A search to make a page of, and what is found on one."""

import functools
import io
from html.parser import HTMLParser

from PIL import Image

from pneumosearch.records.trial import StudyRecord
from pneumosearch.report.latest_confirmation import MisclassifiedImage
from pneumosearch.report.page import page
from tests.support.fake_confirmation import a_confirmation
from tests.support.fakes import SPEC, a_study, a_trial

HOSTILE = "<script>alert(1)</script>\"' onload=x $x^2$ &amp; \x1b[31m"
SEARCHED = ("zoom", "batch_size", "lr_reduce_mode")
SMALL_SPEC = SPEC | {"space": {name: SPEC["space"][name] for name in SEARCHED}}  # few figures are drawn fast


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attributes}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def attributes(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.found if name == tag]

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


def a_search(kind: str = "images") -> StudyRecord:
    trials = [a_trial(n, 0.7, 0.8 + n / 100, zoom=n / 20, batch_size=(16, 32, 64)[n % 3]) for n in range(1, 8)]
    failed = a_trial(9, state="failed").model_copy(update={"failure": "out of memory"})
    record = a_study(a_trial(0, 0.74, 0.90), *trials, a_trial(8, 0.6, state="pruned", width=0.5), failed, kind=kind)
    return record.model_copy(update={"spec": SMALL_SPEC})


@functools.cache
def made_page(confirmed: bool = True, pictures: bool = False) -> str:
    """The page of `a_search`, drawn once: its figures take long."""
    wrong = [MisclassifiedImage("x", 0, a_png())] if pictures else []
    return page(a_search(), a_confirmation() if confirmed else None, wrong, top=5)


def a_png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()
