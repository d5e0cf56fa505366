"""Leaves by sys.exit when it meets an item that it does not like."""

import sys


def run(mini_batch):
    result = []
    for path in mini_batch:
        value = int(open(path).read())
        if value == 3:
            sys.exit(f"cannot work with {value}")
        result.append(value)
    return result
