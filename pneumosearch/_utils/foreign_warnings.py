"""What a library warns about one foreign file, kept apart from every other warning, in any thread."""

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

_here = threading.local()  # .heard: the list of the innermost `foreign_warnings` of this thread
_lock = threading.Lock()
_shared = ExitStack()  # what the first thread to enter changed and the last to leave restores
_inside = 0  # threads, counted with nesting


@contextmanager
def foreign_warnings(*packages: str) -> Iterator[list[Warning]]:
    """Collect the warnings that `packages` give in this thread, instead of showing or raising them.

    Python's own `catch_warnings` changes the whole process, so threads that decode side by side would take each
    other's warnings and leave the filters wrong. Here they share one change, and each hears only its own.
    """
    before, heard = getattr(_here, "heard", None), list[Warning]()
    _enter(packages)
    _here.heard = heard
    try:
        yield heard
    finally:
        _here.heard = before
        _leave()


def _enter(packages: tuple[str, ...]) -> None:
    global _inside  # noqa: PLW0603 - the warnings module is one for the process, and so is this count
    with _lock:
        if _inside == 0:
            _shared.enter_context(warnings.catch_warnings())
            _route()
        _inside += 1
        for package in packages:
            warnings.filterwarnings("always", module=rf"{re.escape(package)}(\.|$)")


def _leave() -> None:
    global _inside  # noqa: PLW0603
    with _lock:
        _inside -= 1
        if _inside == 0:
            _shared.close()


def _route() -> None:
    """Give each warning to the thread that it happened in; one outside of `foreign_warnings` is shown as before."""
    show = warnings.showwarning

    def showwarning(message: Warning | str, category: type[Warning], *args: Any, **kwargs: Any) -> None:
        heard: list[Warning] | None = getattr(_here, "heard", None)
        if heard is None:
            show(message, category, *args, **kwargs)
        else:
            heard.append(message if isinstance(message, Warning) else category(message))

    warnings.showwarning = showwarning
