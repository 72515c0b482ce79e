import pytest

from pneumosearch._utils.patterns import one_group
from pneumosearch.data.patients import patient_of, published_patient
from pneumosearch.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("train/PNEUMONIA/person12_bacteria_34.jpeg", "person12"),
        ("train/NORMAL/IM-0115-0001.jpeg", "IM-0115"),
        ("train/NORMAL/NORMAL2-IM-0115-0001.jpeg", "IM-0115"),
        ("train/NORMAL/NORMAL-1049278-0001.jpeg", "1049278"),
        ("train/PNEUMONIA/BACTERIA-1008087-0002.jpeg", "1008087"),
        ("train/PNEUMONIA/VIRUS-1008087-0001.jpeg", "1008087"),
        ("train/PNEUMONIA/person7/scan.png", None),  # a folder's name tells no patient unless a rule says so
        ("train/PNEUMONIA/12345.png", None),
    ],
)
def test_patient_is_known_by_published_names_and_those_of_mendeley(name: str, patient: str | None) -> None:
    assert patient_of(name) == patient


def test_rule_of_the_user_replaces_the_known_ones() -> None:
    assert patient_of("train/NORMAL/p7/IM-0115-0001.png", r"/(p\d+)/") == "p7"
    assert patient_of("train/NORMAL/IM-0115-0001.png", r"/(p\d+)/") is None
    assert patient_of("train/NORMAL/a.png", r"NORMAL(x)?") is None


def test_published_rule_alone_knows_no_other_names() -> None:
    name = "train/NORMAL/NORMAL-1049278-0001.jpeg"
    assert published_patient(name) == name


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("person", "has 0 groups"),
        (r"(a)(\d)", "has 2 groups"),
        ("(", "not a regular expression"),
    ],
)
def test_pattern_needs_one_group(pattern: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^here: .*{message}"):
        one_group(pattern, "here")
