"""`batchmesh up`: a mesh that stays, in a home."""

from __future__ import annotations

import asyncio
import time
from typing import IO

import click

from batchmesh.cli import say
from batchmesh.errors import MeshUnreachable
from batchmesh.home import Home, HomeRefused

#: Seconds in which an embedded mesh whose last client has gone is over, and a mesh that stands has answered.
_PATIENCE = 8.0


@click.command()
@click.option("--agents", type=click.IntRange(min=1), default=1, show_default=True, help="How many agents.")
@click.option(
    "--listen", default="127.0.0.1:0", metavar="HOST:PORT", help="The scheduler's address [default: a free port]."
)
@click.option("--slots", type=click.IntRange(min=1), help="Workers of each agent [default: cores].")
@click.option("--insecure", is_flag=True, help="Listen beyond this host without TLS.")
@click.option("--home", envvar="BATCHMESH_HOME", metavar="DIR", help="Home of the mesh [default: ~/.batchmesh].")
def up(agents: int, listen: str, slots: int | None, insecure: bool, home: str | None) -> int:
    """Run a mesh that stays until Ctrl-C: storage, a scheduler and agents on this host.

    Prints the scheduler's address on standard output once it takes jobs. Commands with the same home use it.
    """
    from batchmesh.address import AddressRefused, check_free, check_listen, is_wildcard
    from batchmesh.supervisor import Plan, Supervisor, write_owner

    check_listen(listen, listen, insecure)
    if is_wildcard(listen):
        raise AddressRefused(f"Nobody can call {listen}; write this host's own name or address in its place.")
    check_free(listen)
    place = Home.find(home)
    place.make()
    with _locked(place) as lock:
        write_owner(lock)
        plan = Plan(place, embedded=False, listen=listen, agents=agents, slots=slots, insecure=insecure)

        def tell(address: str) -> None:
            click.echo(address)
            say(f"The mesh of {place.path} takes jobs at {address}; Ctrl-C ends it.")

        reason = asyncio.run(Supervisor(plan, on_ready=tell).run())
    say(f"The mesh of {place.path} has ended. {reason}")
    return 0


def _locked(home: Home) -> IO[str]:
    """The home's lock. Errors: HomeRefused when a mesh stands there; MeshUnreachable when what holds it is silent."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        lock = home.lock()
        if lock is not None:
            return lock
        if home.read_mesh().get("embedded") is False:
            raise HomeRefused(f"A mesh already stands in {home.path} ({home.owner()}); end it, or name another --home.")
        time.sleep(0.05)
    if home.read_mesh():
        raise HomeRefused(f"An embedded mesh is in use in {home.path} ({home.owner()}); wait, or name another --home.")
    raise MeshUnreachable(
        f"The home {home.path} is held by {home.owner()}, whose mesh does not answer; "
        "end that process, or name another home with --home."
    )
