"""Files in, parallel_run_step.txt out: the main job, and what happens when run() does not behave."""

from __future__ import annotations

import csv
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from batchmesh.client import Client
from tests.support.story import (
    adds_up,
    failed,
    failed_items,
    lines,
    run_job,
    succeeded,
    summary,
    wait_for,
    write_files,
    write_script,
)

if TYPE_CHECKING:
    from pathlib import Path

    from batchmesh.job import Job
    from tests.support.mesh import Mesh

UPPER = """
    import os

    def init():
        global calls
        calls = 0

    def run(mini_batch):
        return [f"{os.path.basename(path)}: {open(path).read().upper()}" for path in mini_batch]
"""


def upper(paths: list[Path]) -> list[str]:
    return [f"{path.name}: {path.read_text().upper()}" for path in paths]


def test_every_file_gives_its_line_in_input_order(mesh: Mesh, tmp_path: Path) -> None:
    paths = write_files(tmp_path / "in", 503, lambda number: f"text {number}")
    job = succeeded(
        run_job(mesh.address, write_script(tmp_path, UPPER), tmp_path / "in", tmp_path / "out", mini_batch_size=5)
    )
    assert lines(job) == upper(paths)
    assert job.progress.planned_mini_batches == 101
    assert sorted(os.listdir(tmp_path / "out")) == ["job_report", "parallel_run_step.txt"]
    assert summary(job)["state"] == "SUCCEEDED"
    adds_up(job)


def test_folders_globs_and_single_files_are_taken_in_the_order_given(mesh: Mesh, tmp_path: Path) -> None:
    first = write_files(tmp_path / "b" / "deep", 3, str)
    second = write_files(tmp_path / "a", 4, str)
    (tmp_path / "b" / ".hidden").write_text("no")
    inputs = [str(tmp_path / "b"), f"{tmp_path}/a/item-0000[12].txt", str(second[3])]
    job = succeeded(run_job(mesh.address, write_script(tmp_path, UPPER), inputs, tmp_path / "out"))
    assert lines(job) == upper([*first, second[1], second[2], second[3]])


def test_an_empty_file_is_an_item(mesh: Mesh, tmp_path: Path) -> None:
    paths = write_files(tmp_path / "in", 3, lambda number: "" if number == 1 else "x")
    job = succeeded(run_job(mesh.address, write_script(tmp_path, UPPER), tmp_path / "in", tmp_path / "out"))
    assert lines(job) == upper(paths)


def test_a_dataframe_is_written_space_separated_without_header_and_index(mesh: Mesh, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 12, str)
    script = write_script(
        tmp_path,
        """
        import pandas as pd

        def run(mini_batch):
            numbers = [int(open(path).read()) for path in mini_batch]
            return pd.DataFrame({"number": numbers, "text": [f"n {number}" for number in numbers]})
        """,
    )
    job = succeeded(run_job(mesh.address, script, tmp_path / "in", tmp_path / "out", mini_batch_size=5))
    assert lines(job) == [f'{number} "n {number}"' for number in range(12)]


def test_the_header_flag_among_the_arguments_becomes_a_setting(mesh: Mesh, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 4, str)
    script = write_script(
        tmp_path,
        """
        import pandas as pd

        def run(mini_batch):
            return pd.DataFrame({"number": [int(open(path).read()) for path in mini_batch]})
        """,
    )
    arguments = ["--append_row_dataframe_header", "True"]
    job = succeeded(
        run_job(mesh.address, script, tmp_path / "in", tmp_path / "out", mini_batch_size=2, arguments=arguments)
    )
    assert lines(job) == ["number", "0", "1", "2", "3"]


def test_parallel_run_step_settings_beside_the_script_reach_to_csv(mesh: Mesh, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 2, str)
    script = write_script(
        tmp_path,
        """
        import pandas as pd

        def run(mini_batch):
            return pd.DataFrame({"a": [1] * len(mini_batch), "b": [2] * len(mini_batch)})
        """,
    )
    settings = '{"append_row": {"pandas.DataFrame.to_csv": {"sep": ",", "index": true}}}'
    (script.parent / "parallel_run_step.settings.json").write_text(settings)
    job = succeeded(run_job(mesh.address, script, tmp_path / "in", tmp_path / "out"))
    assert lines(job) == ["0,1,2", "1,1,2"]


