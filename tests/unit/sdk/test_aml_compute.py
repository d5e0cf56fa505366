"""How a compute target is asked for, and how it says that it stands."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from batchmesh import AmlCompute, ComputeTargetException, compute
from batchmesh.sdk import AmlComputeStatus


def test_counts_may_be_texts() -> None:
    asked = AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", min_nodes="0", max_nodes="4")
    wanted = compute.ComputeTarget("cpu", min_nodes=0, max_nodes=4, vm_size="STANDARD_D2_V2")
    assert asked.for_mesh("cpu") == wanted


@pytest.mark.parametrize(
    "given", [{"min_nodes": 5, "max_nodes": 4}, {"max_nodes": 0}, {"min_nodes": -1}, {"max_nodes": "four"}]
)
def test_counts_that_cannot_be_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ComputeTargetException) as refused:
        AmlCompute.provisioning_configuration(**given)
    assert refused.value.message.endswith(".")


def test_a_status_has_the_names_that_azure_gives() -> None:
    created = datetime(2020, 1, 15, tzinfo=UTC)
    target = compute.ComputeTarget(
        "cpu",
        min_nodes=1,
        max_nodes=4,
        vm_size="D2",
        wanted_nodes=3,
        joined_nodes=2,
        busy_nodes=1,
        state="RESIZING",
        created=created,
    )
    said = AmlComputeStatus(target).serialize()
    assert said["currentNodeCount"] == 2
    assert said["targetNodeCount"] == 3
    assert said["nodeStateCounts"]["preparingNodeCount"] == 1
    assert said["nodeStateCounts"]["idleNodeCount"] == 1
    assert said["allocationState"] == "Resizing"
    assert said["errors"] is None
    assert said["provisioningState"] == "Succeeded"
    assert said["creationTime"] == "2020-01-15T00:00:00+00:00"
    assert said["scaleSettings"] == {"minNodeCount": 1, "maxNodeCount": 4, "nodeIdleTimeBeforeScaleDown": "PT120S"}
