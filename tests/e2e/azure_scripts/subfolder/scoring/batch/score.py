"""Lies two folders below the root of its source, from which it imports."""

from common.text import tidy

from scoring.settings import SUFFIX


def run(mini_batch):
    result = []
    for path in mini_batch:
        with open(path) as file:
            result.append(tidy(file.read()) + SUFFIX)
    return result
