"""Counts the words of each text file: files in, one JSON object per file out."""

import argparse
import os
import re
from collections import Counter

args = None


def init():
    """Once per worker process: reads the arguments."""
    global args
    parser = argparse.ArgumentParser()
    parser.add_argument("--shortest", type=int, default=1, help="letters that a word must have to be counted")
    args, _ = parser.parse_known_args()


def run(mini_batch):
    """For each mini-batch, a list of paths: one dict per file."""
    return [count(path) for path in mini_batch]


def count(path):
    """The row of one file."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    words = [word for word in re.findall(r"\w+(?:'\w+)*", text.lower()) if len(word) >= args.shortest]
    counts = Counter(words)
    return {
        "file": os.path.basename(path),
        "lines": text.count("\n"),
        "words": len(words),
        "distinct": len(counts),
        "most_frequent": max(sorted(counts), key=counts.__getitem__, default=None),
    }
