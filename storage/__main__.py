"""The storage process: `python -m batchmesh.storage --listen HOST:PORT --root DIR`."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from batchmesh import heap, lifetime, log
from batchmesh.address import AddressRefused, check_free, check_listen, with_port
from batchmesh.errors import BatchmeshError, Refused
from batchmesh.serving import new_server, set_serving
from batchmesh.v1 import storage_pb2_grpc

from .config import Config
from .disk import make_folder, said_clearly
from .places import Places
from .service import SERVICE_NAME, StorageService

if TYPE_CHECKING:
    from grpc import aio

#: Threads for what touches the disk.
_THREADS = 32


def main(arguments: list[str] | None = None) -> int:
    """Runs until it is asked to end; returns the exit status: 0, or 2 when it could not start."""
    config, level = _parse(arguments)
    log.set_up("storage", level)
    heap.set_up()
    if config.end_with_parent:
        lifetime.end_with_parent()
    try:
        check_listen(config.listen, config.advertise, config.insecure)
        check_free(config.listen)
        lock = _lock_root(config.root)
    except BatchmeshError as error:
        return lifetime.refuse(config.ready_fd, str(error))
    try:
        return asyncio.run(_serve(config))
    finally:
        os.close(lock)


def _parse(arguments: list[str] | None) -> tuple[Config, str]:
    parser = argparse.ArgumentParser(prog="batchmesh storage", description="Keeps the bytes of a mesh.")
    parser.add_argument("--listen", required=True, metavar="HOST:PORT|unix:PATH", help="port 0 picks a free one")
    parser.add_argument("--root", required=True, type=Path, metavar="DIR", help="folder of all that is kept")
    parser.add_argument("--advertise", metavar="HOST:PORT", help="what others call, if not the listen address")
    parser.add_argument("--insecure", action="store_true", help="listen off loopback without TLS")
    parser.add_argument("--ready-fd", type=int, metavar="N", help="pipe that is told when calls are taken")
    parser.add_argument("--end-with-parent", action="store_true", help="end when the parent process does")
    parser.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    parser.add_argument("--test-durable-delay", type=float, default=0.0, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    config = Config(
        listen=given.listen,
        root=given.root.absolute(),
        advertise=given.advertise,
        insecure=given.insecure,
        ready_fd=given.ready_fd,
        end_with_parent=given.end_with_parent,
        durable_delay=given.test_durable_delay,
    )
    return config, given.log_level


def _lock_root(root: Path) -> int:
    """Holds the root for this process; raises OutputUnwritable or Refused."""
    with said_clearly(root):
        make_folder(root)
        handle = os.open(Places(root).lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise Refused(f"Another storage serves {root}; end it, or choose another --root.") from None
    return handle


async def _serve(config: Config) -> int:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS, "disk"))
    try:
        service = StorageService(config)
    except BatchmeshError as error:
        return lifetime.refuse(config.ready_fd, str(error))
    server, health = new_server(
        lambda server: storage_pb2_grpc.add_StorageServiceServicer_to_server(service, server), [SERVICE_NAME]
    )
    try:
        port = _bind(server, config.listen)
    except AddressRefused as error:
        await service.end()
        return lifetime.refuse(config.ready_fd, str(error))
    listens = with_port(config.listen, port)
    service.address = config.advertise or listens
    await server.start()
    await set_serving(health, [SERVICE_NAME], serving=True)
    log.get_logger().info("serving", address=listens, root=str(config.root))
    lifetime.announce(config.ready_fd, listens)
    await lifetime.until_asked_to_end()
    await set_serving(health, [SERVICE_NAME], serving=False)
    await server.stop(config.grace)
    await service.end()
    return 0


def _bind(server: aio.Server, listen: str) -> int:
    try:
        return server.add_insecure_port(listen)
    except RuntimeError:
        raise AddressRefused(f"Cannot listen on {listen}; choose another address or end its owner.") from None


if __name__ == "__main__":
    sys.exit(main())
