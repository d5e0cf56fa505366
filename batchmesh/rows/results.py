"""What run() may return, told without importing what it is made of, and what becomes of it.

It runs in the user's environment: standard library only, CPython 3.9 and later.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple


class Rendered(NamedTuple):
    """A result in its final bytes. `schema` tells storage how frames join; equal bytes mean equal columns."""

    schema: bytes
    body: bytes
    #: Rows of the output in `body`.
    rows: int


def result_length(result: Any) -> int:
    """The number of results: of elements, or of rows of a DataFrame.

    Raises TypeError, with one sentence that names the type, for what is no list, tuple, array, Series or DataFrame.
    """
    if isinstance(result, (list, tuple)):
        return len(result)
    if is_array(result):
        if result.ndim == 0:
            raise TypeError("run() returned an array without dimensions; return a list, tuple, array or DataFrame.")
        return len(result)
    if is_dataframe(result) or is_series(result):
        return len(result)
    raise TypeError(
        f"run() returned {_name_of(result)}; return a list, tuple, array or DataFrame with one element for each item "
        "that succeeded."
    )


def is_dataframe(result: Any) -> bool:
    """Whether this is a pandas DataFrame (or of a class derived from it), told without importing pandas."""
    return _is_a(result, "pandas", "DataFrame")


def is_series(result: Any) -> bool:
    """Whether this is a pandas Series, Index or extension array."""
    return any(_is_a(result, "pandas", name) for name in ("Series", "Index", "ExtensionArray"))


def is_array(result: Any) -> bool:
    """Whether this is a numpy array."""
    return _is_a(result, "numpy", "ndarray")


def _is_a(value: Any, package: str, name: str) -> bool:
    return (package, name) in _names_of(type(value))  # type: ignore[arg-type]  # every class can be hashed


@lru_cache(64)
def _names_of(kind: Any) -> frozenset[tuple[str, str]]:
    """Package and name of the class and of those that it is derived from."""
    return frozenset((each.__module__.partition(".")[0], each.__name__) for each in kind.__mro__)


def _name_of(result: Any) -> str:
    if result is None:
        return "None"
    kind = type(result)
    where = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"a value of type {where}{kind.__qualname__}"
