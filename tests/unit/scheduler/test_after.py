"""Which jobs may begin, which wait, and which fail because another one did."""

from __future__ import annotations

import ast
from contextlib import closing
from pathlib import Path

import pytest

from batchmesh.scheduler import after, tables
from batchmesh.scheduler.after import Predecessor
from batchmesh.scheduler.model import ACTIVE, FINAL, FailureKind, State
from batchmesh.scheduler.store import Store
from tests.unit.test_boundaries import DECIDES

GOING = sorted(set(State) - FINAL)


@pytest.mark.parametrize("state", GOING)
def test_a_job_waits_for_one_that_has_not_ended(state: State) -> None:
    found = [Predecessor("a", State.SUCCEEDED), Predecessor("b", state)]
    assert after.failure(found) is None
    assert after.awaited(found) == "job b has not ended yet"


def test_a_job_begins_when_all_before_it_have_succeeded() -> None:
    found = [Predecessor("a", State.SUCCEEDED), Predecessor("b", State.SUCCEEDED)]
    assert after.failure(found) is None
    assert after.awaited(found) == ""
    assert after.awaited([]) == ""


def test_it_says_how_many_it_waits_for() -> None:
    found = [Predecessor(name, State.RUNNING) for name in "abc"]
    assert after.awaited(found) == "job a and 2 more have not ended yet"


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (State.FAILED, "Job a, which it comes after, failed: No node. Start one."),
        (State.CANCELLED, "Job a, which it comes after, was cancelled."),
        (State.LOST, "Job a, which it comes after, was lost."),
        (None, "Job a, which it comes after, was deleted."),
    ],
)
def test_one_that_cannot_succeed_any_more_fails_it_at_once(state: State | None, sentence: str) -> None:
    failure = after.failure([Predecessor("0", State.RUNNING), Predecessor("a", state, "No node. Start one.")])
    assert failure is not None
    assert failure.kind is FailureKind.PREDECESSOR
    assert failure.message == sentence


def test_a_circle_is_found_wherever_it_begins() -> None:
    assert after.circle({"a": "b", "b": "c", "c": "b"}) == ["b", "c"]
    assert after.circle({"a": "a"}) == ["a"]
    assert after.circle({"x": "", "a": "xb", "b": "x", "c": "ab"}) == []
    assert after.circle({"a": ["elsewhere"]}) == []


def test_a_long_chain_is_no_matter() -> None:
    chain = {str(number): [str(number + 1)] for number in range(5000)}
    assert after.circle(chain) == []
    assert len(after.ahead("0", chain)) == 5000
    assert len(after.circle({**chain, "5000": ["0"]})) == 5001


def test_what_comes_before_a_job_is_found_through_others() -> None:
    assert after.ahead("c", {"c": ["b"], "b": ["a", "z"], "y": ["c"]}) == {"a", "b", "z"}


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("/data/in", True),
        ("/out/one", False),
        ("/out/one/", False),
        ("/out/one/rows.txt", False),
        ("/out/one/*.txt", False),
        ("/out/*/rows.txt", False),
        ("/out", False),
        ("/out/one-more", True),
        ("/out/one-*", True),
        ("datastore://blobs/steps/one/rows.csv", False),
        ("datastore://other/steps/one/rows.csv", True),
    ],
)
def test_an_input_that_a_job_before_writes_is_not_looked_at_yet(text: str, there: bool) -> None:
    assert after.there_now([text], ["/out/one", "datastore://blobs/steps/one/"]) == ((text,) if there else ())


def test_waiting_never_enters_the_machine() -> None:
    assert State.WAITING not in ACTIVE | FINAL
    for name in DECIDES:
        source = (Path(__file__).parents[3] / "scheduler" / f"{name}.py").read_text()
        named = {each.attr for each in ast.walk(ast.parse(source)) if isinstance(each, ast.Attribute)}
        assert "WAITING" not in named, name


@pytest.mark.parametrize(
    ("state", "let_in", "behind"),
    [
        (State.WAITING, 0, "job"),
        (State.PENDING, 0, "job"),
        (State.COMMITTING, 0, "job"),
        (State.PENDING, 1, None),
        (State.FAILED, 0, None),
    ],
)
def test_a_job_is_not_deleted_while_one_behind_it_may_look_for_it_again(
    tmp_path: Path, state: State, let_in: int, behind: str | None
) -> None:
    with closing(Store(tmp_path)) as store:
        store.write(tables.add_job("first", b"", 1, 1.0)).result()
        store.write(tables.add_job("job", b"", 1, 1.0, after=["first"])).result()
        row = store.read(lambda db: tables.find_job(db, "job")).result()
        assert row is not None
        row.state, row.let_in = int(state), let_in
        store.write(tables.set_state(row)).result()
        assert store.read(lambda db: after.waiting_behind(db, "first")).result() == behind
