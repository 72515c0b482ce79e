"""Python's search for reference cycles."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused_collector() -> Iterator[None]:
    """Search for no reference cycles inside, where many objects are made or held: each search goes through all of them.

    It can take as long as the work itself. Use it as `with paused_collector():` or as a decorator, for what ends soon.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()
