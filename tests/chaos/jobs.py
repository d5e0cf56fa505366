"""The jobs that run while faults happen: what goes in, and every byte that has to come out."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import parquet

from . import work

if TYPE_CHECKING:
    from random import Random


class Table(StrEnum):
    """What the input is, and what the output, too; files become lines of text."""

    FILES = "files"
    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


_OUTPUTS = {Table.FILES: "out.txt", Table.CSV: "out.csv", Table.JSONL: "out.jsonl", Table.PARQUET: "out.parquet"}


@dataclass(frozen=True)
class ChaosJob:
    """Items are numbered from 0; each mini-batch has `size` of them, in order."""

    number: int
    table: Table
    mini_batches: int
    size: int
    #: Item to the seconds that it takes.
    slow: dict[int, float]
    poison: frozenset[int]
    #: raises, exits or crashes.
    death: str
    #: Free workers may run what takes long a second time.
    backups: bool

    @property
    def job_id(self) -> str:
        return f"chaos-{self.number}"

    @property
    def items(self) -> int:
        return self.mini_batches * self.size

    @property
    def good(self) -> list[int]:
        """The items whose rows stand in the output."""
        return [item for item in range(self.items) if item not in self.poison]

    def __str__(self) -> str:
        poison = f", {len(self.poison)} of which {self.death}" if self.poison else ""
        return f"{self.job_id}: {self.mini_batches} mini-batches of {self.size} {self.table} items{poison}"


def draw(rng: Random, number: int, seconds: float) -> ChaosJob:
    """A job with about `seconds` of work for six workers."""
    size, mini_batches = rng.choice((4, 8, 12)), rng.randrange(120, 250)
    items = range(size * mini_batches)
    slow: dict[int, float] = {}
    while sum(slow.values()) < 6 * seconds:
        slow[rng.choice(items)] = rng.uniform(0.3, 2.0)
    poison = frozenset(rng.sample(items, rng.randint(1, 2)) if rng.random() < 0.5 else ())
    death = rng.choice(("raises", "exits", "crashes"))
    return ChaosJob(
        number, list(Table)[number % len(Table)], mini_batches, size, slow, poison, death, rng.random() < 0.3
    )


def settings(job: ChaosJob, runs: Path, *, quick: bool = False) -> dict[str, Any]:
    """The settings of its submission; `quick`: no item is slow. `runs` is the file of the workers' own notes."""
    return {
        "mini_batch_size": f"{job.size} rows" if job.table is not Table.FILES else job.size,
        "append_row_file_name": _OUTPUTS[job.table],
        "error_threshold": -1,
        "backup_attempts": job.backups,
        # A worker's death is a try: a good mini-batch must bear all that a storm kills.
        "run_max_try": 2 if job.poison else 8,
        "environment_variables": {
            "CHAOS_RUNS": str(runs),
            "CHAOS_SLOW": json.dumps({} if quick else job.slow),
            "CHAOS_POISON": json.dumps(sorted(job.poison)),
            "CHAOS_DEATH": job.death,
            "CHAOS_KIND": job.table.value,
        },
    }


def script(folder: Path) -> Path:
    """The entry script in a folder of its own."""
    source = folder / "source"
    source.mkdir(exist_ok=True)
    return Path(shutil.copy(work.__file__, source / "work.py"))


def write_input(job: ChaosJob, folder: Path) -> None:
    """The input of a job: a folder of files, or one of two tables."""
    folder.mkdir(parents=True)
    if job.table is Table.FILES:
        for item in range(job.items):
            (folder / f"{item:06}.txt").write_text(f"text of {item}\n")
        return
    for name, items in (("a", range(_half(job))), ("b", range(_half(job), job.items))):
        _write_table(job.table, folder / f"{name}.{job.table}", list(items))


def _half(job: ChaosJob) -> int:
    """The first item of the second table."""
    return job.mini_batches // 2 * job.size


def number_of(job: ChaosJob, item: Any) -> int:
    """Of an item as failed_items.jsonl names it: a file's path, or a table's path and the number of a row from 1 on."""
    if job.table is Table.FILES:
        return int(Path(item).stem)
    return int(item["row"]) - 1 + (_half(job) if Path(item["file"]).stem == "b" else 0)


def _write_table(table: Table, path: Path, items: list[int]) -> None:
    if table is Table.CSV:
        path.write_text("item,text\n" + "".join(f'{item},"text, {item}"\n' for item in items))
    elif table is Table.JSONL:
        path.write_text("".join(f'{{"item": {item}}}\n' for item in items))
    else:
        parquet.write_table(pa.table({"item": items}), path, row_group_size=100)


def expected(job: ChaosJob) -> bytes | None:
    """The bytes of the output as a plain loop writes them; None for Parquet, whose bytes are its library's."""
    match job.table:
        case Table.FILES:
            texts = ((item, work.digest(f"text of {item}\n")) for item in job.good)
            return "".join(f"{item:06}.txt {digest}\n" for item, digest in texts).encode()
        case Table.CSV:
            rows = (work.row(item) for item in job.good)
            lines = (f'{row["item"]},{row["twice"]},"{row["name"]}"\n' for row in rows)
            return ("item,twice,name\n" + "".join(lines)).encode()
        case Table.JSONL:
            return "".join(f"{json.dumps(work.row(item))}\n" for item in job.good).encode()
    return None


def has_rows(job: ChaosJob, output: Path) -> bool:
    """Whether a Parquet output has the rows of all good items, in order."""
    return bool(parquet.read_table(output).to_pylist() == [work.row(item) for item in job.good])
