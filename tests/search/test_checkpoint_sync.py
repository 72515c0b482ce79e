"""Checkpoints on their way to another machine: the last whole epoch arrives, and nothing that is not asked for."""

import hashlib
import io
import itertools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from pneumosearch.config import RunSpec
from pneumosearch.records.attributes import CHECKPOINTS
from pneumosearch.search.checkpoint_sync import UploadedCheckpoint, download, upload, uploaded
from pneumosearch.storage.artifact_backends import MARKER
from pneumosearch.storage.artifacts import Artifacts
from pneumosearch.storage.store import Store
from pneumosearch.training.checkpoint import (
    CHECKPOINT_FILE,
    Checkpoint,
    read_checkpoint,
    saved_epochs,
    write_checkpoint,
)
from pneumosearch.training.loop import KEPT_WEIGHTS_FILE
from tests.support.fakes import a_history
from tests.support.machines import Hosts, shared, taken_up
from tests.support.s3 import keys

RUN, FINGERPRINT = RunSpec(), "images"


def a_trial(store: Store) -> optuna.Trial:
    return optuna.create_study(storage=store.storage, study_name="tiny", load_if_exists=True).ask()


def save(store: Store, trial: optuna.Trial, epoch: int, run: RunSpec = RUN) -> Path:
    """Save an epoch on a machine, without sending it."""
    folder = store.checkpoint_folder("tiny", trial.number)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / KEPT_WEIGHTS_FILE).write_bytes(b"best of %d" % epoch)
    history = a_history(*[0.5] * epoch)
    write_checkpoint(folder, Checkpoint(run, FINGERPRINT, history, [np.full(1000, epoch)], [], False))
    return folder


def save_and_send(store: Store, trial: optuna.Trial, *epochs: int) -> Path:
    for epoch in epochs:
        folder = save(store, trial, epoch)
        upload(store, trial, folder, a_history(*[0.5] * epoch))
    return folder


def fetched(store: Store, number: int = 0) -> int:
    """Take up the trial on a machine; return the epoch that it goes on from."""
    folder = store.checkpoint_folder("tiny", number)
    download(store, taken_up(store, number), folder, RUN, FINGERPRINT)
    found = read_checkpoint(folder, RUN, FINGERPRINT)
    if found is None:
        return 0
    assert (folder / KEPT_WEIGHTS_FILE).read_bytes() == b"best of %d" % len(found.history)
    assert found.arrays[0].tolist() == [len(found.history)] * 1000
    assert sorted(path.name for path in folder.iterdir()) == sorted([KEPT_WEIGHTS_FILE, CHECKPOINT_FILE])
    return len(found.history)


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_another_machine_takes_the_last_epoch_and_two_are_kept(
    kind: str, host: Hosts, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("bucket") if kind == "s3" else None
    a, b = host("a", url), host("b", url)
    trial = a_trial(a)
    save_and_send(a, trial, 1, 2, 3)
    assert fetched(b) == 3
    found = uploaded(taken_up(b))
    assert [one.epoch for one in found] == [2, 3]
    assert all(one.bytes > 8000 and one.seconds > 0 for one in found)
    if url:
        there = {f"mine/checkpoints/tiny/0/epoch-{n:04d}.zip" for n in (2, 3)}
        assert keys(url) == {f"mine/{MARKER}", *there}
    shared(a).remove_folder("checkpoints/tiny/0")
    assert fetched(b) == 3  # from here, as nothing there is further


def test_only_a_further_state_is_taken(host: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = host("a"), host("b")
    trial = a_trial(a)
    save_and_send(a, trial, 1, 2)
    save(b, trial, 1)
    assert fetched(b) == 2
    monkeypatch.setattr(Artifacts, "read", lambda *args: pytest.fail("nothing is to be read"))
    assert fetched(b) == 2
    save(b, trial, 4)
    assert fetched(b) == 4


def test_a_state_of_another_run_is_none(host: Hosts) -> None:
    a, b = host("a"), host("b")
    trial = a_trial(a)
    folder = save(b, trial, 5, RUN.model_copy(update={"seed": 1}))
    assert saved_epochs(folder, RUN, FINGERPRINT) == 0
    save_and_send(a, trial, 1)
    assert fetched(b) == 1


def damage(url: str, epoch: int, content: bytes) -> None:
    Artifacts(url).write(f"checkpoints/tiny/0/epoch-{epoch:04d}.zip", io.BytesIO(content))


def bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(CHECKPOINT_FILE, bytes(10**6))
    return file.getvalue()


def test_sending_that_takes_longer_than_training_is_told_once(
    host: Hosts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = itertools.count(0, 2)
    monkeypatch.setattr("pneumosearch.search.checkpoint_sync.time.perf_counter", lambda: float(next(clock)))
    store = host("a")
    save_and_send(store, a_trial(store), 1, 2, 3)
    assert caplog.messages == [
        f"sending a checkpoint of 0 MB to {shared(store).url} took 2.0 s, and training its epoch 1.0 s"
    ]


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 10**6, bomb()])
def test_the_epoch_before_a_damaged_one_is_taken_and_the_damaged_one_sent_again(content: bytes, host: Hosts) -> None:
    a, b, c = host("a"), host("b"), host("c")
    save_and_send(a, a_trial(a), 1, 2, 3)
    damage(shared(a).url, 3, content)
    assert fetched(b) == 2
    assert [one.epoch for one in uploaded(taken_up(b))] == [2]
    save_and_send(b, taken_up(b), 3)
    assert fetched(c) == 3


def test_where_all_are_damaged_or_gone_the_training_begins_anew(host: Hosts) -> None:
    a, b, c = host("a"), host("b"), host("c")
    save_and_send(a, a_trial(a), 1, 2)
    damage(shared(a).url, 2, b"x")
    shared(a).remove("checkpoints/tiny/0/epoch-0001.zip")
    assert fetched(b) == 0
    save_and_send(b, taken_up(b), 1)
    assert fetched(c) == 1


def test_a_bomb_with_the_right_digest_is_not_unpacked(host: Hosts) -> None:
    a, b = host("a"), host("b")
    trial = a_trial(a)
    damage(shared(a).url, 1, bomb())
    said = UploadedCheckpoint(
        epoch=1,
        key="checkpoints/tiny/0/epoch-0001.zip",
        sha256=hashlib.sha256(bomb()).hexdigest(),
        bytes=len(bomb()),
        seconds=0.0,
    )
    CHECKPOINTS.set(trial, [said.model_dump()])
    assert fetched(b) == 0


@pytest.mark.parametrize(
    "said", [[{"epoch": 1}], [1], [{"epoch": 9, "key": "../x", "sha256": "", "bytes": 1, "seconds": 0}]]
)
def test_what_another_version_or_a_hostile_store_says_is_not_followed(said: Any, host: Hosts) -> None:
    a, b = host("a"), host("b")
    a_trial(a).set_user_attr(CHECKPOINTS.key, said)
    assert fetched(b) == 0
