"""What a client hands in: an entry script with its source, inputs, an output, and settings; checked as far as it can be
without a mesh."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, TypeGuard

from batchmesh.belongings import Belongings, models_of, side_inputs_of
from batchmesh.errors import SpecRefused
from batchmesh.job import JobSpec
from batchmesh.python_environment import PythonEnvironment
from batchmesh.script import check_script, split_arguments
from batchmesh.source import Source, paths_inside

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Unpack

    from batchmesh.job import JobModel, SideInput

Path = str | os.PathLike[str]
_NOTHING = Belongings()


class Settings(TypedDict, total=False):
    """The settings of a job; what is not given takes the default named here. Ranges are checked by the scheduler."""

    #: Folder that is sent along; the script's own folder, without the job's data in it.
    source_directory: Path | None
    #: Arguments for the script's argv.
    arguments: Sequence[str]
    environment_variables: Mapping[str, str]
    #: files, csv, parquet or jsonl; told from the input.
    input_type: str | None
    #: 10 (files), "1MB" or "1000 rows"; 10 files or 1 MB.
    mini_batch_size: str | int | None
    #: present (default) or absent.
    csv_header: str | None
    #: Column to string, int64, float64, bool or timestamp; inferred.
    csv_types: Mapping[str, str]
    #: append_row (default) or summary_only.
    output_action: str | None
    #: Its extension picks the format: .txt, .csv, .jsonl, .parquet; parallel_run_step.txt.
    append_row_file_name: str | None
    #: Take an output folder that is not empty.
    overwrite: bool
    #: A header line for DataFrames in a .txt output.
    append_row_dataframe_header: bool
    #: Failed items the job bears; -1 bears all; 0.
    error_threshold: int | None
    #: Failed mini-batches the job bears; -1 (default) is off.
    allowed_failed_count: int | None
    #: Percent of failed mini-batches the job bears; 100 (default) is off.
    allowed_failed_percent: float | None
    #: Workers on each node; the node's slots.
    process_count_per_node: int | None
    #: Nodes that serve the job at most; all.
    node_count: int | None
    #: Seconds for one run(); 60.
    run_invocation_timeout: float | None
    #: Total tries of a mini-batch; 3.
    run_max_try: int | None
    #: Seconds for everything around run(); 30.
    task_overhead_timeout: float | None
    #: Seconds without a finished mini-batch; 3 x (run + overhead).
    progress_update_timeout: float | None
    #: Seconds to the first mini-batch; 600.
    first_task_creation_timeout: float | None
    #: WARNING, INFO (default) or DEBUG.
    logging_level: str | None
    #: Split a mini-batch whose run() has failed for good until the bad items stand alone; True.
    isolate_failures: bool | None
    #: Run what takes far longer than the others a second time; with more than one node, not for summary_only.
    backup_attempts: bool | None
    #: Namespace of what the job names; "default".
    workspace: str | None
    #: A file of requirements, or what the workers' Python is; the agents' own Python.
    environment: Path | PythonEnvironment | None
    #: Models in AZUREML_MODEL_DIR of the workers; as text NAME, NAME:VERSION, or NAME=PATH, which is registered first.
    models: Sequence[JobModel | str]
    #: What is on each node before its first mini-batch, by name a path of this host or datastore://NAME/PATH; {NAME} in
    #: the arguments becomes its local path.
    side_inputs: Sequence[SideInput] | Mapping[str, Path]
    #: Only the nodes of that compute target serve the job; all.
    compute_target: str | None
    #: Take the output of an earlier job that was the same, if no item of it failed; False.
    allow_reuse: bool
    #: Ids of jobs that have to succeed before this one is planned.
    after: Sequence[str]
    #: Labels: the run of a pipeline, its experiment, the name of the step.
    pipeline_run: str | None
    experiment: str | None
    step_name: str | None
    #: How many of the inputs, one after the other, make up one that is split as a whole; each is one.
    input_sizes: Sequence[int]


@dataclass(frozen=True, slots=True)
class Submission:
    """A checked job that no mesh has seen yet. The spec's digest is empty until the source is packed."""

    spec: JobSpec
    source: Source
    #: What of it the mesh does not have yet.
    belongings: Belongings = _NOTHING

    @classmethod
    def prepare(
        cls, script: Path, inputs: Path | Sequence[Path], output: Path, **settings: Unpack[Settings]
    ) -> Submission:
        """Paths without a scheme become absolute here. An input may be dataset:NAME[:VERSION].

        Errors: ScriptRefused, SpecRefused.
        """
        given = {name: value for name, value in settings.items() if value is not None}
        _check_known(given)
        source_directory = settings.get("source_directory")
        entry = check_script(script, source_directory)
        paths = [inputs] if isinstance(inputs, str | os.PathLike) else inputs
        absolute = tuple(path if _names_dataset(path) else _absolute(path) for path in paths)
        target = _absolute(output)
        left_out = paths_inside(entry.root, absolute, target) if source_directory is None else frozenset()
        models, wanted = models_of(settings.get("models") or ())
        side_inputs, local = side_inputs_of(settings.get("side_inputs") or ())
        spec = JobSpec(
            entry_script=entry.name,
            inputs=absolute,
            output=target,
            dataframe_to_csv_json=entry.dataframe_to_csv_json,
            models=models,
            side_inputs=side_inputs,
            **_fields_of_spec(given),
        )
        return cls(spec, Source(entry.root, entry.name, left_out), Belongings(wanted, local))


