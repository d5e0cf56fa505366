"""From what run() returned to the bytes of a frame, in the worker and in parallel with the other workers.

    result ──result_length──▶ items that succeeded
           ──Renderer.render──▶ Rendered(schema, body, rows) ──segment.encode_frame──▶ storage, which only moves bytes

It runs in the user's environment: standard library only, CPython 3.9 and later; pandas, numpy and pyarrow are imported
where the format or the result needs them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from typing import Protocol

    class Renderer(Protocol):
        """Turns results into the bytes of one output format."""

        def render(self, result: Any) -> Rendered:
            """Raises TypeError where result_length does, and whatever the conversion of the user's values raises."""


class Rendered(NamedTuple):
    """A result in its final bytes. `schema` tells storage how frames join; equal bytes mean equal columns."""

    schema: bytes
    body: bytes
    #: Rows of the output in `body`.
    rows: int


def renderer_for(append_row_file_name: str, dataframe_header: bool = False, to_csv_json: str = "") -> Renderer:
    """The renderer for an append_row file; its extension picks the format, an unknown one is treated as .txt.

    `dataframe_header` (--append_row_dataframe_header) and `to_csv_json` (JSON object of keyword arguments for
    pandas.DataFrame.to_csv, or empty) matter to .txt alone. Raises ValueError, with a sentence, for bad settings.
    """
    extension = os.path.splitext(append_row_file_name)[1].lower()
    if extension == ".csv":
        from batchmesh.rows.csv import CsvRenderer

        return CsvRenderer()
    if extension == ".jsonl":
        from batchmesh.rows.jsonl import JsonLinesRenderer

        return JsonLinesRenderer()
    if extension == ".parquet":
        from batchmesh.rows.parquet import ParquetRenderer

        return ParquetRenderer()
    from batchmesh.rows.txt import TextRenderer

    return TextRenderer(dataframe_header, to_csv_json)


class _CountingRenderer:
    def render(self, result: Any) -> Rendered:
        result_length(result)
        return Rendered(b"", b"", 0)


def counting_renderer() -> Renderer:
    """For summary_only: a result is checked to be one, and gives no rows."""
    return _CountingRenderer()


def result_length(result: Any) -> int:
    """The number of results: of elements, or of rows of a DataFrame.

    Raises TypeError, with one sentence that names the type, for what is no list, tuple, array, Series or DataFrame.
    """
    if isinstance(result, (list, tuple)):
        return len(result)
    if is_array(result):
        if result.ndim == 0:
            raise TypeError("run() returned an array without dimensions; return a list, tuple, array or DataFrame.")
        return len(result)
    if is_dataframe(result) or is_series(result):
        return len(result)
    raise TypeError(
        f"run() returned {_name_of(result)}; return a list, tuple, array or DataFrame with one element for each item "
        "that succeeded."
    )


def is_dataframe(result: Any) -> bool:
    """Whether this is a pandas DataFrame (or of a class derived from it), told without importing pandas."""
    return _is_a(result, "pandas", "DataFrame")


def is_series(result: Any) -> bool:
    """Whether this is a pandas Series, Index or extension array."""
    return any(_is_a(result, "pandas", name) for name in ("Series", "Index", "ExtensionArray"))


def is_array(result: Any) -> bool:
    """Whether this is a numpy array."""
    return _is_a(result, "numpy", "ndarray")


def _is_a(value: Any, package: str, name: str) -> bool:
    return any(kind.__name__ == name and kind.__module__.partition(".")[0] == package for kind in type(value).__mro__)


def _name_of(result: Any) -> str:
    if result is None:
        return "None"
    kind = type(result)
    where = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"a value of type {where}{kind.__qualname__}"
