""".parquet: the frames hold Arrow IPC streams, which the commit gathers into row groups.

worker:  result ─▶ Arrow table ──ParquetRenderer──▶ body = IPC stream, schema = the Arrow schema's bytes
storage: ParquetJoin ──▶ union of the schemas; batches cast where they differ, then gathered and written
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from batchmesh.rows.results import Rendered
from batchmesh.rows.table import as_strings, kind_of_type, table_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

    from batchmesh.segment import Buffer

_MIXED = b"batchmesh.mixed"
#: The end of an IPC stream.
_END = b"\xff\xff\xff\xff\0\0\0\0"
#: A row group is written when it has this many bytes in memory, or this many rows.
_GROUP_BYTES = 64 << 20
_GROUP_ROWS = 1 << 20


class ParquetRenderer:
    """The worker's side."""

    def render(self, result: Any) -> Rendered:
        """An Arrow IPC stream; nothing at all for no rows."""
        table, mixed = table_of(result)
        schema = table.schema.with_metadata({_MIXED: json.dumps(mixed).encode()} if mixed else None)
        body = _stream(table) if table.num_rows else b""
        return Rendered(schema.serialize().to_pybytes(), body, table.num_rows)


def _stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


class ParquetJoin:
    """Storage's side: the union of the Arrow schemas."""

    def __init__(self) -> None:
        self._types: dict[str, pa.DataType] = {}
        self._mixed: dict[str, bool] = {}

    def learn(self, schema: bytes) -> bool:
        """Returns whether the joined schema changed, so that what was written before no longer fits."""
        if not schema:
            return False
        own = pa.ipc.read_schema(pa.py_buffer(schema))
        for name in json.loads((own.metadata or {}).get(_MIXED, b"[]")):
            self._mixed[name] = True
        changed = False
        for field in own:
            old = self._types.get(field.name)
            joined, mismatch = join_types(old, field.type) if old is not None else (field.type, False)
            if mismatch:
                self._mixed[field.name] = True
            changed = changed or old is None or joined != old
            self._types[field.name] = joined
        return changed

    def columns(self) -> list[str]:
        """Names, in order."""
        return list(self._types)

    def joined_to_string(self) -> list[str]:
        """Names of the columns in which kinds met that do not join."""
        return [name for name in self._types if name in self._mixed]

    def writer(self, out: BinaryIO) -> ParquetWriter:
        """Begins the output file."""
        return ParquetWriter(out, pa.schema([(name, _storable(kind)) for name, kind in self._types.items()]))


def _storable(kind: pa.DataType) -> pa.DataType:
    """The type, or string where Parquet has no place for it: dicts without keys, unions, calendar intervals."""
    from pyarrow import parquet

    try:
        parquet.ParquetWriter(io.BytesIO(), pa.schema([("", kind)])).close()
    except pa.ArrowNotImplementedError:
        return pa.string()
    return kind


class ParquetWriter:
    """Gathers the frames' batches into row groups; holds one row group in memory."""

    def __init__(self, out: BinaryIO, schema: pa.Schema) -> None:
        from pyarrow import parquet

        self._schema = schema
        self._writer = parquet.ParquetWriter(out, schema)
        self._batches: list[pa.RecordBatch] = []
        self._rows = 0
        self._bytes = 0

    def moves(self, schema: bytes) -> bool:  # noqa: ARG002 Parquet has no bytes that could be moved
        """No frame goes as it is."""
        return False

    def write(self, schema: bytes, bodies: Sequence[Buffer]) -> None:  # noqa: ARG002 the streams carry it too
        """Adds the rows of frames."""
        for stream in _streams(bodies):
            self._add(stream)

    def _add(self, stream: Buffer) -> None:
        for batch in pa.ipc.open_stream(stream).read_all().combine_chunks().to_batches():
            self._batches.append(_cast(batch, self._schema))
            self._rows += batch.num_rows
            self._bytes += batch.nbytes
        if self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self._write_group()

    def close(self) -> None:
        """Writes the last row group and the file's end."""
        self._write_group()
        self._writer.close()
        pa.default_memory_pool().release_unused()  # the next commit comes on another thread, with a heap of its own

    def _write_group(self) -> None:
        if self._batches:
            table = pa.Table.from_batches(self._batches, self._schema).combine_chunks()
            self._batches = []  # before the encoder takes as much again
            self._writer.write_table(table, row_group_size=_GROUP_ROWS)
        self._rows = self._bytes = 0


