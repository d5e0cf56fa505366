"""The process groups of workers and installers, recorded in the work folder: the agent's next life ends what is left.

agent ──starts worker──▶ work/groups/PID     agent, killed     next agent ──reads work/groups──▶ SIGKILL
                                                    └──▶ a worker dies with it; what its script has forked may not
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

import structlog

from . import process_table

if TYPE_CHECKING:
    from pathlib import Path

#: Environment variable of each worker, and so of all that it starts: the real path of its agent's work folder.
MARK = "BATCHMESH_WORK"
#: Seconds that killed processes have to be gone; one that waits for a dead disk may need longer.
_PATIENCE = 5.0

log = structlog.get_logger()


class Leader(NamedTuple):
    """The first process of a group, whose process id is the group's."""

    group: int
    #: As in process_table.Process; 0 where the record was cut off.
    started: int
    boot_id: str


def mark(work: Path) -> str:
    """The value of MARK, the same however the folder is called."""
    return os.path.realpath(work)


class Groups:
    """The records of one agent."""

    def __init__(self, work: Path) -> None:
        self._folder = work / "groups"
        #: What MARK is for this agent.
        self.mark = mark(work)

    def add(self, group: int) -> None:
        """Call when its leader has been started. One that cannot be recorded is only less well looked after."""
        found = process_table.process(group) if process_table.exists() else None
        if found is None:
            return
        try:
            self._folder.mkdir(exist_ok=True)
            (self._folder / str(group)).write_text(json.dumps([found.started, process_table.boot_id()]))
        except OSError as error:
            log.warning("group_not_recorded", group=group, error=str(error))

    def remove(self, group: int) -> None:
        """Call when the group has been ended and its leader reaped."""
        with contextlib.suppress(OSError):
            (self._folder / str(group)).unlink()


def end_recorded(work: Path) -> None:
    """Ends what is left of the groups that an earlier agent in this folder recorded, and forgets them.

    Returns once they are gone, or after a few seconds.
    """
    folder = work / "groups"
    if process_table.exists() and folder.is_dir():
        leaders = [_recorded(each) for each in folder.iterdir() if each.name.isdigit()]
        for leader in leaders:
            if leader.boot_id == process_table.boot_id() and not _end(leader, mark(work)):
                log.warning("group_not_ended", group=leader.group)
    shutil.rmtree(folder, ignore_errors=True)


def _recorded(path: Path) -> Leader:
    """A record that was cut off tells the group alone; whose it is, its members' variable tells."""
    try:
        started, boot_id = json.loads(path.read_text())
    except (OSError, ValueError):
        started, boot_id = 0, process_table.boot_id()
    return Leader(int(path.name), started, boot_id)


def _end(leader: Leader, work: str) -> bool:
    """Kills the group until nothing of it is left; False when that takes too long. They may fork meanwhile."""
    deadline = time.monotonic() + _PATIENCE
    while ours := _ours(leader, work):
        for pid, started in ours.items():
            _kill(pid, started)
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _ours(leader: Leader, work: str) -> dict[int, int]:
    """Process id and start time of what is to be ended.

    A number is not given to another process while a group has it. So where its leader lives, all are its; where
    it does not, the group may be a later one of the same number, and each must show that it comes from our workers.
    """
    found = process_table.members(leader.group)
    first = process_table.process(leader.group)
    if first is not None and leader.started:
        return {pid: each.started for pid, each in found.items()} if first.started == leader.started else {}
    return {
        pid: each.started
        for pid, each in found.items()
        if each.started >= leader.started and process_table.has_variable(pid, MARK, work)
    }


def _kill(pid: int, started: int) -> None:
    """Kills this very process, and no other that has got its number since."""
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(pid)
        try:
            found = process_table.process(pid)
            if found is not None and found.started == started:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)
