"""Between messages and values: what is asked of a table file, and what is told of it."""

from __future__ import annotations

import os
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from batchmesh.data.columns import Column
from batchmesh.data.places import Cut, Place
from batchmesh.data.plan_slices import (
    Border,
    Branch,
    Every,
    Grid,
    Looked,
    Mark,
    PlanSlice,
    ScannedSlice,
    TableFile,
    Told,
    Wanted,
)
from batchmesh.data.row_groups import Footer, RowGroup
from batchmesh.data.slices import UnreadableFile
from batchmesh.errors import Refused
from batchmesh.v1 import agent_pb2, job_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from batchmesh.data.plan_slices import Rule

_KINDS = {
    job_pb2.INPUT_KIND_CSV: "csv",
    job_pb2.INPUT_KIND_PARQUET: "parquet",
    job_pb2.INPUT_KIND_JSONL: "jsonl",
}


def request_of(file: TableFile, wanted: Wanted | PlanSlice) -> agent_pb2.ScanTableRequest:
    """Without the fields that say where its datastore is known."""
    request = agent_pb2.ScanTableRequest(
        file=os.fsencode(file.path),
        kind=next(number for number, kind in _KINDS.items() if kind == file.kind),
        has_header=file.header,
        size=file.size,
        stamp=file.stamp,
    )
    if isinstance(wanted, PlanSlice):
        request.wanted = agent_pb2.ScanTableRequest.WANTED_SLICE
        request.slice.CopyFrom(_slice_to_proto(wanted))
    else:
        request.wanted = agent_pb2.ScanTableRequest.Wanted.ValueType(int(wanted))
    return request


def asked_in(request: agent_pb2.ScanTableRequest) -> tuple[TableFile, Wanted | PlanSlice]:
    """Errors: Refused if nothing is asked, or of a kind that is no table."""
    if request.kind not in _KINDS:
        raise Refused("Only tables can be scanned: CSV, Parquet and JSON lines.")
    file = TableFile(
        os.fsdecode(request.file),
        _KINDS[request.kind],
        request.has_header,
        request.size if request.HasField("size") else None,
        request.stamp,
    )
    if request.wanted == agent_pb2.ScanTableRequest.WANTED_SLICE:
        return file, _slice_of(request.slice)
    try:
        return file, Wanted(request.wanted)
    except ValueError:
        raise Refused("The request does not say what is wanted of the table.") from None


def response_of(told: Told) -> agent_pb2.ScanTableResponse:
    response = agent_pb2.ScanTableResponse(size=told.size, stamp=told.stamp)
    if told.looked is not None:
        body = told.looked.body
        place = agent_pb2.Place(**body._asdict()) if body is not None else None
        response.looked.CopyFrom(
            agent_pb2.Looked(zipped=told.looked.zipped, delimiter=told.looked.delimiter, body=place)
        )
    response.columns.extend(agent_pb2.Column(name=each.name, type=each.type) for each in told.columns)
    if told.scanned is not None:
        response.scanned.CopyFrom(_scanned_to_proto(told.scanned))
    for cut in told.cuts:
        start, end = (agent_pb2.Place(**place._asdict()) for place in (cut.start, cut.end))
        response.cuts.append(agent_pb2.Cut(start=start, end=end, unterminated=cut.unterminated))
    if told.footer is not None:
        response.row_groups.CopyFrom(_groups_to_proto(told.footer.groups))
        response.optional_columns.extend(told.footer.optional)
    return response


def told_in(response: agent_pb2.ScanTableResponse) -> Told:
    """Errors: UnreadableFile if that is what is told."""
    if response.unreadable:
        raise UnreadableFile(response.unreadable)
    looked = response.looked
    body = _place_of(looked.body) if looked.HasField("body") else None
    return Told(
        response.size,
        response.stamp,
        Looked(looked.zipped, looked.delimiter, body) if response.HasField("looked") else None,
        [Column(each.name, each.type) for each in response.columns],
        _scanned_of(response.scanned) if response.HasField("scanned") else None,
        [Cut(_place_of(each.start), _place_of(each.end), each.unterminated) for each in response.cuts],
        Footer(_groups_of(response.row_groups), list(response.optional_columns))
        if response.HasField("row_groups")
        else None,
    )


def _slice_to_proto(wanted: PlanSlice) -> agent_pb2.PlanSlice:
    rule = wanted.rule
    return agent_pb2.PlanSlice(
        start=wanted.start,
        end=wanted.end,
        border=agent_pb2.Border.ValueType(int(wanted.border or 0)),
        grid=agent_pb2.Grid(**rule._asdict()) if isinstance(rule, Grid) else None,
        every=agent_pb2.Every(**rule._asdict()) if isinstance(rule, Every) else None,
    )


def _slice_of(proto: agent_pb2.PlanSlice) -> PlanSlice:
    rule: Rule = None
    if proto.HasField("grid"):
        rule = Grid(proto.grid.origin, proto.grid.step)
    elif proto.HasField("every"):
        rule = Every(proto.every.rows, proto.every.have)
    return PlanSlice(proto.start, proto.end, Border(proto.border) if proto.border else None, rule)


def _scanned_to_proto(scanned: ScannedSlice) -> agent_pb2.ScannedSlice:
    return agent_pb2.ScannedSlice(
        start=scanned.start,
        end=scanned.end,
        lines=scanned.lines,
        branches=[_branch_to_proto(each, scanned.start) for each in scanned.branches],
    )


def _branch_to_proto(branch: Branch, start: int) -> agent_pb2.Branch:
    marks = branch.marks
    return agent_pb2.Branch(
        starts=[agent_pb2.Border.ValueType(int(each)) for each in branch.starts],
        end=agent_pb2.Border.ValueType(int(branch.end)),
        is_open=branch.is_open,
        rows=branch.rows,
        mark_bytes=_steps(start, [mark.offset for mark in marks]),
        mark_lines=_steps(0, [mark.lines for mark in marks]),
        mark_rows=_steps(0, [mark.rows for mark in marks]),
    )


def _scanned_of(proto: agent_pb2.ScannedSlice) -> ScannedSlice:
    return ScannedSlice(proto.start, proto.end, proto.lines, [_branch_of(each, proto.start) for each in proto.branches])


def _branch_of(proto: agent_pb2.Branch, start: int) -> Branch:
    columns = _sums(start, proto.mark_bytes), _sums(0, proto.mark_lines), _sums(0, proto.mark_rows)
    starts = tuple(Border(each) for each in proto.starts)
    return Branch(starts, Border(proto.end), proto.is_open, proto.rows, list(map(Mark, *columns)))


def _groups_to_proto(groups: Sequence[RowGroup]) -> agent_pb2.RowGroups:
    return agent_pb2.RowGroups(
        number=[each.number for each in groups],
        rows=[each.rows for each in groups],
        bytes=[each.bytes for each in groups],
    )


def _groups_of(proto: agent_pb2.RowGroups) -> list[RowGroup]:
    starts = accumulate(proto.rows, initial=0)
    return [RowGroup(*each) for each in zip(proto.number, starts, proto.rows, proto.bytes, strict=False)]


def _place_of(proto: agent_pb2.Place) -> Place:
    return Place(proto.offset, proto.line, proto.row)


def _steps(start: int, values: Sequence[int]) -> list[int]:
    return [later - earlier for earlier, later in pairwise([start, *values])]


def _sums(start: int, steps: Iterable[int]) -> list[int]:
    return list(accumulate(steps, initial=start))[1:]
