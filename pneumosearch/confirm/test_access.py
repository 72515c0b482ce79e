"""The one look of a confirmation at the sealed test images, when every replicate is trained and its network kept."""

from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from pneumosearch import __version__
from pneumosearch.config import Equalization, Fold, RunSpec
from pneumosearch.confirm.opener import heartbeat
from pneumosearch.confirm.replicates import ConfirmationPlan, Say, failed_replicates, finished_replicates
from pneumosearch.confirm.verdict import (
    FIRST_FINALIST,
    Searched,
    beside_control,
    candidate,
    compared,
    concluded,
    ensemble_probabilities,
)
from pneumosearch.data.cache import Pixels
from pneumosearch.data.decoding import PixelArray
from pneumosearch.data.protocols import Dataset, ImageSet
from pneumosearch.errors import StoreError
from pneumosearch.inference.predict import PlainNetwork
from pneumosearch.inference.scoring import scored
from pneumosearch.metrics import best_threshold
from pneumosearch.network.grad_cam import grad_cam, overlay
from pneumosearch.records.confirmation import (
    Candidate,
    Confirmation,
    FailedReplicate,
    Naming,
    Replicate,
    Role,
    wrong_picture_file,
)
from pneumosearch.records.trial import TestOpening, TrialRecord, is_baseline
from pneumosearch.search.events import PartsDone
from pneumosearch.search.repetitions import run_of
from pneumosearch.search.session import Interrupted, Session
from pneumosearch.storage.confirmations import add_confirmation, next_number
from pneumosearch.storage.store import add_test_opening
from pneumosearch.training.loop import predict

#: The winner's most confident mistakes among the test images, of which pictures are kept.
N_WRONG_PICTURES: Final = 12


def open_test(session: Session, plan: ConfirmationPlan, naming: Naming | None, warn: Say) -> Confirmation:
    """Judge the plan's replicates by the test images and keep the confirmation, which counts as one opening.

    Args:
        session: Store and images.
        plan: Whose replicates are all trained, or failed for good.
        naming: Of the winner; None where that is the best of the search.
        warn: Told when the test images were opened before.

    Raises:
        Interrupted: The session was asked to stop; the same call again goes on, and counts no other opening.
        StoreError: A replicate's network is gone.
        DataError: Images cannot be read.
    """
    return _Opening(session, plan, naming).confirmation(warn)


def most_wrong(labels: Sequence[int], probabilities: npt.NDArray[np.float64]) -> list[int]:
    """Return the positions of the images called wrongly at 0.5, the most confident mistake first."""
    called = probabilities > 0.5
    wrong = np.flatnonzero(called != (np.asarray(labels) > 0.5))
    order = np.argsort(-np.abs(probabilities[wrong] - 0.5), kind="stable")
    return [int(position) for position in wrong[order][:N_WRONG_PICTURES]]


