"""The modules of azureml, made as they are imported."""

from __future__ import annotations

import difflib
import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

from batchmesh.azureml.names import INSTEAD, SERVED
from batchmesh.sdk.errors import NotServed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType


class NameNotServed(NotServed, ImportError):
    """A module or a name of azureml that batchmesh does not serve; a program may catch it as an ImportError."""


class Finder(MetaPathFinder, Loader):
    """Serves `azureml` and all below it; whatever is installed under these names stays unseen."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Errors: NameNotServed for a module of azureml that there is not here."""
        del path, target
        if fullname != "azureml" and not fullname.startswith("azureml."):
            return None
        if fullname not in SERVED:
            raise NameNotServed(sentence(fullname))
        return ModuleSpec(fullname, self, origin="batchmesh", is_package=_is_package(fullname))

    def create_module(self, spec: ModuleSpec) -> None:
        """The usual one."""
        del spec

    def exec_module(self, module: ModuleType) -> None:
        """Names are looked up when they are first used."""
        name = module.__name__

        def getter(wanted: str) -> Any:
            return _looked_up(name, wanted)

        module.__getattr__ = getter  # type: ignore[method-assign]
        module.__all__ = sorted(SERVED[name])  # type: ignore[attr-defined]
        module.__doc__ = f"{name}, as far as batchmesh serves it."


def install() -> None:
    """From now on azureml is batchmesh's in this process, whatever was imported of it before."""
    for name in [each for each in sys.modules if each == "azureml" or each.startswith("azureml.")]:
        del sys.modules[name]
    if not any(isinstance(each, Finder) for each in sys.meta_path):
        sys.meta_path.insert(0, Finder())


def sentence(name: str) -> str:
    """What is not served, and what to use. `name` is a module, or a module and a name."""
    module, _, last = name.rpartition(".")
    beside = list(SERVED.get(module, {}))
    near = difflib.get_close_matches(last, beside, n=1)
    if last in INSTEAD:
        use = INSTEAD[last]
    elif near:
        use = f"did you mean {near[0]}?"
    else:
        use = _of_module(name) or (f"{module} has {', '.join(sorted(beside))} here" if beside else "leave it out")
    return f"{name} is not served by batchmesh; {use.removesuffix('?')}{'?' if use.endswith('?') else '.'}"


def _of_module(name: str) -> str:
    """What to use for the module that it is in, or for one above; empty if that is not known."""
    while name:
        if name in INSTEAD:
            return INSTEAD[name]
        name = name.rpartition(".")[0]
    return ""


def _is_package(name: str) -> bool:
    return any(each.startswith(name + ".") for each in SERVED)


def _looked_up(module: str, name: str) -> Any:
    if name in SERVED[module]:
        home, _, there = f"batchmesh.sdk:{SERVED[module][name]}".rpartition(":")
        return getattr(importlib.import_module(home.rpartition(":")[2]), there)
    if f"{module}.{name}" in SERVED:
        return importlib.import_module(f"{module}.{name}")
    if name.startswith("__"):
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    raise NameNotServed(sentence(f"{module}.{name}"))
