"""The services' own logs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

LOGS = """
import structlog
from batchmesh import log
log.set_up("test")
structlog.get_logger().error("é", n=1)
print("on")
"""


def test_a_line_is_one_json_object_on_standard_error() -> None:
    done = subprocess.run([sys.executable, "-c", LOGS], capture_output=True, text=True, check=True)
    assert done.stderr.count("\n") == 1
    assert '"service": "test"' in done.stderr


RAISES = """
import structlog
from batchmesh import log
log.set_up("test")
def connect(account_key):
    raise OSError("no way")
try:
    connect("very" + "-secret")
except OSError:
    structlog.get_logger().exception("call_failed")
"""


def test_a_traceback_shows_no_values_of_variables() -> None:
    done = subprocess.run([sys.executable, "-c", RAISES], capture_output=True, text=True, check=True)
    assert "no way" in done.stderr
    assert '"connect"' in done.stderr
    assert "very-secret" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_log_on_a_full_disk_stops_nothing() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", LOGS], stdout=subprocess.PIPE, stderr=full, check=False)
    assert (done.returncode, done.stdout) == (0, b"on\n")
