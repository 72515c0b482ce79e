"""What a confirmation found, as plain values: replicates, estimates over seeds, the verdict; one JSON document."""

import re
import statistics
from pathlib import PurePosixPath
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from pneumosearch.config import TrialConfig
from pneumosearch.metrics import Metric

_LONGEST_STEM: Final = 100  # characters of an image's name in a picture's


#: What such names look like.
CONFIRMATION_FILE: Final = re.compile(r"confirmation(?:-(\d+))?\.json")  # without a number: the first


def confirmation_file(number: int) -> str:
    """Return the name of the artifact of the search's study that holds its `number`-th `Confirmation`, from 1."""
    return f"confirmation-{number}.json"


def wrong_picture_file(rank: int, image: str, number: int) -> str:
    """Return the name of the artifact with the winner's `rank`-th most confident mistake, from 1.

    Args:
        rank: 1 for the most confident one.
        image: Name of the test image, its path below the data folder.
        number: Of the confirmation, from 1; only later ones carry it in the name.
    """
    stem = PurePosixPath(image).stem[:_LONGEST_STEM]
    return f"wrong-{rank:02d}-{stem}" + (f"-{number}" if number > 1 else "") + ".png"


#: The control has the baseline's values and is trained like the finalists; see `StudyRecord.control`.
Role = Literal["baseline", "finalist", "control"]

