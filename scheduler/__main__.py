"""`python -m batchmesh.scheduler`: one scheduler process, from its command line to its end."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
from pathlib import Path
from typing import Any

from batchmesh import heap, lifetime, log
from batchmesh.address import check_address, check_free, check_listen, with_port
from batchmesh.amount import in_bytes
from batchmesh.calls import until_listening
from batchmesh.errors import BatchmeshError
from batchmesh.serving import new_server, set_serving
from batchmesh.v1 import scheduler_pb2_grpc

from .anteroom import Anteroom
from .compute import ComputeTargets
from .config import Config
from .datastores import Datastores
from .dispatcher import Dispatcher
from .housekeeping import Housekeeping
from .machine import Machine
from .publisher import Publisher
from .recovery import recover
from .reusing import Reusing
from .service import SchedulerService
from .store import Store

_SERVICE = "batchmesh.v1.SchedulerService"


def parse(arguments: list[str]) -> Config:
    parser = argparse.ArgumentParser(prog="batchmesh scheduler", description="Decides: what runs where, and what won.")
    parser.add_argument("--listen", required=True, metavar="HOST:PORT", help="where clients and agents reach it")
    parser.add_argument("--storage", required=True, metavar="HOST:PORT", help="where it reaches storage")
    parser.add_argument("--state", required=True, type=Path, metavar="DIR", help="folder of its database")
    parser.add_argument("--embedded", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--restarted", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--supervisor", default="", help=argparse.SUPPRESS)
    parser.add_argument("--insecure", action="store_true", help="listen beyond loopback without TLS")
    parser.add_argument(
        "--lease", type=float, default=15.0, metavar="S", help="seconds after which a silent node is lost"
    )
    parser.add_argument("--heartbeat", type=float, default=2.0, metavar="S", help="seconds between two heartbeats")
    parser.add_argument(
        "--keep-days", type=float, default=7.0, metavar="N", help="days that jobs are kept after their end [7]"
    )
    parser.add_argument(
        "--keep-bytes", type=in_bytes, default="64GB", metavar="SIZE", help="what storage keeps of ended jobs [64GB]"
    )
    parser.add_argument(
        "--scan-above", type=in_bytes, default="256MB", metavar="SIZE", help="tables that nodes look into [256MB]"
    )
    parser.add_argument(
        "--plan-slice", type=in_bytes, default="64MB", metavar="SIZE", help="what a node looks into at once [64MB]"
    )
    parser.add_argument("--housekeeping", type=float, default=3600.0, help=argparse.SUPPRESS)
    parser.add_argument("--durable-delay", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--end-with-parent", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    given = parser.parse_args(arguments)
    return Config(
        listen=given.listen,
        storage=given.storage,
        state=given.state,
        embedded=given.embedded,
        restarted=given.restarted,
        supervisor=given.supervisor,
        insecure=given.insecure,
        lease=given.lease,
        heartbeat_interval=given.heartbeat,
        keep_days=given.keep_days,
        keep_bytes=given.keep_bytes,
        scan_above=given.scan_above,
        plan_slice_bytes=given.plan_slice,
        housekeeping_interval=given.housekeeping,
        durable_delay=given.durable_delay,
        ready_fd=given.ready_fd,
        end_with_parent=given.end_with_parent,
        log_level=given.log_level,
    )


async def serve(config: Config, store: Store) -> int:
    """Serves until asked to end, or until a mistake of ours that only another start mends; returns the exit status."""
    start = store.begin()
    publisher = Publisher(config.storage, store)
    shutil.rmtree(config.state / "tables", ignore_errors=True)  # of an earlier version
    datastores = Datastores(publisher, config.commit_patience)
    dispatcher = Dispatcher(config, Machine(start.number, config.lease), store, publisher, start.stamp, datastores)
    housekeeping = Housekeeping(config, store, publisher, dispatcher.active)
    targets = ComputeTargets(store, dispatcher, config.supervisor)
    anteroom = Anteroom(store, dispatcher, publisher, Reusing(store, publisher, datastores))
    service = SchedulerService(config, store, dispatcher, publisher, housekeeping, targets, anteroom)
    server, health = new_server(
        lambda server: scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server(service, server), [_SERVICE]
    )
    port = server.add_insecure_port(config.listen)
    await server.start()

    async def begin() -> None:
        await asyncio.gather(_take_up(config, store, dispatcher, publisher, anteroom), targets.begin())
        service.begin()
        dispatcher.spawn(housekeeping.run())
        dispatcher.spawn(targets.run())
        await set_serving(health, [_SERVICE], True)
        address = with_port(config.listen, port)
        lifetime.announce(config.ready_fd, address)
        log.get_logger().info("serving", address=address)

    dispatcher.spawn(dispatcher.tick())
    dispatcher.spawn(begin())
    ends: list[asyncio.Future[Any]] = [asyncio.create_task(lifetime.until_asked_to_end()), dispatcher.failed]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    mistake = dispatcher.failed.exception() if dispatcher.failed.done() else None
    if mistake is not None:
        log.get_logger().error("scheduler_failed", exc_info=mistake)
    targets.close()
    await dispatcher.close()
    await server.stop(grace=1.0)
    await publisher.close()
    store.close()
    return 1 if mistake is not None else 0


async def _take_up(
    config: Config, store: Store, dispatcher: Dispatcher, publisher: Publisher, anteroom: Anteroom
) -> None:
    """Finds storage, for as long as it takes, and takes up what had not ended."""
    await until_listening(config.storage)
    while True:
        try:
            dispatcher.storage_address = await publisher.address()
            break
        except BatchmeshError as error:
            log.get_logger().warning("storage_does_not_answer", address=config.storage, why=str(error))
    await recover(store, dispatcher, publisher, anteroom, lost=config.embedded and not config.restarted)


def main() -> int:
    config = parse(sys.argv[1:])
    if config.end_with_parent:
        lifetime.end_with_parent()
    log.set_up("scheduler", config.log_level)
    heap.set_up()
    try:
        check_listen(config.listen, None, config.insecure)
        check_address(config.storage)
        check_free(config.listen)
        store = Store(config.state, config.durable_delay)
    except BatchmeshError as error:
        return lifetime.refuse(config.ready_fd, str(error))
    except OSError as error:
        return lifetime.refuse(config.ready_fd, f"Cannot write to --state {config.state}: {error.strerror}.")
    return asyncio.run(serve(config, store))


if __name__ == "__main__":
    lifetime.leave(main())
