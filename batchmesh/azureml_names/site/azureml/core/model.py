"""Models: those of the job lie in AZUREML_MODEL_DIR; others the agent fetches when a script asks for them."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

from .agent import fetched
from .partial import Partial, others_of

if TYPE_CHECKING:
    from .workspace import Workspace


class Model(Partial):
    """A registered model by its name."""

    def __init__(
        self, workspace: Workspace | None = None, name: str = "", id: str = "", version: int | None = None, **_: Any
    ) -> None:
        """`id` is NAME:VERSION, in place of the two."""
        if id and not name:
            name, of_id = id.partition(":")[::2]
            version = int(of_id) if of_id else version
        self.workspace = workspace
        self.name = name
        self.version = version

    @property
    def id(self) -> str:
        return f"{self.name}:{self.version}" if self.version else self.name

    @staticmethod
    def get_model_path(model_name: str, version: int | None = None, _workspace: Workspace | None = None) -> str:
        """The file or folder on this node, which can only be read. Without a version the job's, or else the newest.

        Errors: one sentence when there is no such model.
        """
        found = _of_job(model_name) if version is None else ""
        return found or fetched(f"model://{model_name}/{version or 0}")

    def download(self, target_dir: str = ".", exist_ok: bool = False, exists_ok: bool | None = None) -> str:
        """Copies it into a folder. Returns the path of the copy. Errors: FileExistsError."""
        path = self.get_model_path(self.name, self.version)
        target = os.path.join(target_dir, os.path.basename(path) if os.path.isfile(path) else self.name)
        if os.path.exists(target) and not (exist_ok if exists_ok is None else exists_ok):
            raise FileExistsError(f"{target} exists; say exist_ok=True to write over it.")
        os.makedirs(target_dir, exist_ok=True)
        if os.path.isfile(path):
            shutil.copyfile(path, target)
        else:
            shutil.copytree(path, target, copy_function=shutil.copyfile, dirs_exist_ok=True)
        return target

    def __repr__(self) -> str:
        return f"Model(name={self.name!r}, version={self.version!r})"


def _of_job(name: str) -> str:
    """Where a model of the job lies; "" when it has none of that name. One that is a folder is linked itself."""
    path = os.path.join(os.environ.get("AZUREML_MODEL_DIR", os.devnull), name)
    if os.path.islink(path):
        return path
    files = os.listdir(path) if os.path.isdir(path) else []
    return os.path.join(path, files[0]) if len(files) == 1 else ""


__getattr__ = others_of(__name__)
