"""The services' own logs: one JSON object a line on standard error, bound with job, mini-batch, attempt and node.

Each service imports this before anything that imports structlog.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO, cast

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def _without(library: str) -> Iterator[None]:
    """Whatever is imported meanwhile does not find that library."""
    if library in sys.modules:
        yield
        return
    sys.modules[library] = None  # type: ignore[assignment]  # so that an import of it fails
    try:
        yield
    finally:
        del sys.modules[library]


with _without("rich"):  # structlog draws for consoles with it; we write JSON, and it costs each start 40 ms of CPU
    import structlog
    from structlog.tracebacks import ExceptionDictTransformer

get_logger = structlog.get_logger

_STANDARD_ERROR = 2


class _Lines:
    """Standard error, which is often a file: a full disk costs lines of the log, and nothing else."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            os.write(_STANDARD_ERROR, text.encode(errors="backslashreplace"))
        return len(text)

    def flush(self) -> None:
        """All is written at once."""


def set_up(service: str, level: str = "INFO") -> None:
    """Configures structlog for a service process. `level` is DEBUG, INFO, WARNING or ERROR."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Without the values of variables: a datastore's credentials may be among them.
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _Lines())),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
