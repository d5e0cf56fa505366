"""What control groups of both versions say of memory, read from folders like theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchmesh.agent import cgroup

if TYPE_CHECKING:
    from pathlib import Path

GB = 2**30


def kernel(folder: Path, groups: str, files: dict[str, str]) -> tuple[Path, Path]:
    """A /proc of 64 GB and a /sys/fs/cgroup with these files."""
    proc, mounted = folder / "proc", folder / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal:       {64 * 2**20} kB\nMemFree:        1 kB\n")
    (proc / "self/cgroup").write_text(groups)
    mounted.mkdir()
    for name, text in files.items():
        (mounted / name).parent.mkdir(parents=True, exist_ok=True)
        (mounted / name).write_text(text)
    return proc, mounted


def test_without_groups_the_nodes_memory_is_the_limit_and_nobody_counts(tmp_path: Path) -> None:
    found = kernel(tmp_path, "", {})
    assert cgroup.memory_limit(*found) == 64 * GB
    assert cgroup.ended_for_memory(*found) is None


def test_of_version_2_the_least_limit_on_the_way_up_holds(tmp_path: Path) -> None:
    files = {"a/b/memory.max": "max\n", "a/memory.max": f"{8 * GB}\n", "a/b/memory.events": "oom 3\noom_kill 2\n"}
    found = kernel(tmp_path, "0::/a/b\n", files)
    assert cgroup.memory_limit(*found) == 8 * GB
    assert cgroup.ended_for_memory(*found) == 2


def test_of_version_1_the_group_of_memory_counts_and_no_other(tmp_path: Path) -> None:
    files = {
        "memory/job/memory.limit_in_bytes": f"{2 * GB}\n",
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
        "memory/job/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        "memory/other/memory.limit_in_bytes": "1\n",
    }
    found = kernel(tmp_path, "5:cpu,cpuacct:/other\n4:memory:/job\n0::/\n", files)
    assert cgroup.memory_limit(*found) == 2 * GB
    assert cgroup.ended_for_memory(*found) == 1


def test_in_a_container_what_is_mounted_is_the_group_whatever_its_name_outside(tmp_path: Path) -> None:
    for name, groups in (("one", "0::/../outside/4711\n"), ("two", "0::/docker/4711\n")):
        found = kernel(tmp_path / name, groups, {"memory.max": f"{GB}\n", "memory.events": "oom_kill 5\n"})
        assert cgroup.memory_limit(*found) == GB
        assert cgroup.ended_for_memory(*found) == 5
