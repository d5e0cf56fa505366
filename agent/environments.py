"""The Pythons that workers run in: the agent's own, one that is there already, or a virtual environment made for a job.

    requirements ──digest──▶ environments/<digest>/venv ──(uv, or venv and pip)──▶ environments/<digest>/built, last
    Python ──zipapp──▶ workers/batchmesh-worker-cpython-39.pyz

An environment is made in its place, for its commands name it; without `built` it is no environment and made anew. The
least recently used are removed when all together are too large.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import sys
import tempfile
from typing import TYPE_CHECKING, NamedTuple

import structlog

from batchmesh.errors import BatchmeshError
from batchmesh.requirements import paths_in

from . import commands, installing, zipapp
from .interpreter import Interpreter, NoInterpreter, examined, surroundings

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from batchmesh.python_environment import PythonEnvironment

    from .groups import Groups

#: Seconds for compiling the worker with another Python.
_COMPILING = 60.0

log = structlog.get_logger()


class EnvironmentFailed(BatchmeshError):
    """What the workers of a job are to run in could not be made, or is not fit for it."""


class Python(NamedTuple):
    """What workers are started with."""

    #: Tells it from each other Python of this node, and from the same one with something else installed; empty for the
    #: agent's own.
    identity: str
    #: The interpreter and the worker that it executes.
    command: tuple[str, str]
    #: The environment variables that a worker begins with.
    variables: Mapping[str, str]


class Environments:
    """The cache. Environments in use are never removed; one that several jobs wait for is made once."""

    def __init__(self, work: Path, records: Groups, limit: int, within: float) -> None:
        """`limit` in bytes; `within` is how long one may take to be made, in seconds."""
        self._folder = work / "environments"
        self._workers = work / "workers"
        self._records = records
        self._limit = limit
        self._within = within
        self._builds: dict[str, asyncio.Task[None]] = {}
        self._users: dict[str, int] = {}
        #: Bytes of each environment, least recently used first.
        self._sizes: dict[str, int] = {}
        shutil.rmtree(self._workers, ignore_errors=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        for size, left in _found(self._folder):
            self._sizes[left.name] = size

    async def hold(self, wanted: PythonEnvironment | None, libraries: Collection[str] = ()) -> Python:
        """The Python for a job, which stays until as many release() have followed; None is the agent's own.

        `libraries` are those that the job's input and output need. Errors: EnvironmentFailed, OSError (disk full).
        """
        if wanted is None or (wanted.user_managed and not wanted.interpreter_path):
            tag = str(sys.implementation.cache_tag)
            return Python("", (sys.executable, await self._worker(sys.executable, tag)), dict(os.environ))
        try:
            base = await examined(wanted.interpreter_path or sys.executable, self._records)
        except NoInterpreter as error:
            raise EnvironmentFailed(f"{_named(wanted)} cannot be used: {error}") from None
        if wanted.user_managed:
            _check_libraries(wanted, base, libraries)
            return await self._python(f"{base.path} {base.version}", base)
        return await self._hold_built(wanted, base, libraries)

    def release(self, identity: str) -> None:
        """Call once for each hold(). A build that nobody waits for any more is given up."""
        if identity not in self._users:
            return
        self._users[identity] -= 1
        if not self._users[identity]:
            del self._users[identity]
            if identity in self._builds:
                self._builds[identity].cancel()
        self._shrink()

    async def end(self) -> None:
        """Gives up what is being made; returns when its processes have ended."""
        builds = list(self._builds.values())
        for each in builds:
            each.cancel()
        await asyncio.gather(*builds, return_exceptions=True)

    async def _hold_built(self, wanted: PythonEnvironment, base: Interpreter, libraries: Collection[str]) -> Python:
        lines = wanted.requirements
        digest = await asyncio.to_thread(digest_of, lines, base)
        self._users[digest] = self._users.get(digest, 0) + 1
        try:
            await self._built(digest, lines, base)
            self._sizes[digest] = self._sizes.pop(digest)
            found = _used(self._folder / digest)
            _check_libraries(wanted, found, libraries)
            return await self._python(digest, found)
        except (installing.NotInstalled, NoInterpreter) as error:
            self.release(digest)
            raise EnvironmentFailed(f"{_named(wanted)} cannot be made: {error}") from None
        except BaseException:
            self.release(digest)
            raise

    async def _built(self, digest: str, lines: tuple[str, ...], base: Interpreter) -> None:
        """Returns once the environment is there. One that was given up as this came is begun anew."""
        while digest not in self._sizes:
            build = self._builds.get(digest)
            if build is None:
                build = self._builds[digest] = asyncio.create_task(self._build(digest, lines, base))
                build.add_done_callback(lambda _: self._builds.pop(digest))
            await asyncio.wait((build,))
            if not build.cancelled():
                build.result()

    async def _build(self, digest: str, lines: tuple[str, ...], base: Interpreter) -> None:
        folder = self._folder / digest
        _forget(folder)
        folder.mkdir()
        log.info("environment_begun", environment=digest, requirements=len(lines))
        made = False
        try:
            await installing.install(lines, base, folder, self._records, self._within)
            found = await examined(str(folder / "venv" / "bin" / "python"), self._records)
            size = await asyncio.to_thread(_size, folder)
            (folder / "built").write_text(json.dumps([size, found]))
            self._sizes[digest] = size
            made = True
        finally:
            log.info("environment_ended", environment=digest, made=made)
            if not made:
                _forget(folder)

    async def _python(self, identity: str, found: Interpreter) -> Python:
        variables = surroundings(os.environ, found.path, found.environment)
        return Python(identity, (found.path, await self._worker(found.path, found.tag)), variables)

    async def _worker(self, interpreter: str, tag: str) -> str:
        """The worker that this Python executes; it is made by the first one of its tag."""
        path = self._workers / zipapp.file_name(tag)
        if path.exists():
            return str(path)
        if tag == sys.implementation.cache_tag:
            return await asyncio.to_thread(zipapp.make, str(self._workers))
        command = (interpreter, "-I", "-B", zipapp.__file__, str(self._workers))
        variables = surroundings(os.environ, interpreter, "")
        ended = await commands.run(command, self._folder, variables, self._records, _COMPILING)
        if ended.status:
            raise EnvironmentFailed(f"{interpreter} cannot compile the worker: {ended.said[-2000:]}")
        return str(path)

    def _shrink(self) -> None:
        for digest in list(self._sizes):
            if sum(self._sizes.values()) <= self._limit:
                return
            if digest not in self._users:
                del self._sizes[digest]
                _forget(self._folder / digest)


def digest_of(lines: Collection[str], base: Interpreter) -> str:
    """SHA-256 (hex) of all that an environment is made of: files that the lines name count with what they are now."""
    files = sorted({path for line in lines for path in paths_in(line)})
    content = [installing.RECIPE, base.path, base.version, *lines, *map(_stamp, files)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _stamp(path: str) -> str:
    try:
        about = os.stat(path)
    except OSError:
        return f"{path} absent"
    return f"{path} {about.st_size} {about.st_mtime_ns}"


def _found(folder: Path) -> list[tuple[int, Path]]:
    """The whole environments of an earlier life with their sizes, least recently used first; the rest is removed."""
    whole = []
    for left in folder.iterdir():
        try:
            mark = left / "built"
            whole.append((mark.stat().st_mtime_ns, json.loads(mark.read_text())[0], left))
        except (OSError, ValueError):
            shutil.rmtree(left, ignore_errors=True)
    return [(size, left) for _, size, left in sorted(whole)]


def _used(folder: Path) -> Interpreter:
    """What was found of an environment when it was made; it is now the one that was used last."""
    mark = folder / "built"
    os.utime(mark)
    path, version, tag, environment, libraries = json.loads(mark.read_text())[1]
    return Interpreter(path, version, tag, environment, tuple(libraries))


def _size(folder: Path) -> int:
    return sum(each.lstat().st_size for each in folder.rglob("*") if not each.is_dir() or each.is_symlink())


def _forget(folder: Path) -> None:
    """It is gone at once, if it was there, and its files soon."""
    if folder.exists():
        doomed = tempfile.mkdtemp(prefix=".", dir=folder.parent)
        os.rename(folder, os.path.join(doomed, folder.name))
        asyncio.get_running_loop().run_in_executor(None, shutil.rmtree, doomed, True)


def _named(wanted: PythonEnvironment) -> str:
    return f"The environment '{wanted.name}'" if wanted.name else "The job's environment"


def _check_libraries(wanted: PythonEnvironment, found: Interpreter, needed: Collection[str]) -> None:
    lacking = [each for each in needed if each not in found.libraries]
    if lacking:
        raise EnvironmentFailed(
            f"{_named(wanted)} has no {' and no '.join(lacking)}, which table input and .csv and .parquet output need; "
            "add what is missing to its requirements."
        )
