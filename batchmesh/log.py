"""The services' own logs: one JSON object a line on standard error, bound with job, mini-batch, attempt and node."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import TextIO, cast

import structlog
from structlog.tracebacks import ExceptionDictTransformer

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
