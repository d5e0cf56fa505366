"""What entry scripts use of azureml.core, where the real one is not installed. CPython 3.9, standard library only."""

from __future__ import annotations

import os

from .dataset import Dataset
from .experiment import Experiment
from .model import Model
from .partial import others_of
from .run import Run
from .workspace import Workspace

__all__ = ["VERSION", "Dataset", "Experiment", "Model", "Run", "Workspace", "__version__"]

#: batchmesh's own, for scripts that print it.
VERSION = __version__ = os.environ.get("BATCHMESH_VERSION", "")

__getattr__ = others_of(__name__)
