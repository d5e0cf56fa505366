"""The settings of a scheduler process, built once at its start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Config:
    """Each field says its unit and what goes wrong without it."""

    #: host:port or unix:path; port 0 lets the system choose.
    listen: str
    #: Where this scheduler reaches storage.
    storage: str
    #: Folder of the database. Lost, every job is forgotten.
    state: Path
    #: The mesh ends with its last client: unfinished jobs are LOST at the next start, and unattended ones refused.
    embedded: bool = False
    #: Started again by the supervisor of an embedded mesh that lives on: its jobs go on.
    restarted: bool = False
    #: Seconds between two heartbeats of a node. Longer, and a lost node is noticed later.
    heartbeat_interval: float = 2.0
    #: Seconds without a heartbeat after which a node's attempts run elsewhere. Shorter than its pauses: work twice.
    lease: float = 15.0
    #: Open mini-batches in memory for each job. Smaller than all windows together, and nodes starve.
    window: int = 8192
    #: Messages of outcomes on their way to the disk. Without a bound a slow disk fills the memory.
    pending_writes: int = 256
    #: Bytes of a table on this host above which nodes look into it, as they do into all of remote datastores. Larger:
    #: fewer cores plan large tables, and the scheduler's own is busy; smaller: small ones take the time of a call.
    scan_above: int = 256 * 2**20
    #: Bytes of a table that a node looks into at once. Larger: the first mini-batches come later, and fewer nodes help;
    #: smaller: more calls.
    plan_slice_bytes: int = 64 * 2**20
    #: Days for which a job that has ended can be looked at and resumed. Longer: more disk.
    keep_days: float = 7.0
    #: Bytes that storage may keep for jobs; above, those that ended first are forgotten. Without it the disk fills.
    keep_bytes: int = 64 * 2**30
    #: Seconds between two looks at what is kept.
    housekeeping_interval: float = 3600.0
    #: Seconds for which a commit is tried again while storage does not answer.
    commit_patience: float = 600.0
    #: Seconds that each durable step is held back: a test setting that shows who waits for the disk.
    durable_delay: float = 0.0
    #: Unix socket of whoever starts agents on this host. Empty: nobody does, and local compute targets are refused.
    supervisor: str = ""
    #: May listen beyond loopback without TLS.
    insecure: bool = False
    #: Pipe that is told the address once the scheduler serves.
    ready_fd: int | None = None
    #: End when the process that started us ends.
    end_with_parent: bool = False
    log_level: str = "INFO"
