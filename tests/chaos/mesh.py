"""The mesh that faults happen to: how each of them is done, and undone."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from tests.support.wire import Direction
from tests.support.wired_mesh import WiredMesh

from . import preload
from .faults import WORKER, Fault, Ground, Kind
from .preload import Control

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    Undo = Callable[[], None]

#: Storage's root and all outputs share a disk of this size.
_DISK = "64m"
#: The option that slows down a service's durable steps.
_DELAY = {"scheduler": "--durable-delay", "storage": "--test-durable-delay"}


#: Set where a mount of ours ends with us.
OWN_MOUNTS = "CHAOS_OWN_MOUNTS"


#: What preload.c does.
_PRELOADED = (Kind.SYNC_FAILS, Kind.CLOCK_JUMPS)


class NotNow(Exception):
    """The fault cannot happen at present: its victim is not there."""


def missing() -> dict[Kind, str]:
    """What cannot be done on this machine, and what it takes."""
    needs = {}
    if OWN_MOUNTS not in os.environ:
        needs[Kind.DISK_FULL] = "root, to mount a small disk"
    if preload.compiler() is None:
        needs |= dict.fromkeys(_PRELOADED, "a C compiler: apt-get install gcc libc6-dev")
    return needs


def into_own_mounts() -> None:
    """As root: begins again in a mount namespace of its own, so that the small disk ends with this process."""
    if os.geteuid() != 0 or OWN_MOUNTS in os.environ:
        return
    unshare = ["unshare", "--mount", "--propagation", "private"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        subprocess.run([*unshare, "true"], check=True, capture_output=True)
        os.environ[OWN_MOUNTS] = "yes"
        os.execvp(unshare[0], [*unshare, sys.executable, *sys.orig_argv[1:]])


@dataclass
class ChaosMesh(WiredMesh):
    """`without` are the faults that are left out; tools are preloaded only for the others."""

    without: frozenset[Kind] = frozenset()
    controls: dict[str, Control] = field(default_factory=dict)

    def __enter__(self) -> Self:
        disk = self.folder / "disk"
        disk.mkdir()
        if Kind.DISK_FULL not in self.without:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "chaos", disk], check=True)
        if not self.without.issuperset(_PRELOADED):
            library = preload.built(self.folder)
            names = self.ground.services
            self.controls = {name: Control(library, self.folder / f"{name}.control") for name in names}
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            if Kind.DISK_FULL not in self.without:
                subprocess.run(["umount", "--lazy", self.folder / "disk"], check=False)

    @property
    def ground(self) -> Ground:
        return Ground(self.agents, self.lease, self.without)

    def environment(self, name: str, options: tuple[str, ...]) -> dict[str, str]:
        control = self.controls.get(name)
        return super().environment(name, options) | (control.environment if control is not None else {})

    def inflict(self, fault: Fault) -> Undo | None:
        """Does it; returns what heals it. Errors: NotNow."""
        match fault.kind:
            case Kind.KILL | Kind.STOP if fault.target == WORKER:
                return self._hurt_worker(fault)
            case Kind.KILL:
                return self._kill(fault)
            case Kind.STOP:
                return self._stop(fault)
            case Kind.DISK_FULL:
                return self._fill_disk()
            case Kind.SYNC_FAILS:
                return self._fail_syncs(fault.target)
            case Kind.CLOCK_JUMPS:
                return self._jump(fault)
        return self._hurt_wire(fault)

    # Processes.

    def _kill(self, fault: Fault) -> Undo:
        self._check_alive(fault.target)
        self.parts[fault.target].kill()
        options = (_DELAY[fault.target], fault.detail) if float(fault.detail or 0) else ()
        return lambda: self.restart(fault.target, *options)

    def _stop(self, fault: Fault) -> Undo:
        self._check_alive(fault.target)
        part = self.parts[fault.target]
        part.signal(signal.SIGSTOP)
        return lambda: part.signal(signal.SIGCONT)

    def _hurt_worker(self, fault: Fault) -> Undo | None:
        workers = self.workers()
        if not workers:
            raise NotNow("no worker lives")
        pid = workers[int(fault.pick * len(workers))]
        if fault.kind is Kind.KILL:
            _signal(pid, signal.SIGKILL)
            return None
        _signal(pid, signal.SIGSTOP)
        return lambda: _signal(pid, signal.SIGCONT)

    def _check_alive(self, name: str) -> None:
        if not self.parts[name].alive:
            raise NotNow(f"{name} is down")

    # Wires.

    def _hurt_wire(self, fault: Fault) -> Undo | None:
        wire = self.wires[fault.target]
        directions = [each for each in Direction if each in fault.detail.split()]
        match fault.kind:
            case Kind.CUT:
                wire.cut()
            case Kind.FAIL:
                wire.fail(fault.detail)
            case Kind.LOSE:
                wire.lose(fault.detail)
            case Kind.UNPLUG:
                wire.unplug()
                return wire.plug
            case Kind.FREEZE:
                wire.freeze(*directions)
                return wire.thaw
            case Kind.HOLD:
                wire.hold(*directions)
                return lambda: wire.release(deliver="late" in fault.detail)
            case Kind.DELAY:
                wire.delay(float(fault.detail))
                return lambda: wire.delay(0)
        return None

    # The machine.

    def _fill_disk(self) -> Undo:
        filler = self.folder / "disk" / "filler"
        with filler.open("wb", buffering=0) as file:
            for size in (2**20, 2**12):
                _write_until_full(file.fileno(), size)
        return filler.unlink

    def _fail_syncs(self, name: str) -> Undo:
        control = self.controls[name]
        control.set_sync_error(errno.EIO)
        return lambda: control.set_sync_error(0)

    def _jump(self, fault: Fault) -> Undo:
        control = self.controls[fault.target]
        control.set_clock(int(fault.detail))
        return lambda: control.set_clock(0)


def _signal(pid: int, signum: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)


def _write_until_full(handle: int, size: int) -> None:
    piece = bytes(size)
    try:
        while True:
            os.write(handle, piece)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
