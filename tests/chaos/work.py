"""The entry script of every chaos job: deterministic rows, some slow, some deadly, and a line for all that it does.

Each line of the file CHAOS_RUNS is written at once, to the end: `what pid parent monotonic-seconds first count`, where
`first` is the number of the first item and `count` how many there are.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

_RUNS = os.environ.get("CHAOS_RUNS", "")
#: Item to seconds.
_SLOW = {int(item): seconds for item, seconds in json.loads(os.environ.get("CHAOS_SLOW", "{}")).items()}
_POISON = set(json.loads(os.environ.get("CHAOS_POISON", "[]")))
_DEATH = os.environ.get("CHAOS_DEATH", "")


def init() -> None:
    _note("init", 0, 0)


def run(mini_batch: Any) -> Any:
    items = _files(mini_batch) if isinstance(mini_batch, list) else mini_batch["item"].tolist()
    _note("begin", items[0], len(items))
    for item in items:
        if item in _POISON:
            _die(item)
        time.sleep(_SLOW.get(item, 0.0))
    result = _lines(mini_batch) if isinstance(mini_batch, list) else _rows(items)
    _note("end", items[0], len(items))
    return result


def _files(paths: list[str]) -> list[int]:
    return [int(Path(path).stem) for path in paths]


def _lines(paths: list[str]) -> list[str]:
    return [f"{Path(path).name} {digest(Path(path).read_text())}" for path in paths]


def _rows(items: list[int]) -> Any:
    if os.environ["CHAOS_KIND"] == "jsonl":
        return [row(item) for item in items]
    import pandas as pd

    return pd.DataFrame([row(item) for item in items])


def row(item: int) -> dict[str, Any]:
    """What becomes of a row of a table."""
    return {"item": item, "twice": 2 * item, "name": f"item {item}, {digest(str(item))}"}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _die(item: int) -> None:
    if _DEATH == "raises":
        raise ValueError(f"item {item} is poison")
    if _DEATH == "exits":
        os._exit(3)
    ctypes.string_at(0)


def _note(what: str, first: int, count: int) -> None:
    line = f"{what} {os.getpid()} {os.getppid()} {time.monotonic()} {first} {count}\n"
    handle = os.open(_RUNS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)
