"""From what run() returned to the bytes of a frame, in the worker and in parallel with the other workers.

    result ──result_length──▶ items that succeeded
           ──Renderer.render──▶ Rendered(schema, body, rows) ──segment.encode_frame──▶ storage, which only moves bytes

It runs in the user's environment: standard library only, CPython 3.9 and later; pandas, numpy and pyarrow are imported
where the format or the result needs them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from batchmesh.rows.results import Rendered, result_length

if TYPE_CHECKING:
    from typing import Protocol

    class Renderer(Protocol):
        """Turns results into the bytes of one output format."""

        def render(self, result: Any) -> Rendered:
            """Raises TypeError where result_length does, and whatever the conversion of the user's values raises."""


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


class _UnableRenderer:
    def __init__(self, why: ImportError) -> None:
        self._why = why

    def render(self, result: Any) -> Rendered:
        del result
        raise ImportError(str(self._why))


def unable_renderer(why: ImportError) -> Renderer:
    """For a format whose library is not in the user's environment, or broken there: each result fails, and says why."""
    return _UnableRenderer(why)


def counting_renderer() -> Renderer:
    """For summary_only: a result is checked to be one, and gives no rows."""
    return _CountingRenderer()
