"""Names the digit in each image: the entry script of the tutorial, with the names that Azure ML gives it."""

import os

import numpy as np
import onnxruntime
from azureml.core import Model
from PIL import Image

session = None


def init():
    """Once per worker process: loads the model that was registered as "digits"."""
    global session
    folder = Model.get_model_path("digits")
    session = onnxruntime.InferenceSession(os.path.join(folder, "digits.onnx"), providers=["CPUExecutionProvider"])


def run(mini_batch):
    """For each mini-batch, a list of image paths: one line per image."""
    lines = []
    for path in mini_batch:
        with Image.open(path) as image:
            pixels = np.asarray(image, dtype=np.float32).reshape(1, -1)
        (digits,) = session.run(None, {"pixels": pixels})
        lines.append(f"{os.path.basename(path)}: {digits[0]}")
    return lines
