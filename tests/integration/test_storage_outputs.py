"""Outputs by reference, files that agents send, and copies: the real storage process over real gRPC."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from batchmesh import errors
from batchmesh.entries import AzureBlobContainer, Entry
from batchmesh.entry_messages import entry_to_proto
from tests.support.outputs import header
from tests.support.storage import SUMMARY_ONLY, Frames, Storage, pb, refused, serving
from tests.support.story import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEFAULT = "datastore://workspaceblobstore/results"


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    yield from serving(tmp_path / "root")


def send(storage: Storage, name: str, data: bytes = b"x", job: str = "j", complete: bool = True) -> None:
    first = pb.WriteOutputFileRequest(job_id=job, name=name)
    pieces = [pb.WriteOutputFileRequest(data=data[at : at + 2**20]) for at in range(0, len(data), 2**20)]
    last = [pb.WriteOutputFileRequest(complete=True)] if complete else []
    storage.stub.WriteOutputFile(iter([first, *pieces, *last]))


def remove(storage: Storage, name: str) -> None:
    storage.stub.WriteOutputFile(iter([pb.WriteOutputFileRequest(job_id="j", name=name, removed=True, complete=True)]))


def commit_files(storage: Storage, output: object, **fields: Any) -> Any:
    return storage.commit(output, Frames().places, output_action=SUMMARY_ONLY, **fields).manifest  # type: ignore[arg-type]


def copy(storage: Storage, output: object, job: str = "k", **fields: Any) -> Any:
    request = pb.CopyOutputRequest(header=header(output, job, "1", **fields), from_job_id="j")
    return storage.stub.CopyOutput(request).manifest


def test_datastores_that_do_not_answer_hold_up_nobody_else(storage: Storage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/account"
        blobs = AzureBlobContainer("container", "account", endpoint=address)
        register = pb.RegisterEntryRequest(entry=entry_to_proto(Entry("silent", blobs)))
        storage.stub.RegisterEntry(register)
        # More than Python has threads for what may block.
        calls = [storage.stub.ReserveOutput.future(reserve_silent(number)) for number in range(40)]
        with silent.accept()[0]:
            storage.stub.RegisterEntry(register, timeout=10)
            for each in calls:
                each.cancel()
            storage.end(signal.SIGKILL)


def reserve_silent(number: int) -> pb.ReserveOutputRequest:
    return pb.ReserveOutputRequest(job_id=f"j{number}", output="datastore://silent/out", append_row_file_name="a.txt")


def test_the_marker_lies_in_the_folder_for_as_long_as_it_is_reserved(storage: Storage, tmp_path: Path) -> None:
    output = tmp_path / "output"
    marker = output / ".batchmesh-j-marker"
    storage.reserve(output, output_action=SUMMARY_ONLY)
    assert marker.read_text() == "j"
    marker.unlink()
    again = storage.killed_and_started_again()
    again.reserve(output, output_action=SUMMARY_ONLY)
    assert marker.read_text() == "j"
    commit_files(again, output)
    assert os.listdir(output) == ["job_report"]
    again.reserve(tmp_path / "other", job="k", output_action=SUMMARY_ONLY)
    again.stub.ReleaseOutput(pb.ReleaseOutputRequest(job_id="k"))
    assert not (tmp_path / "other").exists()
    again.reserve(tmp_path / "third", job="k")
    assert os.listdir(tmp_path / "third") == []
    again.end()


def test_what_agents_send_is_published_at_the_commit(storage: Storage, tmp_path: Path) -> None:
    output, large = tmp_path / "output", os.urandom(5 * 2**20)
    storage.reserve(output, output_action=SUMMARY_ONLY)
    (output / "seen").write_text("by the agent itself")
    for name, data in (("a", b"1"), ("deep/er/b", large), ("a", b"2"), (".hidden", b""), ("gone", b"x")):
        send(storage, name, data)
    remove(storage, "gone")
    remove(storage, "never/there")
    again = storage.killed_and_started_again()
    assert sorted(os.listdir(output)) == [".batchmesh-j-marker", "seen"]
    assert commit_files(again, output).output_path == str(output)
    assert sorted(os.listdir(output)) == [".hidden", "a", "deep", "job_report", "seen"]
    assert (output / "a").read_text() == "2"
    assert (output / "deep" / "er" / "b").read_bytes() == large
    assert not (again.root / "jobs" / "j" / "files").exists()
    again.end()


def test_a_round_that_fails_keeps_what_was_sent_for_the_next_one(storage: Storage, tmp_path: Path) -> None:
    output = tmp_path / "output"
    storage.reserve(output, output_action=SUMMARY_ONLY)
    send(storage, "a")
    commit_files(storage, output, report_only=True, summary_json='{"state": "FAILED"}')
    assert os.listdir(output) == ["job_report"]
    storage.reserve(output, output_action=SUMMARY_ONLY, resumed=True)
    send(storage, "b")
    commit_files(storage, output, digest="2")
    assert sorted(os.listdir(output)) == ["a", "b", "job_report"]


def test_a_name_that_leads_elsewhere_or_is_ours_is_refused(storage: Storage, tmp_path: Path) -> None:
    storage.reserve(tmp_path / "output", output_action=SUMMARY_ONLY)
    elsewhere = ["", "/a", "../a", "a/../../b", "a//b", "a/", ".", "a\0b"]
    for name in [*elsewhere, "job_report/x", ".batchmesh-j-output"]:
        refused(errors.BadName, send, storage, name)
    assert not (storage.root / "jobs" / "j" / "files").exists()


def test_a_name_cannot_be_a_folder_and_a_file(storage: Storage, tmp_path: Path) -> None:
    storage.reserve(tmp_path / "output", output_action=SUMMARY_ONLY)
    send(storage, "a")
    assert "'a/b'" in refused(errors.BadName, send, storage, "a/b")
    send(storage, "c/d")
    assert "'c'" in refused(errors.BadName, send, storage, "c")
    assert not list((storage.root / "jobs" / "j" / "incoming").glob("*"))


def test_a_file_that_is_cut_off_or_of_no_job_is_not_kept(storage: Storage, tmp_path: Path) -> None:
    storage.reserve(tmp_path / "output", output_action=SUMMARY_ONLY)
    refused(errors.CutOff, send, storage, "a", complete=False)
    refused(errors.OutputChanged, send, storage, "a", job="none")
    commit_files(storage, tmp_path / "output")
    refused(errors.OutputChanged, send, storage, "late")
    assert os.listdir(tmp_path / "output") == ["job_report"]


def test_a_local_datastore_is_reserved_and_written_as_its_folder(storage: Storage, tmp_path: Path) -> None:
    folder = storage.root / "datastore" / "w" / "results"
    frames = Frames(["a"])
    storage.reserve(DEFAULT, workspace="w")
    storage.block(frames.blocks)
    refused(errors.OutputReserved, storage.reserve, folder, job="k")
    assert storage.commit(DEFAULT, frames.places).manifest.output_path == str(folder / "out.txt")  # type: ignore[arg-type]
    assert (folder / "out.txt").read_text() == "a\n"
    refused(errors.NoEntry, storage.reserve, "datastore://unknown/x", job="k")
    refused(errors.SpecRefused, storage.reserve, "datastore://workspaceblobstore/../x", job="k")


def test_a_copy_said_twice_at_once_is_one_copy(storage: Storage, tmp_path: Path) -> None:
    frames = Frames(*[["x" * 1000] * 1000 for _ in range(4)])
    storage.reserve(tmp_path / "first")
    for at in range(0, len(frames.blocks), 2**20):
        storage.block(frames.blocks[at : at + 2**20], offset=at)
    storage.commit(tmp_path / "first", frames.places)
    storage.reserve(tmp_path / "second", job="k")
    told: list[Any] = []
    threads = [threading.Thread(target=lambda: told.append(copy(storage, tmp_path / "second"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert told == [told[0]] * 4
    assert told[0].rows == 4000
    assert (tmp_path / "second" / "out.txt").read_bytes() == (tmp_path / "first" / "out.txt").read_bytes()
    assert json.loads((tmp_path / "second" / "job_report" / "summary.json").read_text())["reused_from"] == "j"
    read = storage.stub.ReadOutput(pb.ReadOutputRequest(job_id="k"))
    assert sum(len(each.data) for each in read) == told[0].bytes
    missing = pb.CopyOutputRequest(header=header(tmp_path / "third", "l", "1"), from_job_id="j")
    refused(errors.OutputChanged, storage.stub.CopyOutput, missing)


def test_a_copy_killed_on_its_way_is_redone(storage: Storage, tmp_path: Path) -> None:
    storage.reserve(tmp_path / "first", output_action=SUMMARY_ONLY)
    for number in range(500):
        (tmp_path / "first" / f"{number}").write_bytes(bytes(10_000))
    commit_files(storage, tmp_path / "first")
    second = tmp_path / "second"
    storage.reserve(second, job="k", output_action=SUMMARY_ONLY)

    def ask() -> None:
        try:
            copy(storage, second, summary_only=True)
        except (grpc.RpcError, ValueError):  # killed, or its channel is closed
            return

    asking = threading.Thread(target=ask)
    asking.start()
    hidden = second / ".batchmesh-k-files"
    wait_for(lambda: (hidden.is_dir() and len(os.listdir(hidden)) > 100) or (second / "job_report").exists(), "files")
    storage.end(signal.SIGKILL)
    asking.join(20)
    again = Storage(storage.root)
    assert copy(again, second, summary_only=True).output_path == str(second)
    assert sorted(os.listdir(second)) == sorted(["job_report", *map(str, range(500))])
    again.end()
