"""A storage process, frames to put into it, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from batchmesh.rows.rendering import renderer_for
from batchmesh.segment import encode_frame
from batchmesh.status import from_rpc_error
from batchmesh.v1 import job_pb2, segment_pb2, storage_pb2, storage_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batchmesh import errors

pb = storage_pb2
SUMMARY_ONLY = job_pb2.OutputAction.OUTPUT_ACTION_SUMMARY_ONLY
APPEND_ROW = job_pb2.OutputAction.OUTPUT_ACTION_APPEND_ROW


class Storage:
    """A storage process and a stub that calls it."""

    def __init__(self, root: Path, *options: str, env: dict[str, str] | None = None) -> None:
        self.root = root
        self.options = options
        ready, told = os.pipe()
        command = [sys.executable, "-m", "batchmesh.storage", "--listen", "127.0.0.1:0", "--root", str(root)]
        self.process = subprocess.Popen(
            [*command, "--ready-fd", str(told), "--log-level", "ERROR", "--end-with-parent", *options],
            pass_fds=[told],
            env={**os.environ, **(env or {})},
        )
        os.close(told)
        with os.fdopen(ready) as pipe:
            self.address = json.loads(pipe.readline())["address"]
        self.channel = grpc.insecure_channel(self.address)
        self.stub = storage_pb2_grpc.StorageServiceStub(self.channel)

    def end(self, signum: int = signal.SIGTERM) -> int:
        self.channel.close()
        self.process.send_signal(signum)
        return self.process.wait(20)

    def killed_and_started_again(self) -> Storage:
        self.end(signal.SIGKILL)
        return Storage(self.root, *self.options)

    def write(self, *requests: storage_pb2.WriteSegmentsRequest) -> list[int]:
        return [each.durable for each in self.stub.WriteSegments(iter(requests))]

    def block(self, block: bytes, offset: int = 0, job: str = "j", segment: str = "s") -> list[int]:
        return self.write(pb.WriteSegmentsRequest(job_id=job, segment=segment, offset=offset, block=block))

    def reserve(self, output: Path | str, job: str = "j", **fields: Any) -> None:
        fields = {"append_row_file_name": "out.txt", "output_action": APPEND_ROW, **fields}
        self.stub.ReserveOutput(pb.ReserveOutputRequest(job_id=job, output=str(output), **fields))

    def commit(self, output: Path, places: segment_pb2.Places, job: str = "j", **fields: Any) -> Any:
        """The CommitOutputResponse; `fields` are of the header, `more` are requests that follow."""
        more = fields.pop("more", [])
        fields = {
            "append_row_file_name": "out.txt", "output_action": APPEND_ROW, "digest": "d",
            "summary_json": '{"state": "SUCCEEDED"}', **fields,
        }  # fmt: skip
        header = pb.CommitHeader(job_id=job, output=str(output), **fields)
        requests = [pb.CommitOutputRequest(header=header), pb.CommitOutputRequest(places=places), *more]
        requests.append(pb.CommitOutputRequest(complete=True))
        return self.stub.CommitOutput(iter(requests))


def serving(root: Path) -> Iterator[Storage]:
    """What a fixture yields: a storage that is ended if the test has not done so."""
    started = Storage(root)
    yield started
    if started.process.poll() is None:
        started.end()


class Frames:
    """Frames of a job as an agent would have sent them, and their places.

    `failed` are lines of failed items by the number of the result; `parts_of` says of which mini-batch a result is a
    part, if not of that with its number.
    """

    def __init__(
        self,
        *results: Any,
        name: str = "out.txt",
        failed: dict[int, bytes] | None = None,
        parts_of: dict[int, int] | None = None,
    ) -> None:
        renderer, self.blocks, self.places, at = renderer_for(name), b"", segment_pb2.Places(segments=["s"]), 0
        for number, result in enumerate(results):
            rendered = renderer.render(result)
            lines = (failed or {}).get(number, b"")
            index = (parts_of or {}).get(number, number)
            frame = encode_frame(100 + number, index, rendered.schema, rendered.body, lines, rendered.rows)
            self.add(index, 100 + number, at, len(frame))
            self.blocks += frame
            at += len(frame)

    def add(self, mini_batch: int, attempt_id: int, offset: int, length: int) -> None:
        self.places.segment.append(0)
        self.places.offset.append(offset)
        self.places.length.append(length)
        self.places.mini_batch.append(mini_batch)
        self.places.attempt_id.append(attempt_id)


def refused(kind: type[errors.BatchmeshError], call: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **named)
    error = from_rpc_error(caught.value)
    assert type(error) is kind, error
    return str(error)