#: Settings that are dealt with before.
_HERE = ("source_directory", "models", "side_inputs")


def _fields_of_spec(given: dict[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in given.items() if name not in _HERE}
    arguments, from_flags = split_arguments(tuple(fields.pop("arguments", ())))
    for name, value in from_flags.items():
        if fields.get(name, value) != value:
            raise SpecRefused(f"{name} is given twice, as a setting and as the script argument --{name}.")
    fields |= from_flags
    fields["arguments"] = arguments
    _check_variables(fields.get("environment_variables", {}))
    if "input_type" in fields:
        fields["input_kind"] = _one_of("input_type", fields.pop("input_type"), ("files", "csv", "parquet", "jsonl"))
    if "output_action" in fields:
        fields["output_action"] = _one_of("output_action", fields["output_action"], ("append_row", "summary_only"))
    if "mini_batch_size" in fields:
        fields["mini_batch_size"] = str(fields["mini_batch_size"])
    for name in ("after", "input_sizes"):
        if name in fields:
            fields[name] = tuple(fields[name])
    if "environment" in fields and not isinstance(fields["environment"], PythonEnvironment):
        fields["environment"] = _from_requirements(fields["environment"])
    return fields


def _from_requirements(path: Path) -> PythonEnvironment:
    """The environment that a requirements.txt describes. Errors: SpecRefused."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file]
    except (OSError, UnicodeDecodeError) as error:
        sentence = f"The file of requirements {path} cannot be read: {getattr(error, 'strerror', None) or error}."
        raise SpecRefused(sentence, {"environment": sentence}) from None
    wanted = tuple(line for line in lines if line and not line.startswith("#"))
    return PythonEnvironment(name=os.path.basename(path), requirements=wanted)


def _check_known(given: dict[str, Any]) -> None:
    known = Settings.__annotations__
    for name in given:
        if name not in known:
            import difflib

            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}."
            raise SpecRefused(f"There is no setting {name!r}; {hint}", {name: "unknown"})


def _one_of(name: str, value: Any, choices: tuple[str, ...]) -> str:
    folded = str(value).lower()
    if folded not in choices:
        sentence = f"{name} is {', '.join(choices[:-1])} or {choices[-1]}, not {value!r}."
        raise SpecRefused(sentence, {name: sentence})
    return folded


def _names_dataset(path: Path) -> TypeGuard[str]:
    """What is resolved once there is a mesh; a file of such a name is called ./dataset:…"""
    return isinstance(path, str) and path.startswith("dataset:")


def _absolute(path: Path) -> str:
    text = os.fspath(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = text.encode("utf-8", "backslashreplace").decode()
        raise SpecRefused(f"The path {shown} is not UTF-8; name the folder that it lies in.") from None
    if text.startswith("datastore:/") and "://" not in text:
        raise SpecRefused(f"'{text}' has lost a '/', as a pathlib.Path does; give datastore://NAME/PATH as text.")
    return text if "://" in text else os.path.abspath(text)


def _check_variables(variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        if not name or "=" in name or "\0" in name + value:
            sentence = (
                f"environment_variables has {name!r}; a name is not empty and has no '=', and neither part a NUL."
            )
            raise SpecRefused(sentence, {"environment_variables": sentence})
