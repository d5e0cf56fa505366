"""What /proc says of processes, and which of them belong to a way."""

from __future__ import annotations

import os
from dataclasses import replace

from process_table import Process, below, process, processes, proportional
from watching import Part, Watch, part, whole

TICK, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


def table(*pairs: tuple[int, int]) -> dict[int, Process]:
    """Processes by number and parent, each of which has used a second and waited for two."""
    return {pid: Process(pid, parent, 1.0, 2.0, 10) for pid, parent in pairs}


def test_a_name_with_spaces_and_brackets_does_not_shift_the_fields() -> None:
    times = f"{3 * TICK} {TICK} {2 * TICK} {TICK}"
    stat = f"42 (a) (b c) S 7 42 42 0 -1 4194304 1 2 3 4 {times} 20 0 1 0 5000 99999 12 18446744073709551615"
    assert process(stat) == Process(42, 7, 4.0, 3.0, 12 * PAGE)


def test_what_is_below_a_process_is_its_whole_tree() -> None:
    assert {each.pid for each in below(2, table((1, 0), (2, 1), (3, 2), (4, 3), (5, 2), (6, 1)))} == {3, 4, 5}


def test_a_way_is_its_first_process_and_all_below_it() -> None:
    found = whole(2, table((1, 0), (2, 1), (3, 2)))["all"]
    assert (found.pids, found.cpu, found.resident) == ((2, 3), 6.0, 20)


def test_the_children_that_a_service_has_waited_for_can_be_counted_elsewhere() -> None:
    assert part(list(table((1, 0)).values()), waited=False).cpu == 1.0


def test_this_process_is_found_with_its_memory() -> None:
    me = processes()[os.getpid()]
    assert (me.parent, me.resident > 0, proportional(os.getpid()) > 0) == (os.getppid(), True, True)


def test_a_process_that_has_gone_weighs_nothing() -> None:
    assert proportional(2**22 + 1) == 0


def test_what_was_used_before_the_watch_is_not_counted() -> None:
    used = [5.0]

    def parts(found: dict[int, Process]) -> dict[str, Part]:
        return {"me": part([replace(found[os.getpid()], own=used[0], waited=0.0)])}

    with Watch(parts) as watch:
        used[0] = 5.5
    assert watch.cpu == {"me": 0.5}
    assert watch.peak == watch.peaks["me"] > 0
