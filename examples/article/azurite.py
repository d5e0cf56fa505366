"""Azurite, a blob storage of Azure's kind on this host: what the tutorial's container lies in here."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: The account that every Azurite has, with its published key.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
VERSION = "3.35.0"
#: Seconds within which it answers.
_START = 30.0


def installed(folder: Path) -> Path:
    """The program, which npm installs into `folder` if it is not there yet."""
    program = folder / "node_modules" / ".bin" / "azurite-blob"
    if not program.exists():
        if shutil.which("npm") is None:
            raise SystemExit("The blob storage, Azurite, needs npm: install it, or give --local to do without.")
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--silent", "--no-package-lock", "--prefix", str(folder), f"azurite@{VERSION}"]
        subprocess.run(command, check=True)
    return program


@contextmanager
def running(program: Path, folder: Path) -> Iterator[str]:
    """The URL of the account while the `with` block lasts; blobs lie in `folder`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder)]
    process = subprocess.Popen([str(program), *place, "--silent", "--disableTelemetry", "--skipApiVersionCheck"])
    try:
        _await(process, port)
        yield f"http://127.0.0.1:{port}/{ACCOUNT}"
    finally:
        process.terminate()
        process.wait(20)


def _await(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("Azurite did not start.") from None
            time.sleep(0.05)
        else:
            return
