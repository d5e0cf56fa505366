"""Parses its arguments while it is imported, and ignores those that it does not know."""

import argparse
import os

parser = argparse.ArgumentParser(description="scale numbers")
parser.add_argument("--factor", type=float, required=True)
parser.add_argument("--output", dest="output_path")
args, unknown = parser.parse_known_args()

FACTOR = args.factor


def run(mini_batch):
    assert os.path.isdir(args.output_path)
    return [f"{os.path.basename(path)} {FACTOR * float(open(path).read()):.1f}" for path in mini_batch]
