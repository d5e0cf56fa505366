"""Making datasets and finding registered ones: `Dataset.File`, `Dataset.Tabular`, `Dataset.get_by_name`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchmesh.entries import Dataset as Content
from batchmesh.entries import EntryKind
from batchmesh.errors import Refused, SpecRefused
from batchmesh.sdk import ranges
from batchmesh.sdk.data_types import DataType, PromoteHeadersBehavior, csv_header
from batchmesh.sdk.errors import NotServed
from batchmesh.sdk.file_dataset import FileDataset
from batchmesh.sdk.places import placed
from batchmesh.sdk.tabular_dataset import TabularDataset

if TYPE_CHECKING:
    import pandas as pd

    from batchmesh.entries import Entry
    from batchmesh.sdk.workspace import Workspace

AnyDataset = FileDataset | TabularDataset


class FileDatasetFactory:
    """`Dataset.File`."""

    @staticmethod
    def from_files(
        path: Any, validate: bool = True, partition_format: str | None = None, is_file: bool = False
    ) -> FileDataset:
        """`path` is datastore.path(…), (datastore, path), a path, or a list of them; a folder means all below it.

        Errors: SpecRefused; with `validate` InputRefused when nothing is there; NotServed for `partition_format`.
        """
        del is_file
        _refuse_partitions(partition_format)
        paths, workspace = placed(path)
        dataset = FileDataset(Content("files", paths), workspace)
        if validate:
            dataset.check_there()
        return dataset


class TabularDatasetFactory:
    """`Dataset.Tabular`."""

    @staticmethod
    def from_delimited_files(
        path: Any,
        validate: bool = True,
        include_path: bool = False,
        infer_column_types: bool = True,
        set_column_types: dict[str, DataType] | None = None,
        separator: str = ",",
        header: bool | PromoteHeadersBehavior = True,
        partition_format: str | None = None,
        support_multi_line: bool = False,
        empty_as_string: bool = False,
        encoding: str = "utf8",
    ) -> TabularDataset:
        """CSV files, or with tabs the files that end in .tsv. Newlines in quotes are always read as such.

        Errors: as of `from_files`; NotServed for another separator or encoding, and where nothing is to be inferred.
        """
        del support_multi_line, empty_as_string
        _refuse_partitions(partition_format, include_path)
        _refuse_encoding(encoding)
        if not infer_column_types:
            raise NotServed("infer_column_types=False is not served; give the types of columns with set_column_types.")
        paths, workspace = placed(path)
        _check_separator(separator, paths)
        return _table(Content("csv", paths, csv_header(header), _types(set_column_types)), workspace, validate)

    @staticmethod
    def from_parquet_files(
        path: Any,
        validate: bool = True,
        include_path: bool = False,
        set_column_types: dict[str, DataType] | None = None,
        partition_format: str | None = None,
    ) -> TabularDataset:
        """Errors: as of `from_files`; NotServed for types: Parquet has its own."""
        _refuse_partitions(partition_format, include_path)
        if set_column_types:
            raise NotServed("set_column_types is not served for Parquet, whose columns have types of their own.")
        paths, workspace = placed(path)
        return _table(Content("parquet", paths), workspace, validate)

    @staticmethod
    def from_json_lines_files(
        path: Any,
        validate: bool = True,
        include_path: bool = False,
        set_column_types: dict[str, DataType] | None = None,
        partition_format: str | None = None,
        invalid_lines: str = "error",
        encoding: str = "utf8",
    ) -> TabularDataset:
        """`invalid_lines` is unused: a line that cannot be read is a failed item. Errors: as of delimited files."""
        _refuse_partitions(partition_format, include_path)
        _refuse_encoding(encoding)
        if invalid_lines not in ("error", "drop"):
            raise SpecRefused(f"invalid_lines is 'error' or 'drop', not {invalid_lines!r}.")
        paths, workspace = placed(path)
        return _table(Content("jsonl", paths, csv_types=_types(set_column_types)), workspace, validate)

    @staticmethod
    def from_pandas_dataframe(dataframe: pd.DataFrame) -> TabularDataset:
        """Its rows without its index, written as Parquet into a workspace's default datastore once it is used."""
        return TabularDataset.from_frame(dataframe)

    @staticmethod
    def register_pandas_dataframe(
        dataframe: pd.DataFrame,
        target: Any,
        name: str,
        description: str | None = None,
        tags: dict[str, str] | None = None,
        show_progress: bool = True,
    ) -> TabularDataset:
        """As `from_pandas_dataframe` and `register` in the workspace of `target`, a datastore or a place in one."""
        del show_progress
        datastore = target[0] if isinstance(target, tuple) else getattr(target, "datastore", target)
        dataset = TabularDataset.from_frame(dataframe)
        return dataset.register(datastore.workspace, name, description, tags, create_new_version=True)


