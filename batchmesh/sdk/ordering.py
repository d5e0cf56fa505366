"""The order of a pipeline's steps: each behind those whose data it reads, otherwise as they were given. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchmesh.errors import SpecRefused
from batchmesh.sdk.parallel_run_step import ParallelRunStep

if TYPE_CHECKING:
    from collections.abc import Sequence


def in_order(given: Sequence[Any]) -> list[ParallelRunStep]:
    """All steps of the (nested) list, with those whose data they read.

    Errors: SpecRefused for what is no step, for two of one name, and for steps in a circle.
    """
    ordered: list[ParallelRunStep] = []
    for step in _flat(given):
        _place(step, ordered, ())
    _check(ordered)
    return ordered


def _place(step: ParallelRunStep, ordered: list[ParallelRunStep], waiting: tuple[ParallelRunStep, ...]) -> None:
    """Puts a step behind those that it comes after; `waiting` are the steps that wait for it."""
    if step in ordered:
        return
    if step in waiting:
        circle = ", ".join(repr(each.name) for each in waiting[waiting.index(step) :])
        raise SpecRefused(f"The steps {circle} wait for each other in a circle; break it.")
    for other in step.comes_after:
        _place(other, ordered, (*waiting, step))
    ordered.append(step)


def _flat(given: Any) -> list[ParallelRunStep]:
    if isinstance(given, ParallelRunStep):
        return [given]
    if isinstance(given, list | tuple):
        return [step for each in given for step in _flat(each)]
    raise SpecRefused(f"{given!r} is no step; give ParallelRunSteps, or lists of them.")


def _check(steps: list[ParallelRunStep]) -> None:
    names = [step.name for step in steps]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise SpecRefused(f"Two steps of the pipeline are called {twice!r}; give each its own name.")
    if not steps:
        raise SpecRefused("The pipeline has no step.")
    for step in steps:
        if step.output.producer is not step:
            name = step.output.name
            raise SpecRefused(
                f"{name!r} is the output of {step.name!r} and of another step; give each its own PipelineData."
            )
