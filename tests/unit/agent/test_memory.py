"""Which workers use too much memory, and how a group of processes is weighed."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmesh.agent.memory import Excess, Group, overweight

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MB, GB = 2**20, 2**30
SAMPLES = st.dictionaries(st.integers(1, 99), st.integers(0, 100), max_size=6)


@given(SAMPLES, st.integers(1, 100))
def test_each_group_over_its_own_limit_goes_and_no_other(samples: dict[int, int], limit: int) -> None:
    over = overweight(samples, limit, 0)
    assert {each.group for each in over} == {group for group, used in samples.items() if used > limit}
    assert all(each == Excess(each.group, samples[each.group], limit) for each in over)


@given(SAMPLES, st.integers(1, 300))
def test_together_over_the_nodes_limit_the_largest_goes_alone(samples: dict[int, int], limit: int) -> None:
    over = overweight(samples, 0, limit)
    assert [each.used for each in over] == ([max(samples.values())] if sum(samples.values()) > limit else [])
    assert all(each.all_used == sum(samples.values()) for each in over)


@given(SAMPLES)
def test_without_limits_nobody_goes(samples: dict[int, int]) -> None:
    assert overweight(samples, 0, 0) == []


def test_the_sentences_tell_what_was_used_the_limit_and_where() -> None:
    each = Excess(7, int(1.25 * GB), GB).sentence("during run() of /in/a")
    assert each.startswith(
        "The worker's processes used 1.3 GB, more than their limit of 1.0 GB (--worker-memory), during run() of /in/a;"
    )
    everyone = Excess(7, 300 * MB, 500 * MB, 501 * MB).sentence("during run()")
    assert everyone.startswith("The node's workers used 501 MB, more than the 500 MB that it has for them")
    assert "the most, 300 MB, during run();" in everyone


def test_what_is_just_over_a_limit_reads_so() -> None:
    assert "used 1.1 GB, more than their limit of 1.0 GB" in Excess(7, GB + 1, GB).sentence("during run()")


@contextmanager
def weighed(program: str, *arguments: Path) -> Iterator[Group]:
    """The group of a process that has said that it is ready."""
    line = [sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        group = Group(process.pid)
        group.pids |= set(pids)
        try:
            yield group
        finally:
            process.communicate()  # its standard input ends, and so do the others


@pytest.mark.skipif(sys.platform != "linux", reason="weighs by /proc")
def test_pages_that_forked_processes_share_count_once() -> None:
    program = (
        "import os, sys\n"
        "held = bytearray(os.urandom(1)) * 100_000_000\n"
        "pids, (reader, writer) = [], os.pipe()\n"
        "for _ in range(4):\n"
        "    pid = os.fork()\n"
        "    if not pid:\n"
        "        os.close(writer); os.read(reader, 1); os._exit(0)\n"
        "    pids.append(pid)\n"
        "print(*pids, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with weighed(program) as group:
        assert group.estimate() > 400_000_000
        assert 100_000_000 < group.weight() < 200_000_000
        assert 100_000_000 < group.estimate() < 200_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="weighs by /proc")
def test_a_mapped_file_is_no_memory_that_a_kill_gives_back(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(100_000_000))
    program = (
        "import mmap, sys\n"
        "file = open(sys.argv[1], 'rb')\n"
        "mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)\n"
        "total = sum(mapped[::4096])\n"
        "print(flush=True)\n"
        "sys.stdin.read()\n"
    )
    with weighed(program, tmp_path / "large") as group:
        assert group.estimate() > 100_000_000
        assert group.weight() < 50_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="weighs by /proc")
def test_a_process_that_has_left_the_group_is_not_weighed_with_it() -> None:
    program = (
        "import os, subprocess, sys\n"
        "code = 'import sys; held = bytes([1]) * 100_000_000; print(flush=True); sys.stdin.read()'\n"
        "other = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, start_new_session=True)\n"
        "other.stdout.readline()\n"
        "print(other.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with weighed(program) as group:
        assert group.estimate() > 100_000_000
        assert group.weight() < 50_000_000
        assert group.pids == {group.number}
