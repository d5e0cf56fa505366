"""A job that is the same in all that its output depends on takes the output of the earlier one, byte for byte."""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from batchmesh.client import Client
from batchmesh.job import JobState
from batchmesh.python_environment import PythonEnvironment
from batchmesh.submission import Submission
from tests.support.living import command
from tests.support.story import final, succeeded, write_files, write_script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchmesh.job import Job
    from tests.support.mesh import Mesh

#: Writes down that it runs, in a file that is named by what does not count: the working folder of the test.
BODY = """
    import os

    def run(mini_batch):
        with open({runs!r}, "ab", buffering=0) as file:
            file.write(b"run\\n")
        if os.path.exists({broken!r}):
            raise ValueError("broken")
        return [os.path.basename(path) + " " + open(path).read() for path in mini_batch]
"""


class Story:
    """A job over files, submitted again and again, each time to a folder of its own."""

    def __init__(self, folder: Path, client: Client, workspace: str) -> None:
        self.folder, self.client, self._workspace = folder, client, workspace
        self.paths = write_files(folder / "in", 14)
        self.broken = folder / "broken"
        self._runs = folder / "runs"
        self.body = textwrap.dedent(BODY).format(runs=str(self._runs), broken=str(self.broken))
        self.script = write_script(folder, self.body)
        self._count = 0

    def submission(self, **settings: Any) -> Submission:
        self._count += 1
        given = {"allow_reuse": True, "workspace": self._workspace, "mini_batch_size": 7, "run_max_try": 1, **settings}
        inputs = given.pop("inputs", self.folder / "in")
        output = given.pop("output", self.folder / f"out-{self._count}")
        return Submission.prepare(self.script, inputs, output, **given)

    def run(self, **settings: Any) -> Job:
        job = self.client.send(self.submission(**settings))
        return final(self.client, job.job_id)

    def ran(self) -> bool:
        """Whether run() was called since that was asked for last."""
        if not self._runs.exists():
            return False
        self._runs.unlink()
        return True

    def ran_anew(self, **settings: Any) -> str:
        """Runs it; it must not have taken an earlier output. Returns why not."""
        job = succeeded(self.run(**settings))
        assert self.ran()
        assert not job.reused_from
        return job.not_reused


@pytest.fixture
def story(mesh: Mesh, tmp_path: Path) -> Iterator[Story]:
    """Workspaces keep the stories apart."""
    with Client(mesh.address) as client:
        yield Story(tmp_path, client, tmp_path.name.replace("_", "-")[:60])


def test_the_same_again_takes_the_earlier_output_without_a_run(story: Story) -> None:
    first = succeeded(story.run())
    assert story.ran()
    assert first.not_reused == "no job like it has succeeded"
    again = succeeded(story.run(process_count_per_node=1, run_invocation_timeout=9.0, run_max_try=2, error_threshold=3))
    assert not story.ran()
    assert again.reused_from == first.job_id
    assert not again.not_reused
    assert Path(again.output_path).read_bytes() == Path(first.output_path).read_bytes()
    assert again.progress.succeeded_items == first.progress.succeeded_items == 14
    assert again.progress.rows == first.progress.rows
    assert Path(again.report_path).is_dir()
    assert Path(again.report_path).parent == Path(again.output_path).parent
    third = succeeded(story.run())
    assert third.reused_from == first.job_id, "of the job that ran"


def test_each_change_runs_anew_and_says_what_it_was(story: Story) -> None:
    first = succeeded(story.run())
    assert story.ran()
    assert story.ran_anew(arguments=["--to", "1"]) == f"changed since {first.job_id}: the arguments"
    why = story.ran_anew(environment_variables={"A": "1"})
    assert why.endswith(": the arguments, the environment variables")
    assert story.ran_anew(mini_batch_size=3).endswith(": the environment variables, the mini-batch size")
    assert story.ran_anew(append_row_file_name="o.csv").endswith(": the mini-batch size, the settings of the output")
    story.script.write_text(f"{story.body}\n# another one\n")
    assert story.ran_anew().endswith(": the script's source, the settings of the output")
    for path in story.paths[:2]:
        os.utime(path, (1, 1))
    assert story.ran_anew().endswith(": 2 of 14 input files")
    story.paths[3].unlink()
    assert story.ran_anew().endswith(": 1 of 14 input files, which are gone")
    assert succeeded(story.run(step_name="another", experiment="e")).reused_from, "names alone change nothing"


def test_what_the_requirements_name_and_how_files_are_inputs_count(story: Story) -> None:
    named = story.folder / "constraints.txt"
    named.write_text("")
    environment = PythonEnvironment(requirements=(f"-c {named}",))
    first = succeeded(story.run(environment=environment))
    assert story.ran()
    named.write_text("# another one\n")
    assert story.ran_anew(environment=environment) == f"changed since {first.job_id}: the environment"
    same_files = [str(story.folder / "in" / each) for each in ("item-0000[0-6]*", "item-0000[7-9]*", "item-0001*")]
    why = story.ran_anew(environment=environment, inputs=same_files)
    assert why.endswith(": the order of the input files, or their inputs"), "mini-batches are others"


def test_a_source_that_came_before_the_last_one_is_still_known(story: Story) -> None:
    first = succeeded(story.run())
    story.ran_anew(arguments=["--to", "1"])
    assert succeeded(story.run()).reused_from == first.job_id


