"""Finds a folder of models both below AZUREML_MODEL_DIR and by its name, and copies one beside itself."""

import glob
import os
import shutil

from azureml.core import Model, Workspace


def init():
    global weights, table
    folder = os.path.join(os.environ["AZUREML_MODEL_DIR"], "parts")
    found = sorted(glob.glob(os.path.join(folder, "**", "*.txt"), recursive=True))
    assert [os.path.relpath(each, folder) for each in found] == ["first.txt", "second/second.txt"], found
    weights = [float(open(each).read()) for each in found]
    by_name = Model.get_model_path(model_name="parts", _workspace=Workspace.from_config())
    shutil.copy(os.path.join(by_name, "second", "second.txt"), "table.txt")
    table = float(open("table.txt").read())


def run(mini_batch):
    return [sum(weights) * float(open(path).read()) + table for path in mini_batch]
