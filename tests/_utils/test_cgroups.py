"""Limits of containers, read from folders laid out as the kernel lays them out."""

from pathlib import Path

import pytest

from pneumosearch._utils.cgroups import cpu_quota, memory_left

GIGABYTE = 2**30


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cgroup"


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def member(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "membership"
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_container_of_version_2_is_limited(tmp_path: Path, root: Path) -> None:
    statistics = f"anon 1\ninactive_file {GIGABYTE}"
    usage = {"memory.max": str(4 * GIGABYTE), "memory.current": str(3 * GIGABYTE), "memory.stat": statistics}
    write(root, {"cpu.max": "250000 100000", **usage})
    groups = member(tmp_path, "0::/")
    assert cpu_quota(root, groups) == 2.5
    assert memory_left(root, groups) == 2 * GIGABYTE


def test_tightest_group_around_a_process_counts(tmp_path: Path, root: Path) -> None:
    write(root, {"a.slice/cpu.max": "100000 100000", "a.slice/b.service/cpu.max": "max 100000"})
    write(root, {"a.slice/memory.max": "max", "a.slice/b.service/memory.max": str(GIGABYTE)})
    groups = member(tmp_path, "0::/a.slice/b.service")
    assert cpu_quota(root, groups) == 1.0
    assert memory_left(root, groups) == GIGABYTE


def test_container_of_version_1_is_limited(tmp_path: Path, root: Path) -> None:
    # Inside of the container the group's path is the host's, and its folder is the mount itself.
    write(root, {"cpu,cpuacct/cpu.cfs_quota_us": "200000", "cpu,cpuacct/cpu.cfs_period_us": "50000"})
    write(root, {"memory/memory.limit_in_bytes": str(GIGABYTE), "memory/memory.usage_in_bytes": str(GIGABYTE // 4)})
    groups = member(tmp_path, "4:memory:/docker/1f", "1:cpu,cpuacct:/docker/1f")
    assert cpu_quota(root, groups) == 4.0
    assert memory_left(root, groups) == 3 * GIGABYTE // 4


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"cpu.max": "max 100000", "memory.max": "max"},
        {"cpu/cpu.cfs_quota_us": "-1", "memory/memory.limit_in_bytes": "9223372036854771712"},
    ],
)
def test_no_limit_is_none(tmp_path: Path, root: Path, files: dict[str, str]) -> None:
    write(root, files)
    groups = member(tmp_path, "4:memory:/", "1:cpu:/", "0::/")
    assert cpu_quota(root, groups) is None
    assert memory_left(root, groups) is None


def test_system_without_control_groups_has_no_limit(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / "none", tmp_path / "none") is None
    assert memory_left(tmp_path / "none", tmp_path / "none") is None
