"""The options that several commands share, and what their text means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchmesh.client import Client
    from batchmesh.submission import Settings, Submission

_NAMES_OF_PARAMETERS = ("script", "inputs", "output")


@dataclass(frozen=True, slots=True)
class Where:
    """Which mesh a command talks to."""

    scheduler: str | None
    home: str | None

    def connect(self) -> Client:
        """A client of that mesh. The mesh of a home is begun first: it starts while our own imports load."""
        if self.scheduler:
            from batchmesh.client import Client

            return Client(self.scheduler)
        from batchmesh.home import Home, Membership

        membership = Membership(Home.find(self.home))
        membership.begin()
        from batchmesh.client import Client

        return Client(membership=membership)


def mesh_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--scheduler and --home, handed on as one `where`."""

    @click.option(
        "--scheduler",
        envvar="BATCHMESH_SCHEDULER",
        metavar="HOST:PORT",
        help="Scheduler of a standing mesh [env: BATCHMESH_SCHEDULER]; without it the mesh of the home is used.",
    )
    @click.option(
        "--home",
        envvar="BATCHMESH_HOME",
        metavar="DIR",
        help="Home of the mesh on this host [env: BATCHMESH_HOME; default: ~/.batchmesh].",
    )
    def wrapped(scheduler: str | None, home: str | None, **rest: Any) -> Any:
        return command(where=Where(scheduler, home), **rest)

    return _same_face(wrapped, command)


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """--json, handed on as `as_json`."""
    decorated: Callable[..., Any] = click.option(
        "--json", "as_json", is_flag=True, help="One JSON object a line on standard output."
    )(command)
    return decorated


def job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """SCRIPT, its arguments and every setting of a job, handed on as one checked `submission`."""

    def wrapped(**given: Any) -> Any:
        names = {*_SETTING_NAMES, *_NAMES_OF_PARAMETERS, "script_arguments"}
        mine = {name: given.pop(name) for name in names}
        return command(submission=_submission(mine), **given)

    decorated = _same_face(wrapped, command)
    for option in reversed(_JOB_PARAMETERS):
        decorated = option(decorated)
    return decorated


def _submission(given: dict[str, Any]) -> Submission:
    from batchmesh.submission import Submission

    settings: Settings = {name: given[name] for name in _SETTING_NAMES if given[name] is not None}  # type: ignore[assignment]
    settings["arguments"] = given["script_arguments"]
    return Submission.prepare(given["script"], given["inputs"], given["output"], **settings)


