"""Hyperparameter search whose winner can be believed, around a published chest X-ray network.

The names below are the library's public ones; `docs/python.md` shows them at work. Each is imported when it is first
used, so that `import pneumosearch` takes no time and never imports TensorFlow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pneumosearch.config import RunSpec, TrialConfig
    from pneumosearch.data.phantoms import write_phantoms
    from pneumosearch.errors import ConfigError, DataError, PneumosearchError, StoreError
    from pneumosearch.inference.export import stored_classifier
    from pneumosearch.inference.predict import file_classifier, predictions
    from pneumosearch.metrics import direction
    from pneumosearch.records.trial import StudyRecord, TrialRecord
    from pneumosearch.report.summary import study_summary
    from pneumosearch.search.embedded import objective_for
    from pneumosearch.search.keras_tuner.engine import hypermodel
    from pneumosearch.space import Choice, Range, Space
    from pneumosearch.storage.store import Store
    from pneumosearch.study import Study
    from pneumosearch.studyfile import StudySpec, read_study_file

__version__ = "0.1.0"
__all__ = [
    "Choice",
    "ConfigError",
    "DataError",
    "PneumosearchError",
    "Range",
    "RunSpec",
    "Space",
    "Store",
    "StoreError",
    "Study",
    "StudyRecord",
    "StudySpec",
    "TrialConfig",
    "TrialRecord",
    "__version__",
    "direction",
    "file_classifier",
    "hypermodel",
    "objective_for",
    "predictions",
    "read_study_file",
    "stored_classifier",
    "study_summary",
    "write_phantoms",
]

_HOMES: Final = {
    "config": ("RunSpec", "TrialConfig"),
    "data.phantoms": ("write_phantoms",),
    "errors": ("ConfigError", "DataError", "PneumosearchError", "StoreError"),
    "inference.export": ("stored_classifier",),
    "inference.predict": ("file_classifier", "predictions"),
    "metrics": ("direction",),
    "records.trial": ("StudyRecord", "TrialRecord"),
    "report.summary": ("study_summary",),
    "search.embedded": ("objective_for",),
    "search.keras_tuner.engine": ("hypermodel",),
    "space": ("Choice", "Range", "Space"),
    "storage.store": ("Store",),
    "study": ("Study",),
    "studyfile": ("StudySpec", "read_study_file"),
}
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name in _HOME_OF:
        return getattr(import_module(f"pneumosearch.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module 'pneumosearch' has no attribute '{name}'")


def __dir__() -> list[str]:
    """List the public names for completion."""
    return sorted({*globals(), *__all__})
