"""`python -m batchmesh.agent`: runs the agent until SIGTERM, which lets it finish what it has."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from batchmesh import address, heap, lifetime, serving
from batchmesh import log as logs
from batchmesh.amount import in_bytes
from batchmesh.datastores.cache import Cache
from batchmesh.errors import Refused
from batchmesh.target_name import check_target_name

from . import gpus, groups, life
from .artifacts import Artifacts
from .budget import Budget
from .config import Config
from .environments import Environments
from .fetching import Fetching
from .files import Files
from .heartbeat import Heartbeat
from .job import Node
from .pools import Pools
from .registered import Datasets, Models
from .scanning import Scanning
from .service import SERVICE_NAME, AgentService
from .storages import Storages
from .supplies import Supplier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from grpc import aio

#: Seconds that a scheduler has to half-close the streams of a draining node on which nothing is open any more.
_SCHEDULER_PATIENCE = 5.0

log = logs.get_logger()


class WorkRefused(Refused):
    """The work folder cannot be used: another agent has it, or it cannot be written."""


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0 after an orderly end, 1 after a second signal, 2 when it could not start."""
    options = _parser().parse_args(arguments)
    logs.set_up("agent", options.log_level)
    heap.set_up()
    if options.end_with_parent:
        lifetime.end_with_parent()
    try:
        if options.compute_target:
            check_target_name(options.compute_target)
        address.check_address(options.scheduler)
        address.check_listen(options.listen, options.advertise, options.insecure)
        address.check_free(options.listen)
        with _work_folder(options.work) as work:
            return asyncio.run(_serve(_config(options, work), options.ready_fd))
    except Refused as error:
        return lifetime.refuse(options.ready_fd, str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="batchmesh agent", description=__doc__)
    parser.add_argument("--scheduler", required=True, metavar="HOST:PORT|unix:PATH")
    parser.add_argument("--listen", default=Config.listen, metavar="HOST:PORT|unix:PATH")
    parser.add_argument("--advertise", metavar="HOST:PORT", help="address the scheduler calls; default: --listen")
    parser.add_argument("--slots", type=_positive, default=os.cpu_count() or 1, help="live workers; default: the cores")
    parser.add_argument(
        "--worker-memory",
        type=in_bytes,
        default=Config.worker_memory,
        metavar="SIZE",
        help="what each worker may use with all that it starts, such as 2GB; default: all workers together 95%% of the "
        "node's memory",
    )
    parser.add_argument(
        "--compute-target", default="", metavar="NAME", help="compute target that it is a node of; default: none"
    )
    parser.add_argument(
        "--environment-bytes",
        type=in_bytes,
        default=Config.environment_bytes,
        metavar="SIZE",
        help="virtual environments kept for later jobs, such as 20GB (the default)",
    )
    parser.add_argument(
        "--environment-timeout",
        type=float,
        default=Config.environment_timeout,
        metavar="SECONDS",
        help=f"for making one; default: {Config.environment_timeout:g}",
    )
    parser.add_argument("--work", type=Path, help="folder for caches; default: a fresh one, removed at the end")
    parser.add_argument(
        "--file-cache",
        type=in_bytes,
        default=Config.file_cache_bytes,
        metavar="SIZE",
        help="files of datastores kept in --work; default: 10GB",
    )
    parser.add_argument("--insecure", action="store_true", help="listen beyond this host without TLS")
    parser.add_argument("--drain-timeout", type=float, default=Config.drain_timeout, metavar="SECONDS")
    parser.add_argument("--ready-fd", type=int, help="descriptor that is told the address, or why it does not start")
    parser.add_argument("--end-with-parent", action="store_true")
    parser.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    parser.add_argument("--name", default=socket.gethostname(), help="first part of the node's id; default: the host's")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _config(options: argparse.Namespace, work: Path) -> Config:
    name = "".join(each if each.isascii() and (each.isalnum() or each in ".-_") else "-" for each in options.name)
    return Config(
        scheduler=options.scheduler,
        work=work,
        listen=options.listen,
        advertise=options.advertise or "",
        node_id=f"{name}-{uuid4().hex[:8]}",
        compute_target=options.compute_target,
        slots=options.slots,
        gpus=gpus.found(os.environ, os.listdir("/dev")),
        worker_memory=options.worker_memory,
        environment_bytes=options.environment_bytes,
        environment_timeout=options.environment_timeout,
        drain_timeout=options.drain_timeout,
        file_cache_bytes=options.file_cache,
    )


