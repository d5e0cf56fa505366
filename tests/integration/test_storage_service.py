"""The real storage process over real gRPC, killed and started again."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from batchmesh import errors
from batchmesh.segment import HEADER_SIZE, read_frame_header
from batchmesh.v1 import segment_pb2
from tests.support.storage import SUMMARY_ONLY, Frames, Storage, pb, refused, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    yield from serving(tmp_path / "root")


def test_a_client_in_any_language_finds_health_and_reflection(storage: Storage) -> None:
    health = health_pb2_grpc.HealthStub(storage.channel)
    for service in ("", "batchmesh.v1.StorageService"):
        assert health.Check(health_pb2.HealthCheckRequest(service=service)).status == 1
    names = ProtoReflectionDescriptorDatabase(storage.channel).get_services()
    assert "batchmesh.v1.StorageService" in names
    assert storage.stub.GetStorage(pb.GetStorageRequest()).address == storage.address
    assert storage.end() == 0


def test_frames_become_the_output_in_the_order_of_the_places(storage: Storage, tmp_path: Path) -> None:
    frames, output = Frames(["a", "b"], ["c"], ["é"]), tmp_path / "output"
    storage.reserve(output)
    assert storage.block(frames.blocks) == [len(frames.blocks)]
    answer = storage.commit(output, frames.places).manifest
    assert (answer.rows, answer.bytes, answer.output_path) == (4, 9, str(output / "out.txt"))
    assert (output / "out.txt").read_text() == "a\nb\nc\né\n"
    assert sorted(os.listdir(output)) == ["job_report", "out.txt"]
    summary = json.loads((output / "job_report" / "summary.json").read_text())
    assert summary == {
        "state": "SUCCEEDED", "output_rows": 4, "output_bytes": 9, "columns": [], "columns_joined_to_string": [],
        "files_without_rows": {"count": 0, "first": []},
    }  # fmt: skip
    read = storage.stub.ReadOutput(pb.ReadOutputRequest(job_id="j"))
    assert b"".join(each.data for each in read) == "a\nb\nc\né\n".encode()


def test_columns_join_over_all_frames_and_the_report_names_them(storage: Storage, tmp_path: Path) -> None:
    frames, output = Frames([{"a": 1}], [{"a": "x", "b": 2.5}], [{"a": None}], name="out.csv"), tmp_path / "output"
    storage.reserve(output, append_row_file_name="out.csv")
    storage.block(frames.blocks)
    more = [pb.CommitOutputRequest(files_without_rows=[f"f{n}" for n in range(1500)])]
    storage.commit(output, frames.places, append_row_file_name="out.csv", more=more)
    assert (output / "out.csv").read_text() == 'a,b\n"1",\n"x",2.5\n,\n'
    summary = json.loads((output / "job_report" / "summary.json").read_text())
    assert (summary["columns"], summary["columns_joined_to_string"]) == (["a", "b"], ["a"])
    assert summary["files_without_rows"]["count"] == 1500
    assert len(summary["files_without_rows"]["first"]) == 1000


@pytest.mark.parametrize("name", ["out.txt", "out.csv", "out.jsonl", "out.parquet"])
def test_a_frame_longer_than_a_window_comes_through(storage: Storage, tmp_path: Path, name: str) -> None:
    frames, output = Frames(["first"], ["x" * 1000] * 10_000, [1], name=name), tmp_path / "output"
    size = 2**20
    blocks = [
        pb.WriteSegmentsRequest(job_id="j", segment="s", offset=at, block=frames.blocks[at : at + size])
        for at in range(0, len(frames.blocks), size)
    ]
    assert storage.write(*blocks)[-1] == len(frames.blocks)
    storage.reserve(output, append_row_file_name=name)
    answer = storage.commit(output, frames.places, append_row_file_name=name).manifest
    assert answer.rows == 10_002
    assert (output / name).stat().st_size == answer.bytes


def test_failed_lines_of_frames_and_of_mini_batches_are_merged_in_order(storage: Storage, tmp_path: Path) -> None:
    frames, output = Frames(["a"], ["b"], ["c"], failed={0: b'"0"\n', 2: b'"2"\n'}), tmp_path / "output"
    storage.reserve(output)
    storage.block(frames.blocks)
    del frames.places.segment[1], frames.places.offset[1], frames.places.length[1]
    del frames.places.mini_batch[1], frames.places.attempt_id[1]
    done = pb.ProcessedMiniBatches(
        mini_batch=[0], tries=[2], nodes=["n1"], node=[0], process=[3], started_us=[1_500_000], total_items=[2],
        succeeded_items=[1], failed_items=[1], elapsed_us=[2_000_000], run_us=[1_000_000],
        status=[pb.ProcessedMiniBatches.STATUS_SUCCEEDED], error=["short, return"],
    )  # fmt: skip
    more = [
        pb.CommitOutputRequest(failed_mini_batch=[3], failed_lines=[b'"3"']),
        pb.CommitOutputRequest(failed_mini_batch=[1], failed_lines=[b'"1a"\n"1b"\n'], processed=done),
    ]
    storage.commit(output, frames.places, more=more)
    assert (output / "job_report" / "failed_items.jsonl").read_text() == '"0"\n"1a"\n"1b"\n"2"\n"3"\n'
    with (output / "job_report" / "processed_mini-batches.csv").open() as file:
        header, row = csv.reader(file)
    assert header == [
        "id", "tries", "process", "start", "total", "succeeded", "failed", "elapsed", "run() seconds", "status",
        "error",
    ]  # fmt: skip
    assert row == [
        "0", "2", "n1/process003", "1970-01-01T00:00:01.500000Z", "2", "1", "1", "2.000000", "1.000000",
        "Succeeded", "short, return",
    ]  # fmt: skip


def test_a_block_sent_again_is_not_written_again(storage: Storage) -> None:
    block = Frames(["a"], ["b"]).blocks
    assert storage.block(block) == storage.block(block) == [len(block)]
    overlapping = block[10:] + b"more"
    assert storage.block(overlapping, offset=10) == [len(block) + 4]
    assert storage.root.joinpath("jobs/j/segments/s").read_bytes() == block + b"more"


def test_a_block_past_the_end_is_refused(storage: Storage) -> None:
    storage.block(b"xx")
    assert "2 bytes" in refused(errors.Gap, storage.block, b"x", offset=3)
    assert "no segment" in refused(errors.Gap, storage.block, b"x", offset=3, segment="t")


@pytest.mark.parametrize("name", ["../s", "a/b", ".hidden", ""])
def test_a_name_that_is_no_name_of_a_segment_is_refused(storage: Storage, name: str) -> None:
    refused(errors.BadName, storage.block, b"x", segment=name)
    refused(errors.BadName, storage.block, b"x", job="../" + name)


def test_what_was_acknowledged_survives_kill_9_and_a_torn_tail_is_cut(storage: Storage, tmp_path: Path) -> None:
    frames = Frames(["a"], ["b"], ["c"])
    first = frames.places.length[0]
    storage.reserve(tmp_path / "output")
    storage.block(frames.blocks[:first])
    storage.end(signal.SIGKILL)
    with (storage.root / "jobs/j/segments/s").open("ab") as segment:
        segment.write(frames.blocks[first : first + 20])  # what a power cut leaves of the next frame
    again = Storage(storage.root)
    assert again.block(frames.blocks[first:], offset=first) == [len(frames.blocks)]
    assert again.commit(tmp_path / "output", frames.places).manifest.rows == 3
    assert again.end() == 0


def test_an_acknowledged_part_of_a_long_frame_is_not_asked_for_again(storage: Storage) -> None:
    frame = Frames(["x" * 5000]).blocks
    assert storage.block(frame[:3000]) == [3000]
    again = storage.killed_and_started_again()
    assert again.block(frame[3000:], offset=3000) == [len(frame)]
    assert (storage.root / "jobs/j/segments/s").read_bytes() == frame
    again.end()


def test_a_flipped_bit_is_answered_with_its_mini_batch_and_nothing_is_published(
    storage: Storage, tmp_path: Path
) -> None:
    frames, output = Frames(["a"], ["b"], ["c"], name="out.csv"), tmp_path / "output"
    storage.reserve(output, append_row_file_name="out.csv")
    storage.block(frames.blocks)
    path = storage.root / "jobs/j/segments/s"
    good = path.read_bytes()
    path.write_bytes(good[: frames.places.offset[2] - 1] + b"\xff" + good[frames.places.offset[2] :])
    answer = storage.commit(output, frames.places, append_row_file_name="out.csv")
    assert list(answer.damaged.mini_batch) == [1]
    assert os.listdir(output) == []
    path.write_bytes(good)
    answer = storage.commit(output, frames.places, append_row_file_name="out.csv", digest="e")
    assert answer.manifest.rows == 3


def test_a_bit_flipped_anywhere_in_a_frame_is_found(storage: Storage, tmp_path: Path) -> None:
    frames, output = Frames([{"a": 1}], [{"a": 2}], [{"a": 3}], name="out.csv", failed={1: b'"1"\n'}), tmp_path / "out"
    storage.reserve(output, append_row_file_name="out.csv")
    storage.block(frames.blocks)
    path = storage.root / "jobs/j/segments/s"
    begin, length = frames.places.offset[1], frames.places.length[1]
    header = read_frame_header(frames.blocks, begin)
    # Each field of the header, what follows it, and both ends of the body.
    offsets = [0, 4, 8, 16, 24, 32, 36, 40, 48, HEADER_SIZE, HEADER_SIZE + header.schema_length, header.body_offset]
    for offset in [*offsets, length - 1]:
        flipped = bytearray(frames.blocks)
        flipped[begin + offset] ^= 1
        path.write_bytes(flipped)
        answer = storage.commit(output, frames.places, append_row_file_name="out.csv")
        assert list(answer.damaged.mini_batch) == [1], offset
        assert os.listdir(output) == []
    path.write_bytes(frames.blocks)
    assert storage.commit(output, frames.places, append_row_file_name="out.csv").manifest.rows == 3
    assert (output / "out.csv").read_text() == "a\n1\n2\n3\n"


def test_a_bit_flipped_in_a_frame_longer_than_a_window_is_found(storage: Storage, tmp_path: Path) -> None:
    frames, output = Frames(["first"], ["x" * 1000] * 10_000), tmp_path / "output"
    storage.reserve(output)
    path = storage.root / "jobs/j/segments/s"
    path.parent.mkdir(parents=True)
    for offset in (5, HEADER_SIZE + 7_000_000, frames.places.length[1] - 1):
        flipped = bytearray(frames.blocks)
        flipped[frames.places.offset[1] + offset] ^= 128
        path.write_bytes(flipped)
        assert list(storage.commit(output, frames.places).damaged.mini_batch) == [1]
        assert os.listdir(output) == []


def test_damaged_parts_name_their_mini_batch_once_and_good_ones_stand_in_order(
    storage: Storage, tmp_path: Path
) -> None:
    frames, output = (
        Frames(["a"], ["b"], ["c"], parts_of={1: 0, 2: 0}, failed={0: b'"0"\n', 2: b'"2"\n'}),
        tmp_path / "o",
    )
    storage.reserve(output)
    storage.block(frames.blocks)
    frames.places.attempt_id[0] += 1
    frames.places.attempt_id[1] += 1
    assert list(storage.commit(output, frames.places).damaged.mini_batch) == [0]
    frames.places.attempt_id[0] -= 1
    frames.places.attempt_id[1] -= 1
    more = [pb.CommitOutputRequest(failed_mini_batch=[0], failed_lines=[b'"whole"'])]
    storage.commit(output, frames.places, more=more)
    assert (output / "out.txt").read_text() == "a\nb\nc\n"
    assert (output / "job_report" / "failed_items.jsonl").read_text() == '"0"\n"2"\n"whole"\n'


def test_places_that_name_another_attempt_or_no_segment_are_damaged(storage: Storage, tmp_path: Path) -> None:
    frames, output = Frames(["a"], ["b"]), tmp_path / "output"
    storage.reserve(output)
    storage.block(frames.blocks)
    frames.places.attempt_id[0] += 1
    assert list(storage.commit(output, frames.places).damaged.mini_batch) == [0]
    frames.places.segments[0] = "gone"
    assert list(storage.commit(output, frames.places).damaged.mini_batch) == [0, 1]


def test_a_report_alone_skips_damaged_frames_and_writes_no_output(storage: Storage, tmp_path: Path) -> None:
    frames, output = Frames(["a"], ["b"], failed={0: b'"0"\n', 1: b'"1"\n'}), tmp_path / "output"
    storage.reserve(output)
    storage.block(frames.blocks)
    frames.places.attempt_id[0] += 1
    answer = storage.commit(output, frames.places, report_only=True, summary_json='{"state": "FAILED"}')
    assert (answer.manifest.output_path, answer.manifest.rows) == ("", 0)
    assert os.listdir(output) == ["job_report"]
    assert (output / "job_report" / "failed_items.jsonl").read_text() == '"1"\n'
    refused(errors.NoOutput, list, storage.stub.ReadOutput(pb.ReadOutputRequest(job_id="j")))


def test_the_same_commit_again_gives_the_same_manifest_also_after_kill_9(storage: Storage, tmp_path: Path) -> None:
    frames, output = Frames(["a"]), tmp_path / "output"
    storage.reserve(output)
    storage.block(frames.blocks)
    first = storage.commit(output, frames.places)
    assert storage.commit(output, frames.places) == first
    again = storage.killed_and_started_again()
    assert again.commit(output, frames.places) == first
    again.end()


def test_a_commit_cut_off_before_its_manifest_is_redone(storage: Storage, tmp_path: Path) -> None:
    frames, output = Frames(["a"]), tmp_path / "output"
    storage.reserve(output)
    storage.block(frames.blocks)
    reservation = (storage.root / "jobs/j/reservation.json").read_bytes()
    first = storage.commit(output, frames.places)
    storage.end(signal.SIGKILL)
    # The state of the disk after a kill between the last rename and the manifest.
    manifest = storage.root / "jobs/j/manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "published": False}))
    (storage.root / "jobs/j/reservation.json").write_bytes(reservation)
    (output / ".batchmesh-j-displaced").mkdir()
    again = Storage(storage.root)
    assert again.commit(output, frames.places) == first
    assert sorted(os.listdir(output)) == ["job_report", "out.txt"]
    again.end()


def test_a_reservation_survives_kill_9_and_refuses_a_second_job(storage: Storage, tmp_path: Path) -> None:
    output = tmp_path / "output"
    storage.reserve(output)
    again = storage.killed_and_started_again()
    (tmp_path / "other-name").symlink_to(output)
    for spelling in (output, tmp_path / "other-name", f"{tmp_path}/./x/../output/"):
        assert "job j" in refused(errors.OutputReserved, again.reserve, spelling, job="k")
    again.reserve(output)
    again.reserve(output / "nested", job="k", overwrite=True)
    again.stub.ReleaseOutput(pb.ReleaseOutputRequest(job_id="k"))
    assert not (output / "nested").exists()
    again.stub.ReleaseOutput(pb.ReleaseOutputRequest(job_id="j"))
    again.stub.ReleaseOutput(pb.ReleaseOutputRequest(job_id="j"))
    assert not output.exists()
    again.end()


def test_only_an_empty_folder_or_the_report_of_a_failed_job_is_taken(storage: Storage, tmp_path: Path) -> None:
    output = tmp_path / "output"
    (output / "job_report").mkdir(parents=True)
    summary = output / "job_report" / "summary.json"
    refused(errors.OutputNotEmpty, storage.reserve, output)
    for content in ("no json", "[]", '{"state": "SUCCEEDED"}'):
        summary.write_text(content)
        refused(errors.OutputNotEmpty, storage.reserve, output)
    summary.write_text('{"state": "CANCELLED"}')
    storage.reserve(output)
    storage.commit(output, segment_pb2.Places())
    assert json.loads(summary.read_text())["state"] == "SUCCEEDED"
    assert (output / "out.txt").read_bytes() == b""
    assert "--overwrite" in refused(errors.OutputNotEmpty, storage.reserve, output, job="k")


def test_overwrite_replaces_our_own_at_the_commit_and_leaves_the_rest(storage: Storage, tmp_path: Path) -> None:
    frames, output = Frames(["new"]), tmp_path / "output"
    output.mkdir()
    (output / "out.txt").write_text("old\n")
    (output / "theirs.txt").write_text("theirs\n")
    storage.reserve(output, overwrite=True)
    storage.block(frames.blocks)
    assert (output / "out.txt").read_text() == "old\n"
    storage.commit(output, frames.places)
    assert (output / "out.txt").read_text() == "new\n"
    assert (output / "theirs.txt").read_text() == "theirs\n"


def test_a_folder_that_is_not_the_reserved_one_any_more_is_not_written_to(storage: Storage, tmp_path: Path) -> None:
    frames, output = Frames(["a"]), tmp_path / "output"
    refused(errors.OutputChanged, storage.commit, output, frames.places)
    storage.reserve(output)
    storage.block(frames.blocks)
    (output / "out.txt").write_text("somebody's\n")
    assert "out.txt" in refused(errors.OutputChanged, storage.commit, output, frames.places)
    assert os.listdir(output) == ["out.txt"]
    output.rename(tmp_path / "moved")
    output.mkdir()
    refused(errors.OutputChanged, storage.commit, output, frames.places)
    assert os.listdir(output) == []


@pytest.mark.parametrize("name", ["a/b", "..", "job_report"])
def test_a_file_name_that_would_leave_the_folder_is_refused(storage: Storage, tmp_path: Path, name: str) -> None:
    refused(errors.SpecRefused, storage.reserve, tmp_path / "output", append_row_file_name=name)


def test_an_output_that_cannot_be_a_folder_is_refused_with_its_name(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "below", "/proc/below", "relative"):
        assert str(output) in refused(errors.OutputUnwritable, storage.reserve, output)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_is_said_to_be_full(storage: Storage) -> None:
    (storage.root / "jobs/j/segments").mkdir(parents=True)
    (storage.root / "jobs/j/segments/s").symlink_to("/dev/full")
    assert "free some space" in refused(errors.DiskFull, storage.block, b"x")
    assert storage.block(b"x", segment="elsewhere") == [1]


def test_summary_only_makes_the_folder_and_writes_the_report_alone(storage: Storage, tmp_path: Path) -> None:
    output = tmp_path / "output"
    storage.reserve(output, output_action=SUMMARY_ONLY)
    (output / "by-the-script").write_text("x")
    answer = storage.commit(output, segment_pb2.Places(), output_action=SUMMARY_ONLY)
    assert answer.manifest.output_path == str(output)
    assert sorted(os.listdir(output)) == ["by-the-script", "job_report"]


def test_an_artifact_is_kept_under_its_digest_and_only_if_it_fits(storage: Storage) -> None:
    data = os.urandom(3 * 2**20)
    digest = hashlib.sha256(data).hexdigest()
    refused(errors.NoArtifact, list, storage.stub.ReadArtifact(pb.ReadArtifactRequest(digest=digest)))
    wrong = [pb.WriteArtifactRequest(digest=digest), pb.WriteArtifactRequest(data=b"other")]
    refused(errors.DigestMismatch, storage.stub.WriteArtifact, iter(wrong))
    refused(errors.DigestMismatch, storage.stub.WriteArtifact, iter([pb.WriteArtifactRequest(digest="../x")]))
    pieces = [pb.WriteArtifactRequest(data=data[at : at + 2**20]) for at in range(0, len(data), 2**20)]
    for _ in range(2):
        storage.stub.WriteArtifact(iter([pb.WriteArtifactRequest(digest=digest), *pieces]))
    again = storage.killed_and_started_again()
    assert list(again.stub.FindArtifacts(pb.FindArtifactsRequest(digest=["0" * 64, digest])).digest) == [digest]
    read = again.stub.ReadArtifact(pb.ReadArtifactRequest(digest=digest))
    assert b"".join(each.data for each in read) == data
    assert os.listdir(storage.root / "artifacts" / digest[:2]) == [digest]
    again.end()


def test_a_log_grows_by_offset(storage: Storage) -> None:
    name = "user/stdout/n1/process000.txt"

    def append(data: bytes, offset: int, to: str = name) -> int:
        size: int = storage.stub.AppendLog(pb.AppendLogRequest(job_id="j", name=to, offset=offset, data=data)).size
        return size

    assert [append(b"abc", 0), append(b"abc", 0), append(b"cde", 2)] == [3, 3, 5]
    assert "5 bytes" in refused(errors.Gap, append, b"x", 9)
    refused(errors.BadName, append, b"x", 0, "../../x")
    found = storage.stub.ListLogs(pb.ListLogsRequest(job_id="j")).logs
    assert [(each.name, each.size) for each in found] == [(name, 5)]
    read = storage.stub.ReadLog(pb.ReadLogRequest(job_id="j", name=name, offset=1))
    assert b"".join(each.data for each in read) == b"bcde"
    refused(errors.NoLog, list, storage.stub.ReadLog(pb.ReadLogRequest(job_id="j", name="none")))
    assert not storage.stub.ListLogs(pb.ListLogsRequest(job_id="without")).logs


def test_a_log_is_kept_up_to_its_limit(storage: Storage) -> None:
    piece, size = b"x" * 2**21, 0
    for _ in range(32):
        size = storage.stub.AppendLog(pb.AppendLogRequest(job_id="j", name="a", offset=size, data=piece)).size
    more = pb.AppendLogRequest(job_id="j", name="a", offset=size, data=b"x")
    assert "limit" in refused(errors.LogFull, storage.stub.AppendLog, more)


def test_a_deleted_job_leaves_its_published_output_alone(storage: Storage, tmp_path: Path) -> None:
    frames, output = Frames(["a"]), tmp_path / "output"
    storage.reserve(output)
    storage.block(frames.blocks)
    storage.commit(output, frames.places)
    for _ in range(2):
        storage.stub.DeleteJob(pb.StorageServiceDeleteJobRequest(job_id="j"))
    assert os.listdir(storage.root / "jobs") == []
    assert (output / "out.txt").read_text() == "a\n"
    assert storage.block(frames.blocks) == [len(frames.blocks)]


def test_usage_is_told_of_each_job_and_shrinks_with_what_is_deleted(storage: Storage, tmp_path: Path) -> None:
    def usage() -> dict[str, int]:
        pages = list(storage.stub.ListUsage(pb.ListUsageRequest()))
        assert max(len(page.jobs) for page in pages) <= 100
        return {job.job_id: job.bytes for page in pages for job in page.jobs}

    for number in range(250):
        (storage.root / "jobs" / f"empty-{number}").mkdir()
    storage.block(bytes(300_000))
    storage.stub.AppendLog(pb.AppendLogRequest(job_id="j", name="a/b", data=bytes(200_000)))
    assert len(usage()) == 251
    assert 500_000 <= usage()["j"] <= 600_000
    assert usage()["empty-7"] == 0
    storage.stub.DeleteJob(pb.StorageServiceDeleteJobRequest(job_id="j"))
    assert "j" not in usage()


def test_artifacts_are_trimmed_to_a_limit_but_not_what_is_in_use(storage: Storage) -> None:
    digests = []
    for letter in (b"a", b"b", b"c", b"d"):
        data = letter * 1000
        digests.append(hashlib.sha256(data).hexdigest())
        storage.stub.WriteArtifact(iter([pb.WriteArtifactRequest(digest=digests[-1], data=data)]))
    for digest in digests[:3]:
        os.utime(storage.root / "artifacts" / digest[:2] / digest, (1, 1))
    list(storage.stub.ReadArtifact(pb.ReadArtifactRequest(digest=digests[0])))
    answer = storage.stub.TrimArtifacts(pb.TrimArtifactsRequest(keep=[digests[1]], limit=0))
    assert (answer.deleted, answer.bytes) == (1, 3000)
    found = storage.stub.FindArtifacts(pb.FindArtifactsRequest(digest=digests)).digest
    assert list(found) == [digests[0], digests[1], digests[3]]


def test_a_file_that_may_not_grow_is_followed_by_another_and_an_output_says_so(
    storage: Storage, tmp_path: Path
) -> None:
    frames, output = Frames(["x" * 3000], ["y" * 3000]), tmp_path / "output"
    hard = resource.prlimit(storage.process.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(storage.process.pid, resource.RLIMIT_FSIZE, (5000, hard))
    first = frames.places.length[0]
    storage.reserve(output)
    assert storage.block(frames.blocks[:first]) == [first]
    assert "begin another" in refused(errors.Gap, storage.block, frames.blocks[first:], offset=first)
    assert storage.block(frames.blocks[first:], segment="s2") == [frames.places.length[1]]
    refused(errors.OutputUnwritable, storage.block, bytes(6000), segment="s3")
    frames.places.segments.append("s2")
    frames.places.segment[1], frames.places.offset[1] = 1, 0
    assert "larger than its file system" in refused(errors.OutputUnwritable, storage.commit, output, frames.places)
    assert os.listdir(output) == []
    resource.prlimit(storage.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    assert storage.commit(output, frames.places).manifest.rows == 2


def test_columns_of_a_commit_that_do_not_fit_are_refused(storage: Storage, tmp_path: Path) -> None:
    output = tmp_path / "output"
    storage.reserve(output)
    odd = segment_pb2.Places(segments=["s"], segment=[0], offset=[0, 1])
    refused(errors.SpecRefused, storage.commit, output, odd)
    assert storage.commit(output, segment_pb2.Places()).manifest.rows == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--listen", "nonsense"], "HOST:PORT"),
        (["--listen", "0.0.0.0:0"], "--insecure"),
        (["--listen", "0.0.0.0:0", "--insecure"], "--advertise"),
        (["--listen", "{taken}"], "Cannot listen"),
        (["--root", "{held}"], "Another storage"),
        (["--root", "/dev/null/x"], "/dev/null"),
        (["--root", "/dev/null"], "/dev/null"),
    ],
)
def test_a_storage_that_cannot_start_says_why_and_exits_with_2(
    storage: Storage, tmp_path: Path, options: list[str], said: str
) -> None:
    filled = [each.format(taken=storage.address, held=storage.root) for each in options]
    command = [sys.executable, "-m", "batchmesh.storage", "--listen", "127.0.0.1:0", "--root", str(tmp_path / "r")]
    done = subprocess.run([*command, *filled], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert re.fullmatch(rf"batchmesh: .*{re.escape(said)}.*\n", done.stderr)


def test_a_slow_disk_delays_each_acknowledgement_but_joins_the_streams(tmp_path: Path) -> None:
    slow = Storage(tmp_path / "root", "--test-durable-delay", "0.05")
    streams = [
        slow.stub.WriteSegments(iter([pb.WriteSegmentsRequest(job_id="j", segment=f"s{n}", offset=0, block=b"x" * 10)]))
        for n in range(20)
    ]
    assert [[each.durable for each in stream] for stream in streams] == [[10]] * 20
    assert slow.end() == 0
