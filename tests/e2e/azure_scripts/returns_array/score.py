"""Gives a numpy array, one element an item."""

import numpy as np


def run(mini_batch):
    values = np.array([float(open(path).read()) for path in mini_batch])
    return np.sqrt(values)
