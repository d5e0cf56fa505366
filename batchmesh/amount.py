"""Amounts of bytes as people write them in options."""

from __future__ import annotations

import argparse
import re

_FORM = re.compile(r"(\d{1,15})([kmgt]b)?", re.ASCII | re.IGNORECASE)
_POWERS = {None: 0, "kb": 1, "mb": 2, "gb": 3, "tb": 4}


def in_bytes(text: str) -> int:
    """ "64GB", "500MB" or a bare number of bytes; units are powers of 1024. Raises ArgumentTypeError, one sentence."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount of bytes; write 500MB, 2GB or a number of bytes.")
    unit = found[2].lower() if found[2] else None
    return int(found[1]) * int(1024 ** _POWERS[unit])
