"""Writes a file for each item below --output, in folders that it makes, and counts with what it returns."""

import argparse
import json
import os
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--output", type=str)
output = Path(parser.parse_known_args()[0].output)


def init():
    assert str(output) == os.environ["AZUREML_BI_OUTPUT_PATH"]


def run(mini_batch):
    done = []
    for file in mini_batch:
        number = int(Path(file).read_text())
        folder = output / ("even" if number % 2 == 0 else "odd")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{Path(file).stem}.json").write_text(json.dumps({"square": number * number}))
        done.append(file)
    return done
