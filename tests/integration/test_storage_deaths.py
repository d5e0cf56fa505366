"""kill -9 of storage, and of those who speak to it, at any moment."""

from __future__ import annotations

import os
import random
import signal
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.support.storage import APPEND_ROW, Frames, Storage, pb, serving
from tests.support.story import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    yield from serving(tmp_path / "root")


class Mortal:
    """A storage that dies now and then; whoever calls it asks for the one that lives."""

    def __init__(self, root: Path, *options: str) -> None:
        self.living = Storage(root, *options)

    def die(self) -> None:
        self.living = self.living.killed_and_started_again()


class Sender(threading.Thread):
    """Does what an agent does: one block at a time, sent again at its offset until it is acknowledged."""

    def __init__(self, storage: Mortal, segment: str) -> None:
        super().__init__()
        self.segment = segment
        self.sent = b""
        self.acknowledged = self.acknowledgements = 0
        self.stopped = threading.Event()
        self._storage = storage
        self._random = random.Random(segment)

    def run(self) -> None:
        while not self.stopped.is_set():
            try:
                for each in self._storage.living.stub.WriteSegments(self._requests()):
                    self.acknowledged = each.durable
                    self.acknowledgements += 1
            except (grpc.RpcError, ValueError):  # killed, or its channel is closed
                pass

    def _requests(self) -> Iterator[Any]:
        offset = self.acknowledged
        while not self.stopped.is_set():
            if len(self.sent) == offset:
                self.sent += self._random.randbytes(self._random.randint(1, 20_000))
            yield pb.WriteSegmentsRequest(job_id="j", segment=self.segment, offset=offset, block=self.sent[offset:])
            offset = len(self.sent)


def test_kill_9_at_any_moment_loses_nothing_acknowledged(tmp_path: Path) -> None:
    storage = Mortal(tmp_path / "root", "--test-durable-delay", "0.002")
    senders = [Sender(storage, f"s{number}") for number in range(3)]
    for sender in senders:
        sender.start()
    moments = random.Random(3)
    for _ in range(6):
        wait_for_more(senders, moments.randint(3, 60))
        storage.die()
        for sender in senders:
            kept, told = (storage.living.root / "jobs/j/segments" / sender.segment).read_bytes(), sender.acknowledged
            assert kept[:told] == sender.sent[:told]
    for sender in senders:
        sender.stopped.set()
    for sender in senders:
        sender.join(20)
        kept = (storage.living.root / "jobs/j/segments" / sender.segment).read_bytes()
        assert kept[: sender.acknowledged] == sender.sent[: sender.acknowledged]
    storage.living.end()


def wait_for_more(senders: list[Sender], count: int) -> None:
    enough = sum(each.acknowledgements for each in senders) + count
    wait_for(lambda: sum(each.acknowledgements for each in senders) >= enough, "acknowledgements")


class Output:
    """An output folder as a reader sees it: each look checks that what is visible is whole."""

    def __init__(self, folder: Path, whole: bytes) -> None:
        self.folder = folder
        self.whole = whole

    def hidden(self, what: str) -> Path:
        return self.folder / f".batchmesh-j-{what}"

    def check(self) -> bool:
        """True, or it fails the test."""
        if (self.folder / "out.txt").exists():
            assert (self.folder / "out.txt").read_bytes() == self.whole
        return True


def at_its_beginning(output: Output, root: Path) -> bool:
    return any((root / "jobs/j/commit").glob("*"))


def with_half_of_it_written(output: Output, root: Path) -> bool:
    hidden = output.hidden("output")
    return hidden.exists() and hidden.stat().st_size > len(output.whole) // 2


def with_all_of_it_written(output: Output, root: Path) -> bool:
    return (output.hidden("report") / "summary.json").exists()


def with_its_report_published(output: Output, root: Path) -> bool:
    return (output.folder / "job_report").exists()


MOMENTS = [at_its_beginning, with_half_of_it_written, with_all_of_it_written, with_its_report_published]


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
def test_a_commit_killed_on_its_way_is_redone_and_never_half_visible(
    storage: Storage, tmp_path: Path, moment: Callable[[Output, Path], bool]
) -> None:
    frames = Frames(*[[f"{number}" * 1000] * 1000 for number in range(9)])
    output = Output(
        tmp_path / "output", b"".join(b"%d" % number * 1000 + b"\n" for number in range(9) for _ in range(1000))
    )
    storage.reserve(output.folder)
    size = 2**20
    for at in range(0, len(frames.blocks), size):
        storage.block(frames.blocks[at : at + size], offset=at)
    told: list[Any] = []

    def commit() -> None:
        try:
            told.append(storage.commit(output.folder, frames.places))
        except (grpc.RpcError, ValueError):
            told.append(None)

    thread = threading.Thread(target=commit)
    thread.start()
    wait_for(lambda: output.check() and (told or moment(output, storage.root)), "the moment")
    storage.end(signal.SIGKILL)
    thread.join(20)
    output.check()
    again = Storage(storage.root)
    answer = again.commit(output.folder, frames.places)
    output.check()
    assert answer.manifest.rows == 9000
    assert told in ([None], [answer])
    assert sorted(os.listdir(output.folder)) == ["job_report", "out.txt"]
    assert again.commit(output.folder, frames.places) == answer
    assert not (storage.root / "jobs/j/reservation.json").exists()
    again.end()


def test_a_commit_whose_caller_dies_in_the_middle_of_it_writes_nothing(storage: Storage, tmp_path: Path) -> None:
    """A stream that is cut may look to its reader like one that has ended."""
    frames = Frames(["a"], ["b"], ["c"])
    for number in range(40):
        job, output = f"j{number}", tmp_path / f"output{number}"
        storage.reserve(output, job=job)
        storage.block(frames.blocks, job=job)
        cut_off(storage, job, output, after=number % 4)
        answer = storage.commit(output, frames.places, job=job)
        assert answer.manifest.rows == 3
        assert not (output / "job_report" / "failed_items.jsonl").exists()


def cut_off(storage: Storage, job: str, output: Path, after: int) -> None:
    """Begins a commit and is gone after so many requests (of 768 KiB)."""
    cut, size = threading.Event(), len("cut") * 2**18 * after
    spool = storage.root / "jobs" / job / "commit"

    def requests() -> Iterator[Any]:
        header = pb.CommitHeader(job_id=job, digest="d", output=str(output), append_row_file_name="out.txt")
        header.output_action = APPEND_ROW
        yield pb.CommitOutputRequest(header=header)
        yield from [pb.CommitOutputRequest(failed_mini_batch=[0], failed_lines=[b"cut" * 2**18])] * after
        cut.wait(20)

    call = storage.stub.CommitOutput.future(requests())
    # Now it is read: all that was said lies there, and the reader waits for more.
    wait_for(lambda: [path for path in spool.glob("*/failed") if path.stat().st_size >= size - 2**20], "the requests")
    call.cancel()
    cut.set()


def test_the_same_commit_said_twice_at_once_is_one_commit(storage: Storage, tmp_path: Path) -> None:
    """A scheduler that was killed and started again asks for what storage still does for its predecessor."""
    frames, output = Frames(*[["x" * 1000] * 1000 for _ in range(9)]), tmp_path / "output"
    storage.reserve(output)
    size = 2**20
    for at in range(0, len(frames.blocks), size):
        storage.block(frames.blocks[at : at + size], offset=at)
    told: list[Any] = []
    threads = [threading.Thread(target=lambda: told.append(storage.commit(output, frames.places))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert told == [told[0]] * 4
    assert told[0].manifest.rows == 9000
    assert not list((storage.root / "jobs/j/commit").glob("*"))
