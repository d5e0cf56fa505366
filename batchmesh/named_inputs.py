"""Inputs that name a dataset: they become its paths, its kind and its columns before a job is sent.

dataset:NAME[:VERSION] ──catalog──▶ paths or references, input_kind, csv_header, csv_types
"""

from __future__ import annotations

import dataclasses
import re
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from batchmesh.data.kinds import kind_of_path
from batchmesh.entries import Dataset, EntryKind
from batchmesh.errors import SpecRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchmesh.catalog import Catalog
    from batchmesh.job import JobSpec

_Value = TypeVar("_Value")

_NAMED = re.compile(r"dataset:(?P<name>[^:/]+)(:(?P<version>[1-9][0-9]{0,8}))?")


def resolved(spec: JobSpec, catalog: Catalog) -> JobSpec:
    """The spec with datasets replaced by what they stand for; what the spec says of kind and columns itself stands.

    Errors: SpecRefused for a malformed name, inputs of several kinds or with different columns; NoEntry, BadName.
    """
    datasets = {text: _dataset(text, spec, catalog) for text in spec.inputs if text.startswith("dataset:")}
    if not datasets:
        return spec
    paths = [datasets[text].paths if text in datasets else (text,) for text in spec.inputs]
    kind = spec.input_kind or _kind(spec.inputs, datasets)
    headers = [each.csv_header or "present" for each in datasets.values()] if kind == "csv" else []
    types = [each.csv_types for each in datasets.values()] if kind in ("csv", "jsonl") else []
    return dataclasses.replace(
        spec,
        inputs=tuple(chain.from_iterable(paths)),
        input_sizes=tuple(map(len, paths)),
        input_kind=kind,
        csv_header=spec.csv_header or _one("csv_header", headers, ""),
        csv_types=spec.csv_types or _one("csv_types", types, {}),
    )


def _dataset(text: str, spec: JobSpec, catalog: Catalog) -> Dataset:
    named = _NAMED.fullmatch(text)
    if named is None:
        raise SpecRefused(f"'{text}' names no dataset; it is dataset:NAME or dataset:NAME:VERSION, versions from 1.")
    found = catalog.get(EntryKind.DATASET, named["name"], int(named["version"] or 0), spec.workspace or "default")
    assert isinstance(found.content, Dataset), "it was asked for as one"
    return found.content


def _kind(inputs: Sequence[str], datasets: dict[str, Dataset]) -> str:
    """That of all datasets; a path beside them is of that kind too, unless its name says something else."""
    kinds = {text: each.kind for text, each in datasets.items()}
    for text in inputs:
        if text not in datasets and (told := kind_of_path(text)) != "files":
            kinds[text] = told
    first, kind = next(iter(kinds.items()))
    for text, other in kinds.items():
        if other != kind:
            raise SpecRefused(
                f"Inputs are of one kind, but '{first}' is {kind} and '{text}' is {other}; run a job for each, or say "
                "what all of them are with --input-type."
            )
    return kind


def _one(name: str, values: list[_Value], default: _Value) -> _Value:
    """What all datasets say."""
    if any(value != values[0] for value in values):
        raise SpecRefused(f"The datasets among the inputs differ in their {name}; run a job for each, or give {name}.")
    return values[0] if values else default
