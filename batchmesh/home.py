"""The home of a mesh on this host, and how a client joins the mesh that stands in it.

    home/lock         held (flock) by the supervisor for as long as its mesh lives; its text is the supervisor's pid
    home/mesh.json    where the mesh is, written whole; gone once the mesh ends
    home/run/         Unix sockets of the services, and the control socket (elsewhere if this path is too long)
    home/log/         what the supervisor and the services say
    home/state/ home/storage/ home/agent-1/ …   what the services keep

    client ──connect──▶ control socket ──one line──▶ {"scheduler": address}; then the connection stays open
    client ──lock is free──▶ python -m batchmesh.supervisor, which inherits the lock and the first client

The kernel closes a client's connection however the client dies; an embedded mesh ends with the last of them.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from batchmesh.errors import MeshUnreachable, Refused

#: The file by which a home is known: one that lies in the folder of an entry script is not sent along with that.
HOME_MARK = ".batchmesh-home"
#: Seconds within which a client finds or starts a mesh, or gives up.
JOIN_SECONDS = 20.0
#: Seconds between two looks at a mesh that starts or ends.
_POLL = 0.02
_SOCKET_FOLDER = "batchmesh-run-"
#: Bytes of the supervisor's own log before it begins anew.
_SUPERVISOR_LOG_BYTES = 2**20


class HomeRefused(Refused):
    """The home cannot be used: it is no folder, may not be written, or another mesh stands in it."""


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of one mesh and its state. Two homes never meet."""

    path: Path

    @classmethod
    def find(cls, given: str | os.PathLike[str] | None = None) -> Home:
        """The home that was named, else BATCHMESH_HOME, else ~/.batchmesh."""
        return cls(Path(os.path.abspath(given or os.environ.get("BATCHMESH_HOME") or Path.home() / ".batchmesh")))

    @property
    def mesh_file(self) -> Path:
        """Where the mesh says where it is."""
        return self.path / "mesh.json"

    @property
    def log_folder(self) -> Path:
        """Where the supervisor and the services write."""
        return self.path / "log"

    def make(self) -> None:
        """Creates the folder, for its owner alone. Errors: HomeRefused."""
        try:
            self.log_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.path / HOME_MARK).touch(exist_ok=True)
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise PermissionError(13, os.strerror(13))
        except OSError as error:
            raise HomeRefused(
                f"The home {self.path} cannot be written ({error.strerror}); name another one with --home."
            ) from None

    def lock(self) -> IO[str] | None:
        """The lock file, locked, or None when another process holds it. It is free again once nobody has it open."""
        file = (self.path / "lock").open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return file

    def owner(self) -> str:
        """The process that holds the lock, in words."""
        try:
            return f"process {int((self.path / 'lock').read_text())}"
        except (OSError, ValueError):
            return "another process"

    def read_mesh(self) -> dict[str, Any]:
        """What mesh.json says; empty where there is none, or where it came with a copy of another home."""
        try:
            found = _parsed(self.mesh_file.read_bytes())
        except OSError:
            return {}
        return found if found.get("home") == os.path.realpath(self.path) else {}

    def write_mesh(self, mesh: dict[str, Any]) -> None:
        """Replaces mesh.json in one step."""
        fresh = self.mesh_file.with_suffix(".new")
        fresh.write_text(json.dumps({"home": os.path.realpath(self.path), **mesh}) + "\n")
        fresh.replace(self.mesh_file)

    def make_socket_folder(self) -> Path:
        """A private folder whose path is short and plain enough for the address of a Unix socket."""
        folder = self.path / "run"
        if not re.fullmatch(r"[A-Za-z0-9._/-]{1,80}", str(folder)):
            return Path(tempfile.mkdtemp(prefix=_SOCKET_FOLDER))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        return folder

    def forget_mesh(self) -> None:
        """Removes mesh.json and the folder of sockets that it names. Only for whoever holds the lock."""
        folder = Path(self.read_mesh().get("folder", ""))
        self.mesh_file.unlink(missing_ok=True)
        if folder == self.path / "run" or folder.name.startswith(_SOCKET_FOLDER):
            shutil.rmtree(folder, ignore_errors=True)


