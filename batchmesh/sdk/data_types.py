"""The types and headers of delimited files, as azureml's programs name them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from batchmesh.errors import SpecRefused
from batchmesh.sdk.errors import NotServed


@dataclass(frozen=True)
class DataType:
    """The type of a column. `name` is batchmesh's word for it."""

    name: str

    @staticmethod
    def to_string() -> DataType:
        return DataType("string")

    @staticmethod
    def to_long() -> DataType:
        return DataType("int64")

    @staticmethod
    def to_float(decimal_mark: str | None = None) -> DataType:
        """Errors: NotServed for another decimal mark than a point."""
        if decimal_mark not in (None, "."):
            raise NotServed(f"decimal_mark {decimal_mark!r} is not served; write numbers with a decimal point.")
        return DataType("float64")

    @staticmethod
    def to_bool() -> DataType:
        return DataType("bool")

    @staticmethod
    def to_datetime(formats: object = None) -> DataType:
        """Errors: NotServed for formats: times are read as ISO 8601."""
        if formats:
            raise NotServed("The formats of DataType.to_datetime are not served; times are read as ISO 8601.")
        return DataType("timestamp")


class PromoteHeadersBehavior(Enum):
    """Where the names of a delimited file's columns are. Each file has a header, or none has."""

    NO_HEADERS = 0
    ONLY_FIRST_FILE_HAS_HEADERS = 1
    COMBINE_ALL_FILES_HEADERS = 2
    ALL_FILES_HAVE_SAME_HEADERS = 3


def csv_header(header: bool | PromoteHeadersBehavior) -> str:
    """ "present" or "absent". Errors: NotServed, SpecRefused."""
    if not isinstance(header, bool | PromoteHeadersBehavior):
        raise SpecRefused(f"header is True, False or a PromoteHeadersBehavior, not {header!r}.")
    if isinstance(header, bool):
        return "present" if header else "absent"
    if header is PromoteHeadersBehavior.ONLY_FIRST_FILE_HAS_HEADERS:
        raise NotServed("A header in the first file alone is not served; give each file the same header, or none.")
    return "absent" if header is PromoteHeadersBehavior.NO_HEADERS else "present"
