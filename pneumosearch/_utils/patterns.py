"""Regular expressions that users give."""

import re

from pneumosearch.errors import ConfigError


def one_group(pattern: str, source: str) -> str:
    """Return `pattern`, a regular expression with one group.

    Raises:
        ConfigError: It is none; the message begins with `source`.
    """
    try:
        n_groups = re.compile(pattern).groups
    except re.error as error:
        raise ConfigError(f"{source}: {pattern!r} is not a regular expression ({error})") from error
    if n_groups != 1:
        raise ConfigError(f"{source}: {pattern!r} has {n_groups} groups; wanted one, around the patient's name")
    return pattern
