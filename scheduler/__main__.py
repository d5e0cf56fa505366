"""`python -m batchmesh.scheduler`: one scheduler process, from its command line to its end."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import structlog

from batchmesh import lifetime, log
from batchmesh.address import check_address, check_free, check_listen, with_port
from batchmesh.errors import BatchmeshError
from batchmesh.serving import new_server, set_serving
from batchmesh.v1 import scheduler_pb2_grpc

from .config import Config
from .dispatcher import Dispatcher
from .machine import Machine
from .publisher import Publisher
from .recovery import recover
from .service import SchedulerService
from .store import Store

_SERVICE = "batchmesh.v1.SchedulerService"


def parse(arguments: list[str]) -> Config:
    parser = argparse.ArgumentParser(prog="batchmesh scheduler", description="Decides: what runs where, and what won.")
    parser.add_argument("--listen", required=True, metavar="HOST:PORT", help="where clients and agents reach it")
    parser.add_argument("--storage", required=True, metavar="HOST:PORT", help="where it reaches storage")
    parser.add_argument("--state", required=True, type=Path, metavar="DIR", help="folder of its database")
    parser.add_argument("--embedded", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--insecure", action="store_true", help="listen beyond loopback without TLS")
    parser.add_argument(
        "--lease", type=float, default=15.0, metavar="S", help="seconds after which a silent node is lost"
    )
    parser.add_argument("--heartbeat", type=float, default=2.0, metavar="S", help="seconds between two heartbeats")
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
        insecure=given.insecure,
        lease=given.lease,
        heartbeat_interval=given.heartbeat,
        durable_delay=given.durable_delay,
        ready_fd=given.ready_fd,
        end_with_parent=given.end_with_parent,
        log_level=given.log_level,
    )


async def serve(config: Config) -> None:
    """Serves until asked to end."""
    store = Store(config.state, config.durable_delay)
    publisher = Publisher(config.storage, store)
    dispatcher = Dispatcher(config, Machine(store.begin()), store, publisher)
    service = SchedulerService(config, store, dispatcher, publisher)
    server, health = new_server(
        lambda server: scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server(service, server), [_SERVICE]
    )
    port = server.add_insecure_port(config.listen)
    await server.start()
    ticking = asyncio.create_task(dispatcher.tick())
    starting = asyncio.create_task(_begin(config, store, dispatcher, publisher))
    lifetime_end = asyncio.create_task(lifetime.until_asked_to_end())
    await asyncio.wait({starting, lifetime_end}, return_when=asyncio.FIRST_COMPLETED)
    if not lifetime_end.done():
        await starting
        await set_serving(health, [_SERVICE], True)
        address = with_port(config.listen, port)
        lifetime.announce(config.ready_fd, address)
        structlog.get_logger().info("serving", address=address)
    await lifetime_end
    ticking.cancel()
    starting.cancel()
    await asyncio.gather(ticking, starting, return_exceptions=True)
    await dispatcher.close()
    await server.stop(grace=1.0)
    await publisher.close()
    store.close()


async def _begin(config: Config, store: Store, dispatcher: Dispatcher, publisher: Publisher) -> None:
    """Finds storage, for as long as it takes, and takes up what had not ended."""
    while True:
        try:
            dispatcher.storage_address = await publisher.address()
            break
        except BatchmeshError as error:
            structlog.get_logger().warning("storage_does_not_answer", address=config.storage, why=str(error))
    await recover(store, dispatcher, publisher, config.embedded)


def main() -> int:
    config = parse(sys.argv[1:])
    if config.end_with_parent:
        lifetime.end_with_parent()
    log.set_up("scheduler", config.log_level)
    try:
        check_listen(config.listen, None, config.insecure)
        check_address(config.storage)
        check_free(config.listen)
        config.state.mkdir(parents=True, exist_ok=True)
    except BatchmeshError as error:
        return lifetime.refuse(config.ready_fd, str(error))
    except OSError as error:
        return lifetime.refuse(config.ready_fd, f"Cannot write to --state {config.state}: {error.strerror}.")
    asyncio.run(serve(config))
    return 0


if __name__ == "__main__":
    sys.exit(main())
