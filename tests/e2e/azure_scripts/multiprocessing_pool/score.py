"""Spreads a mini-batch over a pool of processes, which import it again."""

import multiprocessing

from azureml.core import Run


class Scored:
    def __init__(self, path, value):
        self.path = path
        self.value = value


def score(path):
    with open(path) as file:
        return Scored(path, int(file.read()) ** 3)


def run(mini_batch):
    assert Run is not None
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        return [each.value for each in pool.map(score, mini_batch)]