def test_init_runs_once_in_each_worker_and_argv_is_there_before_import(mesh: Mesh, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 40, str)
    script = write_script(
        tmp_path,
        """
        import argparse, os, sys
        import helper

        parser = argparse.ArgumentParser()
        parser.add_argument("--word")
        parser.add_argument("--output")
        parser.add_argument("--mini_batch_size")
        known, _ = parser.parse_known_args()
        started = []

        def init():
            started.append(os.getpid())

        def run(mini_batch):
            assert started == [os.getpid()]
            facts = [known.word, os.path.isdir(known.output), known.mini_batch_size, os.environ["GREETING"],
                     helper.WORD, os.path.basename(__file__), os.environ["AZUREML_BI_OUTPUT_PATH"] == known.output,
                     "AZUREML_RUN_ID" in os.environ]
            return [facts for _ in mini_batch]
        """,
    )
    (script.parent / "helper.py").write_text("WORD = 'sibling'\n")
    job = succeeded(
        run_job(
            mesh.address,
            script,
            tmp_path / "in",
            tmp_path / "out",
            mini_batch_size=2,
            arguments=["--word", "hello"],
            environment_variables={"GREETING": "hi"},
        )
    )
    assert set(lines(job)) == {"['hello', True, '2', 'hi', 'sibling', 'script.py', True, True]"}


POISON = """
    import ctypes, os, signal, subprocess, sys, time

    def run(mini_batch):
        kind = sys.argv[-1]
        marker = os.path.join(os.environ["MARKS"], "mark")
        for path in mini_batch:
            if "item-00007" in path and not (kind.endswith("-once") and os.path.exists(marker)):
                open(marker, "a").write("x")
                {
                    "raise": lambda: 1 / 0,
                    "exit": lambda: sys.exit(42),
                    "os-exit": lambda: os._exit(3),
                    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
                    "segfault": lambda: ctypes.string_at(0),
                    "none": lambda: None,
                    "hang": hang,
                }[kind.removesuffix("-once")]()
                if kind == "none":
                    return None
        return [os.path.basename(path) for path in mini_batch]

    def hang():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen(["sleep", "300"])
        time.sleep(300)
"""


@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        ("raise", "RUN_RAISED"),
        ("exit", "RUN_RAISED"),
        ("os-exit", "WORKER_CRASHED"),
        ("kill", "WORKER_CRASHED"),
        ("segfault", "WORKER_CRASHED"),
        ("hang", "RUN_TIMEOUT"),
    ],
)
def test_an_item_on_which_run_fails_each_time_costs_itself_and_nothing_else(
    mesh: Mesh, tmp_path: Path, kind: str, failure: str
) -> None:
    job, paths = run_poison(mesh, tmp_path, kind)
    assert lines(job) == [path.name for path in paths if path != paths[7]]
    # twice in its mini-batch, once in a half of two, and twice alone
    assert (tmp_path / "mark").read_text() == "xxxxx"
    check_failed(job, [paths[7]], failure, tries=5)


@pytest.mark.parametrize(("kind", "failure", "isolate"), [("raise", "RUN_RAISED", False), ("none", "BAD_RETURN", True)])
def test_a_mini_batch_that_is_not_to_be_split_fails_whole(
    mesh: Mesh, tmp_path: Path, kind: str, failure: str, isolate: bool
) -> None:
    job, paths = run_poison(mesh, tmp_path, kind, isolate_failures=isolate)
    assert lines(job) == [path.name for path in paths if path not in paths[6:9]]
    assert (tmp_path / "mark").read_text() == "xx"
    check_failed(job, paths[6:9], failure, tries=2)


