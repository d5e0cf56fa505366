"""The output of a step, in a datastore."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchmesh.errors import SpecRefused
from batchmesh.sdk.datastore import Datastore
from batchmesh.sdk.output_data import OutputInput, check_output_name

if TYPE_CHECKING:
    from batchmesh.sdk.parallel_run_step import ParallelRunStep


class PipelineData:
    """Names what a step writes, and lets a later step read it. It lies at azureml/RUN ID/NAME of its datastore."""

    def __init__(
        self,
        name: str,
        datastore: Datastore | None = None,
        output_name: str | None = None,
        output_mode: str = "mount",
        output_path_on_compute: str | None = None,
        output_overwrite: bool | None = None,
        data_type: str | None = None,
        is_directory: bool | None = None,
        pipeline_output_name: str | None = None,
        training_output: object = None,
    ) -> None:
        """`datastore` None is the workspace's default one. The modes, paths and types are kept, or unused: where files
        lie on a node is the node's matter. Errors: SpecRefused for a name that is none.
        """
        del data_type, is_directory, training_output
        if datastore is not None and not isinstance(datastore, Datastore):
            raise SpecRefused(f"The datastore of the output {name!r} is a Datastore, not {datastore!r}.")
        self.name = check_output_name(name)
        self.output_name = output_name or name
        self.output_mode = output_mode
        self.output_path_on_compute = output_path_on_compute
        self.output_overwrite = output_overwrite
        #: Another name under which `PipelineRun.get_pipeline_output` finds it.
        self.pipeline_output_name = pipeline_output_name
        self.producer: ParallelRunStep | None = None
        self._datastore = datastore

    def __repr__(self) -> str:
        return f"PipelineData({self.name!r})"

    @property
    def datastore(self) -> Datastore | None:
        """None for the workspace's default one."""
        return self._datastore

    def path_in(self, job_id: str) -> str:
        """Where the run of its step puts it in the datastore."""
        return f"azureml/{job_id}/{self.output_name}"

    def as_dataset(self) -> OutputInput:
        """As the input of a later step, whose items are the files; `parse_delimited_files` makes them rows."""
        return OutputInput(self)

    def as_input(self, input_name: str | None = None) -> OutputInput:
        """As `as_dataset`, under that name."""
        return OutputInput(self, input_name)

    def as_named_input(self, name: str) -> OutputInput:
        """As `as_dataset`, under that name."""
        return OutputInput(self).as_named_input(name)

    def as_mount(self) -> PipelineData:
        return self

    def as_download(self, path_on_compute: str | None = None, overwrite: bool = False) -> PipelineData:
        del path_on_compute, overwrite
        return self