def pairs(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """NAME=VALUE, repeated."""
    found: dict[str, str] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE.", context, parameter)
        if name in found:
            raise click.BadParameter(f"{name!r} is given twice.", context, parameter)
        found[name] = value
    return found


def column_types(context: click.Context, parameter: click.Parameter, text: str | None) -> dict[str, str]:
    """NAME=TYPE, separated by commas."""
    return pairs(context, parameter, tuple(text.split(","))) if text else {}


def _same_face(wrapped: Callable[..., Any], command: Callable[..., Any]) -> Callable[..., Any]:
    """`wrapped` with the name, help and options that `command` has already been given."""
    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    mine = getattr(wrapped, "__click_params__", [])
    wrapped.__click_params__ = [*mine, *getattr(command, "__click_params__", [])]  # type: ignore[attr-defined]
    return wrapped


_JOB_PARAMETERS = [
    click.argument("script"),
    click.argument("script_arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- ARGUMENTS FOR THE SCRIPT]"),
    click.option(
        "--input",
        "inputs",
        multiple=True,
        required=True,
        metavar="PATH",
        help="File, folder or glob, datastore://NAME/PATH of the same, or dataset:NAME[:VERSION]; may be repeated.",
    ),
    click.option(
        "--output",
        required=True,
        metavar="DIR",
        help="Folder of the output, or datastore://NAME/PATH; absent or empty.",
    ),
    click.option("--workspace", metavar="NAME", help="Namespace of datastores, datasets, models [default: default]."),
    click.option("--source-directory", metavar="DIR", help="Folder sent along [default: the script's own]."),
    click.option("--mini-batch-size", metavar="SIZE", help="10 (files), 1MB, '1000 rows' [default: 10 files or 1 MB]."),
    click.option(
        "--error-threshold", type=int, metavar="N", help="Failed items the job bears; -1 bears all [default: 0]."
    ),
    click.option("--allowed-failed-count", type=int, metavar="N", help="Failed mini-batches borne [default: -1, off]."),
    click.option(
        "--allowed-failed-percent", type=float, metavar="P", help="Percent of failed mini-batches borne [default: 100]."
    ),
    click.option(
        "--output-action",
        type=click.Choice(["append_row", "summary_only"], case_sensitive=False),
        help="One file of all rows, or the script's own files [default: append_row].",
    ),
    click.option(
        "--append-row-file-name",
        metavar="NAME",
        help="Its extension picks the format: .txt .csv .jsonl .parquet [default: parallel_run_step.txt].",
    ),
    click.option(
        "--isolate-failures/--no-isolate-failures",
        default=None,
        help="Split a mini-batch that has failed for good until the bad items stand alone [default: on].",
    ),
    click.option(
        "--backup-attempts/--no-backup-attempts",
        default=None,
        help="Run what takes far longer than the others a second time [default: with more than one node].",
    ),
    click.option("--process-count-per-node", type=int, metavar="N", help="Workers on each node [default: its slots]."),
    click.option("--node-count", type=int, metavar="N", help="Nodes that serve the job at most [default: all]."),
    click.option(
        "--model",
        "models",
        multiple=True,
        metavar="NAME[=PATH]",
        help="Model in AZUREML_MODEL_DIR: the newest, NAME:VERSION, or PATH, which is registered; may be repeated.",
    ),
    click.option(
        "--side-input",
        "side_inputs",
        multiple=True,
        callback=pairs,
        metavar="NAME=PATH",
        help="File or folder on each node before its first mini-batch; its path there replaces {NAME} in the script's "
        "arguments; may be repeated.",
    ),
    click.option("--compute-target", metavar="NAME", help="Only nodes of that target serve the job."),
    click.option("--run-invocation-timeout", type=float, metavar="S", help="Seconds for one run() [default: 60]."),
    click.option("--run-max-try", type=int, metavar="N", help="Total tries of a mini-batch [default: 3]."),
    click.option("--task-overhead-timeout", type=float, metavar="S", help="Seconds around run() [default: 30]."),
    click.option(
        "--progress-update-timeout",
        type=float,
        metavar="S",
        help="Seconds without a finished mini-batch [default: 3 x (run + overhead)].",
    ),
    click.option(
        "--first-task-creation-timeout", type=float, metavar="S", help="Seconds to the first mini-batch [default: 600]."
    ),
    click.option(
        "--logging-level",
        type=click.Choice(["WARNING", "INFO", "DEBUG"], case_sensitive=False),
        help="Level of the script's logging [default: INFO].",
    ),
    click.option(
        "--environment",
        metavar="FILE",
        help="requirements.txt of a virtual environment that each node makes for it [default: the node's own Python].",
    ),
    click.option(
        "--reuse",
        "allow_reuse",
        is_flag=True,
        default=None,
        help="Take the output of an earlier job with --reuse that was the same, if no item of it failed.",
    ),
    click.option(
        "--environment-variable",
        "environment_variables",
        multiple=True,
        callback=pairs,
        metavar="NAME=VALUE",
        help="Set in the workers; may be repeated.",
    ),
    click.option(
        "--input-type",
        type=click.Choice(["files", "csv", "parquet", "jsonl"], case_sensitive=False),
        help="What an item is [default: told from the input].",
    ),
    click.option(
        "--csv-header", type=click.Choice(["present", "absent"]), help="First line of CSV files [default: present]."
    ),
    click.option(
        "--csv-types",
        callback=column_types,
        metavar="NAME=TYPE,…",
        help="string, int64, float64, bool, timestamp [default: inferred].",
    ),
    click.option("--overwrite", is_flag=True, help="Take an output folder that is not empty."),
]
_SETTING_NAMES = (
    "models",
    "side_inputs",
    "workspace",
    "source_directory",
    "mini_batch_size",
    "error_threshold",
    "allowed_failed_count",
    "allowed_failed_percent",
    "output_action",
    "append_row_file_name",
    "process_count_per_node",
    "node_count",
    "compute_target",
    "run_invocation_timeout",
    "run_max_try",
    "task_overhead_timeout",
    "progress_update_timeout",
    "first_task_creation_timeout",
    "logging_level",
    "isolate_failures",
    "backup_attempts",
    "environment",
    "allow_reuse",
    "environment_variables",
    "input_type",
    "csv_header",
    "csv_types",
    "overwrite",
)
