"""Keeps objects of its own classes in a pickle in its working folder, and loads them again."""

import os
import pickle
from collections import namedtuple
from dataclasses import dataclass

Bounds = namedtuple("Bounds", ["low", "high"])


@dataclass
class Scaler:
    bounds: Bounds

    def __call__(self, value):
        return (value - self.bounds.low) / (self.bounds.high - self.bounds.low)


def init():
    os.makedirs("state", exist_ok=True)
    with open("state/scaler.pkl", "wb") as file:
        pickle.dump(Scaler(Bounds(0, 10)), file)


def run(mini_batch):
    with open("state/scaler.pkl", "rb") as file:
        scaler = pickle.load(file)
    return [scaler(int(open(path).read())) for path in mini_batch]
