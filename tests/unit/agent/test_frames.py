"""The framing between agent and worker."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from batchmesh.agent import frames
from batchmesh.agent.pool import Phase
from batchmesh.v1 import agent_pb2, job_pb2

MESSAGES = st.lists(st.tuples(st.integers(1, 12), st.binary(max_size=40)), max_size=8)


@given(MESSAGES, st.lists(st.integers(1, 30), max_size=30))
def test_messages_come_out_whole_however_the_socket_cuts_them(
    messages: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    stream = b"".join(frames.message(kind, body) for kind, body in messages)
    inbox, got, at = frames.Inbox(), [], 0
    for size in [*cuts, len(stream) + 1]:
        piece = stream[at : at + size]
        at += size
        got += [(kind, bytes(body)) for kind, body in inbox.feed(piece)] if piece else []
    assert got == messages


def test_an_inbox_tells_how_long_the_message_under_way_is() -> None:
    inbox = frames.Inbox()
    inbox.feed(frames.message(frames.RUN, bytes(1000))[:100])
    assert inbox.expected == 1000 + frames.HEADER.size


def test_the_shared_word_outlives_its_writer() -> None:
    fd = os.memfd_create("word")
    os.ftruncate(fd, frames.WORD_SIZE)
    writer, reader = frames.Word(fd), frames.Word(fd)
    os.close(fd)
    writer.write(2**40 + 1, frames.RENDERING, 12345)
    writer.close()
    assert reader.read() == frames.Moment(2**40 + 1, frames.RENDERING, 12345)
    reader.close()


def test_the_name_of_a_lone_item_outlives_its_writer_and_is_of_one_mini_batch_alone() -> None:
    fd = os.memfd_create("word")
    os.ftruncate(fd, frames.WORD_SIZE)
    writer, reader = frames.Word(fd), frames.Word(fd)
    os.close(fd)
    assert reader.called(1) == ""
    writer.recall(5, 6)
    for sequence, name, seen in (
        (3, "/in/ü.txt", "/in/ü.txt"),
        (4, "/in/a", "/in/a"),
        (5, "/" * 9000 + "end", "/" * (frames.NAME_SIZE - 3) + "end"),
        (6, "/odd \udcff", "/odd \\udcff"),
    ):
        writer.call(sequence, name)
        assert reader.called(sequence) == seen
        assert reader.called(sequence - 1) == reader.called(sequence + 1) == ""
    assert reader.is_recalled(6)
    writer.close()
    assert reader.called(6).startswith("/odd")
    reader.close()


def test_a_failure_survives_the_socket() -> None:
    failure = frames.Failure(frames.Kind.RUN_RAISED, "run() raised \ud800 ü", "Traceback\n")
    assert frames.Failure.decoded(failure.encoded()) == failure


def test_kinds_and_phases_have_the_numbers_of_the_protos() -> None:
    for kind in frames.Kind:
        assert job_pb2.Failure.Kind.Name(kind) == f"KIND_{kind.name}"  # type: ignore[arg-type]
    for phase in Phase:
        assert agent_pb2.PoolStatus.Phase.Name(phase) == f"PHASE_{phase.name}"  # type: ignore[arg-type]
