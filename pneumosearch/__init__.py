"""Hyperparameter search whose winner can be believed, around a published chest X-ray network."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pneumosearch.search.embedded import objective_for

__version__ = "0.1.0"
__all__ = ["__version__", "objective_for"]


def __getattr__(name: str) -> Any:
    """Import `objective_for` when it is first asked for, so that the package itself is imported in no time."""
    if name == "objective_for":
        from pneumosearch.search.embedded import objective_for

        return objective_for
    raise AttributeError(f"module 'pneumosearch' has no attribute '{name}'")
