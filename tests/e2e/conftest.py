"""One real standing mesh for all stories of a test process; stories that hurt a mesh start one of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.mesh import Mesh

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with Mesh(tmp_path_factory.mktemp("mesh")) as running:
        yield running
