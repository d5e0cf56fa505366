"""Loads lazily, once, and lets threads do the reading; gives fewer bytes than it reads and no newline."""

import threading
from concurrent.futures import ThreadPoolExecutor

_lock = threading.Lock()
_table = None


def table():
    global _table
    with _lock:
        if _table is None:
            _table = str.maketrans("0123456789", "abcdefghij")
        return _table


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read().translate(table())


def run(mini_batch):
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(read, mini_batch))
