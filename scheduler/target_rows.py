"""What is asked of and written to the database about compute targets. One function a question."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .store import Database, Statement


class TargetRow(NamedTuple):
    """A row of compute_targets; `target` is a serialized proto, `created` seconds since 1970."""

    name: str
    target: bytes
    created: float


def put_target(row: TargetRow) -> list[Statement]:
    """Adds a target, or changes the one of that name."""
    sql = "INSERT INTO compute_targets (name, target, created) VALUES (?, ?, ?)"
    return [(f"{sql} ON CONFLICT (name) DO UPDATE SET target = excluded.target", [row])]


def forget_target(name: str) -> list[Statement]:
    return [("DELETE FROM compute_targets WHERE name = ?", [(name,)])]


def all_targets(db: Database) -> list[TargetRow]:
    return [TargetRow(*row) for row in db.execute("SELECT name, target, created FROM compute_targets ORDER BY name")]
