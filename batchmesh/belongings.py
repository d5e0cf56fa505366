"""What goes with a job besides its source: models by their names, and files of this host, sent before the job is.

model NAME[:VERSION] ──────────────────catalog──▶ JobModel
model NAME=PATH ──registered──▶ its new version ──▶ JobModel
side input NAME=PATH ──packed──▶ WriteArtifact ──▶ SideInput
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from batchmesh.errors import SpecRefused
from batchmesh.job import JobModel, SideInput

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batchmesh.catalog import Catalog
    from batchmesh.connection import Connection
    from batchmesh.entries import Entry
    from batchmesh.job import JobSpec

_NAMED = re.compile(r"(?P<name>[^:=/]+)(:(?P<version>[1-9][0-9]{0,8}))?")


class WantedModel(NamedTuple):
    """A model that is still to be looked up (version 0: the newest), or registered from `path` first."""

    name: str
    version: int = 0
    path: str = ""


class LocalSideInput(NamedTuple):
    """A file or folder of this host that is still to be sent."""

    name: str
    path: str


@dataclasses.dataclass(frozen=True, slots=True)
class Belongings:
    """All of it for one job that the mesh does not have yet, or has under a name."""

    models: tuple[WantedModel, ...] = ()
    side_inputs: tuple[LocalSideInput, ...] = ()

    @property
    def any(self) -> bool:
        return bool(self.models or self.side_inputs)


def wanted_model(text: str) -> WantedModel:
    """What NAME, NAME:VERSION or NAME=PATH asks for. Errors: SpecRefused."""
    name, equals, path = text.partition("=")
    if equals and name and path:
        return WantedModel(name, path=os.path.abspath(path))
    named = _NAMED.fullmatch(text)
    if named is None:
        sentence = f"'{text}' is no model; it is NAME, NAME:VERSION with versions from 1, or NAME=PATH to register it."
        raise SpecRefused(sentence, {"models": sentence})
    return WantedModel(named["name"], int(named["version"] or 0))


def models_of(given: Iterable[JobModel | str]) -> tuple[tuple[JobModel, ...], tuple[WantedModel, ...]]:
    """Those that are resolved, and the others. Errors: SpecRefused."""
    every = list(given)
    wanted = tuple(wanted_model(each) for each in every if isinstance(each, str))
    return tuple(each for each in every if isinstance(each, JobModel)), wanted


def side_inputs_of(
    given: Iterable[SideInput] | Mapping[str, str | os.PathLike[str]],
) -> tuple[tuple[SideInput, ...], tuple[LocalSideInput, ...]]:
    """Those that the mesh can find itself, and those that lie here."""
    if not isinstance(given, Mapping):
        return tuple(given), ()
    places = {name: os.fspath(path) for name, path in given.items()}
    references = tuple(SideInput(name, reference=place) for name, place in places.items() if "://" in place)
    here = {name: os.path.abspath(place) for name, place in places.items() if "://" not in place}
    return references, tuple(LocalSideInput(name, path) for name, path in here.items())


def sent(spec: JobSpec, belongings: Belongings, catalog: Catalog, connection: Connection) -> JobSpec:
    """The spec with all of it, which storage has then.

    Errors: NoEntry, BadName for a model; InputRefused for a path that cannot be read or holds no file.
    """
    workspace = spec.workspace or "default"
    models = [_model(each, workspace, catalog) for each in belongings.models]
    side_inputs = [_side_input(each, connection) for each in belongings.side_inputs]
    return dataclasses.replace(spec, models=(*spec.models, *models), side_inputs=(*spec.side_inputs, *side_inputs))


def _model(wanted: WantedModel, workspace: str, catalog: Catalog) -> JobModel:
    from batchmesh.entries import EntryKind

    if wanted.path:
        return job_model(catalog.register_model(wanted.name, wanted.path, workspace=workspace))
    return job_model(catalog.get(EntryKind.MODEL, wanted.name, wanted.version, workspace))


def job_model(entry: Entry) -> JobModel:
    """A registered model as a job uses it."""
    from batchmesh.entries import Model

    assert isinstance(entry.content, Model), "it was asked for as one"
    return JobModel(entry.name, entry.version, entry.content.digest, entry.content.file)


def _side_input(local: LocalSideInput, connection: Connection) -> SideInput:
    from batchmesh.archive import packed_path

    with packed_path(Path(local.path), f"for the side input {local.name}") as (archive, file):
        connection.upload(archive)
        return SideInput(local.name, archive.digest, file)
