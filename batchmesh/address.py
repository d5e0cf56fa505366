"""Where a service listens and where others reach it: `host:port`, or `unix:path` for a mesh of one host."""

from __future__ import annotations

import ipaddress
import os
import socket

from batchmesh.errors import Refused


class AddressRefused(Refused):
    """An address is not HOST:PORT, is in use, or reaches beyond this host without leave."""


def check_address(address: str) -> str:
    """Returns `address` when it is HOST:PORT (port 0 to 65535) or unix:PATH, else raises AddressRefused."""
    if address.startswith("unix:"):
        return address
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise AddressRefused(f"'{address}' is no address; write HOST:PORT, for example 127.0.0.1:7070.")
    return address


def is_loopback(address: str) -> bool:
    """Whether only this host can reach the address."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_wildcard(address: str) -> bool:
    """Whether the address means every interface, which nobody can call."""
    return address.rpartition(":")[0].strip("[]") in ("0.0.0.0", "::", "*")  # noqa: S104 compared, not bound


def check_listen(listen: str, advertise: str | None, insecure: bool) -> None:
    """Refuses to reach beyond this host without `insecure`, and a wildcard that nobody could call back."""
    check_address(listen)
    if advertise:
        check_address(advertise)
    if not is_loopback(listen) and not insecure:
        raise AddressRefused(
            f"{listen} is reachable from other hosts and this version has no TLS; add --insecure on a network "
            "you trust, or listen on 127.0.0.1."
        )
    if is_wildcard(listen) and not advertise:
        raise AddressRefused(f"Nobody can call {listen}; name the address others use with --advertise HOST:PORT.")


def check_free(listen: str) -> None:
    """Refuses a TCP address that another process listens on, before gRPC says it in its own words."""
    if listen.startswith("unix:"):
        return
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except OSError as error:
            raise AddressRefused(
                f"Cannot listen on {listen}: {os.strerror(error.errno or 0)}; choose another port or end its owner."
            ) from None


def with_port(address: str, port: int) -> str:
    """The address with the port that the system chose in place of 0."""
    if address.startswith("unix:"):
        return address
    return f"{address.rpartition(':')[0]}:{port}"
