"""The agent's settings, built once at its start."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Config:
    """Times are seconds, sizes bytes. Each field says what goes wrong without it, or with a bad value."""

    #: host:port or unix:path of the scheduler. A wrong one: the agent tries again forever and no job comes.
    scheduler: str
    #: Folder for caches, pools and workers' working folders. Two agents in one folder would clean up after each other,
    #: so it is locked.
    work: Path
    #: Where the agent listens; port 0 lets the system choose.
    listen: str = "127.0.0.1:0"
    #: Address told to the scheduler; empty is the listen address. Wrong: jobs find no node although it has joined.
    advertise: str = ""
    #: Unique to one life of this agent; log and segment names carry it. Twice the same: results would mix.
    node_id: str = "node"
    #: Name of the compute target that it is a node of; empty: none. A wrong one: jobs that name the right one wait.
    compute_target: str = ""
    #: Live workers over all jobs, default the machine's cores. Too many: memory runs out; too few: cores idle.
    slots: int = field(default_factory=lambda: os.cpu_count() or 1)
    #: GPUs of the node, as CUDA_VISIBLE_DEVICES names them: workers see one each. Wrong: several share one.
    gpus: tuple[str, ...] = ()
    #: What one worker may use with all that it has started; 0 is no limit of its own. Too low: sound mini-batches fail.
    worker_memory: int = 0
    #: What all workers together may use, else the largest is ended; 0 is 95 % of the node's memory, or of the control
    #: group's limit. Without it the kernel chooses whom to end, and may choose the agent.
    node_memory: int = 0
    #: How long a SIGTERM leaves open attempts. Too short: their tries begin anew elsewhere.
    drain_timeout: float = 60.0
    #: How long an idle pool stays warm. Too long: idle models hold memory; too short: each job pays init() again.
    pool_idle_timeout: float = 300.0
    #: How long loading the script and init() may take. Without it a hanging init() holds its slot forever.
    init_timeout: float = 600.0
    #: Failures of init() in a row after which the node is no use to the job.
    init_tries: int = 3
    #: How long shutdown() may take before the worker is killed.
    shutdown_timeout: float = 30.0
    #: How often running attempts are held against their limits; a limit is exceeded by at most about this.
    tick: float = 0.05
    #: A tick later than this means that the agent itself was paused: deadlines move by the pause.
    pause_threshold: float = 0.5
    #: Results not yet durable, over all jobs; beyond it workers wait. Without it a slow disk fills the memory.
    unacknowledged_bytes: int = 64 * 2**20
    #: How long storage may take to make a message of results durable before it is sent again on another stream. Without
    #: it a storage that is alive and answers nothing holds a job up forever; too short: results are sent many times.
    acknowledgement_timeout: float = 60.0
    #: The largest result of one mini-batch; it is held in memory once.
    max_result_bytes: int = 2**30
    #: Sources, models and side inputs kept for later jobs; those in use stay whatever their size. Without it the disk
    #: fills.
    artifact_cache_bytes: int = 8 * 2**30
    #: How long one is asked of a storage that does not answer, before the node says it is no use to the job.
    artifact_timeout: float = 60.0
    #: Files of datastores kept for later mini-batches and jobs; those in use stay. Without it the disk fills; a file
    #: that is larger cannot be read here.
    file_cache_bytes: int = 10 * 2**30
    #: Files fetched at once. Too many: each takes longer than task_overhead_timeout allows.
    parallel_fetches: int = 8
    #: Tables that are looked into at once for the scheduler. Too many: workers have less of the cores.
    parallel_scans: int = 2
    #: Virtual environments kept for later jobs; those in use stay. Without it the disk fills.
    environment_bytes: int = 20 * 2**30
    #: How long one may take to be made. Without it an installer that waits for a dead host holds its jobs up forever.
    environment_timeout: float = 1200.0
    #: How often workers' output is sent to storage.
    log_interval: float = 1.0
    #: Output kept of each worker process, job and stream. Without it a chatty script fills storage.
    log_bytes: int = 16 * 2**20

    @property
    def processes(self) -> int:
        """Workers of a job that names no number: one for each GPU, or else for each slot."""
        return min(self.slots, len(self.gpus) or self.slots)