def run_poison(mesh: Mesh, tmp_path: Path, kind: str, **settings: Any) -> tuple[Job, list[Path]]:
    """A job of 30 files, three a mini-batch and two tries, of which item 7 is of that kind; and the files."""
    paths = write_files(tmp_path / "in", 30, str)
    job = run_job(
        mesh.address,
        write_script(tmp_path, POISON),
        tmp_path / "in",
        tmp_path / "out",
        mini_batch_size=3,
        error_threshold=3,
        run_max_try=2,
        run_invocation_timeout=2,
        arguments=["--kind", kind],
        environment_variables={"MARKS": str(tmp_path)},
        **settings,
    )
    return succeeded(job), paths


def check_failed(job: Job, paths: list[Path], failure: str, tries: int) -> None:
    named = failed_items(job)
    assert [line["item"] for line in named] == [str(path) for path in paths]
    assert {line["kind"] for line in named} == {failure}
    assert {line["tries"] for line in named} == {tries}
    assert job.first_failure is not None
    assert job.first_failure.kind == failure
    adds_up(job)


@pytest.mark.parametrize("kind", ["raise-once", "os-exit-once", "hang-once"])
def test_a_run_that_fails_once_is_tried_again_and_costs_nothing(mesh: Mesh, tmp_path: Path, kind: str) -> None:
    paths = write_files(tmp_path / "in", 12, str)
    job = succeeded(
        run_job(
            mesh.address,
            write_script(tmp_path, POISON),
            tmp_path / "in",
            tmp_path / "out",
            mini_batch_size=3,
            run_invocation_timeout=2,
            arguments=["--kind", kind],
            environment_variables={"MARKS": str(tmp_path)},
        )
    )
    assert lines(job) == [path.name for path in paths]
    assert job.progress.retried_attempts == 1


def test_a_run_that_overstays_leaves_no_child_of_its_own_behind(mesh: Mesh, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 1, str)
    script = write_script(
        tmp_path,
        """
        import os, subprocess, time

        def run(mini_batch):
            child = subprocess.Popen(["sleep", "300"])
            with open(os.environ["PID_FILE"], "w") as file:
                file.write(str(child.pid))
            time.sleep(300)
        """,
    )
    pid_file = tmp_path / "pid"
    failed(
        run_job(
            mesh.address,
            script,
            tmp_path / "in",
            tmp_path / "out",
            run_invocation_timeout=1,
            run_max_try=1,
            environment_variables={"PID_FILE": str(pid_file)},
        )
    )
    child = int(pid_file.read_text())
    wait_for(lambda: not is_alive(child), "the end of the script's own child")


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_short_return_is_final_and_counts_the_missing_items(mesh: Mesh, tmp_path: Path) -> None:
    paths = write_files(tmp_path / "in", 10, str)
    script = write_script(
        tmp_path,
        """
        import os

        def run(mini_batch):
            return [os.path.basename(path) for path in mini_batch if not path.endswith("3.txt")]
        """,
    )
    job = succeeded(
        run_job(mesh.address, script, tmp_path / "in", tmp_path / "out", mini_batch_size=5, error_threshold=1)
    )
    assert lines(job) == [path.name for path in paths if not path.name.endswith("3.txt")]
    (line,) = failed_items(job)
    assert (line["kind"], line["item"], line["count"]) == ("SHORT_RETURN", None, 1)
    assert line["slice"]["files"] == [str(path) for path in paths[:5]]
    assert job.progress.failed_mini_batches == 0
    adds_up(job)


def test_a_return_that_is_too_long_is_written_whole(mesh: Mesh, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 2, str)
    script = write_script(tmp_path, "def run(mini_batch):\n    return ['a', 'b', 'c']\n")
    job = succeeded(run_job(mesh.address, script, tmp_path / "in", tmp_path / "out"))
    assert lines(job) == ["a", "b", "c"]
    assert job.progress.succeeded_items == 2


FAILS_ON = """
    import os, sys

    def run(mini_batch):
        bad = set(os.environ["BAD"].split(","))
        names = [os.path.basename(path) for path in mini_batch]
        if bad & set(names):
            raise ValueError("bad item in " + names[0])
        return names
"""


