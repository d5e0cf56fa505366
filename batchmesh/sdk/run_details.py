"""How a run stands, as a static picture: a table in a notebook, text elsewhere."""

from __future__ import annotations

import html
import importlib
import sys
from typing import TYPE_CHECKING

from batchmesh.cli.shape import counts, seconds
from batchmesh.sdk.pipeline_run import PipelineRun
from batchmesh.sdk.run_status import pipeline_status, step_status

if TYPE_CHECKING:
    from batchmesh.job import Job
    from batchmesh.sdk.step_run import StepRun

_COLUMNS = ("step", "run", "status", "done", "seconds")
_WIDTH = 120


class RunDetails:
    """`RunDetails(run).show()`; the picture does not change by itself, so call it again."""

    def __init__(self, run_instance: PipelineRun | StepRun) -> None:
        self.run = run_instance

    def show(self, render_lib: object = None, widget_settings: object = None) -> None:
        """Shows the table: by IPython's display where that runs, else on standard output."""
        del render_lib, widget_settings
        kernel = sys.modules.get("IPython")
        if kernel is not None and kernel.get_ipython() is not None:
            shown = importlib.import_module("IPython.display")
            shown.display(shown.HTML(self._repr_html_()))
            return
        print(self.text())  # noqa: T201 as azureml's widget prints

    def text(self) -> str:
        """The table in columns."""
        rows = [_COLUMNS, *map(_row, self._jobs())]
        widths = [max(len(row[index]) for row in rows) for index in range(len(_COLUMNS))]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([self._title(), *table])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
        body = "".join(
            f"<tr>{''.join(_cell(cell) for cell in _row(job))}<td>{_bar(job)}</td></tr>" for job in self._jobs()
        )
        return f"<table><caption>{html.escape(self._title())}</caption><tr>{head}<th></th></tr>{body}</table>"

    def _title(self) -> str:
        return f"{self.run.id}: {pipeline_status(self._jobs())}"

    def _jobs(self) -> list[Job]:
        return self.run.jobs if isinstance(self.run, PipelineRun) else [self.run.job]


def _row(job: Job) -> tuple[str, ...]:
    return job.spec.step_name, job.job_id, step_status(job), counts(job), f"{seconds(job):.1f}"


def _cell(text: str) -> str:
    return f"<td>{html.escape(text)}</td>"


def _bar(job: Job) -> str:
    """An SVG bar of the items that have ended."""
    done = job.progress.ended_items / job.progress.planned_items if job.progress.planned_items else 0.0
    return (
        f'<svg width="{_WIDTH}" height="12"><rect width="{_WIDTH}" height="12" fill="#ddd"/>'
        f'<rect width="{_WIDTH * done:.0f}" height="12" fill="#4a7"/></svg>'
    )
