"""The errors that azureml-core has by a name of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchmesh.errors import BatchmeshError, Refused

if TYPE_CHECKING:
    from batchmesh.job import Failure


class NotServed(Refused):
    """Something of azureml that batchmesh does not serve; the sentence says what to use."""


class ComputeTargetException(Refused):
    """There is no compute target of that name, or it cannot be made as it was asked for."""

    @property
    def message(self) -> str:
        return str(self)


class RunFailed(BatchmeshError):
    """A run that was waited for has failed or was cancelled; azureml's ActivityFailedException.

    `failure` is the job's error, with the first traceback of the user's code; None for a cancelled run.
    """

    def __init__(self, message: str, failure: Failure | None = None) -> None:
        super().__init__(message)
        self.failure = failure
