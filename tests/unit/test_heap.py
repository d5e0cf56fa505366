"""What a service does with memory that it has freed."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

#: Each message is copied some times on its way, and then all copies go; prints the pages that the kernel had to find.
COPIES = """
import resource
from batchmesh import heap
{setting}
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
message = bytes(1_700_000)
for _ in range(100):
    copies = [bytearray(message) for _ in range(6)]
    del copies
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages(setting: str) -> int:
    code = COPIES.format(setting=setting)
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no mallopt")
def test_copies_of_a_message_reuse_the_memory_of_earlier_ones() -> None:
    assert pages("") > 100_000
    assert pages("heap.set_up()") < 10_000