def run_with_bad(mesh: Mesh, tmp_path: Path, bad: list[int], isolate: bool = False, **settings: Any) -> Job:
    """A job of 20 files, two a mini-batch and one try; `bad` are those on which run() raises."""
    write_files(tmp_path / "in", 20, str)
    return run_job(
        mesh.address,
        write_script(tmp_path, FAILS_ON),
        tmp_path / "in",
        tmp_path / "out",
        mini_batch_size=2,
        run_max_try=1,
        isolate_failures=isolate,
        environment_variables={"BAD": ",".join(f"item-{number:05}.txt" for number in bad)},
        **settings,
    )


def test_more_failed_items_than_error_threshold_fail_the_job(mesh: Mesh, tmp_path: Path) -> None:
    job = failed(run_with_bad(mesh, tmp_path, [3], error_threshold=1))
    assert job.error is not None
    assert job.error.message.startswith("2 items failed, more than error_threshold=1 bears")
    assert "ValueError: bad item in item-00002.txt" in job.error.traceback
    assert os.listdir(tmp_path / "out") == ["job_report"]
    assert summary(job)["state"] == "FAILED"
    adds_up(job)


def test_as_many_failed_items_as_error_threshold_do_not(mesh: Mesh, tmp_path: Path) -> None:
    assert len(lines(succeeded(run_with_bad(mesh, tmp_path, [3], error_threshold=2)))) == 18


def test_minus_one_bears_all_failed_items(mesh: Mesh, tmp_path: Path) -> None:
    assert len(lines(succeeded(run_with_bad(mesh, tmp_path, [1, 3, 5, 7], error_threshold=-1)))) == 12


def test_more_failed_mini_batches_than_allowed_failed_count_fail_the_job(mesh: Mesh, tmp_path: Path) -> None:
    job = failed(run_with_bad(mesh, tmp_path, [1, 3], error_threshold=-1, allowed_failed_count=1))
    assert job.error is not None
    assert "allowed_failed_count=1" in job.error.message


def test_a_larger_share_of_failed_mini_batches_than_allowed_fails_the_job(mesh: Mesh, tmp_path: Path) -> None:
    job = failed(run_with_bad(mesh, tmp_path, [1, 3], error_threshold=-1, allowed_failed_percent=19))
    assert job.error is not None
    assert "allowed_failed_percent=19" in job.error.message


def test_as_large_a_share_as_allowed_does_not(mesh: Mesh, tmp_path: Path) -> None:
    succeeded(run_with_bad(mesh, tmp_path, [1, 3], error_threshold=-1, allowed_failed_percent=20))


def test_a_job_in_which_nothing_succeeded_fails_whatever_it_bears(mesh: Mesh, tmp_path: Path) -> None:
    job = failed(run_with_bad(mesh, tmp_path, list(range(20)), error_threshold=-1))
    assert job.error is not None
    assert job.error.message.startswith("None of the 20 items succeeded")


def test_an_init_that_fails_fails_the_job_with_its_traceback_in_seconds(mesh: Mesh, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 3, str)
    script = write_script(
        tmp_path,
        """
        def init():
            raise FileNotFoundError("model.onnx")

        def run(mini_batch):
            return mini_batch
        """,
    )
    job = failed(run_job(mesh.address, script, tmp_path / "in", tmp_path / "out", patience=30))
    assert job.error is not None
    assert job.error.kind == "INIT_FAILED"
    assert "FileNotFoundError: model.onnx" in job.error.traceback
    assert "batchmesh" not in job.error.traceback
    assert summary(job)["items"]["not_reached"] == 3


def test_summary_only_counts_and_leaves_the_folder_to_the_script(mesh: Mesh, tmp_path: Path) -> None:
    paths = write_files(tmp_path / "in", 9, str)
    script = write_script(
        tmp_path,
        """
        import argparse, os, shutil

        parser = argparse.ArgumentParser()
        parser.add_argument("--output")
        output = parser.parse_known_args()[0].output

        def run(mini_batch):
            for path in mini_batch:
                shutil.copy(path, output)
            return mini_batch
        """,
    )
    job = succeeded(
        run_job(
            mesh.address, script, tmp_path / "in", tmp_path / "out", mini_batch_size=2, output_action="summary_only"
        )
    )
    assert sorted(os.listdir(tmp_path / "out")) == sorted(["job_report", *(path.name for path in paths)])
    assert job.output_path == str(tmp_path / "out")
    assert job.progress.succeeded_items == 9


