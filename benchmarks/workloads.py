"""The workloads by name: how each is measured, at which sizes, and what it is called."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import assembly
import cold_start
import files
import no_op
import planning
import scale
import splitting
import tables
from measured import Claim, Measured, Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from place import Place
    from record import Record


@dataclass(frozen=True)
class Workload:
    """`small` is the size of `make bench`, `full` that of the targets; `{size}` in the title stands for it."""

    name: str
    title: str
    #: What the counted things are called; empty where only seconds are told.
    things: str
    measure: Callable[[Place, int], Measured]
    claims: Callable[[Measured], list[Claim]]
    small: int
    full: int
    #: The ways of ours that others are compared with, and further ones of ours.
    compared: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()

    def run(self, place: Place, size: int) -> Measured:
        """All its rounds."""
        place.folder.mkdir(parents=True, exist_ok=True)
        return self.measure(place, size)

    def result(self, record: Record) -> Result:
        """What its rounds mean."""
        title, claims = self.title.format(size=f"{record.size:,}"), self.claims(record.measured)
        return Result(title, self.things, record.measured, claims, self.compared, self.aside, record)


def _tables(kind: str, title: str) -> Workload:
    measure, claims = partial(tables.measure, kind=kind), partial(tables.claims, kind=kind)
    return Workload(kind, title, "rows", measure, claims, 500_000, 3_400_000, (tables.WHOLE, tables.LESS))


def _assembly(name: str, file: str, frame: int, small: int, full: int) -> Workload:
    kind = file.rpartition(".")[2]
    title = f"Commit of {{size}} frames of {frame:,} bytes of .{kind}"

    def measure(place: Place, frames: int) -> Measured:
        return assembly.measure(place, file, frame, frames)

    claims = partial(assembly.claims, what=f".{kind}")
    return Workload(name, title, "MB", measure, claims, small, full)


WORKLOADS = {
    each.name: each
    for each in (
        Workload(
            name="no_op",
            title="{size} no-op mini-batches of ten short strings",
            things="mini-batches",
            measure=no_op.measure,
            claims=no_op.claims,
            small=20_000,
            full=20_000,
            compared=("batchmesh",),
        ),
        Workload(
            name="delayed",
            title="{size} no-op mini-batches, each durable step delayed",
            things="mini-batches",
            measure=no_op.measure_delayed,
            claims=no_op.claims_delayed,
            small=20_000,
            full=200_000,
        ),
        _tables("csv", "{size} rows from CSV through a pandas function into CSV"),
        _tables("parquet", "{size} rows from Parquet through a pandas function into CSV"),
        Workload(
            name="files",
            title="{size} images of 28 x 28, decoded and classified in mini-batches of ten",
            things="images",
            measure=files.measure,
            claims=files.claims,
            small=20_000,
            full=200_000,
            compared=("batchmesh",),
        ),
        Workload(
            name="cold_start",
            title="{size} mini-batches from nothing, and on a standing mesh",
            things="",
            measure=cold_start.measure,
            claims=cold_start.claims,
            small=4,
            full=4,
            compared=(cold_start.COLD_FILES,),
            aside=(cold_start.COLD_TABLE, cold_start.WARM_FILES, cold_start.WARM_TABLE),
        ),
        Workload(
            name="planning",
            title="Planning of {size} files: seconds to the first mini-batch, and of the first and last tenth of them",
            things="",
            measure=planning.measure,
            claims=planning.claims,
            small=100_000,
            full=1_000_000,
        ),
        Workload(
            name="scale",
            title="{size} mini-batches of one file, nodes simulated",
            things="mini-batches",
            measure=scale.measure,
            claims=scale.claims,
            small=10_000,
            full=100_000,
        ),
        Workload(
            name="one_job",
            title="{size} mini-batches of one file in one job",
            things="mini-batches",
            measure=no_op.measure_one_job,
            claims=no_op.claims_one_job,
            small=20_000,
            full=1_000_000,
        ),
        Workload(
            name="splitting",
            title="Splitting of tables, {size} MB of text each: CPU seconds of one core",
            things="MB",
            measure=splitting.measure,
            claims=splitting.claims,
            small=100,
            full=300,
        ),
        _assembly("assembly_txt", "names.txt", 10_000, 2_000, 10_000),
        _assembly("assembly_csv", "totals.csv", 500_000, 100, 600),
        _assembly("assembly_parquet", "totals.parquet", 500_000, 20, 200),
    )
}
