"""A pipeline of three steps over files, each a job that comes after the one before, and what it gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchmesh.submission import Submission

from .story import write_files, write_script

if TYPE_CHECKING:
    from pathlib import Path

#: Of each file's number its square; waits for GATE where one is named, and fails when GATE says so.
SQUARES = """
    import os, time

    def run(mini_batch):
        while "GATE" in os.environ and not os.path.exists(os.environ["GATE"]):
            time.sleep(0.01)
        if "GATE" in os.environ and open(os.environ["GATE"]).read() == "fail":
            raise ValueError("the gate says no")
        return [{"square": int(open(path).read()) ** 2} for path in mini_batch]
"""
DOUBLES = """
    def run(mini_batch):
        return [{"double": 2 * int(row)} for row in mini_batch["square"]]
"""
SUM = """
    import json

    def run(mini_batch):
        return [sum(json.loads(line)["double"] for path in mini_batch for line in open(path))]
"""
COUNT = 12
TOTAL = sum(2 * number**2 for number in range(COUNT))


class ThreeSteps:
    """Each over the output of the one before; `gate` holds up the first one where `gated`."""

    def __init__(self, folder: Path, run: str, *, gated: bool = False, outputs: str = "out", **settings: Any) -> None:
        """`settings` are those of each step, `outputs` is what the names of their folders begin with."""
        self._outputs = outputs
        self.folder, self.run, self.gate = folder, run, folder / "gate"
        self.ids = [f"{run}-squares", f"{run}-doubles", f"{run}-sum"]
        if not (folder / "in").exists():  # steps that run again have the same input
            write_files(folder / "in", COUNT)
        self._settings = settings
        self._variables = {"GATE": str(self.gate)} if gated else {}

    def output(self, number: int) -> Path:
        return self.folder / f"{self._outputs}-{number}"

    def jobs(self) -> list[tuple[str, Submission]]:
        variables: Any = {"environment_variables": self._variables, "run_max_try": 1}
        first = self._step(0, SQUARES, self.folder / "in", append_row_file_name="rows.jsonl", **variables)
        second = self._step(1, DOUBLES, self.output(0), append_row_file_name="rows.jsonl", input_type="jsonl")
        third = self._step(2, SUM, self.output(1) / "rows.jsonl", input_type="files")
        return list(zip(self.ids, (first, second, third), strict=True))

    def _step(self, number: int, body: str, inputs: Path, **settings: Any) -> Submission:
        script = write_script(self.folder, body, f"step_{number}.py")
        after = self.ids[number - 1 : number] if number else []
        labels: Any = {"pipeline_run": self.run, "experiment": "sums", "step_name": f"step-{number}"}
        return Submission.prepare(
            script, inputs, self.output(number), after=after, **labels, **settings, **self._settings
        )

    def open_gate(self, says: str = "go") -> None:
        part = self.gate.with_suffix(".part")
        part.write_text(says)
        part.rename(self.gate)
