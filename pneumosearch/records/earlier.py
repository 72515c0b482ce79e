"""What a study takes over from earlier studies: configurations with their ranks, and what was passed over."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class EarlierTrial(BaseModel):
    """A trial of an earlier study, as far as the new study searches its fields too."""

    model_config = ConfigDict(frozen=True)

    values: dict[str, bool | int | float | str]  # of the fields that both studies search
    score: Annotated[float, Field(ge=0, le=1)]  # rank within its study: 1 is the best, 0 the worst; ties have the mean


class EarlierStudy(BaseModel):
    """An earlier study as the new one took it over, whatever happens to that study or its file later.

    Figures of studies that differ in metric, protocol or image size cannot be compared. So a trial keeps no figure,
    only its rank among the trials of its own study.
    """

    model_config = ConfigDict(frozen=True)

    source: str  # a study of the same store or a CSV file, as the user named it
    trials: tuple[EarlierTrial, ...]
    passed_over: dict[str, int] = {}  # number of trials by reason

    def in_words(self) -> str:
        """Say how many trials were taken over, and how many not and why."""
        n, over = len(self.trials), sum(self.passed_over.values())
        taken = f"{n} trial{'s' * (n != 1)} of {self.source}"
        if not over:
            return taken
        reasons = [f"{count} {reason}" for reason, count in self.passed_over.items()]
        why = ", ".join(reasons) if len(reasons) > 1 else next(iter(self.passed_over))
        return f"{taken} ({over} passed over: {why})"

    def summary(self) -> dict[str, Any]:
        """Return the counts for JSON."""
        return {"source": self.source, "trials": len(self.trials), "passed_over": self.passed_over}


def informed_line(studies: tuple[EarlierStudy, ...]) -> str:
    """Return a sentence on the earlier studies that informed a sampler; empty where there were none."""
    return f"Informed by {'; '.join(study.in_words() for study in studies)}." if studies else ""