class Membership:
    """A client's place in the mesh of a home: the mesh lives at least as long as this. Not for use by two threads."""

    def __init__(self, home: Home, patience: float = JOIN_SECONDS) -> None:
        """`patience`: seconds within which the mesh answers, or MeshUnreachable is raised."""
        self.home = home
        self._patience = patience
        self._deadline = 0.0
        self._connection: socket.socket | None = None
        self._spawned: subprocess.Popen[bytes] | None = None
        self._scheduler: str | None = None
        self._ended: str | None = None

    def begin(self) -> None:
        """Connects to the mesh, or starts one, without waiting until it is ready. Errors: HomeRefused."""
        self._deadline = time.monotonic() + self._patience
        self.home.make()
        self._connection = self._connected()

    def scheduler(self) -> str:
        """Waits until the mesh is ready; returns the scheduler's address.

        Errors: MeshUnreachable, with the home and the process that holds it.
        """
        while self._scheduler is None:
            greeting = self._greeting()
            if "error" in greeting:
                raise MeshUnreachable(f"The mesh of {self.home.path} did not start. {greeting['error']}")
            self._scheduler = greeting.get("scheduler")
        return self._scheduler

    def check(self) -> None:
        """Raises MeshUnreachable when the mesh has ended, with the reason that it gave."""
        if self._ended is None and self._connection is not None and self._scheduler is not None:
            self._ended = _last_word(self._connection)
        if self._ended is not None:
            raise MeshUnreachable(
                f"The mesh of {self.home.path} has ended. {self._ended} Its logs are in {self.home.log_folder}."
            )

    def leave(self) -> None:
        """Gives the place up: an embedded mesh ends when this was the last one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._spawned is not None:
            # It ends by itself, soon or with the last of the others; somebody has to take note of it until then.
            threading.Thread(target=self._spawned.wait, daemon=True, name="batchmesh-supervisor").start()
            self._spawned = None

    def _greeting(self) -> dict[str, Any]:
        """What the mesh says first: its scheduler, or why it did not start; empty when it was about to end."""
        if self._connection is None:
            self._wait()
            self._connection = self._connected()
            return {}
        self._connection.settimeout(max(self._deadline - time.monotonic(), 0.001))
        try:
            line = self._connection.recv(65536)
        except TimeoutError:
            raise self._unreachable() from None
        except OSError:
            line = b""
        if not line:
            self._connection.close()
            self._connection = None
            self._check_spawned()
        return _parsed(line)

    def _wait(self) -> None:
        if time.monotonic() > self._deadline:
            raise self._unreachable()
        time.sleep(_POLL)

    def _check_spawned(self) -> None:
        if self._spawned is None:
            return
        try:
            status = self._spawned.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return
        raise MeshUnreachable(
            f"The mesh of {self.home.path} did not start: its supervisor ended with status {status}; "
            f"see {self.home.log_folder / 'supervisor.log'}."
        )

    def _unreachable(self) -> MeshUnreachable:
        return MeshUnreachable(
            f"The home {self.home.path} is held by {self.home.owner()}, whose mesh does not answer; "
            "end that process, or name another home with --home."
        )

    def _connected(self) -> socket.socket | None:
        """A connection to the mesh that is there, or to one just started; None while one is on its way up or down."""
        control = self.home.read_mesh().get("control")
        if isinstance(control, str):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(max(self._deadline - time.monotonic(), 0.001))
            try:
                connection.connect(control)
            except OSError:
                connection.close()
            else:
                return connection
        lock = self.home.lock()
        if lock is None:
            return None
        with lock:
            return self._start(lock)

    def _start(self, lock: IO[str]) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs, self._supervisor_log() as log:
            self._spawned = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "batchmesh.supervisor", "--home", str(self.home.path)),
                    *("--lock-fd", str(lock.fileno()), "--client-fd", str(theirs.fileno())),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home.path,
                pass_fds=(lock.fileno(), theirs.fileno()),
                start_new_session=True,
            )
        return ours

    def _supervisor_log(self) -> IO[bytes]:
        path = self.home.log_folder / "supervisor.log"
        if path.exists() and path.stat().st_size > _SUPERVISOR_LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return path.open("ab")


def _last_word(connection: socket.socket) -> str | None:
    """Why the mesh has ended, None as long as it stands."""
    connection.setblocking(False)
    try:
        line = connection.recv(65536)
    except BlockingIOError:
        return None
    except OSError:
        line = b""
    return str(_parsed(line).get("ended", "Its supervisor died."))


def _parsed(text: bytes) -> dict[str, Any]:
    """The JSON object on the first line; empty where there is none."""
    try:
        found = json.loads(text.partition(b"\n")[0])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
