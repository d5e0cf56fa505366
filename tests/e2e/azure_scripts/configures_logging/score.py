"""Sets logging up for itself while it is imported: handlers, a file, levels; and silences others."""

import logging
import logging.config

logging.config.dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": True,
        "formatters": {"plain": {"format": "%(levelname)s|%(message)s"}},
        "handlers": {
            "file": {"class": "logging.FileHandler", "filename": "scoring.log", "formatter": "plain"},
            "screen": {"class": "logging.StreamHandler", "formatter": "plain"},
        },
        "root": {"level": "DEBUG", "handlers": ["file", "screen"]},
    }
)
logger = logging.getLogger(__name__)


def run(mini_batch):
    logger.debug("scoring %s", mini_batch)
    for path in mini_batch:
        logger.warning("item %s", path.rsplit("/", 1)[-1])
    with open("scoring.log") as file:
        return [line.strip() for line in file if line.startswith("WARNING")][-len(mini_batch) :]