#: What may be said of a candidate beside another.
Conclusion = Literal["better", "worse", "no difference can be shown"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WantedReplicates(_Record):
    """What a confirmation trains, for the processes that join it."""

    candidates: tuple[int, ...]  # numbers in the search, the baseline first
    seeds: tuple[int, ...]
    n_folds: int | None  # as of `search.repetitions.Repetitions`, as all below
    without_network: tuple[int, ...] = ()
    n_before: int = 0


class TestScores(_Record):
    """One set of probabilities against the labels; all are fractions in [0, 1]."""

    __test__ = False  # not a test class

    threshold: float  # above it an image is called ill
    accuracy: float
    sensitivity: float
    specificity: float
    balanced_accuracy: float
    auc: float
    brier: float  # mean squared difference of probability and label
    calibration_error: float  # expected, over ten bins of equal width
    accuracy_low: float  # 95% Wilson interval of the accuracy
    accuracy_high: float


class Estimate(_Record):
    """One figure over seeds."""

    mean: float
    deviation: float  # sample standard deviation; 0 of a single seed
    low: float  # 95% interval of the mean, Student's t; mean of a single seed
    high: float


class Replicate(_Record):
    """One training of a candidate on a fresh seed."""

    trial: int  # its number in the study of replicates
    seed: int
    fold: int | None = None  # of the development images, that judged; None: the split of the search
    kept_epoch: int
    validation_accuracy: float
    validation_auc: float
    at_half: TestScores  # on the test images, threshold 0.5
    at_threshold: TestScores  # the same, at the threshold chosen for this replicate without the test images
    probabilities: tuple[float, ...]  # of pneumonia, of each test image in the order of `Confirmation.images`


class FailedReplicate(_Record):
    """A training of a candidate whose loss was not finite: it has no network to judge."""

    trial: int  # its number in the study of replicates
    seed: int
    fold: int | None = None
    reason: str


class Candidate(_Record):
    """A configuration with its replicates."""

    role: Role
    study: str
    trial: int  # its number in the search
    config: TrialConfig
    replicates: tuple[Replicate, ...]
    at_half: dict[str, Estimate]  # by name of a `TestScores` figure
    at_threshold: dict[str, Estimate]
    ensemble_at_half: TestScores  # of the mean probability over seeds
    ensemble_at_threshold: TestScores  # at the mean of the replicates' thresholds
    failures: tuple[FailedReplicate, ...] = ()  # counted in no figure

    @property
    def label(self) -> str:
        """The name by which tables and figures call it."""
        return "baseline" if self.role == "baseline" else f"{self.study} {self.trial}{self.as_control}"

    @property
    def as_control(self) -> str:
        """The addition to its name that says that it is the control; empty for the others."""
        return ", the control" if self.role == "control" else ""

    @property
    def label_with_failures(self) -> str:
        """The same, with how many replicates failed where any did."""
        failed, n = len(self.failures), len(self.failures) + len(self.replicates)
        return f"{self.label} ({failed} of {n} failed)" if failed else self.label


class Comparison(_Record):
    """A candidate against another over the same test images and seeds: a finalist against the baseline, mostly."""

    candidate: int  # position in `Confirmation.candidates`
    difference: float  # of mean test accuracy, at threshold 0.5
    low: float  # interval by a bootstrap over patients and seeds
    high: float
    auc_difference: float
    auc_low: float
    auc_high: float
    only_candidate_right: int  # test images that one seed ensemble calls right, at 0.5, and the other wrong
    only_baseline_right: int  # the reverse; of the other one, where that is not the baseline
    mcnemar_p: float  # exact, two-sided
    n_seeds: int | None = None  # on which both were trained; None in confirmations of earlier versions: all
    confidence: float = 0.95  # of the intervals; higher where they are corrected for the number of finalists
    adjusted_p: float | None = None  # corrected for it; None of a winner that was named before the opening


class Repetition(_Record):
    """A candidate's figure in the search, and what the same metric is on fresh seeds and other validation images."""

    trial: int  # its number in the search
    searched: float  # the metric in the search
    figures: tuple[float | None, ...]  # the metric of each replicate, by seed; None where that failed
    lead: float  # over the baseline, in the mean over the seeds on which neither failed
    n_paired: int  # those seeds

    @property
    def trained(self) -> list[float]:
        """The figures of the replicates that did not fail."""
        return [figure for figure in self.figures if figure is not None]

    @property
    def mean(self) -> float:
        """The mean figure on repetition."""
        return statistics.fmean(self.trained)

    @property
    def deviation(self) -> float:
        """The sample standard deviation; 0 of a single seed."""
        return statistics.stdev(self.trained) if len(self.trained) > 1 else 0.0


class Naming(_Record):
    """How repetition named the winner, written down before the test images were opened."""

    time: str  # ISO 8601, UTC
    metric: Metric  # of the search
    n_folds: int  # of the development images
    seeds: tuple[int, ...]  # the first judged by fold 0, the next by fold 1, and so on, around
    winner: int  # its number in the search
    best_searched: int | None = None  # of the finalists but the control; None: no other, or an earlier version
    repetitions: tuple[Repetition, ...]  # of the baseline, and of the finalists, the best of the search first

    @property
    def searched(self) -> int:
        """The best finalist that the search found; the winner, which may be the control, where none is written down."""
        return self.winner if self.best_searched is None else self.best_searched

    @property
    def judged(self) -> int:
        """How many of the folds judged."""
        return min(len(self.seeds), self.n_folds)


class Verdict(_Record):
    """What may be concluded."""

    winner: int  # position in `Confirmation.candidates` of the finalist that was named before the opening
    conclusion: Conclusion  # than the baseline
    sentences: tuple[str, ...]  # the same in words and numbers
    n_searched: int  # configurations that the search trained to the end or pruned
    validation_gain: float  # of the winner over the baseline in the search, in accuracy on validation images
    expected_luck: float  # how much of such a gain the best of `n_searched` equal configurations would show by noise
    beside_control: Comparison | None = None  # the best finalist but the control against it; None where none can be


class Confirmation(_Record):
    """The finalists and the baseline on fresh seeds, and what the sealed test images said of them."""

    study: str
    replicates_study: str
    time: str  # ISO 8601, UTC: when the test images were opened
    version: str  # of pneumosearch
    trained_on: str  # in words: which images trained, which chose the epoch, and what the threshold
    fingerprint: str  # of the development images
    test_fingerprint: str
    n_openings: int  # of these test images from this store, this one counted
    seeds: tuple[int, ...]
    images: tuple[str, ...]  # names of the test images
    labels: tuple[int, ...]  # 0 normal, 1 pneumonia
    patients: tuple[str, ...]
    candidates: tuple[Candidate, ...]  # the baseline first
    comparisons: tuple[Comparison, ...]  # of each finalist
    verdict: Verdict
    naming: Naming | None = None  # None in confirmations of earlier versions: the best of the search is the winner
