"""The Python client over real gRPC: what it sends, what it makes of each answer, and of none."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from batchmesh import errors
from batchmesh.calls import PIECE
from batchmesh.client import Client
from batchmesh.job import JobState, NodeState
from batchmesh.script import split_arguments
from batchmesh.status import TABLE
from batchmesh.submission import Submission
from batchmesh.v1 import job_pb2
from tests.support.mesh import Mesh
from tests.support.scripted_mesh import ScriptedMesh
from tests.support.story import final, lines, succeeded, write_files, write_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Errors after which the same call is not made again.
FINAL = [kind for kind in TABLE if not issubclass(kind, errors.MeshUnreachable | errors.CommitRunning)]


@pytest.fixture
def mesh() -> Iterator[ScriptedMesh]:
    with ScriptedMesh() as scripted:
        yield scripted


@pytest.fixture
def client(mesh: ScriptedMesh) -> Iterator[Client]:
    with Client(mesh.address) as connected:
        yield connected


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return write_script(tmp_path, "def run(mini_batch): return mini_batch")


def state(number: job_pb2.Job.State.ValueType, version: int = 1) -> job_pb2.Job:
    return job_pb2.Job(job_id="job-1", state=number, version=version)


RUNNING, SUCCEEDED = job_pb2.Job.STATE_RUNNING, job_pb2.Job.STATE_SUCCEEDED


def test_every_setting_comes_back_as_it_was_given(client: Client, script: Path) -> None:
    settings: dict[str, Any] = {
        "arguments": ("--model", "iris"),
        "environment_variables": {"A": "1"},
        "input_type": "csv",
        "mini_batch_size": "1000 rows",
        "csv_header": "absent",
        "csv_types": {"id": "string"},
        "output_action": "append_row",
        "append_row_file_name": "x.csv",
        "overwrite": True,
        "append_row_dataframe_header": True,
        "error_threshold": -1,
        "allowed_failed_count": 0,
        "allowed_failed_percent": 12.5,
        "process_count_per_node": 3,
        "node_count": 2,
        "run_invocation_timeout": 1.5,
        "run_max_try": 7,
        "task_overhead_timeout": 2.0,
        "progress_update_timeout": 3.0,
        "first_task_creation_timeout": 4.0,
        "logging_level": "DEBUG",
        "isolate_failures": False,
        "backup_attempts": True,
    }
    prepared = Submission.prepare(script, "in", "out", **settings).spec
    job = client.submit(script, "in", "out", **settings)
    for name in prepared.__slots__:
        if name != "source_digest":
            assert getattr(job.spec, name) == getattr(prepared, name), name
    assert (job.state, job.spec.run_max_try, job.spec.error_threshold) == (JobState.PENDING, 7, -1)


def test_what_is_not_set_is_not_sent(client: Client, mesh: ScriptedMesh, script: Path) -> None:
    job = client.submit(script, "in", "out")
    sent = {each.name for each, _ in mesh.submitted[0].spec.ListFields()}
    assert sent == {"entry_script", "source_digest", "inputs", "output"}
    assert job.spec.error_threshold is None


@pytest.mark.parametrize("setting", [{"run_max_try": 2**40}, {"error_threshold": "many"}, {"csv_types": 5}])
def test_a_setting_of_the_wrong_type_is_refused_by_name(client: Client, script: Path, setting: Any) -> None:
    (name,) = setting
    with pytest.raises(errors.SpecRefused, match=name) as caught:
        client.submit(script, "in", "out", **setting)
    assert name in caught.value.violations


def test_a_source_is_sent_once_and_in_pieces(client: Client, mesh: ScriptedMesh, script: Path) -> None:
    (script.parent / "model.bin").write_bytes(bytes(range(256)) * 10_000)
    digest = client.submit(script, "in", "out").spec.source_digest
    assert max(mesh.pieces) <= PIECE
    assert len(mesh.pieces) == 3
    assert hashlib.sha256(mesh.artifacts[digest]).hexdigest() == digest
    assert client.submit(script, "in", "out2").spec.source_digest == digest
    assert mesh.asked.count("WriteArtifact") == 1


def test_a_broken_upload_begins_again(client: Client, mesh: ScriptedMesh, script: Path) -> None:
    mesh.failures = [errors.MeshUnreachable("gone for a moment")]
    digest = client.submit(script, "in", "out").spec.source_digest
    assert hashlib.sha256(mesh.artifacts[digest]).hexdigest() == digest


def test_a_submission_that_is_sent_again_is_the_same_job(client: Client, mesh: ScriptedMesh, script: Path) -> None:
    client.submit(script, "in", "out")
    mesh.failures = [errors.MeshUnreachable(""), errors.MeshUnreachable("")]
    job = client.submit(script, "in", "out")
    assert {each.job_id for each in mesh.submitted[-3:]} == {job.job_id}
    assert re.fullmatch(r"job-[0-9a-f]{10}", job.job_id)
    assert client.submit(script, "in", "out", job_id="mine").job_id == "mine"


def test_a_resume_whose_answer_was_lost_is_not_refused_when_it_is_sent_again(
    client: Client, mesh: ScriptedMesh
) -> None:
    mesh.jobs["job-1"] = state(RUNNING)
    mesh.failures = [errors.MeshUnreachable("gone"), errors.JobNotResumable("It runs.")]
    assert client.resume("job-1").state is JobState.RUNNING
    assert mesh.asked == ["ResumeJob", "ResumeJob", "GetJob"]


@pytest.mark.parametrize("first", [[], [errors.MeshUnreachable("gone")]], ids=["heard", "heard the second time"])
def test_a_job_that_cannot_be_resumed_is_refused(
    client: Client, mesh: ScriptedMesh, first: list[errors.BatchmeshError]
) -> None:
    mesh.jobs["job-1"] = state(SUCCEEDED)
    mesh.failures = [*first, errors.JobNotResumable("It succeeded.")]
    with pytest.raises(errors.JobNotResumable, match="It succeeded"):
        client.resume("job-1")


def test_what_a_resume_changes_is_sent_and_nothing_else(client: Client, mesh: ScriptedMesh, script: Path) -> None:
    mesh.jobs["job-1"] = job_pb2.Job(job_id="job-1", spec=job_pb2.JobSpec(entry_script="script.py"))
    client.resume("job-1")
    assert {each.name for each, _ in mesh.resumed[-1].ListFields()} == {"job_id"}
    client.resume("job-1", failed=True, error_threshold=0, run_invocation_timeout=9.0, source_directory=script.parent)
    sent = mesh.resumed[-1]
    assert (sent.failed, sent.HasField("error_threshold"), sent.error_threshold) == (True, True, 0)
    assert sent.run_invocation_timeout == 9.0
    assert sent.source_digest in mesh.artifacts


def test_a_source_without_the_entry_script_is_refused(client: Client, mesh: ScriptedMesh, tmp_path: Path) -> None:
    mesh.jobs["job-1"] = job_pb2.Job(job_id="job-1", spec=job_pb2.JobSpec(entry_script="script.py"))
    with pytest.raises(errors.ScriptRefused, match=r"script\.py does not exist"):
        client.resume("job-1", source_directory=tmp_path)
    assert not mesh.resumed


def test_a_deletion_whose_answer_was_lost_has_been_done(client: Client, mesh: ScriptedMesh) -> None:
    mesh.failures = [errors.MeshUnreachable("gone"), errors.NoJob("There is no job 'job-1'.")]
    client.delete("job-1")
    mesh.failures = [errors.NoJob("There is no job 'job-1'.")]
    with pytest.raises(errors.NoJob):
        client.delete("job-1")


def test_calls_go_on_over_a_scheduler_that_is_started_anew(client: Client, mesh: ScriptedMesh) -> None:
    mesh.jobs["job-1"] = state(RUNNING)
    assert client.get("job-1").state is JobState.RUNNING
    mesh.close()
    again = threading.Timer(6.0, mesh.open)
    again.start()
    assert client.cancel("job-1").job_id == "job-1"
    again.join()


@pytest.mark.parametrize("kind", FINAL, ids=lambda kind: kind.__name__)
def test_each_error_of_a_service_is_raised_as_its_class(
    client: Client, mesh: ScriptedMesh, kind: type[errors.BatchmeshError]
) -> None:
    mesh.failures = [kind("One clear sentence.")]
    with pytest.raises(kind, match=r"^One clear sentence\.$") as caught:
        client.get("job-1")
    assert type(caught.value) is kind
    assert len(mesh.asked) == 1


def test_the_fields_of_a_refused_spec_are_named(client: Client, mesh: ScriptedMesh) -> None:
    mesh.failures = [errors.SpecRefused("Two are wrong.", {"a": "no", "b": "never"})]
    with pytest.raises(errors.SpecRefused) as caught:
        client.get("job-1")
    assert caught.value.violations == {"a": "no", "b": "never"}


def test_a_listing_goes_over_all_pages(client: Client, mesh: ScriptedMesh) -> None:
    mesh.jobs = {f"job-{number}": job_pb2.Job(job_id=f"job-{number}") for number in range(5)}
    assert [job.job_id for job in client.list()] == list(mesh.jobs)
    assert mesh.asked.count("ListJobs") == 3


def test_what_a_newer_mesh_says_is_taken_as_far_as_it_is_known(client: Client, mesh: ScriptedMesh) -> None:
    mesh.jobs["job-1"] = job_pb2.Job(job_id="job-1", state=job_pb2.Job.State.ValueType(99))
    assert client.get("job-1").state is JobState.UNSPECIFIED


def test_nodes_and_the_mesh_are_values(client: Client) -> None:
    (node,) = client.nodes()
    assert (node.node_id, node.slots, node.state) == ("node-1", 2, NodeState.DRAINING)
    assert (node.joined, node.last_heartbeat) == (datetime.fromtimestamp(1, UTC), None)
    assert client.mesh().version == "1.2.3"


def test_output_and_logs_come_in_pieces(client: Client, mesh: ScriptedMesh) -> None:
    mesh.outputs["job-1"] = [b"a\n", b"b\n"]
    assert list(client.read_output("job-1")) == [b"a\n", b"b\n"]
    (log,) = client.logs("job-1")
    assert b"".join(client.read_log("job-1", log.name, offset=1)) == b"og"


def test_watching_goes_on_over_a_stream_that_just_ends(client: Client, mesh: ScriptedMesh) -> None:
    mesh.streams = [[state(RUNNING, 1)], [], [state(RUNNING, 2), state(SUCCEEDED, 3)], [state(RUNNING, 4)]]
    assert [job.version for job in client.watch("job-1")] == [1, 2, 3]


def test_watching_survives_a_scheduler_that_is_started_anew(client: Client, mesh: ScriptedMesh) -> None:
    mesh.streams = [[state(RUNNING, 1)]]
    watching = client.watch("job-1")
    assert next(watching).version == 1
    mesh.close()
    mesh.streams = [[state(SUCCEEDED, 2)]]
    again = threading.Timer(0.5, mesh.open)
    again.start()
    assert [job.version for job in watching] == [2]
    again.join()


def test_watching_nobody_is_given_up(client: Client, mesh: ScriptedMesh) -> None:
    mesh.close()
    with pytest.raises(errors.MeshUnreachable, match=mesh.address):
        list(client.watch("job-1", patience=0.5))


def test_watching_a_scheduler_that_says_nothing_is_given_up(client: Client) -> None:
    with pytest.raises(errors.MeshUnreachable, match="did not"):
        list(client.watch("job-1", patience=0.5))


def test_no_mesh_at_the_address_is_told_within_seconds() -> None:
    with (
        Client("127.0.0.1:1") as client,
        pytest.raises(errors.MeshUnreachable, match=r"127\.0\.0\.1:1 does not answer"),
    ):
        client.get("job-1")


def test_a_generator_that_is_left_ends_its_stream(client: Client, mesh: ScriptedMesh) -> None:
    mesh.streams = [[state(RUNNING, number) for number in range(100)]]
    assert next(client.watch("job-1")).state is JobState.RUNNING
    mesh.jobs["job-1"] = state(RUNNING)
    assert client.get("job-1").job_id == "job-1"


def test_what_the_agent_puts_into_argv_is_reserved_or_a_setting(tmp_path: Path) -> None:
    """On a real mesh: a script's own flag of the same name would be shadowed silently."""
    script = write_script(
        tmp_path,
        """
        import json, sys
        def run(mini_batch):
            print("seen")
            return [json.dumps(sys.argv)]
        """,
    )
    write_files(tmp_path / "in", 1)
    with Mesh(tmp_path) as real, Client(real.address) as client:
        job = succeeded(
            final(client, client.submit(script, tmp_path / "in", tmp_path / "out", arguments=["--mine"]).job_id)
        )
        argv = json.loads(lines(job)[0])
        assert b"".join(client.read_output(job.job_id)).decode().splitlines() == lines(job)
        logged = [b"".join(client.read_log(job.job_id, log.name)) for log in client.logs(job.job_id)]
        assert any(b"seen" in each for each in logged)
    assert argv[-1] == "--mine"
    flags = [each for each in argv[1:-1] if each.startswith("--")]
    assert "--output" in flags
    assert [flag for flag in flags if not taken_from_scripts(flag)] == []


def taken_from_scripts(flag: str) -> bool:
    """Whether that flag among a script's arguments becomes a setting, or is refused by its name."""
    try:
        left, _ = split_arguments([f"{flag}=1"])
    except errors.SpecRefused as refused:
        return flag in str(refused)
    return not left
