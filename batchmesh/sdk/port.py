"""The place where a step's output lies, once its run has ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from batchmesh.errors import InputRefused, NoOutput
from batchmesh.sdk.datastore import Datastore

if TYPE_CHECKING:
    from batchmesh.datastores.reference import Reference
    from batchmesh.job import JobSpec
    from batchmesh.sdk.workspace import Workspace

#: The report lies beside the output, and is no part of it.
_REPORT = "job_report"
_DEFAULT_FILE = "parallel_run_step.txt"


class Port:
    """What `step_run.get_output_data(name)` gives."""

    def __init__(
        self, workspace: Workspace, job_id: str, name: str, reference: Reference | None, spec: JobSpec
    ) -> None:
        assert reference is not None, "the output of a step is in a datastore"
        self.name = name
        self.path_on_datastore = reference.path
        self._workspace = workspace
        self._job_id = job_id
        self._file = spec.append_row_file_name or _DEFAULT_FILE
        self._datastore_name = reference.datastore

    def __repr__(self) -> str:
        return f"Port({self.name!r}, {self._datastore_name}/{self.path_on_datastore})"

    @property
    def datastore(self) -> Datastore:
        return Datastore.get(self._workspace, self._datastore_name)

    def get_port_data_reference(self) -> Port:
        """Itself, as programs ask for it that came by `get_outputs`."""
        return self

    def download(self, local_path: str, overwrite: bool | None = None, show_progress: bool | None = None) -> int:
        """Fetches its files, each under its whole path in the datastore, without the report; returns how many.

        Errors: InputRefused while there is no output; DatastoreFailed.
        """
        datastore = self.datastore
        if not datastore.is_here:
            return self._read_by_call(Path(local_path))
        store, count = datastore.store, 0
        for each in store.find(self.path_on_datastore):
            inside = each.path[len(self.path_on_datastore) + 1 :]
            to = Path(local_path) / each.path
            if inside.split("/")[0] == _REPORT or (to.exists() and not overwrite):
                continue
            to.parent.mkdir(parents=True, exist_ok=True)
            store.download(each.path, to)
            count += 1
            if show_progress:
                print(f"Downloaded {each.path} to {to}.")  # noqa: T201 as azureml does
        return count

    def _read_by_call(self, folder: Path) -> int:
        """Of a folder of the mesh's hosts that is none of ours, storage sends the append_row file."""
        to = folder / self.path_on_datastore / self._file
        to.parent.mkdir(parents=True, exist_ok=True)
        try:
            with to.open("wb") as file:
                file.writelines(self._workspace.client.read_output(self._job_id))
        except NoOutput as error:
            raise InputRefused(f"The output {self.name!r} cannot be read from here: {error}") from None
        return 1
