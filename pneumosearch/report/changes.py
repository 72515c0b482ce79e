"""In what a configuration differs from the published network, or from the baseline of its study, in one line."""

from collections.abc import Mapping, Sequence

from pneumosearch.config import TrialConfig


def changes_text(config: TrialConfig, ignore: Sequence[str] = ()) -> str:
    """Return the differences from the baseline as "name=value, name=value"; fields in `ignore` are left out."""
    changes = {name: value for name, value in config.changes().items() if name not in ignore}
    return named(changes)


def differences_text(config: TrialConfig, baseline: TrialConfig, others: Mapping[str, object]) -> str:
    """Return the differences of a trial from the baseline of its study.

    Args:
        config: Of the trial.
        baseline: Of the baseline, whose fixed fields all trials have.
        others: Values that all trials but the baseline have, and that are left out; `others_text` has them.
    """
    if config == baseline:
        changes = changes_text(baseline)
        return f"the baseline, with {changes}" if changes else "nothing: it is the baseline"
    there = dict(baseline)
    left_out = {name: (there[name], others.get(name, there[name])) for name in there}
    differences = {name: value for name, value in config if value not in left_out[name]}
    return named(differences) or "nothing else: it is the control"


def others_text(others: Mapping[str, object]) -> str:
    """Return what all trials but the baseline have, as a sentence; empty where that is nothing."""
    return f"In all trials but the baseline: {named(others)}." if others else ""


def named(values: Mapping[str, object]) -> str:
    """Return values as "name=value, name=value"."""
    return ", ".join(f"{name}={_number(value)}" for name, value in values.items())


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
