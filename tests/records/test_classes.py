import unicodedata

import pytest

from pneumosearch.errors import ConfigError
from pneumosearch.records.classes import PUBLISHED_CLASSES, checked_classes, class_words, same_classes


def test_names_lose_spaces_and_take_the_composed_form() -> None:
    decomposed = unicodedata.normalize("NFD", "Lungenentzündung")
    assert checked_classes([" gesund", decomposed + " "], "x") == ("gesund", "Lungenentzündung")
    assert same_classes(("GESUND", decomposed), ("gesund", "Lungenentzündung"))
    assert not same_classes(("A", "B"), ("B", "A"))


def test_published_names_are_the_published_ones_in_any_case() -> None:
    assert checked_classes(["normal", "Pneumonia"], "x") is PUBLISHED_CLASSES
    assert checked_classes(["PNEUMONIA", "NORMAL"], "x") == ("PNEUMONIA", "NORMAL")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["A"], "--classes 'A': wanted two folder names, the second the positive class"),
        (["A", "B", "C"], "wanted two folder names"),
        (["A", " "], "wanted two folder names"),
        (["a", "A"], "--classes 'a,A': the two names are equal"),
        (["..", "A"], "'..' is no name of a class folder"),
        (["A/B", "C"], "'A/B' is no name of a class folder"),
        (["A\nB", "C"], "is no name of a class folder"),
    ],
)
def test_other_names_are_told_in_one_line(names: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        checked_classes(names, "--classes")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_words_of_own_classes_are_their_names() -> None:
    assert class_words(PUBLISHED_CLASSES) == ("normal", "pneumonia")
    assert class_words(("HEALTHY", "TB")) == ("HEALTHY", "TB")