class Dataset:
    """Not made itself: see `Dataset.File`, `Dataset.Tabular` and `Dataset.get_by_name`."""

    File = FileDatasetFactory
    Tabular = TabularDatasetFactory

    @staticmethod
    def get_by_name(workspace: Workspace, name: str, version: int | str = "latest") -> AnyDataset:
        """Errors: NoEntry, for an unknown name or version; SpecRefused for a version that is no number."""
        return _dataset(
            workspace,
            workspace.client.catalog.get(EntryKind.DATASET, name, ranges.version("a dataset", version), workspace.name),
        )

    @staticmethod
    def get_by_id(workspace: Workspace, id: str) -> AnyDataset:  # noqa: A002 azureml's name
        """`id` is that of a dataset, NAME:VERSION. Errors: as of `get_by_name`."""
        name, _, version = id.partition(":")
        return Dataset.get_by_name(workspace, name, version or "latest")

    @staticmethod
    def get_all(workspace: Workspace) -> dict[str, AnyDataset]:
        """The newest version of each, by name."""
        entries = workspace.client.catalog.list(EntryKind.DATASET, workspace=workspace.name)
        return {entry.name: _dataset(workspace, entry) for entry in entries}

    @staticmethod
    def from_pandas_dataframe(dataframe: pd.DataFrame, path: Any = None, in_memory: bool = False) -> TabularDataset:
        """As `Dataset.Tabular.from_pandas_dataframe`; the other two are unused."""
        del path, in_memory
        return TabularDataset.from_frame(dataframe)


def _dataset(workspace: Workspace, entry: Entry) -> AnyDataset:
    assert isinstance(entry.content, Content)
    kind = FileDataset if entry.content.kind == "files" else TabularDataset
    return kind(entry.content, workspace, entry=entry)


def _table(content: Content, workspace: Workspace | None, validate: bool) -> TabularDataset:
    dataset = TabularDataset(content, workspace)
    if validate:
        dataset.check_there()
    return dataset


def _types(given: dict[str, DataType] | None) -> dict[str, str]:
    for column, kind in (given or {}).items():
        if not isinstance(kind, DataType):
            raise SpecRefused(f"set_column_types has {kind!r} for {column!r}; give DataType.to_string(), to_long() …")
    return {column: kind.name for column, kind in (given or {}).items()}


def _refuse_partitions(partition_format: str | None, include_path: bool = False) -> None:
    if partition_format is not None:
        raise NotServed(
            "partition_format is not served yet; leave it out, and read what you need from the file's path."
        )
    if include_path:
        raise NotServed("include_path is not served; use Dataset.File.from_files, whose items are paths.")


def _refuse_encoding(encoding: str) -> None:
    if encoding.lower().replace("-", "") not in ("utf8", "utf8bom", "utf8sig", "ascii"):
        raise NotServed(f"The encoding {encoding!r} is not served; convert the files to UTF-8.")


def _check_separator(separator: str, paths: tuple[str, ...]) -> None:
    tabs = [path.lower().endswith((".tsv", ".tsv.gz")) for path in paths]
    if (separator == "," and not any(tabs)) or (separator == "\t" and all(tabs)):
        return
    raise Refused(
        f"The separator {separator!r} is not served for {paths[0]}: it is ',' for .csv files, and a tab for .tsv files."
    )
