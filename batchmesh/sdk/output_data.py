"""What a step writes, as the steps behind it and its run name it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from batchmesh.errors import SpecRefused

if TYPE_CHECKING:
    from batchmesh.sdk.datastore import Datastore
    from batchmesh.sdk.parallel_run_step import ParallelRunStep

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")


class StepOutput(Protocol):
    """PipelineData and OutputFileDatasetConfig: a name, and where it will lie."""

    name: str
    #: The step that it is the output of; None before there is one.
    producer: ParallelRunStep | None

    @property
    def datastore(self) -> Datastore | None:
        """None for the workspace's default one."""

    def path_in(self, job_id: str) -> str:
        """Where a run of the step puts it in the datastore."""


def check_output_name(name: str) -> str:
    """Errors: SpecRefused."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SpecRefused(
            f"The output name {name!r} is none: it begins with a letter or '_', and has letters, digits and '_'."
        )
    return name


class OutputInput:
    """The output of one step as the input of another: its files, or with `kind` the rows of its tables."""

    def __init__(self, output: StepOutput, name: str | None = None, kind: str = "files", csv_header: str = "") -> None:
        self.output = output
        self.name = name or output.name
        #: files, csv or parquet.
        self.kind = kind
        self.csv_header = csv_header

    def __repr__(self) -> str:
        return f"OutputInput({self.name!r}, {self.kind})"

    def as_named_input(self, name: str) -> OutputInput:
        from batchmesh.sdk.consumption import check_input_name

        return OutputInput(self.output, check_input_name(name), self.kind, self.csv_header)

    def as_mount(self, path_on_compute: str | None = None) -> OutputInput:
        """Itself: how files come to a node is the node's matter."""
        del path_on_compute
        return self

    def as_download(self, path_on_compute: str | None = None) -> OutputInput:
        """As `as_mount`."""
        del path_on_compute
        return self

    def as_direct(self) -> OutputInput:
        return self

    def parse_delimited_files(
        self, include_path: bool = False, separator: str = ",", header: object = True
    ) -> OutputInput:
        """Its .csv files as tables. Errors: NotServed for `include_path`, another separator, or one header for all."""
        from batchmesh.sdk.data_types import csv_header
        from batchmesh.sdk.errors import NotServed

        if include_path or separator not in (",", "\t"):
            raise NotServed("Of a step's output, include_path is not served, nor another separator than ',' or a tab.")
        return OutputInput(self.output, self.name, "csv", csv_header(header))  # type: ignore[arg-type]

    def parse_parquet_files(self, include_path: bool = False) -> OutputInput:
        """Its .parquet files as tables. Errors: NotServed for `include_path`."""
        from batchmesh.sdk.errors import NotServed

        if include_path:
            raise NotServed("Of a step's output, include_path is not served.")
        return OutputInput(self.output, self.name, "parquet")

    read_delimited_files = parse_delimited_files
    read_parquet_files = parse_parquet_files
