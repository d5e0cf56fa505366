"""EntryScript, as ParallelRunStep gives it to its entry scripts. CPython 3.9, standard library only."""

from __future__ import annotations

import logging
import os
from typing import Any


class EntryScript:
    """The one of this process: where it may write, and a logger, whose lines go to the worker's log."""

    _only: EntryScript | None = None

    def __new__(cls) -> EntryScript:
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    @property
    def logger(self) -> logging.Logger:
        return logging.getLogger("EntryScript")

    @property
    def working_dir(self) -> str:
        """The private folder of this worker; it goes with the worker."""
        return os.environ["BATCHMESH_WORKING_FOLDER"]

    @property
    def output_dir(self) -> str:
        """The folder of --output."""
        return os.environ["AZUREML_BI_OUTPUT_PATH"]

    @property
    def log_dir(self) -> str:
        """A folder for files of the script's own; it goes with the worker. What is logged or printed is kept."""
        folder = os.path.join(self.working_dir, "logs")
        os.makedirs(folder, exist_ok=True)
        return folder

    @property
    def agent_name(self) -> str:
        """The node and the process."""
        return os.environ["BATCHMESH_WORKER"]

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"EntryScript().{name} is not served by batchmesh; there are logger, log_dir, output_dir, working_dir and "
            "agent_name."
        )
