""".txt, exactly as ParallelRunStep: one `str(element)` a line; a DataFrame space-separated, without header and index.

worker:  result ──TextRenderer──▶ body of whole lines, schema = the header line of a DataFrame if one is wanted
storage: TextJoin ──▶ the header line once and first, then the bodies as they are
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from batchmesh.rows.results import Rendered, is_dataframe, result_length

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from batchmesh.segment import Buffer

#: Keyword arguments of to_csv that would turn its text into something else, or send it elsewhere.
_NOT_OURS = ("path_or_buf", "mode", "compression", "storage_options", "errors")


class TextRenderer:
    """`to_csv_json` is the JSON object of keyword arguments for pandas.DataFrame.to_csv, or empty."""

    def __init__(self, dataframe_header: bool, to_csv_json: str) -> None:
        settings = _settings(to_csv_json)
        header = settings.pop("header", False)
        self._encoding = _encoding(settings.pop("encoding", None) or "utf-8")
        # A list of names is a header line too; it is written once, as any header is.
        self._header = header if isinstance(header, list) else bool(header) or dataframe_header
        self._settings: dict[str, Any] = {"sep": " ", "index": False, **settings}

    def render(self, result: Any) -> Rendered:
        """Lines; a DataFrame's header line is the schema."""
        rows = result_length(result)
        if is_dataframe(result):
            return Rendered(self._header_line(result), self._lines(result, header=False), rows)
        text = "\n".join(map(str, result))
        return Rendered(b"", _encoded(text + "\n", "utf-8") if rows else b"", rows)

    def _header_line(self, frame: Any) -> bytes:
        if not self._header or not len(frame.columns):
            return b""
        return self._lines(frame.iloc[:0], header=self._header)

    def _lines(self, frame: Any, header: Any) -> bytes:
        return _encoded(frame.to_csv(None, header=header, **self._settings), self._encoding)


def _settings(to_csv_json: str) -> dict[str, Any]:
    try:
        settings = json.loads(to_csv_json) if to_csv_json else {}
    except ValueError as error:
        raise ValueError(f"The settings for pandas.DataFrame.to_csv are no JSON: {error}.") from None
    if not isinstance(settings, dict):
        raise ValueError("The settings for pandas.DataFrame.to_csv are no JSON object of keyword arguments.")  # noqa: TRY004
    for name in _NOT_OURS:
        if name in settings:
            raise ValueError(f"The setting '{name}' of pandas.DataFrame.to_csv cannot be given; remove it.")
    return settings


def _encoding(name: str) -> str:
    try:
        mark = "".encode(name)
    except LookupError:
        raise ValueError(
            f"The encoding '{name}' of pandas.DataFrame.to_csv is unknown; give one such as utf-8."
        ) from None
    if mark:  # it would stand in the middle of the file, too, wherever a mini-batch's lines begin
        raise ValueError(f"The encoding '{name}' begins each text with a mark; give one without.")
    return name


def _encoded(text: str, encoding: str) -> bytes:
    """Names of files that are no UTF-8 come back as the bytes they were; what else cannot be encoded is escaped."""
    try:
        return text.encode(encoding, "surrogateescape")
    except UnicodeEncodeError:
        return text.encode(encoding, "backslashreplace")


class TextJoin:
    """Storage's side. The header line is the first that a frame has; it goes first."""

    def __init__(self) -> None:
        self._header = b""

    def learn(self, schema: bytes) -> bool:
        """Returns whether the header line is new, so that what was written before lacks it."""
        if self._header or not schema:
            return False
        self._header = schema
        return True

    def columns(self) -> list[str]:
        """Text has none."""
        return []

    def joined_to_string(self) -> list[str]:
        """Text has none."""
        return []

    def writer(self, out: BinaryIO) -> TextWriter:
        """Begins the output file."""
        return TextWriter(out, self._header)


class TextWriter:
    """Moves every body as it is."""

    def __init__(self, out: BinaryIO, header: bytes) -> None:
        self._out = out
        out.write(header)

    def moves(self, schema: bytes) -> bool:  # noqa: ARG002 text has no columns that could differ
        """Every frame goes as it is."""
        return True

    def write(self, schema: bytes, bodies: Sequence[Buffer]) -> None:  # noqa: ARG002 as above
        """Adds bodies."""
        self._out.write(bodies[0] if len(bodies) == 1 else b"".join(bodies))

    def close(self) -> None:
        """Nothing is kept back."""
