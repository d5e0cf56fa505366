"""Disks that are full or fail, and storage killed at each of its steps. Needs root (a tmpfs), libfiu and strace.

A tmpfs of a few MiB gives a true ENOSPC; libfiu makes syncs fail for as long as a test likes; strace ends a process, or
fails one system call, at exactly the one that is asked for.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from batchmesh import errors
from batchmesh.client import Client
from batchmesh.entries import Dataset, Entry
from batchmesh.entry_messages import entry_to_proto
from batchmesh.status import from_rpc_error
from tests.components.tools import tool
from tests.support.mesh import Mesh
from tests.support.storage import Frames, Storage, pb, refused
from tests.support.story import final, lines, succeeded, until, write_files, write_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIU = Path("/usr/lib/fiu")
FSYNC, FDATASYNC = "posix/io/sync/fsync", "posix/io/sync/fdatasync"
#: What changes what a reader, or a storage that starts again, can see; and what makes it durable.
STEPS = ("mkdir", "rmdir", "unlink", "unlinkat", "rename", "fsync")
MIB = 2**20


class Disk:
    """A small disk of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Not one page is left."""
        with self._ballast.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        self._ballast.unlink()

    def names(self) -> list[str]:
        return sorted(name for name in os.listdir(self.folder) if name != self._ballast.name)


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[Disk]:
    """A tmpfs of `size` bytes at `folder`."""
    if os.geteuid() != 0:
        pytest.skip("this needs root, to mount a tmpfs")
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def running(root: Path, *options: str, env: dict[str, str] | None = None) -> Iterator[Storage]:
    storage = Storage(root, *options, env=env)
    try:
        yield storage
    finally:
        if storage.process.poll() is None:
            storage.end()


def artifact_of(data: bytes) -> tuple[str, Callable[[], Iterator[Any]]]:
    """The digest, and the requests that send it."""
    digest = hashlib.sha256(data).hexdigest()

    def requests() -> Iterator[Any]:
        yield pb.WriteArtifactRequest(digest=digest)
        yield from (pb.WriteArtifactRequest(data=data[at : at + MIB]) for at in range(0, len(data), MIB))

    return digest, requests


def test_what_a_full_disk_takes_no_more_is_refused_and_taken_once_there_is_room(tmp_path: Path) -> None:
    block, more = os.urandom(MIB), os.urandom(MIB)
    digest, requests = artifact_of(os.urandom(3 * MIB))

    def log(storage: Storage, data: bytes, offset: int) -> int:
        request = pb.AppendLogRequest(job_id="j", name="a/b", offset=offset, data=data)
        size: int = storage.stub.AppendLog(request).size
        return size

    with mounted(tmp_path / "disk", 8 * MIB) as disk, running(disk.folder / "root") as storage:
        path = storage.root / "jobs/j/segments/s"
        storage.block(block)
        assert log(storage, block[:5000], 0) == 5000
        disk.fill()
        assert str(path) in refused(errors.DiskFull, storage.block, more, offset=MIB)
        assert path.read_bytes() == block
        assert "full" in refused(errors.DiskFull, log, storage, block[5000:], 5000)
        assert "full" in refused(errors.DiskFull, storage.stub.WriteArtifact, requests())
        assert not list((storage.root / "artifacts").glob("??/*"))
        assert not storage.stub.FindArtifacts(pb.FindArtifactsRequest(digest=[digest])).digest
        # Neither is it stopped by it, nor kept from starting again.
        again = storage.killed_and_started_again()
        assert again.stub.ListLogs(pb.ListLogsRequest(job_id="j")).logs[0].size >= 5000
        refused(errors.DiskFull, again.block, more, offset=MIB)
        disk.free()
        assert again.block(more, offset=MIB) == [2 * MIB]
        assert path.read_bytes() == block + more
        assert log(again, block[5000:], 5000) == MIB
        assert (storage.root / "jobs/j/logs/a/b").read_bytes() == block
        again.stub.WriteArtifact(requests())
        assert again.end() == 0


def test_an_entry_for_which_there_is_no_room_is_refused_and_leaves_the_earlier_one(tmp_path: Path) -> None:
    def register(storage: Storage, version: int) -> None:
        paths = tuple(f"/{version}/{number}" for number in range(2000))
        entry = entry_to_proto(Entry("mine", Dataset("files", paths)))
        storage.stub.RegisterEntry(pb.RegisterEntryRequest(entry=entry, overwrite=True))

    def versions(storage: Storage) -> list[int]:
        request = pb.ListEntriesRequest(kind=pb.ENTRY_KIND_DATASET, name="mine")
        return [entry.version for page in storage.stub.ListEntries(request) for entry in page.entries]

    with mounted(tmp_path / "disk", 2 * MIB) as disk, running(disk.folder / "root") as storage:
        register(storage, 1)
        disk.fill()
        assert "full" in refused(errors.DiskFull, register, storage, 2)
        assert versions(storage) == [1]
        again = storage.killed_and_started_again()
        assert versions(again) == [1]
        disk.free()
        register(again, 2)
        assert versions(again) == [1, 2]
        assert again.end() == 0


def test_room_can_be_made_by_deleting_a_job(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 4 * MIB) as disk, running(disk.folder / "root") as storage:
        storage.block(bytes(2 * MIB), job="old")
        disk.fill()
        refused(errors.DiskFull, storage.block, bytes(MIB))
        storage.stub.DeleteJob(pb.StorageServiceDeleteJobRequest(job_id="old"))
        assert storage.block(bytes(MIB)) == [MIB]


@pytest.mark.parametrize("name", ["out.txt", "out.csv", "out.jsonl", "out.parquet"])
def test_an_output_on_a_full_disk_leaves_nothing_and_is_written_once_there_is_room(tmp_path: Path, name: str) -> None:
    frames = Frames(*[[os.urandom(500).hex() for _ in range(1000)] for _ in range(5)], name=name)
    with mounted(tmp_path / "disk", 16 * MIB) as disk, running(tmp_path / "root") as storage:
        output = disk.folder / "output"
        storage.reserve(output, append_row_file_name=name)
        for at in range(0, len(frames.blocks), MIB):
            storage.block(frames.blocks[at : at + MIB], offset=at)
        disk.fill()
        for room in (0, MIB):
            os.truncate(disk.folder / "ballast", (disk.folder / "ballast").stat().st_size - room)
            told = refused(errors.DiskFull, storage.commit, output, frames.places, append_row_file_name=name)
            assert str(output) in told
            assert os.listdir(output) == []
        disk.free()
        answer = storage.commit(output, frames.places, append_row_file_name=name).manifest
        assert answer.rows == 5000
        assert answer.bytes == (output / name).stat().st_size
        assert sorted(os.listdir(output)) == ["job_report", name]


def test_a_commit_for_which_storage_has_no_room_itself_names_that_disk(tmp_path: Path) -> None:
    frames, output = Frames(["a"]), tmp_path / "output"
    lines_of_failures = [pb.CommitOutputRequest(failed_mini_batch=[7], failed_lines=[b"x" * MIB])] * 3
    with mounted(tmp_path / "disk", 8 * MIB) as disk, running(disk.folder / "root") as storage:
        storage.reserve(output)
        storage.block(frames.blocks)
        disk.fill()
        for more in ([], lines_of_failures):
            told = refused(errors.DiskFull, storage.commit, output, frames.places, more=more)
            assert str(storage.root) in told
            assert not list((storage.root / "jobs/j/commit").glob("*"))
            assert os.listdir(output) == []
        disk.free()
        assert storage.commit(output, frames.places, more=lines_of_failures).manifest.rows == 1


def test_a_folder_on_a_full_disk_is_not_reserved(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", MIB) as disk, running(tmp_path / "root") as storage:
        disk.fill()
        assert "full" in refused(errors.DiskFull, storage.reserve, disk.folder / "output")
        assert disk.names() == []
        disk.free()
        storage.reserve(disk.folder / "output", job="k")


@pytest.mark.timeout(300)
def test_a_job_on_a_full_disk_says_so_and_goes_on_once_there_is_room(tmp_path: Path) -> None:
    inputs = write_files(tmp_path / "input", 120, lambda number: f"{number:05}" * 20_000)
    script = write_script(tmp_path, "def run(mini_batch):\n    return [open(path).read() for path in mini_batch]\n")
    with mounted(tmp_path / "mesh" / "storage", 5 * MIB) as disk, Mesh(tmp_path / "mesh") as mesh:
        with Client(mesh.address) as client:
            job = client.submit(
                script, [str(tmp_path / "input")], tmp_path / "output", attended=True, mini_batch_size="2"
            )
            held = until(client, job.job_id, lambda job: "full" in job.waiting_for)
            assert str(disk.folder) in held.waiting_for
            assert not (tmp_path / "output" / "parallel_run_step.txt").exists()
            subprocess.run(["mount", "-o", "remount,size=64M", disk.folder], check=True)
            done = succeeded(final(client, job.job_id, 200))
        assert lines(done) == [path.read_text() for path in inputs]


# Syncs that fail.


class Faults:
    """libfiu in one process: failure points that are switched on and off."""

    def __init__(self, folder: Path) -> None:
        self._control = str(folder / "control")
        self._tool = tool("fiu-ctrl", "apt-get install fiu-utils libfiu0")
        preload = f"{FIU}/fiu_run_preload.so {FIU}/fiu_posix_preload.so"
        self.env = {"LD_PRELOAD": preload, "FIU_CTRL_FIFO": self._control}

    def set(self, process: subprocess.Popen[bytes], command: str) -> None:
        subprocess.run([self._tool, "-f", self._control, "-c", command, str(process.pid)], check=True)

    def begin(self, process: subprocess.Popen[bytes], point: str) -> None:
        self.set(process, f"enable name={point},failinfo=5")

    def end(self, process: subprocess.Popen[bytes], point: str) -> None:
        self.set(process, f"disable name={point}")


def test_a_block_that_cannot_be_synced_is_not_acknowledged_and_goes_to_another_segment(tmp_path: Path) -> None:
    faults = Faults(tmp_path)
    with running(tmp_path / "root", env=faults.env) as storage:
        frames, output = Frames(["a"], ["b"], ["c"]), tmp_path / "output"
        storage.reserve(output)
        first = frames.places.length[0]
        path = storage.root / "jobs/j/segments/s"
        assert storage.block(frames.blocks[:first]) == [first]
        faults.begin(storage.process, FDATASYNC)
        assert "begin another" in refused(errors.Gap, storage.block, frames.blocks[first:], offset=first)
        assert path.read_bytes() == frames.blocks[:first]
        refused(errors.Gap, storage.block, frames.blocks[first:], segment="t")
        faults.end(storage.process, FDATASYNC)
        refused(errors.Gap, storage.block, frames.blocks[first:], offset=first)
        assert sorted(os.listdir(path.parent)) == ["s"]
        assert storage.block(frames.blocks[first:], segment="u") == [len(frames.blocks) - first]
        frames.places.segments.append("u")
        for number in (1, 2):
            frames.places.segment[number] = 1
            frames.places.offset[number] -= first
        assert storage.commit(output, frames.places).manifest.rows == 3


def test_nothing_is_told_whose_sync_has_failed(tmp_path: Path) -> None:
    faults = Faults(tmp_path)
    digest, requests = artifact_of(b"source")
    with running(tmp_path / "root", env=faults.env) as storage:
        frames, output = Frames(["a"], ["b"]), tmp_path / "output"
        faults.begin(storage.process, FSYNC)
        assert "fails" in refused(errors.DiskFailing, storage.reserve, output)
        assert not output.exists()
        assert not list((storage.root / "jobs").glob("*/reservation.json"))
        assert "fails" in refused(errors.DiskFailing, storage.stub.WriteArtifact, requests())
        assert not storage.stub.FindArtifacts(pb.FindArtifactsRequest(digest=[digest])).digest
        faults.end(storage.process, FSYNC)
        storage.reserve(output)
        storage.block(frames.blocks)
        storage.stub.WriteArtifact(requests())
        faults.begin(storage.process, FSYNC)
        for fields in ({}, {"report_only": True}):
            told = refused(errors.DiskFailing, storage.commit, output, frames.places, **fields)
            assert str(output) in told
            assert os.listdir(output) == []
        faults.end(storage.process, FSYNC)
        assert storage.commit(output, frames.places).manifest.rows == 2
        assert (output / "out.txt").read_text() == "a\nb\n"


# Each step of a commit.


@contextmanager
def befallen(process: subprocess.Popen[bytes], call: str, number: int, fault: str) -> Iterator[None]:
    """`fault` befalls the system call of that name and number that a thread of the process makes from now on."""
    command = [tool("strace", "apt-get install strace"), "-f", "-o", "/dev/null", "-p", str(process.pid)]
    command += ["-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={number}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        told = tracer.stderr.readline()
        assert "attached" in told, told
        try:
            yield
        finally:
            tracer.kill()  # it does not always see that all threads have died; those that live go on


class Rounds:
    """A job that has succeeded once, with a second round to commit whose output is another one."""

    def __init__(self, root: Path, output: Path) -> None:
        self.storage = Storage(root)
        self.output = output
        self._first, self._second = Frames(["a"], ["b"]), Frames(["a"], ["b"], ["c"], failed={2: b'"c"\n'})
        self.storage.reserve(output)
        self.storage.block(self._second.blocks)
        self._commit(self._first, "1")
        self.storage.reserve(output, resumed=True)

    def _commit(self, frames: Frames, digest: str) -> Any:
        summary = json.dumps({"state": "SUCCEEDED", "job_id": "j", "round": digest})
        return self.storage.commit(self.output, frames.places, digest=digest, summary_json=summary).manifest

    def commit(self) -> str:
        """Commits the second round; returns what went wrong, or nothing."""
        try:
            assert self._commit(self._second, "2").rows == 3
        except grpc.RpcError as error:
            return str(from_rpc_error(error))
        return ""

    def check_visible(self) -> None:
        """Whatever happens: the one output or the other, whole, and no half of a report."""
        assert (self.output / "out.txt").read_text() in {"a\nb\n", "a\nb\nc\n"}
        report = self.output / "job_report"
        assert not report.exists() or json.loads((report / "summary.json").read_text())["round"] in {"1", "2"}

    def check_done(self) -> None:
        assert (self.output / "out.txt").read_text() == "a\nb\nc\n"
        assert json.loads((self.output / "job_report" / "summary.json").read_text())["round"] == "2"
        assert (self.output / "job_report" / "failed_items.jsonl").read_text() == '"c"\n'
        assert sorted(os.listdir(self.output)) == ["job_report", "out.txt"]
        kept = self.storage.root / "jobs" / "j"
        assert {path.name for path in kept.iterdir()} - {"commit"} == {"manifest.json", "segments"}
        assert not list(kept.glob("commit/*"))


def each_step(tmp_path: Path, calls: tuple[str, ...], fault: str) -> Iterator[tuple[Rounds, str]]:
    """A second round each, and what its commit said, with the fault at the first such step, the second, and so on."""
    for call in calls:
        for number in itertools.count(1):
            rounds = Rounds(tmp_path / f"root-{call}-{number}", tmp_path / f"output-{call}-{number}")
            with befallen(rounds.storage.process, call, number, fault):
                went_wrong = rounds.commit()
            rounds.check_visible()
            yield rounds, went_wrong
            assert rounds.commit() == ""
            rounds.check_done()
            rounds.storage.end()
            if not went_wrong:
                break


@pytest.mark.timeout(900)
def test_storage_killed_at_each_step_of_a_commit_does_it_again_and_shows_nothing_half(tmp_path: Path) -> None:
    killed = 0
    for rounds, went_wrong in each_step(tmp_path, STEPS, "signal=SIGKILL"):
        if went_wrong:
            killed += 1
            assert rounds.storage.process.wait(20) == -signal.SIGKILL
            rounds.storage = rounds.storage.killed_and_started_again()
    assert killed > 25, "the steps of a commit are more than that"


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("error", "said"), [("EIO", "fails"), ("ENOSPC", "full")])
def test_each_step_of_a_commit_that_fails_is_told_and_the_commit_is_done_again(
    tmp_path: Path, error: str, said: str
) -> None:
    failed = 0
    for _, went_wrong in each_step(tmp_path, ("mkdir", "rename", "fsync"), f"error={error}"):
        failed += bool(went_wrong)
        assert said in went_wrong or not went_wrong
    assert failed > 12, "the steps of a commit are more than that"
