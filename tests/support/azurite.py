"""Azurite: a blob storage of Azure's kind in a process of its own, on a free port."""

from __future__ import annotations

import socket
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

#: The account that every Azurite has, with its published key.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_FOLDER = Path(__file__).parents[1] / "components" / "azurite"
_NPM = "npm install --no-package-lock --prefix tests/components/azurite"
#: Seconds within which it answers.
_START = 30.0


class Azurite:
    """Use as a context manager; `endpoint` is the URL of the account. The test is skipped if it is not installed."""

    def __init__(self, folder: Path) -> None:
        self._command = _FOLDER / "node_modules" / ".bin" / "azurite-blob"
        if not self._command.exists():
            pytest.skip(f"Azurite is not installed: {_NPM}")
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self._port}/{ACCOUNT}"

    def __enter__(self) -> Self:
        place = ("--blobHost", "127.0.0.1", "--blobPort", str(self._port), "--location", str(self._folder))
        self._process = subprocess.Popen(
            [self._command, *place, "--silent", "--disableTelemetry", "--skipApiVersionCheck"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _START
        while not self._answers():
            if self._ended_within(0.05) or time.monotonic() > deadline:
                self._process.kill()
                raise AssertionError(f"Azurite does not answer: {self._process.wait(20)}")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)

    def container(self, name: str, *, public: bool = False) -> ContainerClient:
        """Makes a container; anyone may read and list one that is `public`."""
        from azure.storage.blob import ContainerClient, PublicAccess

        credential = {"account_name": ACCOUNT, "account_key": KEY}
        made = ContainerClient(self.endpoint, name, credential=credential)
        made.create_container(public_access=PublicAccess.CONTAINER if public else None)
        return made

    @staticmethod
    def sas(container: str, **permissions: Any) -> str:
        """A SAS token for an hour, e.g. with read=True, list=True."""
        from azure.storage.blob import ContainerSasPermissions, generate_container_sas

        until = datetime.now(UTC) + timedelta(hours=1)
        allowed = ContainerSasPermissions(**permissions)
        return generate_container_sas(ACCOUNT, container, account_key=KEY, permission=allowed, expiry=until)

    def _ended_within(self, seconds: float) -> bool:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), 0.2).close()
        except OSError:
            return False
        return True
