"""How a step runs: ParallelRunStep's settings under its names, checked as soon as they are given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from batchmesh.data.size import check_syntax
from batchmesh.errors import SpecRefused
from batchmesh.sdk.compute_target import ComputeTarget
from batchmesh.sdk.conda_dependencies import CondaDependencies
from batchmesh.sdk.environment import Environment
from batchmesh.sdk.errors import NotServed
from batchmesh.sdk.ranges import number, one_of, percent, refused, whole
from batchmesh.sdk.unused import say_unused
from batchmesh.sdk.yaml_file import read_yaml, write_yaml

if TYPE_CHECKING:
    from batchmesh.sdk.workspace import Workspace
    from batchmesh.submission import Settings

#: Characters that the name of the append_row file may not have.
_NOT_IN_A_NAME = frozenset('~"#%&*:<>?/\\{|}')
_SECONDS = 259_200
#: What a file of settings holds beside the environment.
_PLAIN = (
    "entry_script",
    "error_threshold",
    "output_action",
    "node_count",
    "process_count_per_node",
    "mini_batch_size",
    "source_directory",
    "description",
    "logging_level",
    "run_invocation_timeout",
    "run_max_try",
    "append_row_file_name",
    "allowed_failed_count",
    "allowed_failed_percent",
    "partition_keys",
    "environment_variables",
)


class ParallelRunConfig:
    """The settings of a step. Each may be changed afterwards, and is checked again when the step is made."""

    def __init__(
        self,
        environment: Environment | None,
        entry_script: str,
        error_threshold: int,
        output_action: str,
        compute_target: ComputeTarget | str | None,
        node_count: int | str,
        process_count_per_node: int | str | None = None,
        mini_batch_size: str | int | None = None,
        source_directory: str | None = None,
        description: str | None = None,
        logging_level: str = "INFO",
        run_invocation_timeout: float | str = 60,
        run_max_try: int | str = 3,
        append_row_file_name: str | None = None,
        allowed_failed_count: int | str | None = None,
        allowed_failed_percent: float | str | None = None,
        partition_keys: list[str] | None = None,
        environment_variables: Mapping[str, str] | None = None,
        input_format: object = None,
    ) -> None:
        """`environment` None is each agent's own Python, `compute_target` None all nodes; `input_format` is unused.

        Errors: SpecRefused, and NotServed for `partition_keys`.
        """
        if input_format is not None:
            say_unused("input_format", "what an item is follows from the dataset.")
        self.environment = environment
        self.entry_script = entry_script
        self.error_threshold = error_threshold
        self.output_action = output_action
        self.compute_target = compute_target
        self.node_count = node_count
        self.process_count_per_node = process_count_per_node
        self.mini_batch_size = mini_batch_size
        self.source_directory = source_directory
        self.description = description
        self.logging_level = logging_level
        self.run_invocation_timeout = run_invocation_timeout
        self.run_max_try = run_max_try
        self.append_row_file_name = append_row_file_name
        self.allowed_failed_count = allowed_failed_count
        self.allowed_failed_percent = allowed_failed_percent
        self.partition_keys = partition_keys
        self.environment_variables = _variables(environment_variables or {})
        self.settings()

    def __repr__(self) -> str:
        return f"ParallelRunConfig({self.entry_script!r}, mini_batch_size={self.mini_batch_size!r})"

    def settings(self) -> Settings:
        """The settings of a job, in their ranges; the input, the models and the environment are not among them.

        Errors: SpecRefused, NotServed.
        """
        self._check_objects()
        settings: Settings = {
            "source_directory": self.source_directory,
            "environment_variables": _variables(self.environment_variables),
            "mini_batch_size": _mini_batch_size(self.mini_batch_size),
            "output_action": one_of("output_action", self.output_action, ("append_row", "summary_only")),
            "append_row_file_name": _file_name(self.append_row_file_name),
            "error_threshold": whole("error_threshold", self.error_threshold, -1),
            "node_count": whole("node_count", self.node_count, 1, 100_000),
            "run_invocation_timeout": number("run_invocation_timeout", self.run_invocation_timeout, 0, _SECONDS),
            "run_max_try": whole("run_max_try", self.run_max_try, 1, 1000),
            "logging_level": one_of("logging_level", self.logging_level, ("WARNING", "INFO", "DEBUG")),
        }
        if self.process_count_per_node is not None:
            settings["process_count_per_node"] = whole("process_count_per_node", self.process_count_per_node, 1, 4096)
        if self.allowed_failed_count is not None:
            settings["allowed_failed_count"] = whole("allowed_failed_count", self.allowed_failed_count, -1)
        if self.allowed_failed_percent is not None:
            settings["allowed_failed_percent"] = percent("allowed_failed_percent", self.allowed_failed_percent)
        return settings

    @property
    def target_name(self) -> str | None:
        """The compute target that it names; None for all nodes."""
        target = self.compute_target
        return target.name if isinstance(target, ComputeTarget) else target or None

    def save_to_yaml(self, path: str | os.PathLike[str]) -> None:
        """Writes all settings into a file that `load_yaml` reads; the environment with its packages."""
        content = {name: getattr(self, name) for name in _PLAIN if getattr(self, name) not in (None, {}, [])}
        content["compute_target"] = self.target_name
        if self.environment is not None:
            content["environment"] = _environment_to_yaml(self.environment)
        write_yaml(path, content)

    @staticmethod
    def load_yaml(workspace: Workspace, path: str | os.PathLike[str]) -> ParallelRunConfig:
        """Reads what `save_to_yaml` wrote; an environment that is a name alone is looked up in the workspace.

        Errors: Refused for a file that cannot be read; SpecRefused, NoEntry.
        """
        content = read_yaml(path)
        environment = content.pop("environment", None)
        unknown = sorted(set(content) - {*_PLAIN, "compute_target", "input_format"})
        if unknown:
            raise SpecRefused(f"{os.fspath(path)} has {unknown[0]!r}, which is no setting of ParallelRunConfig.")
        required = ("entry_script", "error_threshold", "output_action", "node_count")
        missing = next((name for name in required if name not in content), None)
        if missing:
            raise SpecRefused(f"{os.fspath(path)} lacks {missing}, which ParallelRunConfig needs.")
        content.setdefault("compute_target", None)
        return ParallelRunConfig(_environment_of_yaml(workspace, environment), **content)

    def _check_objects(self) -> None:
        if self.partition_keys:
            raise NotServed("partition_keys is not served yet; leave it out, and give a mini_batch_size.")
        if not isinstance(self.entry_script, str | os.PathLike) or not self.entry_script:
            raise refused("entry_script", f"entry_script is the path of a Python file, not {self.entry_script!r}.")
        if self.environment is not None and not isinstance(self.environment, Environment):
            raise refused("environment", f"environment is an Environment, not {self.environment!r}.")
        if not isinstance(self.compute_target, ComputeTarget | str | None):
            raise refused(
                "compute_target", f"compute_target is a ComputeTarget or its name, not {self.compute_target!r}."
            )


def _mini_batch_size(given: str | int | None) -> str | None:
    try:
        check_syntax(given)
    except ValueError as error:
        raise refused("mini_batch_size", f"{error}.") from None
    return None if given is None else str(given)


def _file_name(given: str | None) -> str | None:
    if given is None:
        return None
    if not isinstance(given, str):
        raise refused("append_row_file_name", f"append_row_file_name is the name of a file, not {given!r}.")
    wrong = sorted(_NOT_IN_A_NAME & set(given))
    if wrong or not given or given.startswith("."):
        what = f"has {wrong[0]!r}" if wrong else "is empty or begins with '.'"
        shown = "".join(sorted(_NOT_IN_A_NAME))
        raise refused("append_row_file_name", f"append_row_file_name {given!r} {what}; it has none of {shown}.")
    return given


def _variables(given: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise refused("environment_variables", f"environment_variables is a dict of texts, not {given!r}.")
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise refused("environment_variables", f"environment_variables has {name!r}: {value!r}; both are texts.")
    return dict(given)


def _environment_to_yaml(environment: Environment) -> dict[str, Any]:
    python = environment.python
    content: dict[str, Any] = {"name": environment.name}
    if python.user_managed_dependencies:
        content["user_managed_dependencies"] = True
    if python.interpreter_path != "python":
        content["interpreter_path"] = python.interpreter_path
    file = python.conda_dependencies_file
    content["conda_dependencies"] = (CondaDependencies(file) if file else python.conda_dependencies).as_dict()
    if environment.environment_variables:
        content["environment_variables"] = dict(environment.environment_variables)
    return content


def _environment_of_yaml(workspace: Workspace, content: Any) -> Environment | None:
    if content is None:
        return None
    if isinstance(content, str):
        return Environment.get(workspace, content)
    if not isinstance(content, dict):
        raise SpecRefused(f"The environment {content!r} is none: give its name, or what save_to_yaml writes.")
    made = Environment(content.get("name", ""))
    made.python.user_managed_dependencies = bool(content.get("user_managed_dependencies", False))
    made.python.interpreter_path = content.get("interpreter_path", "python")
    if "conda_dependencies" in content:
        made.python.conda_dependencies = CondaDependencies(_underlying_structure=content["conda_dependencies"])
    made.environment_variables = dict(content.get("environment_variables") or {})
    return made