@contextlib.contextmanager
def _work_folder(given: Path | None) -> Iterator[Path]:
    """The folder, locked for this agent and without what an earlier life left; a fresh one goes at the end."""
    try:
        work = Path(tempfile.mkdtemp(prefix="batchmesh-agent-")) if given is None else given.absolute()
        work.mkdir(parents=True, exist_ok=True)
        lock = (work / "lock").open("w")
    except OSError as error:
        raise WorkRefused(f"The work folder {given} cannot be used: {error.strerror}.") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise WorkRefused(f"Another agent works in {work}; give each its own --work folder.") from None
        groups.end_recorded(work)
        for left in ("pools", "sources"):  # the latter of an earlier version
            shutil.rmtree(work / left, ignore_errors=True)
        try:
            yield work
        finally:
            shutil.rmtree(work / "pools" if given else work, ignore_errors=True)


async def _serve(config: Config, ready_fd: int | None) -> int:
    artifacts = Artifacts(config.work / "artifacts", config.artifact_cache_bytes, config.artifact_timeout)
    fetching = Fetching()
    cache = Cache(config.work / "files", config.file_cache_bytes, config.parallel_fetches)
    files = Files(cache, config.artifact_timeout)
    fetching.serve("datastore", files)
    fetching.serve("model", Models(artifacts, config.artifact_timeout))
    fetching.serve("dataset", Datasets(config.work / "datasets", files, config.artifact_timeout))
    environments = Environments(
        config.work, groups.Groups(config.work), config.environment_bytes, config.environment_timeout
    )
    supplier = Supplier(artifacts, environments, fetching)
    node = Node(config, Pools(config), Budget(config.unacknowledged_bytes), fetching, supplier)
    storages = Storages()
    service = AgentService(config, node, storages, Scanning(files, config.parallel_scans))
    server, health = serving.new_server(service.register, [SERVICE_NAME])
    listening = address.with_port(config.listen, _bound(server, config.listen))
    await server.start()
    await serving.set_serving(health, [SERVICE_NAME], serving=True)
    clock = asyncio.create_task(service.tick_forever())
    heartbeat = Heartbeat(config, node, config.advertise or listening, life.begin(config.work, config.node_id))
    lifetime.announce(ready_fd, listening)
    log.info("serving", address=listening, node=config.node_id, slots=config.slots)
    await lifetime.until_asked_to_end()
    ended_well = await _until_drained_or_asked_again(config, node, service, heartbeat)
    clock.cancel()
    if ended_well:
        await server.stop(1.0)
        await heartbeat.leave()
        life.end(config.work)
        await service.end_jobs()
        await node.pools.end_all()
        await environments.end()
        await storages.close()
    node.pools.kill_all()
    log.info("ended", node=config.node_id)
    return 0 if ended_well else 1


def _bound(server: aio.Server, listen: str) -> int:
    try:
        port: int = server.add_insecure_port(listen)
    except RuntimeError as error:
        raise address.AddressRefused(f"Cannot listen on {listen}: {error}.") from None
    return port


async def _until_drained_or_asked_again(
    config: Config, node: Node, service: AgentService, heartbeat: Heartbeat
) -> bool:
    """Finishes open attempts within drain_timeout; False when a second signal asks to end at once."""
    log.info("draining", node=config.node_id, within=config.drain_timeout)
    node.draining = True
    heartbeat.soon()
    again = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(signum)
        loop.add_signal_handler(signum, again.set)
    until = loop.time() + config.drain_timeout
    left_alone = loop.time() + _SCHEDULER_PATIENCE
    while service.serving and loop.time() < min(until, left_alone) and not again.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(again.wait(), config.tick)
        if not service.idle:
            left_alone = loop.time() + _SCHEDULER_PATIENCE
    return not again.is_set()


if __name__ == "__main__":
    lifetime.leave(main())
