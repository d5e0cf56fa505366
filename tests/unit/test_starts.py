"""What a start waits for: the imports of each service, and whoever starts at the same time."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from batchmesh.calls import until_listening

if TYPE_CHECKING:
    from pathlib import Path

#: For the console, for tables, for the stores of some, and what only clients know.
NOT_NEEDED = ("rich", "pygments", "numpy", "pandas", "pyarrow", "azure", "statistics", "batchmesh.job")


@pytest.mark.parametrize("service", ["scheduler", "agent", "storage"])
def test_a_service_starts_without_libraries_that_it_may_never_need(service: str) -> None:
    code = f"import sys, batchmesh.{service}.__main__; print(*(set({NOT_NEEDED}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_libraries_that_are_kept_from_the_log_can_be_imported_later() -> None:
    code = "from batchmesh import log; import rich.console; print(rich.console.Console)"
    assert "Console" in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_a_service_that_starts_later_is_found_as_soon_as_it_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a Unix socket is short

    async def story() -> None:
        waiting = asyncio.create_task(until_listening("unix:service"))
        with socket.socket(socket.AF_UNIX) as service:
            service.bind("service")
            assert not (await asyncio.wait([waiting], timeout=0.02))[0]
            service.listen()
            async with asyncio.timeout(20):
                await waiting

    asyncio.run(story())


@pytest.mark.parametrize("address", ["127.0.0.1:1", "unix:" + 200 * "x"])
def test_what_nobody_can_look_for_is_not_waited_for(address: str) -> None:
    looking = until_listening(address)
    with pytest.raises(StopIteration):
        looking.send(None)


def test_a_command_ends_with_its_status_and_all_that_it_said() -> None:
    """Into a pipe, which Python writes to only when its buffer is full, or flushed."""
    refused = subprocess.run(
        [sys.executable, "-m", "batchmesh.cli", "run"], capture_output=True, text=True, check=False
    )
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Missing argument" in refused.stderr
    helped = subprocess.run([sys.executable, "-m", "batchmesh.cli", "-h"], capture_output=True, text=True, check=False)
    assert helped.returncode == 0
    assert "watch" in helped.stdout