def test_an_output_that_was_touched_is_not_taken(story: Story) -> None:
    first = succeeded(story.run())
    with Path(first.output_path).open("a") as file:
        file.write("one more\n")
    assert story.ran()
    assert story.ran_anew() == f"the output of {first.job_id} is gone, or has changed"
    assert succeeded(story.run()).reused_from, "the new one is as good"


def test_a_job_with_a_failed_item_is_not_taken(story: Story) -> None:
    story.broken.write_text("")
    assert story.run().state is JobState.FAILED
    story.broken.unlink()
    assert story.ran()
    assert story.ran_anew() == "no job like it has succeeded"


def test_without_it_a_job_neither_takes_nor_gives(story: Story) -> None:
    succeeded(story.run(allow_reuse=False))
    assert story.ran()
    assert story.ran_anew() == "no job like it has succeeded"
    job = succeeded(story.run(allow_reuse=False))
    assert story.ran()
    assert (job.reused_from, job.not_reused) == ("", "")


def test_another_workspace_has_other_outputs(story: Story) -> None:
    succeeded(story.run())
    assert story.ran()
    assert story.ran_anew(workspace="elsewhere") == "no job like it has succeeded"


def test_a_summary_only_output_is_taken_with_all_its_files(story: Story) -> None:
    story.script.write_text(
        f"{story.body}\nimport sys\nFOLDER = sys.argv[sys.argv.index('--output') + 1]\n"
        "\n\nold = run\n\n\ndef run(mini_batch):\n"
        "    for path in mini_batch:\n"
        "        open(os.path.join(FOLDER, os.path.basename(path)), 'w').write('seen')\n"
        "    return old(mini_batch)\n"
    )
    first = succeeded(story.run(output_action="summary_only"))
    assert story.ran()
    again = succeeded(story.run(output_action="summary_only"))
    assert not story.ran()
    assert again.reused_from == first.job_id
    assert {path.name for path in Path(again.output_path).glob("item*")} == {path.name for path in story.paths}


def test_a_later_step_is_taken_when_the_one_before_was(story: Story) -> None:
    """Its input lies elsewhere and is newer, and yet the same."""
    steps = [_two_steps(story) for _ in range(3)]
    first, again = steps[0], steps[1]
    assert [job.reused_from for job in again] == [job.job_id for job in first]
    assert [job.reused_from for job in steps[2]] == [job.job_id for job in first]
    os.utime(story.paths[0], (1, 1))
    one, two = _two_steps(story)
    assert one.not_reused.endswith("1 of 14 input files")
    assert two.not_reused.endswith("1 of 1 input files"), "what was written anew is not what was"


def test_a_later_step_is_taken_when_its_side_input_was(story: Story) -> None:
    """The side input lies in a folder of its own in each run."""
    write_files(story.folder / "in2", 2)
    runs = [_two_steps(story, beside=True) for _ in range(2)]
    assert [job.reused_from for job in runs[1]] == [job.job_id for job in runs[0]]
    os.utime(story.paths[0], (1, 1))
    one, two = _two_steps(story, beside=True)
    assert one.not_reused.endswith("1 of 14 input files")
    assert "the side inputs" in two.not_reused, "what was written anew is not what was"


def test_the_command_line_says_whose_output_it_took_or_why_none(mesh: Mesh, story: Story) -> None:
    given = ("--input", story.folder / "in", "--reuse", "--scheduler", mesh.address)

    def run(number: int, *more: str) -> tuple[str, dict[str, Any]]:
        done = command(story.folder, "run", story.script, *given, "--output", story.folder / f"o{number}", *more)
        assert not done.returncode, done.stderr
        return done.stderr, json.loads(done.stdout.splitlines()[-1]) if more else {}

    said, first = run(1, "--json")
    assert "not reused: no job like it has succeeded\n" in said
    assert first["not_reused"] == "no job like it has succeeded"
    said, again = run(2, "--json")
    assert f"reused: it is the output of {first['job_id']}\n" in said
    assert again["reused_from"] == first["job_id"]
    shown = command(story.folder, "show", again["job_id"], "--scheduler", mesh.address).stdout
    assert first["job_id"] in shown
    story.paths[0].write_text("another text")
    assert f"not reused: changed since {first['job_id']}: 1 of 14 input files\n" in run(3)[0]


def _two_steps(story: Story, *, beside: bool = False) -> tuple[Job, ...]:
    """The second reads what the first writes, or has it `beside` an input of its own."""
    number = story._count
    ids = [f"{story.folder.name.replace('_', '-')[:40]}-{number}-{step}" for step in ("one", "two")]
    one = story.submission(
        step_name="one", **({"output": f"datastore://workspaceblobstore/{ids[0]}"} if beside else {})
    )
    reads = (
        {"side_inputs": {"first": one.spec.output}, "inputs": story.folder / "in2"}
        if beside
        else {"inputs": one.spec.output}
    )
    two = story.submission(after=ids[:1], step_name="two", arguments=["--two", "2"], **reads)
    story.client.submit_many(list(zip(ids, (one, two), strict=True)))
    return tuple(succeeded(final(story.client, job_id)) for job_id in ids)
