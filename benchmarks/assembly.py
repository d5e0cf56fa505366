"""The commit of a job whose results lie in storage: how fast its output is assembled, beside a bare copy of it.

storage:  CommitOutput (places, rows of the report) ─▶ frames read, checked, joined, synced, renamed
copy:     shutil.copyfile of the output, and fsync
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Self

import grpc
import pandas as pd
from measured import Claim, Measured, Round, Spread, check, interleaved, ratios
from pyarrow import compute, parquet
from watching import Part, Watch, part

from batchmesh.rows.joining import joining_for
from batchmesh.rows.rendering import renderer_for
from batchmesh.segment import encode_frame
from batchmesh.v1 import job_pb2, segment_pb2, storage_pb2, storage_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from place import Place
    from process_table import Process

    from batchmesh.rows.results import Rendered

COMMIT, COPY = "batchmesh", "a bare copy"
#: Bytes of a block of frames, mini-batches in a message of a commit, bytes of the output that are compared at a time.
_BLOCK, _PAGE, _COMPARED = 3 * 2**20, 2000, 2**23
_JOB, _SEGMENT = "assembled", "s"


class Storage:
    """A storage process with one job in it; use as a context manager."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._digests = map(str, count())

    def __enter__(self) -> Self:
        read_fd, write_fd = os.pipe()
        command = [sys.executable, "-m", "batchmesh.storage", "--listen", "127.0.0.1:0", "--ready-fd", str(write_fd)]
        self._process = subprocess.Popen(
            [*command, "--root", str(self._folder / "root"), "--log-level", "ERROR", "--end-with-parent"],
            pass_fds=[write_fd],
        )
        os.close(write_fd)
        with os.fdopen(read_fd) as pipe:
            self._channel = grpc.insecure_channel(json.loads(pipe.readline())["address"])
        self._stub = storage_pb2_grpc.StorageServiceStub(self._channel)
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._process.terminate()
        self._process.wait(60)

    def write(self, frames: Iterator[bytes]) -> None:
        """The job's frames, as an agent would send them."""
        for _ in self._stub.WriteSegments(_blocks(frames)):
            pass

    def commit(self, name: str, length: int, frames: int) -> tuple[Round, Path]:
        """Assembles that many frames of `length` bytes each; a round counts MB of frames."""
        kind = {"append_row_file_name": name, "output_action": job_pb2.OutputAction.OUTPUT_ACTION_APPEND_ROW}
        output = str(self._folder / "output")
        self._stub.ReserveOutput(
            storage_pb2.ReserveOutputRequest(job_id=_JOB, output=output, overwrite=True, resumed=True, **kind)
        )
        header = storage_pb2.CommitHeader(job_id=_JOB, output=output, digest=next(self._digests), **kind)
        requests = list(_requests(header, length, frames))
        with Watch(self._parts) as watch:
            begin = time.perf_counter()
            manifest = self._stub.CommitOutput(iter(requests)).manifest
            seconds = time.perf_counter() - begin
        done = Round(seconds, length * frames // 10**6, watch.cpu, watch.peaks, watch.peak)
        return done, Path(manifest.output_path)

    def _parts(self, found: dict[int, Process]) -> dict[str, Part]:
        return {"storage": part([found[self._process.pid]])}


def measure(place: Place, name: str, frame_bytes: int, frames: int) -> Measured:
    """Commit and copy in turn, each output checked; `frame_bytes` are about those of a frame's rows in the output. What
    is encoded anew (.parquet) is not compared with a copy."""
    rendered = _rendered(name, frame_bytes)
    frame = partial(encode_frame, schema=rendered.schema, body=rendered.body, failed_lines=b"", rows=rendered.rows)
    folder = place.folder / f"assembly-{name}-{frame_bytes}"
    with Storage(folder) as storage:
        storage.write(frame(number, number) for number in range(frames))

        def commit() -> Round:
            done, output = storage.commit(name, len(frame(0, 0)), frames)
            check(_is_right(output, rendered, frames), "the assembled output differs")
            return done

        def copy() -> Round:
            output, begin = folder / "output" / name, time.perf_counter()
            shutil.copyfile(output, folder / "copy")
            with (folder / "copy").open("rb") as file:
                os.fsync(file.fileno())
            return Round(time.perf_counter() - begin, len(frame(0, 0)) * frames // 10**6)

        commit()
        ways = {COMMIT: commit} if name.endswith(".parquet") else {COMMIT: commit, COPY: copy}
        measured = interleaved(ways, place.rounds)
    shutil.rmtree(folder)
    return measured


def claims(measured: Measured, what: str) -> list[Claim]:
    """Target 8, and target 2's of memory. `what`: the frames, in a few words."""
    peaks = Spread.of([each.peak / 1e6 for each in measured[COMMIT]])
    memory = Claim(f"commit of {what}: memory of storage", peaks, 300, at_least=False, unit="MB")
    if COPY not in measured:
        return [memory]
    return [Claim(f"commit of {what}: as fast as a copy", ratios(measured[COMMIT], measured[COPY]), 0.5), memory]


def _rendered(name: str, size: int) -> Rendered:
    """Rows whose lines are about that many bytes."""
    renderer = renderer_for(name)
    if name.endswith(".txt"):
        return renderer.render([f"{number:09}" for number in range(size // 10)])
    ids = range(10**6, 10**6 + max(size // 50, 1))
    return renderer.render(pd.DataFrame({"id": ids, "half": [each / 2 for each in ids], "text": "some words of text"}))


def _blocks(frames: Iterator[bytes]) -> Iterator[storage_pb2.WriteSegmentsRequest]:
    block, offset = bytearray(), 0
    for frame in frames:
        block += frame
        while len(block) >= _BLOCK:
            yield _request(offset, block[:_BLOCK])
            offset += _BLOCK
            del block[:_BLOCK]
    yield _request(offset, block)


def _request(offset: int, block: bytearray) -> storage_pb2.WriteSegmentsRequest:
    return storage_pb2.WriteSegmentsRequest(job_id=_JOB, segment=_SEGMENT, offset=offset, block=bytes(block))


def _requests(header: storage_pb2.CommitHeader, length: int, frames: int) -> Iterator[storage_pb2.CommitOutputRequest]:
    yield storage_pb2.CommitOutputRequest(header=header)
    for begin in range(0, frames, _PAGE):
        page = range(begin, min(begin + _PAGE, frames))
        places = segment_pb2.Places(
            segments=[_SEGMENT],
            segment=[0] * len(page),
            offset=[number * length for number in page],
            length=[length] * len(page),
            mini_batch=page,
            attempt_id=page,
        )
        yield storage_pb2.CommitOutputRequest(places=places, processed=_processed(page))
    yield storage_pb2.CommitOutputRequest(complete=True)


def _processed(page: range) -> storage_pb2.ProcessedMiniBatches:
    ones = [1] * len(page)
    return storage_pb2.ProcessedMiniBatches(
        mini_batch=page,
        tries=ones,
        nodes=["node"],
        node=[0] * len(page),
        process=ones,
        started_us=[1_767_225_600_000_000 + number for number in page],
        total_items=ones,
        succeeded_items=ones,
        failed_items=[0] * len(page),
        elapsed_us=ones,
        run_us=ones,
        status=[storage_pb2.ProcessedMiniBatches.STATUS_SUCCEEDED] * len(page),
    )


def _is_right(output: Path, rendered: Rendered, frames: int) -> bool:
    if output.suffix == ".parquet":
        return _has_rows(output, rendered, frames)
    join, header = joining_for(output.name), io.BytesIO()
    join.learn(rendered.schema)
    join.writer(header)
    many = max(_COMPARED // len(rendered.body), 1)
    with output.open("rb") as file:
        right = file.read(len(header.getvalue())) == header.getvalue()
        for begin in range(0, frames, many):
            expected = rendered.body * min(many, frames - begin)
            right = right and file.read(len(expected)) == expected
        return right and not file.read(1)


def _has_rows(output: Path, rendered: Rendered, frames: int) -> bool:
    """The sum of the ids stands for all."""
    with parquet.ParquetFile(output) as file:
        found = sum(compute.sum(batch["id"]).as_py() for batch in file.iter_batches(columns=["id"]))
        ids = range(10**6, 10**6 + rendered.rows)
        return file.metadata.num_rows == rendered.rows * frames and found == sum(ids) * frames
