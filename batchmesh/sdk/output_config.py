"""The output of a step, at a place of the program's choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchmesh.errors import SpecRefused
from batchmesh.sdk.datastore import Datastore
from batchmesh.sdk.errors import NotServed
from batchmesh.sdk.output_data import OutputInput, check_output_name

if TYPE_CHECKING:
    from batchmesh.sdk.parallel_run_step import ParallelRunStep


class OutputFileDatasetConfig:
    """Names what a step writes, at (datastore, path); {run-id} and {output-name} in the path are replaced."""

    def __init__(
        self,
        name: str | None = None,
        destination: Any = None,
        source: str | None = None,
        partition_format: str | None = None,
    ) -> None:
        """Without a destination it lies at azureml/RUN ID/NAME of the default datastore. A destination without {run-id}
        can be written once: a run refuses a folder that holds something. Errors: SpecRefused, NotServed.
        """
        if source is not None or partition_format is not None:
            raise NotServed(
                "source and partition_format of OutputFileDatasetConfig are not served; write below --output."
            )
        self.name = check_output_name(name or "output")
        self.destination = _destination(destination)
        self.producer: ParallelRunStep | None = None

    def __repr__(self) -> str:
        return f"OutputFileDatasetConfig({self.name!r})"

    @property
    def datastore(self) -> Datastore | None:
        """None for the workspace's default one."""
        return self.destination[0] if self.destination else None

    def path_in(self, job_id: str) -> str:
        """Where the run of its step puts it in the datastore."""
        path = (self.destination[1] if self.destination else None) or "azureml/{run-id}/{output-name}"
        return path.replace("{run-id}", job_id).replace("{output-name}", self.name).strip("/")

    def as_upload(self, overwrite: bool = False, source_globs: Any = None) -> OutputFileDatasetConfig:
        """Itself; Errors: NotServed for an overwrite or for globs."""
        if overwrite or source_globs:
            raise NotServed("overwrite and source_globs of as_upload are not served; use {run-id} in the destination.")
        return self

    def as_mount(self, disable_metadata_cache: bool = False) -> OutputFileDatasetConfig:
        del disable_metadata_cache
        return self

    def register_on_complete(
        self, name: str, description: str | None = None, tags: dict[str, str] | None = None
    ) -> OutputFileDatasetConfig:
        """Always refused."""
        del description, tags
        raise NotServed(
            f"register_on_complete({name!r}) is not served; after the run, register a dataset of the place."
        )

    def as_input(self, name: str | None = None) -> OutputInput:
        """As the input of a later step, whose items are the files."""
        return OutputInput(self, name)

    def read_delimited_files(
        self, include_path: bool = False, separator: str = ",", header: object = True
    ) -> OutputInput:
        """As the input of a later step, whose items are the rows of its .csv files."""
        return OutputInput(self).parse_delimited_files(include_path, separator, header)

    def read_parquet_files(self, include_path: bool = False) -> OutputInput:
        """As the input of a later step, whose items are the rows of its .parquet files."""
        return OutputInput(self).parse_parquet_files(include_path)


def _destination(given: Any) -> tuple[Datastore, str] | None:
    if given is None:
        return None
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], Datastore):
        return given[0], given[1] or ""
    reference = getattr(given, "path_on_datastore", None)
    if isinstance(reference, str):
        return given.datastore, reference
    raise SpecRefused(f"The destination {given!r} is none: give (datastore, 'path').")
