"""Imports what lies beside it, and reads a file there both by __file__ and by a relative path."""

import os

import helper
from package.inner import shout

HERE = os.path.dirname(os.path.realpath(__file__))


def init():
    global words, again
    with open("words.txt") as file:
        words = file.read().split()
    with open(os.path.join(HERE, "package", "more.txt")) as file:
        again = file.read().strip()


def run(mini_batch):
    with open(os.path.join("package", "more.txt")) as file:
        assert file.read().strip() == again
    return [shout(words[helper.number(path) % len(words)]) + again for path in mini_batch]
