"""What file and tabular datasets have in common: a kind, paths by reference, a window of them, a name and a version."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Self

from batchmesh.entries import Dataset as Content
from batchmesh.entries import Entry
from batchmesh.errors import InputRefused, Refused, SpecRefused
from batchmesh.sdk.places import check_there

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from batchmesh.sdk.consumption import DatasetConsumptionConfig
    from batchmesh.sdk.workspace import Workspace


class AbstractDataset:
    """Items by reference: nothing is read or copied before it is asked for. Each change is another object."""

    def __init__(
        self,
        content: Content,
        workspace: Workspace | None = None,
        *,
        entry: Entry | None = None,
        skip: int = 0,
        take: int | None = None,
    ) -> None:
        """`workspace` is the one that the references name datastores of; None where all paths are absolute."""
        self.content = content
        self.workspace = workspace
        self._entry = entry
        self._skip = skip
        self._take = take

    def __repr__(self) -> str:
        named = f"{self.name}:{self.version}, " if self._entry else ""
        return f"{type(self).__name__}({named}{', '.join(self.content.paths)})"

    @property
    def name(self) -> str | None:
        """As it is registered; None if it is not."""
        return self._entry.name if self._entry else None

    @property
    def version(self) -> int | None:
        return self._entry.version if self._entry else None

    @property
    def id(self) -> str | None:
        return f"{self.name}:{self.version}" if self._entry else None

    @property
    def description(self) -> str | None:
        return self._entry.description if self._entry else None

    @property
    def tags(self) -> Mapping[str, str] | None:
        return self._entry.tags if self._entry else None

    @property
    def registered(self) -> datetime | None:
        return self._entry.registered if self._entry else None

    def register(
        self,
        workspace: Workspace,
        name: str,
        description: str | None = None,
        tags: dict[str, str] | None = None,
        create_new_version: bool = False,
    ) -> Self:
        """Gives it a name in the workspace; the same content again is the same version.

        Errors: EntryExists for a name that has other content, without `create_new_version`; BadName, BadEntry.
        """
        content = self.settled(workspace)
        entry = Entry(name, content, workspace=workspace.name, description=description or "", tags=tags or {})
        registered = workspace.client.catalog.register(entry, overwrite=create_new_version)
        return type(self)(content, workspace, entry=registered)

    def as_named_input(self, name: str) -> DatasetConsumptionConfig:
        """An input of a step. Errors: SpecRefused for a name that is none."""
        from batchmesh.sdk.consumption import DatasetConsumptionConfig

        return DatasetConsumptionConfig(name, self)

    def take(self, count: int) -> Self:
        """The first `count` files, or rows."""
        left = _count("take", count)
        return self._windowed(self._skip, left if self._take is None else min(left, self._take))

    def skip(self, count: int) -> Self:
        """All but the first `count` files, or rows."""
        passed = _count("skip", count)
        return self._windowed(self._skip + passed, None if self._take is None else max(0, self._take - passed))

    def settled(self, workspace: Workspace) -> Content:
        """The paths that it is in that workspace, its window applied.

        Errors: Refused for datastores of another workspace; InputRefused for a window with nothing in it.
        """
        if self.workspace is not None and _place(self.workspace) != _place(workspace):
            raise Refused(f"{self!r} is of {self.workspace!r}, and cannot be used in {workspace!r}; register it there.")
        if not self.has_window:
            return self.content
        paths = self.window_paths(workspace)
        if not paths:
            raise InputRefused(f"There is nothing in {self!r}, or take and skip leave nothing of it.")
        return dataclasses.replace(self.content, paths=paths)

    @property
    def read_as(self) -> Content:
        """What its items are once it is settled, which may lie at other paths."""
        return self.content

    @property
    def has_window(self) -> bool:
        return bool(self._skip) or self._take is not None

    def window_paths(self, workspace: Workspace) -> tuple[str, ...]:
        """The paths of what take and skip leave; empty for nothing."""
        raise NotImplementedError

    def check_there(self) -> None:
        """Errors: InputRefused for a path at which nothing is, as far as this process can see it."""
        for path in self.content.paths:
            check_there(self.workspace, path)

    def _windowed(self, skip: int, take: int | None) -> Self:
        return type(self)(self.content, self.workspace, skip=skip, take=take)


def _count(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise SpecRefused(f"{name} takes a number of files or rows from 0, not {value!r}.")
    return value


def _place(workspace: Workspace) -> tuple[object, str]:
    return workspace.client.address, workspace.name
