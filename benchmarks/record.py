"""Rounds as they are kept in results.json, so that one workload can be measured anew and the rest stays told."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from measured import Measured, Round

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Record:
    """What one workload gave: at which size, by which command, on which day and machine, beside which packages."""

    size: int
    command: str
    day: str
    machine: str
    versions: dict[str, str]
    measured: Measured


def load(path: Path) -> dict[str, Record]:
    """By workload; nothing if there is no such file."""
    return {name: _record(**each) for name, each in json.loads(path.read_text()).items()} if path.exists() else {}


def save(path: Path, records: dict[str, Record]) -> None:
    """Replaces the file."""
    path.write_text(json.dumps({name: dataclasses.asdict(each) for name, each in records.items()}, indent=1) + "\n")


def _record(measured: dict[str, list[dict[str, Any]]], **rest: Any) -> Record:
    return Record(measured={way: [Round(**each) for each in rounds] for way, rounds in measured.items()}, **rest)