def _streams(bodies: Sequence[Buffer]) -> Iterator[Buffer]:
    """The streams, neighbours of one schema as one: opening a stream takes longer than reading a small one.

    Batches live until their row group is written, a memoryview's buffer does not: of that, what comes is a copy.
    """
    if len(bodies) == 1 and not isinstance(bodies[0], memoryview):
        yield from filter(len, bodies)
        return
    begin = b""
    parts: list[Buffer] = []
    for body in filter(len, bodies):
        own = bytes(body[: 8 + int.from_bytes(body[4:8], "little")])  # a mark, the length of the schema, the schema
        if own != begin and parts:
            yield b"".join([begin, *parts, _END])
            parts = []
        begin = own
        parts.append(body[len(own) : -len(_END)])
    if parts:
        yield b"".join([begin, *parts, _END])


def _cast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    if batch.schema.equals(schema):
        return batch
    own = {name: position for position, name in enumerate(batch.schema.names)}
    arrays = []
    for field in schema:
        position = own.get(field.name)
        arrays.append(
            pa.nulls(batch.num_rows, field.type) if position is None else _array(batch.column(position), field.type)
        )
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if array.type == kind:
        return array
    if pa.types.is_string(kind):
        return as_strings(array)
    if pa.types.is_nested(kind):
        return pa.array(array.to_pylist(), kind)
    return array.cast(kind, safe=False)  # an int beyond 2^53 in a column of floats loses digits, by the rule


def join_types(one: pa.DataType, other: pa.DataType) -> tuple[pa.DataType, bool]:
    """The type that holds both, and whether that is string for want of a better one."""
    if one == other or pa.types.is_null(other):
        return one, False
    if pa.types.is_null(one):
        return other, False
    joined = _joined(one, other)
    return (joined, False) if joined is not None else (pa.string(), True)


def _joined(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    kinds = {kind_of_type(one), kind_of_type(other)}
    if kinds == {"int", "float"}:
        return pa.float64()
    if len(kinds) == 2:
        return None
    join = _SAME_KIND.get(kinds.pop())
    return join(one, other) if join else None


def _ints(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    return None if pa.uint64() in (one, other) else pa.int64()


def _timestamps(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if one.tz != other.tz:
        return None
    # Never nanoseconds, which end in the year 2262: a day in 9999 is more common than a nanosecond.
    return pa.timestamp(min(one.unit, other.unit, key=["us", "ns", "ms", "s"].index).replace("ns", "us"), one.tz)


def _decimals(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    scale = max(one.scale, other.scale)
    whole = max(one.precision - one.scale, other.precision - other.scale)
    return pa.decimal128(whole + scale, scale) if whole + scale <= 38 else None


def _nested(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if pa.types.is_list(one) and pa.types.is_list(other):
        joined, mismatch = join_types(one.value_type, other.value_type)
        return None if mismatch else pa.list_(joined)
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        return _structs(one, other)
    return None


def _structs(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    fields: dict[str, pa.DataType] = {field.name: field.type for field in one}
    for field in other:
        joined, mismatch = join_types(fields.get(field.name, field.type), field.type)
        if mismatch:
            return None
        fields[field.name] = joined
    return pa.struct(list(fields.items()))


_SAME_KIND = {
    "int": _ints,
    "float": lambda one, other: pa.float64(),  # noqa: ARG005 float32 and float64
    "timestamp": _timestamps,
    "decimal": _decimals,
    "duration": lambda one, other: pa.duration(min(one.unit, other.unit, key=["ns", "us", "ms", "s"].index)),
    "nested": _nested,
}