def test_a_pool_outlives_its_job_for_the_next_one_of_the_same_script(mesh: Mesh, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 8, str)
    script = write_script(
        tmp_path,
        """
        import os

        def init():
            with open(os.environ["INITS"], "a") as file:
                file.write("x")

        def run(mini_batch):
            return mini_batch
        """,
    )
    inits = tmp_path / "inits"
    for number in range(3):
        succeeded(
            run_job(
                mesh.address,
                script,
                tmp_path / "in",
                tmp_path / f"out-{number}",
                process_count_per_node=1,
                environment_variables={"INITS": str(inits)},
            )
        )
    assert inits.read_text() == "x"


def test_megabytes_of_prints_are_kept_as_logs_and_cost_no_row(mesh: Mesh, tmp_path: Path) -> None:
    paths = write_files(tmp_path / "in", 6, str)
    script = write_script(
        tmp_path,
        """
        import os, sys

        def run(mini_batch):
            print("x" * 2**20)
            sys.stderr.write("an error line\\n")
            return [os.path.basename(path) for path in mini_batch]
        """,
    )
    job = succeeded(run_job(mesh.address, script, tmp_path / "in", tmp_path / "out", mini_batch_size=2))
    assert lines(job) == [path.name for path in paths]
    with Client(mesh.address) as client:
        logs = {log.name: log.size for log in client.logs(job.job_id)}
        assert sum(size for name, size in logs.items() if "/stdout/" in name) >= 3 * 2**20
        stderr = [name for name in logs if "/stderr/" in name]
        text = b"".join(piece for name in stderr for piece in client.read_log(job.job_id, name))
    assert text.count(b"an error line\n") == 3


def test_what_depends_on_hashes_reads_the_same_from_each_worker(mesh: Mesh, tmp_path: Path) -> None:
    write_files(tmp_path / "in", 40, str)
    script = write_script(
        tmp_path,
        """
        import os, time

        def run(mini_batch):
            time.sleep(0.01)
            open(os.path.join(os.environ["MARKS"], str(os.getpid())), "w").close()
            return [str({"one", "two", "three", "four", "five", "six", "seven"}) for _ in mini_batch]
        """,
    )
    marks = tmp_path / "marks"
    marks.mkdir()
    job = succeeded(
        run_job(
            mesh.address,
            script,
            tmp_path / "in",
            tmp_path / "out",
            mini_batch_size=1,
            environment_variables={"MARKS": str(marks)},
        )
    )
    assert len(list(marks.iterdir())) == 2
    assert len(set(lines(job))) == 1


def test_the_report_names_each_mini_batch_with_its_times_and_tries(mesh: Mesh, tmp_path: Path) -> None:
    job = succeeded(run_with_bad(mesh, tmp_path, [3], isolate=True, error_threshold=1))
    with open(f"{job.report_path}/processed_mini-batches.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    assert [row["status"] for row in rows].count("Failed") == 1
    assert "ValueError" in next(row["error"] for row in rows if row["status"] == "Failed")
    assert sum(int(row["succeeded"]) for row in rows) == 19
    assert sum(int(row["failed"]) for row in rows) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_non_utf8_file_names_survive(mesh: Mesh, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "in")
    os.mkdir(folder)
    with open(folder + b"/caf\xe9.txt", "w") as file:
        file.write("x")
    script = write_script(
        tmp_path, "import os\ndef run(mini_batch):\n    return [os.fsencode(p).hex() for p in mini_batch]\n"
    )
    job = succeeded(run_job(mesh.address, script, tmp_path / "in", tmp_path / "out"))
    assert lines(job) == [(folder + b"/caf\xe9.txt").hex()]
