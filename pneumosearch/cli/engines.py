"""The options that choose the library that proposes configurations."""

from typing import TYPE_CHECKING, Annotated

import typer

from pneumosearch.studyfile import EngineName, TunerName

if TYPE_CHECKING:
    from pneumosearch.studyfile import StudySpec

Engine = Annotated[
    EngineName | None,
    typer.Option(help="What proposes configurations.", show_default="the file's, or optuna"),
]
Tuner = Annotated[
    TunerName | None,
    typer.Option(help="Which of KerasTuner's searches.", show_default="the file's, or random"),
]


def engine_changes(spec: "StudySpec", engine: str | None, tuner: str | None) -> dict[str, object]:
    """Return what the options change in a study. Another engine than the file's brings its own default settings.

    Args:
        spec: The study as its file, or the default, says.
        engine: The option, if given.
        tuner: The option, if given.
    """
    from pneumosearch.studyfile import StudySpec

    chosen: dict[str, object] = {} if tuner is None else {"tuner": tuner}
    if engine is None or engine == spec.engine:
        return chosen
    default = StudySpec.model_validate({"engine": engine})
    of_the_engine = {"engine", "tuner", "sampler", "pruner", "rungs", "reduction_factor", "screening"}
    return default.model_dump(mode="json", include=of_the_engine) | chosen
