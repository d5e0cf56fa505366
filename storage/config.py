"""The settings of one storage process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Config:
    """Built once, at the start, from the command line."""

    #: HOST:PORT (port 0: the system picks one) or unix:PATH.
    listen: str
    #: Folder of all that storage keeps; one process at a time holds it.
    root: Path
    #: What agents and clients call; without it what `listen` says. Wrong, and no agent finds its storage.
    advertise: str | None = None
    #: Leave to listen off loopback without TLS.
    insecure: bool = False
    #: Pipe to write one line to when calls are taken. None: nobody waits for it.
    ready_fd: int | None = None
    #: End when the process that started us ends; without it an embedded mesh could leave us behind.
    end_with_parent: bool = False
    #: Test setting, seconds: each durable step of the segments takes that much longer. Default 0.
    durable_delay: float = 0.0
    #: Bytes of results in memory that wait to be written; what comes beyond is sent again later. Should hold a block
    #: (3 MiB) of each agent, or they send much of it twice.
    unwritten_limit: int = 512 * 2**20
    #: Bytes of one log; a script that prints without end would fill the disk otherwise.
    log_limit: int = 64 * 2**20
    #: Bytes of all logs of a job.
    job_log_limit: int = 2**30
    #: Logs of a job; the list of them has to fit into one message.
    job_log_count: int = 10_000
    #: Bytes of one artifact.
    artifact_limit: int = 16 * 2**30
    #: Seconds that calls in progress get when the process is asked to end.
    grace: float = 5.0
