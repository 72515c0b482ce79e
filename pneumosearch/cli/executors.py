"""The options that choose where training processes run."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pneumosearch.errors import ConfigError

if TYPE_CHECKING:
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
    int | None, typer.Option(min=0, help="Restart each lost worker of the cluster so often.", show_default="20")
]


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
