"""The one tree of errors. Each class's docstring says when it is raised; its message is the sentence the user reads."""

from __future__ import annotations


class BatchmeshError(Exception):
    """Something that batchmesh could not do; the message names the thing and the remedy."""


class Refused(BatchmeshError):
    """What was asked for cannot be done as it was asked; nothing was changed."""


class SpecRefused(Refused):
    """A setting of a job is unknown, missing or out of its range. `violations` maps each field to its sentence."""

    def __init__(self, message: str, violations: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.violations = violations or {}


class InputRefused(Refused):
    """An input is missing, empty, unreadable or of a mixed kind."""


class ScriptRefused(Refused):
    """The entry script is missing, does not compile, or has no run()."""


class OutputRefused(Refused):
    """The output folder cannot be taken by this job."""


class OutputNotEmpty(OutputRefused):
    """The output folder holds something, and overwrite was not given."""


class OutputReserved(OutputRefused):
    """Another job is writing to the output folder."""


class OutputUnwritable(OutputRefused):
    """The output folder cannot be created or written."""


class OutputChanged(OutputRefused):
    """The output folder is no longer what the job reserved."""


class NoJob(Refused):
    """No job has that id."""


class JobExists(Refused):
    """A job with that id was submitted with another spec."""


class JobCommitting(Refused):
    """The job is already writing its output and will succeed."""


class JobEnded(Refused):
    """The job has ended; there is nothing to cancel."""


class JobNotEnded(Refused):
    """The job runs; cancel it first."""


class JobNotResumable(Refused):
    """The job has not ended, would fail again at once, or nothing of it has failed."""


class MeshEmbedded(Refused):
    """The mesh ends with its last client; a job that is to outlive its client needs `batchmesh up`."""


class NoArtifact(Refused):
    """Storage does not have that artifact."""


class DigestMismatch(Refused):
    """The bytes sent do not have the digest they were announced with."""


class NoOutput(Refused):
    """The job has no output file to read."""


class NoLog(Refused):
    """The job has no log of that name."""


class BadName(Refused):
    """A name of a segment, log, node, workspace, catalog entry or compute target has characters it may not have."""


class BadEntry(Refused):
    """What a catalog entry says of itself cannot be: a path that is not absolute, a datastore of a kind that is not
    served, credentials that do not open it."""


class NoEntry(Refused):
    """The workspace has no datastore, dataset, model or environment of that name and version."""


class EntryExists(Refused):
    """The workspace has another entry of that name."""


class PathTaken(Refused):
    """A file is to be written to a datastore where there is one, and overwrite was not given."""


class NoComputeTarget(Refused):
    """There is no compute target of that name."""


class NoSupervisor(Refused):
    """Nobody on this mesh can start agents: no supervisor of a host watches its demand."""


class DatastoreFailed(BatchmeshError):
    """A datastore could not be read or written: it does not answer, or lacks the permission."""


class BadPageToken(Refused):
    """The page token is not one that a listing gave."""


class Gap(Refused):
    """A block begins past the end of what storage has."""


class NodeDraining(Refused):
    """The node finishes what it has and takes nothing new."""


class StaleScheduler(Refused):
    """A later start of the scheduler has spoken to this agent; what an earlier one says counts no more."""


class NoPool(Refused):
    """The first request of the stream opened no pool."""


class CommitRunning(BatchmeshError):
    """Another commit of the same job is at work; ask again."""


class CutOff(BatchmeshError):
    """A stream ended before its last request."""


class StorageBusy(BatchmeshError):
    """Storage has as many results in memory as it may; ask again."""


class DiskFull(BatchmeshError):
    """The disk that storage writes to is full."""


class DiskFailing(BatchmeshError):
    """The disk that storage writes to, or syncs, fails."""


class LogFull(BatchmeshError):
    """The log has reached its limit; nothing more is kept of it."""


class MeshUnreachable(BatchmeshError):
    """No mesh answers at that address, or the home's mesh does not answer."""


class DeadlineExceeded(MeshUnreachable):
    """A call was not answered within its deadline."""


class ServiceFailed(BatchmeshError):
    """A service answered with an error of its own making; its log has the traceback."""
