"""Names the digit in each image: an entry script as the ParallelRunStep tutorial has it."""

import argparse
import os

import joblib
import numpy as np
from PIL import Image

model = None


def init():
    """Once per worker process: loads the model."""
    global model
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="path of a fitted scikit-learn classifier, written by joblib")
    args, _ = parser.parse_known_args()
    model = joblib.load(args.model)


def run(mini_batch):
    """For each mini-batch, a list of image paths: one line per image."""
    lines = []
    for path in mini_batch:
        with Image.open(path) as image:
            pixels = np.asarray(image, dtype=float).reshape(1, -1)
        lines.append(f"{os.path.basename(path)}: {model.predict(pixels)[0]}")
    return lines
