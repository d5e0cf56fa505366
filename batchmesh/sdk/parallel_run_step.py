"""One step of a pipeline: a script over an input, and what it needs, checked as far as it can be without a mesh."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batchmesh.data.size import MiniBatchSize
from batchmesh.errors import SpecRefused
from batchmesh.sdk.abstract_dataset import AbstractDataset
from batchmesh.sdk.consumption import DatasetConsumptionConfig
from batchmesh.sdk.model import Model
from batchmesh.sdk.output_config import OutputFileDatasetConfig
from batchmesh.sdk.output_data import OutputInput
from batchmesh.sdk.parallel_run_config import ParallelRunConfig
from batchmesh.sdk.pipeline_data import PipelineData
from batchmesh.sdk.ranges import refused
from batchmesh.sdk.unused import log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchmesh.sdk.output_data import StepOutput

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SMALL = 1024


@dataclass(frozen=True)
class StepInput:
    """An input or a side input: a dataset, or what an earlier step writes."""

    name: str
    source: AbstractDataset | OutputInput

    @property
    def kind(self) -> str:
        """files, csv, parquet or jsonl."""
        return self.source.kind if isinstance(self.source, OutputInput) else self.source.read_as.kind

    @property
    def csv_header(self) -> str:
        return self.source.csv_header if isinstance(self.source, OutputInput) else self.source.read_as.csv_header

    @property
    def csv_types(self) -> dict[str, str]:
        return {} if isinstance(self.source, OutputInput) else dict(self.source.read_as.csv_types)


class ParallelRunStep:
    """`run()` over mini-batches of the inputs, on many processes and nodes."""

    def __init__(
        self,
        name: str,
        parallel_run_config: ParallelRunConfig,
        inputs: Sequence[Any],
        output: PipelineData | OutputFileDatasetConfig | None = None,
        side_inputs: Sequence[Any] | None = None,
        models: Sequence[Model | str] | None = None,
        arguments: Sequence[Any] | None = None,
        allow_reuse: bool = True,
        tags: dict[str, str] | None = None,
        properties: dict[str, str] | None = None,
        add_parallel_run_step_dependencies: bool = True,
    ) -> None:
        """`models` are models, or names of registered ones (NAME, or NAME:VERSION). The last three are unused: workers
        need no package of ours. Errors: SpecRefused, NotServed.
        """
        del tags, properties, add_parallel_run_step_dependencies
        self.name = _checked_name(name)
        if not isinstance(parallel_run_config, ParallelRunConfig):
            raise refused(
                "parallel_run_config", f"parallel_run_config is a ParallelRunConfig, not {parallel_run_config!r}."
            )
        self.config = parallel_run_config
        self.settings = parallel_run_config.settings()
        self.inputs = _inputs(name, inputs)
        self.side_inputs = _side_inputs(name, _listed(name, "side_inputs", side_inputs))
        self.models = _checked_models(name, _listed(name, "models", models))
        self.arguments = _arguments(name, _listed(name, "arguments", arguments), self.side_inputs)
        self.allow_reuse = bool(allow_reuse)
        self.output = _checked_output(self, output)
        self.after: list[ParallelRunStep] = []
        _check_size(self)

    def __repr__(self) -> str:
        return f"ParallelRunStep({self.name!r})"

    def run_after(self, step: ParallelRunStep) -> None:
        """This step begins once that one has succeeded, though no data goes between them."""
        self.after.append(step)

    @property
    def comes_after(self) -> list[ParallelRunStep]:
        """The steps whose output it reads, and those of `run_after`. Errors: SpecRefused for an output of no step."""
        steps = list(self.after)
        for each in (*self.inputs, *self.side_inputs):
            if isinstance(each.source, OutputInput):
                producer = each.source.output.producer
                if producer is None:
                    raise SpecRefused(
                        f"The step {self.name!r} reads {each.name!r}, which no step writes; give it as output to one."
                    )
                steps.append(producer)
        return steps


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not 3 <= len(name) <= 32 or not _NAME.fullmatch(name):
        raise refused(
            "name",
            f"The step name {name!r} is none: 3 to 32 of a-z, 0-9 and '-', a letter first and no '-' at the end.",
        )
    return name


def _inputs(step: str, given: Any) -> tuple[StepInput, ...]:
    if not isinstance(given, list | tuple) or not given:
        raise refused("inputs", f"The inputs of the step {step!r} are a list of at least one dataset, not {given!r}.")
    inputs = tuple(_named(step, each, number) for number, each in enumerate(given))
    first = inputs[0]
    for each in inputs[1:]:
        if each.kind != first.kind:
            raise refused(
                "inputs",
                f"The inputs of the step {step!r} are of mixed kinds: {first.name!r} is {first.kind} and {each.name!r} "
                f"is {each.kind}; make a step for each kind.",
            )
        if (each.csv_header, each.csv_types) != (first.csv_header, first.csv_types):
            raise refused(
                "inputs",
                f"The inputs {first.name!r} and {each.name!r} of the step {step!r} have different headers or column "
                "types; make a step for each.",
            )
    return inputs


def _listed(step: str, what: str, given: Any) -> list[Any]:
    """Errors: SpecRefused, of a text above all, which is a sequence of letters."""
    if given is not None and not isinstance(given, list | tuple):
        raise refused(what, f"The {what} of the step {step!r} are a list, not {given!r}.")
    return list(given or ())


def _side_inputs(step: str, given: Any) -> tuple[StepInput, ...]:
    side_inputs = tuple(_named(step, each) for each in given)
    names = [each.name for each in side_inputs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise refused("side_inputs", f"Two side inputs of the step {step!r} are called {twice!r}; name one anew.")
    return side_inputs


def _named(step: str, given: Any, number: int | None = None) -> StepInput:
    """`number` of an input, which may go without a name; a side input needs one, for it is known by it."""
    if isinstance(given, DatasetConsumptionConfig):
        return StepInput(given.name, given.dataset)
    if isinstance(given, PipelineData | OutputFileDatasetConfig):
        return StepInput(given.name, OutputInput(given))
    if isinstance(given, OutputInput):
        return StepInput(given.name, given)
    if isinstance(given, AbstractDataset) and number is not None:
        return StepInput(given.name or f"input_{number}", given)
    if isinstance(given, AbstractDataset):
        raise refused(
            "side_inputs", f"A side input of the step {step!r} has no name; give dataset.as_named_input(NAME)."
        )
    raise refused(
        "inputs" if number is not None else "side_inputs",
        f"{given!r} is no input of the step {step!r}; give dataset.as_named_input(NAME), or a step's PipelineData.",
    )


def _checked_models(step: str, given: Any) -> tuple[Model | str, ...]:
    for each in given:
        if not isinstance(each, Model | str):
            raise refused(
                "models", f"{each!r} is no model of the step {step!r}; give what Model.register gave, or a name."
            )
    return tuple(given)


def _arguments(step: str, given: list[Any], side_inputs: tuple[StepInput, ...]) -> tuple[str, ...]:
    """As texts, with {NAME} where a side input stands."""
    names = {each.name for each in side_inputs}
    arguments = []
    for each in given:
        if isinstance(each, DatasetConsumptionConfig | PipelineData | OutputFileDatasetConfig | OutputInput):
            if each.name not in names:
                raise refused(
                    "arguments",
                    f"The argument {each.name!r} of the step {step!r} is none of its side_inputs; add it there. "
                    "What the step writes reaches the script as --output.",
                )
            arguments.append("{" + each.name + "}")
        else:
            arguments.append(_text(step, each))
    if arguments and not arguments[0].startswith("-"):
        raise refused(
            "arguments", f"The first argument of the step {step!r} is {arguments[0]!r}; it has to begin with '-'."
        )
    return tuple(arguments)


def _text(step: str, argument: Any) -> str:
    if not isinstance(argument, str | int | float):
        raise refused("arguments", f"The argument {argument!r} of the step {step!r} is neither a text nor a number.")
    return str(argument)


def _checked_output(step: ParallelRunStep, output: Any) -> StepOutput:
    if output is None:
        output = PipelineData("output")
    if not isinstance(output, PipelineData | OutputFileDatasetConfig):
        raise refused("output", f"The output of the step {step.name!r} is a PipelineData, not {output!r}.")
    # The newest step of a name wins: notebooks make the same step again and again.
    output.producer = step
    return output


def _check_size(step: ParallelRunStep) -> None:
    """Errors: SpecRefused for a unit that the input does not have."""
    kind = step.inputs[0].kind
    try:
        size = MiniBatchSize.parse(step.settings.get("mini_batch_size"), kind)
    except ValueError as error:
        raise refused("mini_batch_size", f"{error}.") from None
    if size.unit == "bytes" and size.amount < _SMALL:
        log.warning("mini_batch_size of the step %r is %d bytes of a table; 1MB is usual.", step.name, size.amount)
