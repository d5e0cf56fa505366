"""Gathers as it goes, and writes it all down in shutdown()."""

import os
import uuid

seen = []


def init():
    global name
    name = f"gathered-{uuid.uuid4().hex}.txt"


def run(mini_batch):
    seen.extend(open(path).read() for path in mini_batch)
    return mini_batch


def shutdown():
    with open(os.path.join(os.environ["AZUREML_BI_OUTPUT_PATH"], name), "w") as file:
        file.write("\n".join(seen))
