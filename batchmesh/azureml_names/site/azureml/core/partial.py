"""Classes of which workers have a part, and names that they do not have: each says so, and what to use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

#: Names that scripts import beside the others, for the program that submits them.
_OF_CLIENTS = ("ComputeTarget", "Datastore", "Environment", "RunConfiguration", "ScriptRunConfig", "Webservice")


class _Names(type):
    instead: str

    def __getattr__(cls, name: str) -> Any:
        raise AttributeError(_sentence(cls, name))


class Partial(metaclass=_Names):
    """`instead` is the end of the sentence for a name that a class does not have."""

    instead = "use it in the program that submits the job"

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(_sentence(type(self), name))


class OfClients:
    """Stands for a name that only the program that submits a job can use: it can be imported, and no more."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise not_served(self._name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise not_served(f"{self._name}.{name}")


def others_of(module: str) -> Callable[[str], Any]:
    """The __getattr__ of a module: what becomes of names that it does not have."""

    def other(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in _OF_CLIENTS:
            return OfClients(f"{module}.{name}")
        raise not_served(f"{module}.{name}")

    return other


def not_served(name: str) -> ImportError:
    return ImportError(
        f"{name} is not served in batchmesh's workers: they have Model, Run, Experiment, Dataset and "
        "Workspace; for more, install azureml-core with the job's environment."
    )


def _sentence(cls: _Names, name: str) -> str:
    return f"{cls.__name__}.{name} is not served in batchmesh's workers; {cls.instead}."
