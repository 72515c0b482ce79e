"""The options that choose where training processes run, and their preparation."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from pneumosearch.errors import ConfigError

if TYPE_CHECKING:
    from pneumosearch._utils.processes import Helper
    from pneumosearch.search.runner import Outcome
    from pneumosearch.workers.ray_cluster import Cluster

Executor = Annotated[
    Literal["local", "ray"], typer.Option(help="Where training processes run: on this machine, or a Ray cluster.")
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        help="Head of the Ray cluster, HOST:PORT.",
        show_default="RAY_ADDRESS, or a cluster on this machine, started if need be",
    ),
]
WorkerCpus = Annotated[
    float | None, typer.Option(help="Cores, and threads, of a worker on the cluster.", show_default="1")
]
WorkerGpus = Annotated[
    float | None, typer.Option(help="GPUs of a worker on the cluster; with 0.25, four share one.", show_default="0")
]
MaxRestarts = Annotated[
    int | None, typer.Option(min=0, help="Restart as many lost workers of the cluster.", show_default="20")
]


class Crew(NamedTuple):
    """Who trains a study, by the options of the command."""

    workers: int
    grace: float  # seconds
    max_failures: int
    cluster: "Cluster | None" = None  # this machine where none is given


def cluster_of(
    executor: str, address: str | None, cpus: float | None, gpus: float | None, max_restarts: int | None
) -> "Cluster | None":
    """Return the cluster that the options name; None for this machine.

    Raises:
        ConfigError: An option of the cluster without it, or with a value that it cannot take.
    """
    names = {"--ray-address": address, "--worker-cpus": cpus, "--worker-gpus": gpus, "--max-restarts": max_restarts}
    given = [name for name, value in names.items() if value is not None]
    if executor == "local":
        if given:
            raise ConfigError(f"{given[0]}: is for --executor ray")
        return None
    from pneumosearch.workers.ray_cluster import MAX_RESTARTS, Cluster

    restarts = MAX_RESTARTS if max_restarts is None else max_restarts
    return Cluster(address, 1.0 if cpus is None else cpus, gpus or 0.0, restarts)


def prestarted(crew: Crew) -> AbstractContextManager[list["Helper"]]:
    """Start the training processes of this machine early, to be ready with images and store; none for a cluster."""
    if crew.cluster is not None:
        return nullcontext([])
    from pneumosearch._utils.processes import prestarted as prestarted_helpers
    from pneumosearch.training.loop import prepare

    return prestarted_helpers(crew.workers, prepare)


@contextmanager
def ready(
    crew: Crew, helpers: list["Helper"], url: str, say: Callable[[str], None]
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
