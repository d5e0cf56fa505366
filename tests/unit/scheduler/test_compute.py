"""What a compute target may be made with, and what the database keeps of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from batchmesh.errors import BadName, SpecRefused
from batchmesh.scheduler.compute import checked
from batchmesh.scheduler.store import Store
from batchmesh.scheduler.target_rows import TargetRow, all_targets, forget_target, put_target
from batchmesh.v1.scheduler_pb2 import ComputeTarget

if TYPE_CHECKING:
    from pathlib import Path

SOUND = ComputeTarget(name="cpu-1", kind=ComputeTarget.KIND_LOCAL, max_nodes=1)


def test_what_was_not_said_has_its_default_and_what_the_mesh_says_is_not_taken() -> None:
    given = ComputeTarget(name="cpu-1", kind=ComputeTarget.KIND_LOCAL, max_nodes=1, wanted_nodes=7, error="no")
    assert (
        checked(given)
        == checked(SOUND)
        == ComputeTarget(name="cpu-1", kind=ComputeTarget.KIND_LOCAL, max_nodes=1, idle_seconds=120.0)
    )
    assert (
        checked(ComputeTarget(name="x", kind=ComputeTarget.KIND_JOINED, max_nodes=1, idle_seconds=0)).idle_seconds == 0
    )


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("kind", ComputeTarget.KIND_UNSPECIFIED, "kind is missing; it must be local or joined."),
        ("min_nodes", -1, "min_nodes is -1; it must be at least 0."),
        ("min_nodes", 2, "min_nodes is 2; it must be at most max_nodes, which is 1."),
        ("max_nodes", 0, "max_nodes is 0; it must be from 1 to 1000."),
        ("max_nodes", 1001, "max_nodes is 1001; it must be from 1 to 1000."),
        ("idle_seconds", -1.0, "idle_seconds is -1; it must be from 0 to 2592000."),
        ("idle_seconds", float("inf"), "idle_seconds is inf; it must be from 0 to 2592000."),
        ("idle_seconds", float("nan"), "idle_seconds is nan; it must be from 0 to 2592000."),
        ("slots", -1, "slots is -1; it must be from 0, the host's cores, to 4096."),
    ],
)
def test_each_field_that_cannot_be_is_named(field: str, value: float, sentence: str) -> None:
    given = ComputeTarget()
    given.CopyFrom(SOUND)
    setattr(given, field, value)
    with pytest.raises(SpecRefused) as refused:
        checked(given)
    assert refused.value.violations[field] == sentence
    assert sentence in str(refused.value)


@pytest.mark.parametrize("name", ["", "1cpu", "-cpu", "cpu_1", "c" * 25, "cpu\n", "größe"])
def test_names_out_of_the_pattern_are_refused(name: str) -> None:
    given = ComputeTarget(name=name, kind=ComputeTarget.KIND_LOCAL, max_nodes=1)
    with pytest.raises(BadName, match="is no name of a compute target; use 1 to 24 letters, digits and '-'"):
        checked(given)


def test_targets_are_kept_changed_and_forgotten(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for row in (TargetRow("b", b"1", 1.0), TargetRow("a", b"2", 2.0), TargetRow("b", b"3", 3.0)):
        store.write(put_target(row)).result()
    assert store.read(all_targets).result() == [TargetRow("a", b"2", 2.0), TargetRow("b", b"3", 1.0)]
    store.write(forget_target("a")).result()
    assert [row.name for row in store.read(all_targets).result()] == ["b"]
    store.close()
