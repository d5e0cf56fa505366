"""The worker as one file, which any CPython from 3.9 on executes and which needs nothing beside it.

    batchmesh/{agent,data,rows,…} ──compiled by the Python that is to run it──▶ batchmesh-worker-cpython-39.pyz

The agent calls make() for its own Python, and executes this file with each other one: standard library only. What a zip
holds is compiled at each start unless it holds the result, too; and read soonest when it is not compressed.
"""

from __future__ import annotations

import importlib.util
import marshal
import os
import sys
import tempfile
import zipfile
from importlib.machinery import SourceFileLoader

#: What workers import of this package, as paths below it (a test holds them against what is imported there).
_MODULES = (
    "__init__",
    "failed_items",
    "segment",
    "agent/__init__",
    "agent/asking",
    "agent/attempt",
    "agent/entry",
    "agent/frames",
    "agent/replies",
    "agent/worker",
    "agent/working_folder",
    "azureml_names/__init__",
)
_PACKAGES = ("data", "rows", "azureml_names/site/azureml/core", "azureml_names/site/azureml_user")
#: A package without a module of its own; Python before 3.13 sees it in a zip by this entry alone.
_NAMESPACE = "batchmesh/azureml_names/site/azureml/"
#: The module of the agent's that the zip begins with.
_MAIN = "agent/start"
#: All files of the zip are of this time, so that the same content gives the same bytes.
_NO_TIME = (1980, 1, 1, 0, 0, 0)
#: The first byte of four that say: this was compiled from a source that is not to be compared with it.
_UNCHECKED = b"\1\0\0\0"


def file_name(tag: str) -> str:
    """What the worker for Pythons of this tag (cpython-39) is called."""
    return f"batchmesh-worker-{tag}.pyz"


def modules(package: str) -> list[str]:
    """The modules of the zip as slash-separated paths below `package`, without their extension."""
    found = [f"{name}/{file[:-3]}" for name in _PACKAGES for file in os.listdir(os.path.join(package, name))
             if file.endswith(".py")]  # fmt: skip
    return sorted([*_MODULES, *found])


def make(folder: str) -> str:
    """Writes the worker for the Python that executes this into `folder`; returns its path. Errors: OSError."""
    os.makedirs(folder, exist_ok=True)
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = os.path.join(folder, file_name(str(sys.implementation.cache_tag)))
    unfinished = os.path.join(tempfile.mkdtemp(prefix=".", dir=folder), "worker")
    with zipfile.ZipFile(unfinished, "w") as archive:
        _add(archive, "__main__", os.path.join(package, f"{_MAIN}.py"))
        for name in modules(package):
            _add(archive, f"batchmesh/{name}", os.path.join(package, f"{name}.py"))
        archive.writestr(zipfile.ZipInfo(_NAMESPACE, _NO_TIME), b"")
    os.replace(unfinished, path)
    os.rmdir(os.path.dirname(unfinished))
    return path


def _add(archive: zipfile.ZipFile, name: str, path: str) -> None:
    """A module as source and compiled. It says of itself where its source lies, for tracebacks."""
    loader = SourceFileLoader(name.replace("/", ".").replace(".__init__", ""), path)
    source, code = loader.get_data(path), loader.get_code(loader.name)
    archive.writestr(zipfile.ZipInfo(f"{name}.py", _NO_TIME), source)
    head = importlib.util.MAGIC_NUMBER + _UNCHECKED + importlib.util.source_hash(source)
    archive.writestr(zipfile.ZipInfo(f"{name}.pyc", _NO_TIME), head + marshal.dumps(code))


if __name__ == "__main__":
    make(sys.argv[1])
