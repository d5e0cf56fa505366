"""A dataset as the input of a step, under a name."""

from __future__ import annotations

import re

from batchmesh.errors import SpecRefused
from batchmesh.sdk.abstract_dataset import AbstractDataset

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")


def check_input_name(name: str) -> str:
    """Errors: SpecRefused for what is no name of letters, digits and underscores."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SpecRefused(
            f"The input name {name!r} is none: it begins with a letter or '_', and has letters, digits and '_'."
        )
    return name


class DatasetConsumptionConfig:
    """What `dataset.as_named_input(name)` gives: an input, or a side input, of a step."""

    def __init__(
        self, name: str, dataset: AbstractDataset, mode: str = "direct", path_on_compute: str | None = None
    ) -> None:
        """`mode` (direct, mount, download) and `path_on_compute` are kept: how files come to a node is its own matter.

        Errors: SpecRefused.
        """
        if mode not in ("direct", "mount", "download"):
            raise SpecRefused(f"The mode of the input {name!r} is direct, mount or download, not {mode!r}.")
        if not isinstance(dataset, AbstractDataset):
            raise SpecRefused(f"The input {name!r} is {dataset!r}; give a dataset, such as Dataset.File.from_files(…).")
        self.name = check_input_name(name)
        self.dataset = dataset
        self.mode = mode
        self.path_on_compute = path_on_compute

    def __repr__(self) -> str:
        return f"DatasetConsumptionConfig({self.name!r}, {self.dataset!r})"

    def as_direct(self) -> DatasetConsumptionConfig:
        return DatasetConsumptionConfig(self.name, self.dataset)

    def as_mount(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        return DatasetConsumptionConfig(self.name, self.dataset, "mount", path_on_compute)

    def as_download(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        return DatasetConsumptionConfig(self.name, self.dataset, "download", path_on_compute)

    def as_named_input(self, name: str) -> DatasetConsumptionConfig:
        return DatasetConsumptionConfig(name, self.dataset, self.mode, self.path_on_compute)
