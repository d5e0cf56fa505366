"""What the tutorial finds in the cloud, made here: the images in a blob container, and the model to register.

load_digits ──first half──▶ train ──▶ WORK/models/digits.onnx
            └─second half─▶ WORK/images/*.png ──upload──▶ container sampledata, under mnist/
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

if TYPE_CHECKING:
    from pathlib import Path

#: Brightness of a pixel in an image for each of the 16 levels that the data set has.
_SCALE = 15


def make_images(folder: Path, count: int) -> dict[str, int]:
    """The first `count` digits of the second half as PNG files; returns the digit that each of them shows."""
    digits = load_digits()
    half = len(digits.images) // 2
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    labels = {}
    for number in range(half, half + count):
        name = f"digit-{number:04}.png"
        Image.fromarray((digits.images[number] * _SCALE).astype(np.uint8)).save(folder / name)
        labels[name] = int(digits.target[number])
    return labels


def make_model(folder: Path) -> None:
    """A classifier fitted to the first half, as `folder`/digits.onnx: 64 pixels in, the digit out."""
    digits = load_digits()
    half = len(digits.images) // 2
    fitted = LogisticRegression(max_iter=2_000).fit(digits.data[:half] / 16, digits.target[:half])
    weights = (fitted.coef_.T / (16 * _SCALE)).astype(np.float32)
    nodes = [
        helper.make_node("Gemm", ["pixels", "weights", "bias"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["digit"], axis=1, keepdims=0),
    ]
    constants = [
        onnx.numpy_helper.from_array(weights, "weights"),
        onnx.numpy_helper.from_array(fitted.intercept_.astype(np.float32), "bias"),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", weights.shape[0]])],
        [helper.make_tensor_value_info("digit", TensorProto.INT64, ["n"])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "digits.onnx")


def upload(images: Path, account_url: str, key: str) -> None:
    """Puts the images into the container "sampledata", which anyone may read, and which is made anew."""
    from azure.core.exceptions import ResourceNotFoundError
    from azure.storage.blob import ContainerClient, PublicAccess

    with ContainerClient(account_url, "sampledata", credential=key) as container:
        with suppress(ResourceNotFoundError):
            container.delete_container()
        container.create_container(public_access=PublicAccess.CONTAINER)
        for path in sorted(images.iterdir()):
            container.upload_blob(f"mnist/{path.name}", path.read_bytes())
