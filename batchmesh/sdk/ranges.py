"""Whether a setting is in its range: one sentence for each that is not."""

from __future__ import annotations

from typing import Any

from batchmesh.errors import SpecRefused

#: The largest count that ParallelRunStep takes.
MOST = 2**31 - 1


def refused(name: str, sentence: str) -> SpecRefused:
    """The error of one setting."""
    return SpecRefused(sentence, {name: sentence})


def whole(name: str, given: Any, least: int, most: int = MOST) -> int:
    """A whole number, also as text. Errors: SpecRefused."""
    number = _as(int, given)
    if number is None or not least <= number <= most or (isinstance(given, float) and given != number):
        raise refused(name, f"{name} is a whole number from {least} to {most}, not {given!r}.")
    return int(number)


def number(name: str, given: Any, above: float, most: float) -> float:
    """A number above `above`, up to `most`, also as text. Errors: SpecRefused."""
    found = _as(float, given)
    if found is None or not above < found <= most:
        raise refused(name, f"{name} is above {above:g}, and at most {most:g}, not {given!r}.")
    return float(found)


def percent(name: str, given: Any) -> float:
    """A number from 0 to 100, also as text. Errors: SpecRefused."""
    found = _as(float, given)
    if found is None or not 0 <= found <= 100:
        raise refused(name, f"{name} is a number from 0 to 100, not {given!r}.")
    return float(found)


def version(what: str, given: Any) -> int:
    """0 for the newest, which None and 'latest' are. Errors: SpecRefused."""
    if given is None or given == "latest":
        return 0
    found = _as(int, given)
    if found is None or found < 1:
        raise SpecRefused(f"The version of {what} is 'latest' or a number from 1, not {given!r}.")
    return int(found)


def one_of(name: str, given: Any, choices: tuple[str, ...]) -> str:
    """One of these texts, in any case; as it stands in `choices`. Errors: SpecRefused."""
    for choice in choices:
        if str(given).lower() == choice.lower():
            return choice
    raise refused(name, f"{name} is {', '.join(choices[:-1])} or {choices[-1]}, not {given!r}.")


def _as(kind: type[int | float], given: Any) -> float | None:
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        return None
    try:
        return kind(given)
    except (ValueError, OverflowError):
        return None