class _Opening:
    """The one look at the test images, when every replicate is there."""

    def __init__(self, session: Session, plan: ConfirmationPlan, naming: Naming | None) -> None:
        self.store, self.source, self.stop = session.store, session.source, session.stop
        self.plan, self.naming = plan, naming
        numbers = [trial.number for trial in plan.candidates]
        self.winner = numbers.index(naming.winner) if naming else FIRST_FINALIST
        self.searched = numbers.index(naming.searched) if naming else FIRST_FINALIST
        self.trained, self.failed = finished_replicates(session.store, plan), failed_replicates(session.store, plan)
        self.listener, self._n_judged = session.listener, 0
        self.number = next_number(session.store, plan.record.name)
        self.validation_of = cache(self._validation)
        self.test_of = cache(
            lambda size, equalization: self.source.sealed_test(size, equalization, write_down=self._write_down)
        )

    def confirmation(self, warn: Say) -> Confirmation:
        opening, n_openings = self._record_opening(warn)
        candidates = [self._judged(trial) for trial in self.plan.candidates]
        named = None if self.naming is None else self.winner
        comparisons = compared(candidates, self._labels, self._patients, named=named)
        control = beside_control(candidates, self._labels, self._patients, self.searched)
        confirmation = Confirmation(
            study=self.plan.record.name,
            replicates_study=self.plan.study,
            time=opening.time,
            version=__version__,
            trained_on=self._trained_on(),
            fingerprint=self.plan.record.data.fingerprint,
            test_fingerprint=self._test.part.fingerprint,
            n_openings=n_openings,
            seeds=self.plan.seeds,
            images=tuple(image.name for image in self._test.part.images),
            labels=self._labels,
            patients=self._patients,
            candidates=tuple(candidates),
            comparisons=tuple(comparisons),
            verdict=concluded(candidates, comparisons, self._searched(), self.naming, control),
            naming=self.naming,
        )
        self._keep_wrong_pictures(candidates[confirmation.verdict.winner])
        add_confirmation(self.store, self.plan.record.name, self.number, confirmation)
        return confirmation

    def _write_down(self, test_fingerprint: str) -> None:
        study = self.store.load_study(self.plan.study)
        add_test_opening(study, None, self.plan.why(), test_fingerprint)

    def _record_opening(self, warn: Say) -> tuple[TestOpening, int]:
        """Write the opening down and say whether there were others, before an image is decoded."""
        why = self.plan.why()
        self._write_down(self.source.fingerprint("test"))
        openings = self.store.test_openings(self.plan.record.data)
        if len(openings) > 1:
            warn(f"the test images were opened before: this is opening {len(openings)} from this store")
        return next(o for o in openings if (o.study, o.why) == (self.plan.study, why)), len(openings)

    @cached_property
    def _test(self) -> Pixels:
        config = run_of(self.plan.candidates[0]).config
        return self.test_of(config.image_size, config.equalization)

    @cached_property
    def _labels(self) -> tuple[int, ...]:
        return tuple(image.label for image in self._test.part.images)

    @cached_property
    def _patients(self) -> tuple[str, ...]:
        return tuple(image.patient for image in self._test.part.images)

    def _judged(self, trial: TrialRecord) -> Candidate:
        of_control: Role = "control" if trial == self.plan.record.control else "finalist"
        replicates = [self._judged_replicate(replicate) for replicate in self._replicates(trial.number)]
        config, study = run_of(trial).config, self.plan.record.name
        return candidate(
            replicates,
            self._labels,
            role="baseline" if is_baseline(trial) else of_control,
            study=study,
            trial=trial.number,
            config=config,
            failures=self._failures(trial.number),
        )

    def _replicates(self, number: int) -> list[TrialRecord]:
        """Return the trained replicates of candidate `number`, by seed."""
        runs = [run for run, (trial, _) in self.plan.runs.items() if trial.number == number]
        return [self.trained[run] for run in runs if run not in self.failed]

    def _failures(self, number: int) -> list[FailedReplicate]:
        """Return the replicates of candidate `number` that failed, by seed."""
        runs = [run for run, (trial, _) in self.plan.runs.items() if trial.number == number and run in self.failed]
        failed = [(run, self.failed[run]) for run in runs]
        return [
            FailedReplicate(trial=trial.number, seed=run.seed, fold=run.fold, reason=trial.failure or "")
            for run, trial in failed
        ]

    def _judged_replicate(self, replicate: TrialRecord) -> Replicate:
        if self.stop.reason:  # Ctrl-C; that the time is up does not matter any more
            raise Interrupted
        self._n_judged += 1
        heartbeat(self.store, self.plan, self._n_judged)
        self.listener(PartsDone("networks at the test images", self._n_judged - 1, len(self.trained)))
        run, kept = run_of(replicate), replicate.kept
        if kept is None:
            raise StoreError(f"trial {replicate.number} of '{self.plan.study}' has no epoch")
        dataset, test = self._images(run)
        network = self._network(replicate)
        # Plain validation images would do for a threshold only where the test images are like them.
        copies = dataset.evaluation if dataset.battery is None else dataset.battery
        threshold = best_threshold(copies.labels[copies.indices], predict(network, copies))
        probabilities = predict(network, test)
        return Replicate(
            trial=replicate.number,
            seed=run.seed,
            fold=run.fold,
            kept_epoch=kept.epoch,
            validation_accuracy=kept.evaluation("accuracy"),
            validation_auc=kept.evaluation("auc"),
            at_half=scored(self._labels, probabilities, 0.5),
            at_threshold=scored(self._labels, probabilities, threshold),
            probabilities=tuple(probabilities.tolist()),
        )

    def _images(self, run: RunSpec) -> tuple[Dataset, ImageSet]:
        """Return the development and the test images as a configuration wants them."""
        form = (run.config.image_size, run.config.equalization)
        array = self.test_of(*form).array
        validation = self.validation_of(*form, run.judging_fold)
        return validation, ImageSet(array, np.array(self._labels, np.float32), np.arange(len(array)))

    def _validation(self, size: int, equalization: Equalization, fold: Fold | None) -> Dataset:
        return self.source.load("holdout", size, equalization, battery=True, fold=fold)

    def _network(self, replicate: TrialRecord) -> PlainNetwork:
        content = self.store.network(self.plan.study, replicate.number)
        if content is None:
            raise StoreError(f"trial {replicate.number} of '{self.plan.study}': its network is gone; confirm again")
        return PlainNetwork(content)

    def _trained_on(self) -> str:
        data = self._images(next(iter(self.plan.runs)))[0].description
        last = [self.plan.label(trial) for trial in self.plan.candidates if run_of(trial).config.keep == "last"]
        of_some = f", of {' and '.join(last)} the last" * bool(last)
        n = self.plan.n_folds
        folds = f", {n - 1} of {n} folds that change from seed to seed" if n else ""
        return (
            f"trained on {data.n_train} training images{folds}; {data.n_evaluation} validation images of other "
            f"patients chose the epoch (lowest loss{of_some}), their copies under the battery the threshold"
        )

    def _searched(self) -> Searched:
        record, baseline, winner = self.plan.record, self.plan.candidates[0], self.plan.candidates[self.winner]
        tried = [t for t in record.trials if t.state in ("complete", "pruned") and t.duplicate_of is None]
        gain = _validation_accuracy(winner) - _validation_accuracy(baseline)
        n_searched = len(tried) - 1  # without the baseline
        return Searched(n_searched, gain, record.n_judging, record.data.shown_as)

    def _keep_wrong_pictures(self, winner: Candidate) -> None:
        """Keep pictures of where the winner's networks looked, in the mean, at its most confident mistakes."""
        probabilities = ensemble_probabilities(winner.replicates)
        positions = most_wrong(self._labels, probabilities)
        if not positions:
            return
        replicates = self._replicates(winner.trial)
        pixels = np.asarray(self._images(run_of(replicates[0]))[1].pixels[positions])
        ill = probabilities[positions] > 0.5  # what all of them together said, which one alone may not have
        maps = np.array([grad_cam(self._network(each).model, pixels, ill) for each in replicates], dtype=np.float32)
        for rank, (position, one, heat_of_one) in enumerate(
            zip(positions, pixels, maps.mean(axis=0), strict=True), start=1
        ):
            name = wrong_picture_file(rank, self._test.part.images[position].name, self.number)
            self._keep_picture(name, overlay(one, heat_of_one))

    def _keep_picture(self, name: str, picture: PixelArray) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / name
            Image.fromarray(picture).save(path)
            self.store.add_artifact(self.store.load_study(self.plan.record.name), path, "image/png")


def _validation_accuracy(trial: TrialRecord) -> float:
    if trial.judged is None:
        raise StoreError(f"trial {trial.number} has no epoch")
    return trial.judged.evaluation("accuracy")
