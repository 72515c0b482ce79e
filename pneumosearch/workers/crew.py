"""Who trains a study: processes of this machine, or a Ray cluster, and their preparation."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pneumosearch._utils.processes import Helper
from pneumosearch._utils.processes import prestarted as prestarted_helpers

if TYPE_CHECKING:
    from pneumosearch.search.runner import Outcome
    from pneumosearch.workers.ray_cluster import Cluster


class Crew(NamedTuple):
    """Who trains a study."""

    workers: int = 1
    grace: float = 60.0  # seconds without a heartbeat after which trials of other machines are reclaimed
    max_failures: int = 3  # stop when as many trials in a row fail alike
    cluster: "Cluster | None" = None  # this machine where none is given


def prestarted(crew: Crew) -> AbstractContextManager[list[Helper]]:
    """Start the training processes of this machine early, to be ready with images and store; none for a cluster."""
    if crew.cluster is not None:
        return nullcontext([])
    from pneumosearch.training.loop import prepare

    return prestarted_helpers(crew.workers, prepare)


@contextmanager
def ready(
    crew: Crew, helpers: list[Helper], url: str, say: Callable[[str], None]
) -> Iterator[Callable[..., "Outcome"]]:
    """Yield a function that trains a study as `crew` says; it takes the arguments of `workers.local.run_locally`.

    Args:
        crew: Where, and how many.
        helpers: As `prestarted` gives them.
        url: Of the storage.
        say: Takes a line for the user.

    Raises:
        PneumosearchError: The cluster cannot be used, or not with this storage.
    """
    from pneumosearch._utils.hardware import memory_warning
    from pneumosearch.workers import local

    if crew.cluster is None:
        warning = memory_warning(crew.workers)
        if warning:
            say(f"warning: {warning}")
        yield partial(local.run_locally, workers=crew.workers, grace=crew.grace, helpers=helpers)
        return
    from pneumosearch.workers import ray_cluster

    with ray_cluster.connected(crew.cluster, url):
        yield partial(ray_cluster.run_on_cluster, cluster=crew.cluster, say=say, workers=crew.workers, grace=crew.grace)
