"""What a container allows this process: the CPU quota and the memory limit of its control groups, versions 1 and 2.

`psutil` and `os` report the host's cores and memory. `joblib.cpu_count` knows the quota, but no memory limit, and it
looks at the root group alone, which is another group than the process' own outside of a container.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/sys/fs/cgroup")
_MEMBERSHIP: Final = Path("/proc/self/cgroup")
_UNLIMITED: Final = 2**60  # version 1 has no word for it, and writes nearly 2**63


def cpu_quota(root: Path = _ROOT, membership: Path = _MEMBERSHIP) -> float | None:
    """Return how many cores' time this process may use; None where there is no limit.

    Args:
        root: Where the control groups are mounted.
        membership: File that names the groups of this process.
    """
    cores = min(map(_cores, _groups("cpu", root, membership)), default=math.inf)
    return None if math.isinf(cores) else cores


def memory_left(root: Path = _ROOT, membership: Path = _MEMBERSHIP) -> int | None:
    """Return the bytes that this process may still take before its group's limit; None where there is no limit.

    Pages of files that the kernel can drop count as free. Arguments as of `cpu_quota`.
    """
    left = min(map(_left, _groups("memory", root, membership)), default=math.inf)
    return None if math.isinf(left) else int(left)


def _groups(controller: str, root: Path, membership: Path) -> Iterator[Path]:
    """Yield the folders of this process' groups and of the groups around them, as far as they can be seen from here."""
    for line in (_read(membership) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = root / controllers if controllers else root
        if controllers and not base.is_dir():
            base = root / controller
        group = base / path.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(base) and folder.is_dir())


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None


def _cores(group: Path) -> float:
    both = _read(group / "cpu.max")  # version 2
    quota, period = (
        both.split()
        if both
        else (_read(group / "cpu.cfs_quota_us") or "-1", _read(group / "cpu.cfs_period_us") or "100000")
    )
    return math.inf if quota in ("max", "-1") else float(quota) / float(period)


def _left(group: Path) -> float:
    limit = _read(group / "memory.max") or _read(group / "memory.limit_in_bytes") or "max"
    if limit == "max" or int(limit) > _UNLIMITED:
        return math.inf
    used = _read(group / "memory.current") or _read(group / "memory.usage_in_bytes") or "0"
    lines = (_read(group / "memory.stat") or "").splitlines()
    figures = dict(line.split(maxsplit=1) for line in lines)
    droppable = figures.get("total_inactive_file", figures.get("inactive_file", "0"))
    return max(0, int(limit) - int(used) + int(droppable))
