"""Loads a model by the name under which it was registered, in the way of the tutorial."""

import argparse
import json
import os

from azureml.core.model import Model


def init():
    global model

    parser = argparse.ArgumentParser(description="score with a registered model")
    parser.add_argument("--model_name", dest="model_name", required=True)
    args, _ = parser.parse_known_args()
    model_path = Model.get_model_path(args.model_name)
    assert os.path.isfile(model_path), model_path
    with open(model_path) as file:
        model = json.load(file)


def run(mini_batch):
    print(f"run method start: {__file__}, run({mini_batch})")
    resultList = []
    for image in mini_batch:
        number = float(open(image).read())
        resultList.append("{}: {}".format(os.path.basename(image), number * model["weight"] + model["bias"]))
    return resultList
