"""In what a configuration differs from the published network, or from the baseline of its study, in one line."""

from collections.abc import Mapping, Sequence

from pneumosearch.config import TrialConfig


def changes_text(config: TrialConfig, ignore: Sequence[str] = ()) -> str:
    """Return the differences from the baseline as "name=value, name=value"; fields in `ignore` are left out."""
    changes = {name: value for name, value in config.changes().items() if name not in ignore}
    return _named(changes)


def differences_text(config: TrialConfig, baseline: TrialConfig) -> str:
    """Return the differences from the `baseline` of a study, whose fixed fields all its trials have."""
    there = baseline.model_dump()
    differences = {name: value for name, value in config.model_dump().items() if value != there[name]}
    if differences:
        return _named(differences)
    changes = changes_text(baseline)
    return f"the baseline, with {changes}" if changes else "nothing: it is the baseline"


def _named(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={_number(value)}" for name, value in values.items())


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
