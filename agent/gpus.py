"""The GPUs of this node, as CUDA names them to its programs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: The variable that says which GPUs a process sees.
VISIBLE = "CUDA_VISIBLE_DEVICES"
_DEVICE = re.compile(r"nvidia[0-9]+")


def found(environment: Mapping[str, str], devices: Iterable[str]) -> tuple[str, ...]:
    """What CUDA_VISIBLE_DEVICES of the agent leaves of them, or else all. `devices` are the names in /dev."""
    if VISIBLE in environment:
        named = [each.strip() for each in environment[VISIBLE].split(",")]
        return tuple(each for each in named if each and not each.startswith("-"))
    count = sum(_DEVICE.fullmatch(each) is not None for each in devices)
    return tuple(str(number) for number in range(count))


def one_for(process: int, gpus: tuple[str, ...]) -> dict[str, str]:
    """The variables that give the worker process of that number a GPU; where there are fewer, several share one."""
    return {VISIBLE: gpus[process % len(gpus)]} if gpus else {}
