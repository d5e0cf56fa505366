"""What the workers of a pool find on this node: their source and Python, and models and side inputs by their names.

artifacts/<digest>/ ◀──link── pools/…/models/NAME/FILE      a model that is a file
artifacts/<digest>/ ◀──link── pools/…/models/NAME           a model that is a folder
artifacts/<digest>/[FILE] ──path──▶ {NAME} in the script's arguments
"""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import structlog

from batchmesh.errors import BatchmeshError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
    from pathlib import Path

    from .artifacts import Artifacts
    from .environments import Environments, Python
    from .fetching import Asker, Fetching, Resolved
    from .pool import Key

log = structlog.get_logger()

_Thing = TypeVar("_Thing")
_PLACE = re.compile(r"\{([^{}]+)\}")


class NotSupplied(BatchmeshError):
    """Something that the workers need could not be fetched or made; the sentence names it."""


class Model(NamedTuple):
    """A model of a job. `file` is empty for a folder."""

    name: str
    version: int
    digest: str
    file: str


class SideInput(NamedTuple):
    """A file or folder that is not split: an artifact's (`file` is empty for a folder), or a datastore's."""

    name: str
    digest: str
    file: str
    reference: str


@dataclass
class Supplies:
    """All of it stays until `release`."""

    source: Path
    python: Python
    #: The file or folder of each model and side input, by name.
    models: dict[str, Path] = field(default_factory=dict)
    side_inputs: dict[str, str] = field(default_factory=dict)
    releases: list[Callable[[], None]] = field(default_factory=list)

    def release(self) -> None:
        """Once nobody uses it any more."""
        while self.releases:
            self.releases.pop()()


class Supplier:
    """Fetches what is not here yet."""

    def __init__(self, artifacts: Artifacts, environments: Environments, fetching: Fetching) -> None:
        self._artifacts = artifacts
        self._environments = environments
        self._fetching = fetching

    async def supply(self, asker: Asker, key: Key, ending: asyncio.Event) -> Supplies:
        """All that pools of that key need. Nothing is waited for once the job is `ending`.

        Errors: NotSupplied.
        """
        releases: list[Callable[[], None]] = []
        try:
            return await _unless(ending, self._supply(asker, key, releases))
        except BaseException:
            for release in releases:
                release()
            raise

    async def _supply(self, asker: Asker, key: Key, releases: list[Callable[[], None]]) -> Supplies:
        async def artifact(digest: str, file: str = "") -> Path:
            folder = await self._artifacts.hold(asker.storage, digest)
            releases.append(lambda: self._artifacts.release(digest))
            return folder / file if file else folder

        async def reference(name: str) -> str:
            resolving = asyncio.create_task(self._fetching.resolve(asker, name))
            try:
                resolved = await asyncio.shield(resolving)
            except asyncio.CancelledError:
                resolving.add_done_callback(_give_back)
                raise
            releases.append(resolved.release)
            return resolved.path

        async def python() -> Python:
            opening = asker.opening
            held = await self._environments.hold(opening.environment, opening.libraries)
            releases.append(lambda: self._environments.release(held.identity))
            return held

        source = await _named("The source", artifact(key.source_digest))
        supplies = Supplies(source, await _made(python()), releases=releases)
        for model in key.models:
            supplies.models[model.name] = await _named(f"Model {model.name}", artifact(model.digest, model.file))
        for each in key.side_inputs:
            found = reference(each.reference) if each.reference else artifact(each.digest, each.file)
            supplies.side_inputs[each.name] = str(await _named(f"Side input {each.name}", found))
        return supplies


async def _named(what: str, fetched: Awaitable[_Thing]) -> _Thing:
    try:
        return await fetched
    except (BatchmeshError, OSError) as error:
        raise NotSupplied(f"{what} could not be fetched: {error}") from error
    except Exception as error:  # a job that waits without a word is worse than any error
        log.exception("not_supplied", what=what)
        raise NotSupplied(f"{what} could not be prepared: {type(error).__name__}: {error}") from error


def _give_back(resolving: asyncio.Task[Resolved]) -> None:
    """Nobody waits for it any more."""
    if not resolving.cancelled() and resolving.exception() is None:
        resolving.result().release()


async def _unless(ending: asyncio.Event, making: Coroutine[None, None, Supplies]) -> Supplies:
    """What is being made; NotSupplied once the job is ending."""
    made, ended = asyncio.create_task(making), asyncio.create_task(ending.wait())
    try:
        await asyncio.wait((made, ended), return_when=asyncio.FIRST_COMPLETED)
        if made.done():
            return made.result()
        raise NotSupplied("The job has ended.")
    finally:
        ended.cancel()
        made.cancel()
        await asyncio.wait((made,))


async def _made(python: Awaitable[Python]) -> Python:
    try:
        return await python
    except BatchmeshError as error:
        raise NotSupplied(str(error)) from error
    except Exception as error:  # as above
        log.exception("environment_not_made")
        raise NotSupplied(f"The environment could not be made: {type(error).__name__}: {error}") from error


def lay_out(models: Mapping[str, Path], folder: Path) -> None:
    """Makes `folder` what AZUREML_MODEL_DIR names: an entry for each model, with links to where it lies."""
    folder.mkdir(parents=True)
    for name, path in models.items():
        if path.is_dir():
            os.symlink(path, folder / name)
        else:
            (folder / name).mkdir()
            os.symlink(path, folder / name / path.name)


def filled_in(arguments: Iterable[str], paths: Mapping[str, str]) -> tuple[str, ...]:
    """The arguments with the path of a side input in place of {NAME}; other braces stay as they are."""
    return tuple(_PLACE.sub(lambda place: paths.get(place[1], place[0]), each) for each in arguments)
