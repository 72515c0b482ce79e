"""Who trains: processes of this machine, or a Ray cluster, and their preparation; the one place that asks which."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pneumosearch._utils.processes import Helper
from pneumosearch._utils.processes import prestarted as prestarted_helpers

if TYPE_CHECKING:
    from pneumosearch.search.runner import Outcome
    from pneumosearch.search.session import Session
    from pneumosearch.workers.ray_cluster import Cluster
    from pneumosearch.workers.work import Work


class Crew(NamedTuple):
    """Who trains."""

    workers: int = 1
    grace: float = 60.0  # seconds without a heartbeat after which trials of other machines are reclaimed
    max_failures: int = 3  # as of `work.Limits`
    cluster: "Cluster | None" = None  # this machine where none is given


def prestarted(crew: Crew) -> AbstractContextManager[list[Helper]]:
    """Start the training processes of this machine early, to be ready with images and store; none for a cluster."""
    return nullcontext([]) if crew.cluster is not None else prestarted_helpers(crew.workers, prepare)


def prepare() -> None:
    """Import all that a training process needs, in that process; its command imports less before it starts one."""
    from pneumosearch.training import loop
    from pneumosearch.workers import local  # noqa: F401

    loop.prepare()


@contextmanager
def ready(
    crew: Crew, helpers: list[Helper], url: str, say: Callable[[str], None]
) -> Iterator[Callable[["Session", "Work"], "Outcome"]]:
    """Yield a function that trains as `crew` says, until nothing of the work is left or the session stops it.

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
    from pneumosearch.workers.work import Limits

    limits = Limits(crew.max_failures, grace=crew.grace)
    if crew.cluster is None:
        warning = memory_warning(crew.workers)
        if warning:
            say(f"warning: {warning}")
        yield partial(local.run_locally, limits=limits, workers=crew.workers, helpers=helpers)
        return
    from pneumosearch.workers import ray_cluster

    with ray_cluster.connected(crew.cluster, url):
        yield partial(ray_cluster.run_on_cluster, limits=limits, cluster=crew.cluster, say=say, workers=crew.workers)
