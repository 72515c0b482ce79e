"""The keys of attributes stand in one module, and values come back as they went in."""

import ast
import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from pydantic import ValidationError

from pneumosearch.config import RunSpec, TrialConfig
from pneumosearch.records import attributes
from pneumosearch.records.attributes import Attribute, Origin, Owner, TakenUp
from pneumosearch.records.confirmation import WantedReplicates
from pneumosearch.records.earlier import EarlierStudy, EarlierTrial
from pneumosearch.records.trial import Screening
from pneumosearch.storage.store import Store, add_test_opening
from tests.conftest import ROOT
from tests.support.fakes import SPEC, a_description, an_epoch

ALL = {name: value for name, value in vars(attributes).items() if isinstance(value, Attribute)}
LISTS = {attributes.TEST_OPENINGS.list_key, attributes.HISTORY.list_key}
KEYS = {attribute.key for attribute in ALL.values()} | LISTS
VALUES: dict[str, Any] = {
    "PURPOSE": "search",
    "METRIC": "accuracy",
    "SPEC": {"rungs": [1]},
    "DATA": a_description(),
    "RUN": RunSpec(config=TrialConfig(zoom=0.1)),
    "VERSIONS": {"keras": "3.15"},
    "REPLICATE_OF": Origin(study="tiny", trial=3),
    "RERUN_OF": Origin(study="tiny", trial=3),
    "SCREENING": Screening(image_size=64, epoch=an_epoch(1)),
    "OWNER": Owner(host="here", pid=7, started=0.25),
    "TAKEN_UP": TakenUp(epochs=2, times=1),
    "CHECKPOINTS": [{"epoch": 1}],
    "FOLD_CHECKPOINTS": [{"epoch": 1, "fold": 2}],
    "WANTED": WantedReplicates(candidates=(0, 4), seeds=(7, 8), n_folds=5),
}
PLAIN = {str: "text", int: 3, bool: True}
#: What reads or writes an attribute, called with its key.
_CALLS = {"set_user_attr", "set_trial_user_attr", "set_study_user_attr"}


@pytest.mark.parametrize("name", ALL)
def test_value_comes_back_as_it_was_set(name: str) -> None:
    attribute: Attribute[Any] = ALL[name]
    value = VALUES.get(name, PLAIN.get(attribute.type))
    study = optuna.create_study()
    assert attribute.of(study) is None
    assert not attribute.on(study)
    attribute.set(study, value)
    assert attribute.of(study) == value
    assert attribute.entry(value) == {attribute.key: json.loads(json.dumps(attribute.stored(study)))}
    attribute.clear(study)
    assert attribute.of(study) is None


def test_value_of_another_type_is_told() -> None:
    study = optuna.create_study()
    study.set_user_attr(attributes.GOAL.key, "many")
    with pytest.raises(ValidationError):
        attributes.GOAL.of(study)
    with pytest.raises(KeyError, match="purpose"):
        attributes.PURPOSE.needed(study.user_attrs)


def test_keys_are_distinct() -> None:
    assert len(KEYS) == len(ALL) + len(LISTS)


def keys_at_work(code: str) -> Iterator[tuple[int, str]]:
    """Give line and key wherever code uses a key of `KEYS` as text with attributes of Optuna."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Subscript) and _are_attributes(node.value):
            texts = [node.slice]
        elif isinstance(node, ast.Compare) and any(map(_are_attributes, node.comparators)):
            texts = [node.left]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            texts = node.args if node.func.attr in _CALLS or _are_attributes(node.func.value) else []
        elif isinstance(node, ast.keyword) and node.arg == "user_attrs" and isinstance(node.value, ast.Dict):
            texts = [key for key in node.value.keys if key]
        else:
            continue
        for text in texts:
            if isinstance(text, ast.Constant) and text.value in KEYS:
                yield node.lineno, str(text.value)


def _are_attributes(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "user_attrs"


@pytest.mark.parametrize(
    "code",
    [
        "trial.user_attrs['run']",
        "trial.user_attrs.get('run', 3)",
        "'run' in trial.user_attrs",
        "trial.set_user_attr('run', 3)",
        "study.enqueue_trial({}, user_attrs={'run': 3})",
    ],
)
def test_ways_to_use_a_key_as_text_are_known(code: str) -> None:
    assert [key for _, key in keys_at_work(code)] == ["run"]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "pneumosearch").rglob("*.py")), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_keys_stand_in_one_module(path: Path) -> None:
    assert list(keys_at_work(path.read_text(encoding="utf-8"))) == []


def test_openings_at_the_same_moment_are_all_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.open_study("mine", "search", "accuracy", SPEC, a_description())
    both_have_read, write = threading.Barrier(2), optuna.Study.set_user_attr

    def write_together(study: optuna.Study, key: str, value: Any) -> None:
        both_have_read.wait(timeout=60)
        write(study, key, value)

    def open_test(number: int) -> None:
        again = Store(store.url, store.results)
        add_test_opening(again.load_study("mine"), number, "at once", "t" * 16)

    monkeypatch.setattr(optuna.Study, "set_user_attr", write_together)
    threads = [threading.Thread(target=open_test, args=(number,)) for number in (4, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(opening.trial or 0 for opening in store.record("mine").test_openings) == [4, 5]


def test_confirmation_that_two_processes_resume_at_once_counts_once(store: Store) -> None:
    study = store.open_study("mine", "search", "accuracy", SPEC, a_description())
    for why in ("of trial 3", "of trial 3", "of trial 4"):
        add_test_opening(study, None, why, "t" * 16)
    assert [opening.why for opening in store.record("mine").test_openings] == ["of trial 3", "of trial 4"]
    digest = hashlib.blake2b(b"of trial 3", digest_size=8).hexdigest()
    assert f"{attributes.TEST_OPENINGS.prefix}why-{digest}" in study.user_attrs


def test_earlier_studies_lie_in_parts_that_mysql_can_keep() -> None:
    trials = tuple(EarlierTrial(values={"zoom": i / 1000, "lr_reduce_mode": "max"}, score=i / 99) for i in range(100))
    studies = (
        EarlierStudy(source="first.csv", trials=trials, passed_over={"failed": 2}),
        EarlierStudy(source="second", trials=trials[:1]),
    )
    owner = optuna.create_study()
    attributes.EARLIER.set(owner, studies)
    assert attributes.EARLIER.of(owner) == studies
    assert all(len(json.dumps(value)) < 16_000 for value in owner.user_attrs.values())


def test_earlier_studies_that_were_not_wholly_written_count_as_none() -> None:
    class Killed(optuna.study.Study):
        def set_user_attr(self, key: str, value: Any) -> None:
            if key == attributes.EARLIER.key:  # what is written last
                raise KeyboardInterrupt
            super().set_user_attr(key, value)

    storage = optuna.storages.InMemoryStorage()
    owner = Killed(optuna.create_study(study_name="killed", storage=storage).study_name, storage)
    with pytest.raises(KeyboardInterrupt):
        attributes.EARLIER.set(owner, (EarlierStudy(source="first", trials=(EarlierTrial(values={}, score=0.5),)),))
    assert owner.user_attrs
    assert attributes.EARLIER.of(owner) is None
