"""Which GPUs a node has, and which one a worker sees."""

from __future__ import annotations

from pathlib import Path

from batchmesh.agent.config import Config
from batchmesh.agent.gpus import found, one_for

DEVICES = ["null", "nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia-caps"]


def test_a_node_has_the_gpus_of_its_devices() -> None:
    assert found({}, DEVICES) == ("0", "1")
    assert found({}, ["null"]) == ()


def test_what_is_hidden_from_the_agent_is_hidden_from_its_workers() -> None:
    assert found({"CUDA_VISIBLE_DEVICES": "1, GPU-5"}, DEVICES) == ("1", "GPU-5")
    assert found({"CUDA_VISIBLE_DEVICES": ""}, DEVICES) == ()
    assert found({"CUDA_VISIBLE_DEVICES": "-1"}, DEVICES) == ()


def test_each_process_sees_one_and_shares_it_only_when_there_are_too_few() -> None:
    assert [one_for(number, ("0", "1")) for number in range(3)] == [
        {"CUDA_VISIBLE_DEVICES": "0"},
        {"CUDA_VISIBLE_DEVICES": "1"},
        {"CUDA_VISIBLE_DEVICES": "0"},
    ]
    assert one_for(0, ()) == {}


def test_a_job_that_names_no_number_has_a_worker_for_each_gpu() -> None:
    def processes(slots: int, *gpus: str) -> int:
        return Config(scheduler="unix:/nowhere", work=Path("/nowhere"), slots=slots, gpus=gpus).processes

    assert processes(8) == 8
    assert processes(8, "0", "1") == 2
    assert processes(1, "0", "1") == 1
