"""What the database knows of mini-batches and their parts: what is settled, what counts, what runs again."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from batchmesh.scheduler import counting, tables
from batchmesh.scheduler.isolation import restored
from batchmesh.scheduler.report_rows import report_rows
from batchmesh.scheduler.store import Store
from tests.unit.scheduler.database import FAILED, ITEMS, add_job, add_plan, part, whole, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batchmesh.scheduler.model import Counts
    from batchmesh.scheduler.store import Database
    from batchmesh.scheduler.tables import JobRow, PlannedRow

TRIES = 3


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    store.close()


@pytest.fixture
def row(store: Store) -> JobRow:
    """A job of four mini-batches."""
    row = add_job(store)
    add_plan(store, row, 4)
    return row


def counted(store: Store) -> Counts:
    return store.read(lambda db: counting.counted(db, "job-1", TRIES)).result()


def left(store: Store, row: JobRow, after: int = 0, count: int = 10) -> list[PlannedRow]:
    return store.read(lambda db: tables.next_planned(db, row.number, after, count)).result()


def searched(row: JobRow, index: int, *, final: bool) -> list[tables.OutcomeRow]:
    """All parts of a mini-batch whose item 5 is bad, when the search has come to its end."""
    return [
        part(row, index, 0, 4, 1, 2),
        part(row, index, 4, 1, 3, 6),
        part(row, index, 5, 1, 4, 7, FAILED, final=final, tries=2),
        part(row, index, 6, 2, 2, 4),
    ]


def test_what_is_done_is_not_fed_again_and_what_may_be_tried_again_is(store: Store, row: JobRow) -> None:
    write(store, whole(row, 0), whole(row, 1, FAILED, final=False), whole(row, 2, FAILED))
    assert [(each.idx, [last.tries for last in each.rows]) for each in left(store, row)] == [(1, [1]), (3, [])]
    assert [each.idx for each in left(store, row, after=2)] == [3]
    assert [each.idx for each in left(store, row, count=1)] == [1]


def test_the_last_outcome_of_a_mini_batch_stands(store: Store, row: JobRow) -> None:
    write(store, whole(row, 0, FAILED, final=False))
    write(store, whole(row, 0))
    counts = counted(store)
    assert (counts.succeeded_mini_batches, counts.failed_mini_batches) == (1, 0)


def test_two_failures_that_came_at_once_are_two_tries(store: Store, row: JobRow) -> None:
    failed = whole(row, 0, FAILED, final=False, tries=1)
    write(store, failed._replace(attempt=7), failed._replace(attempt=8))
    assert left(store, row)[0].rows[0].tries == 2


def test_nothing_takes_the_place_of_a_success(store: Store, row: JobRow) -> None:
    write(store, whole(row, 0))
    write(store, whole(row, 0, FAILED), whole(row, 0)._replace(attempt=9, rows=99))
    counts = counted(store)
    assert (counts.rows, counts.failed_mini_batches) == (ITEMS, 0)


def test_no_part_stands_beside_the_success_of_its_mini_batch(store: Store, row: JobRow) -> None:
    write(store, whole(row, 0))
    write(store, part(row, 0, 4, 4, 1, 2), part(row, 0, 0, 4, 1, 2, FAILED), part(row, 0, 6, 2, 2, 4))
    (rows,) = store.read(lambda db: report_rows(db, row.number, -1, 10)).result()
    assert [(each.first, each.part_items, each.level) for each in rows] == [(0, ITEMS, 0)]


@pytest.mark.parametrize("failure", [None, FAILED])
def test_what_comes_late_of_a_whole_mini_batch_does_not_stand_beside_its_parts(
    store: Store, row: JobRow, failure: bytes | None
) -> None:
    write(store, whole(row, 0, FAILED, final=False, tries=TRIES), part(row, 0, 4, 4, 1, 2))
    before = left(store, row)[0].rows
    write(store, whole(row, 0, failure))
    assert left(store, row)[0].rows == before
    write(store, part(row, 0, 0, 4, 1, 2, FAILED))
    before = left(store, row)[0].rows
    write(store, whole(row, 0, failure))
    assert left(store, row)[0].rows == before


def test_what_comes_late_of_a_part_does_not_stand_beside_its_halves(store: Store, row: JobRow) -> None:
    write(store, whole(row, 0, FAILED, final=False, tries=TRIES))
    write(store, part(row, 0, 0, 4, 1, 2), part(row, 0, 4, 4, 1, 2, FAILED), part(row, 0, 6, 2, 2, 4))
    before = left(store, row)[0].rows
    write(store, part(row, 0, 4, 4, 1, 2))
    assert left(store, row)[0].rows == before


def success(outcome: tables.OutcomeRow) -> tables.Success:
    """The same outcome as the bare tuple of a whole mini-batch."""
    items, run = (outcome.idx, outcome.items, outcome.tries, outcome.attempt), (outcome.process, outcome.started_us)
    place = (outcome.segment, outcome.offset, outcome.length, outcome.rows, outcome.succeeded, outcome.failed)
    return (outcome.job, *items, *place, outcome.node, *run, outcome.run_us, outcome.elapsed_us)


@pytest.mark.parametrize("known", ["nothing", "a failure", "a success", "parts", "a part that failed"])
def test_a_success_is_written_the_same_as_a_bare_tuple(store: Store, row: JobRow, known: str) -> None:
    before = {
        "nothing": [],
        "a failure": [whole(row, 0, FAILED, final=False, tries=2)],
        "a success": [whole(row, 0)],
        "parts": [whole(row, 0, FAILED, final=False, tries=TRIES), part(row, 0, 4, 4, 1, 2)],
        "a part that failed": [part(row, 0, 0, 4, 1, 2, FAILED), part(row, 0, 4, 4, 1, 2, FAILED)],
    }[known]
    came = whole(row, 0)._replace(attempt=9, offset=50, length=60, rows=5, succeeded=7, failed=1, process=3, run_us=11)
    found = []
    for statements in (tables.add_outcomes([came]), tables.add_successes([success(came)])):
        store.write([*tables.reopen(row.number, [0]), *tables.add_outcomes(before), *statements]).result()
        found.append(
            store.read(lambda db: db.execute("SELECT * FROM outcomes ORDER BY idx, first").fetchall()).result()
        )
    assert found[0] == found[1]
    assert found[0]


def test_counts_come_from_final_outcomes_alone(store: Store, row: JobRow) -> None:
    write(store, part(row, 0, 0, ITEMS, 0, 0, short=2), whole(row, 1, FAILED, final=False), whole(row, 2, FAILED))
    counts = counted(store)
    assert (counts.succeeded_items, counts.failed_items, counts.settled) == (ITEMS - 2, 2 + ITEMS, 2)


def test_a_mini_batch_that_is_searched_counts_nothing_until_its_parts_are_sealed(store: Store, row: JobRow) -> None:
    write(store, *searched(row, 1, final=False))
    assert counted(store).settled == 0
    assert [each.idx for each in left(store, row)] == [0, 1, 2, 3]
    store.write(tables.seal(row.number, [1])).result()
    counts = counted(store)
    assert (counts.succeeded_mini_batches, counts.failed_mini_batches) == (0, 1)
    assert (counts.succeeded_items, counts.failed_items, counts.rows) == (ITEMS - 1, 1, ITEMS - 1)
    assert counts.retried_attempts == (TRIES - 1) + 7
    assert [each.idx for each in left(store, row)] == [0, 2, 3]


def test_a_search_that_found_nothing_bad_is_a_success(store: Store, row: JobRow) -> None:
    write(store, whole(row, 0, FAILED, final=False, tries=TRIES))
    write(store, part(row, 0, 4, 4, 1, 2), part(row, 0, 0, 4, 1, 2))
    counts = counted(store)
    assert (counts.succeeded_mini_batches, counts.failed_mini_batches, counts.succeeded_items) == (1, 0, ITEMS)
    assert [each.idx for each in left(store, row)] == [1, 2, 3]


def test_the_first_half_takes_the_place_of_the_whole_and_the_second_does_not(store: Store, row: JobRow) -> None:
    write(store, whole(row, 0, FAILED, final=False, tries=TRIES), part(row, 0, 4, 4, 1, 2))
    assert [(each.first, each.items, each.failed) for each in left(store, row)[0].rows] == [(0, 8, True), (4, 4, False)]
    write(store, part(row, 0, 0, 4, 1, 2, FAILED))
    assert [(each.first, each.items, each.failed) for each in left(store, row)[0].rows] == [(0, 4, True), (4, 4, False)]


def test_attempts_tried_again_count_alike_at_each_step_of_a_search(store: Store, row: JobRow) -> None:
    """As the Machine counts them: two tries that others followed, then each run of a part."""
    steps = [
        whole(row, 0, FAILED, final=False, tries=1),
        whole(row, 0, FAILED, final=False, tries=2),
        whole(row, 0, FAILED, final=False, tries=TRIES),
        part(row, 0, 4, 4, 1, 2, FAILED),
        part(row, 0, 0, 4, 1, 2),
        part(row, 0, 6, 2, 2, 4),
        part(row, 0, 4, 2, 2, 4, FAILED),
    ]
    seen = []
    for step in steps:
        write(store, step)
        seen.append(counted(store).retried_attempts)
    assert seen == [1, 2, 2, 3, 4, 5, 6]


def test_only_what_is_not_settled_is_opened_for_a_node_that_holds_it(store: Store, row: JobRow) -> None:
    write(store, whole(row, 0), whole(row, 1, FAILED, final=False), whole(row, 2, FAILED))
    found = store.read(lambda db: tables.unsettled(db, row.number, [0, 1, 2, 3, 99])).result()
    assert [each.idx for each in found] == [1, 3]


def test_what_failed_runs_again_and_nothing_else(store: Store, row: JobRow) -> None:
    write(store, whole(row, 0), whole(row, 1, FAILED), part(row, 2, 0, ITEMS, 0, 0, short=1))
    store.write(tables.reopen_failed(row.number)).result()
    assert [(each.idx, each.rows) for each in left(store, row)] == [(1, ()), (2, ()), (3, ())]


def test_of_a_mini_batch_that_was_searched_only_the_bad_items_run_again(store: Store, row: JobRow) -> None:
    write(store, *searched(row, 0, final=True), *searched(row, 1, final=True), whole(row, 2), whole(row, 3))
    store.write(tables.reopen_failed(row.number)).result()
    for each in left(store, row):
        again = restored(each.idx, each.items, each.rows)
        assert [(open_.first, open_.items, open_.tries) for open_ in again.open] == [(5, 1, 0)]
        assert (again.succeeded_items, again.runs) == (ITEMS - 1, 0)
    write(store, part(row, 0, 5, 1, 4, 0), part(row, 1, 5, 1, 4, 0))
    counts = counted(store)
    assert (counts.succeeded_mini_batches, counts.succeeded_items, counts.failed_items) == (4, 4 * ITEMS, 0)


def test_damaged_frames_take_all_of_their_mini_batches_back(store: Store, row: JobRow) -> None:
    write(store, *searched(row, 0, final=True), whole(row, 1), whole(row, 2))
    before = counted(store)
    lost = store.read(lambda db: counting.counted_of(db, row.number, [0, 2])).result()
    store.write(tables.reopen(row.number, [0, 2])).result()
    before.take_back(lost)
    before.retried_attempts = 0
    assert before == counted(store)
    assert [each.idx for each in left(store, row)] == [0, 2, 3]


def test_the_first_failure_is_the_oldest_on_record(store: Store, row: JobRow) -> None:
    write(store, whole(row, 0, b"later")._replace(attempt=9), whole(row, 3, b"earlier")._replace(attempt=2))
    assert store.read(lambda db: tables.first_failure(db, row.number)).result() == b"earlier"


def test_nodes_are_expected_until_they_are_lost_or_the_job_ends(store: Store, row: JobRow) -> None:
    other = add_job(store, "job-2")
    for number, node in [(row.number, "a"), (row.number, "b"), (row.number, "a"), (other.number, "a")]:
        store.write(tables.add_serving(number, node)).result()
    assert store.read(lambda db: tables.serving(db, row.number)).result() == {"a", "b"}
    store.write(tables.forget_node("a")).result()
    assert store.read(lambda db: tables.serving(db, row.number)).result() == {"b"}
    assert store.read(lambda db: tables.serving(db, other.number)).result() == set()
    store.write(tables.forget_serving(row.number)).result()
    assert store.read(lambda db: tables.serving(db, row.number)).result() == set()


def test_a_page_of_the_report_never_cuts_a_mini_batch_apart(store: Store, row: JobRow) -> None:
    write(store, whole(row, 0), *searched(row, 1, final=True), whole(row, 3))
    for count in range(1, 8):
        pages, after = [], -1
        while page := store.read(partial(report_page, number=row.number, after=after, count=count)).result():
            pages += page
            after = page[-1][-1]
        assert pages == [[0, 0], [0, 4, 5, 6, 1], [0, 3]], count


def report_page(db: Database, number: int, after: int, count: int) -> list[list[int]]:
    """The first items of each mini-batch's rows, and its index."""
    return [[*(row.first for row in rows), rows[0].idx] for rows in report_rows(db, number, after, count)]


def test_a_deleted_job_leaves_no_row(store: Store, row: JobRow) -> None:
    write(store, *searched(row, 0, final=True))
    store.write(tables.add_serving(row.number, "a")).result()
    store.write(tables.delete_job(row.number)).result()
    for table in ("jobs", "mini_batches", "outcomes", "files_without_rows", "serving"):
        assert store.read(partial(rows_in, table=table)).result() == 0


def rows_in(db: Database, table: str) -> int:
    count: int = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    return count
