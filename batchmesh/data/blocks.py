"""The bytes of a text table, plain or gzip, in blocks of bounded size."""

from __future__ import annotations

import gzip
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from batchmesh.data.sources import Source

#: Bytes at a time: large enough for numpy, and so small that it is in the processor's cache with its masks, which the
#: allocator then keeps: from 128 KiB on glibc maps each anew, and the kernel's page faults take more than the scan.
BLOCK = 64 * 1024

_CR = 13


def is_gzip(source: Source) -> bool:
    """By its first bytes, whatever its name: no text table begins with them."""
    with source.open() as file:
        return file.read(2) == b"\x1f\x8b"


@contextmanager
def open_table(source: Source, zipped: bool) -> Iterator[BinaryIO]:
    """Readable from byte 0 of what is in it; seeking in a gzip file reads all before."""
    with source.open() as file:
        if not zipped:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unzipped:
            yield cast("BinaryIO", unzipped)


def blocks(file: BinaryIO, size: int = BLOCK) -> Iterator[npt.NDArray[np.uint8]]:
    """What is left of `file`, in arrays that hold good until the next one is asked for.

    Only the last one may end with a carriage return, so that no CR is taken from its LF.
    """
    buffer = np.empty(size, np.uint8)
    kept = 0
    while count := _read_into(file, memoryview(cast("Any", buffer))[kept:]):
        filled = kept + count
        kept = int(buffer[filled - 1] == _CR)
        if filled > kept:
            yield buffer[: filled - kept]
        if kept:
            buffer[0] = _CR
    if kept:
        yield buffer[:1]


def _read_into(file: BinaryIO, view: memoryview) -> int:
    return file.readinto(view)  # type: ignore[attr-defined,no-any-return]
