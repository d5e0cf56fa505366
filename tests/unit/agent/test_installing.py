"""What is decided before an environment is made, and what is told of one that cannot be."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from batchmesh.agent.commands import Ended
from batchmesh.agent.environments import digest_of
from batchmesh.agent.installing import NotInstalled, check, steps
from batchmesh.agent.interpreter import Interpreter, NoInterpreter, described, surroundings

BASE = Interpreter("/usr/bin/python3", "3.12.1", "cpython-312", "", ())


def said(name: str, version: list[int]) -> Ended:
    about = [name, version, "cpython-39", "/env", "/usr", ["pandas"]]
    return Ended(0, f"a line of a site module\n\n{json.dumps(about)}\n")


def test_an_interpreter_is_what_it_says_of_itself() -> None:
    found = described("/env/bin/python", said("cpython", [3, 9, 18]))
    assert found == Interpreter("/env/bin/python", "3.9.18", "cpython-39", "/env", ("pandas",))


@pytest.mark.parametrize(
    "ended", [said("cpython", [3, 8, 20]), said("pypy", [3, 11, 0]), Ended(2, "unknown option -I"), Ended(0, "")]
)
def test_an_older_python_and_no_python_is_none_for_workers(ended: Ended) -> None:
    with pytest.raises(NoInterpreter, match=r"/it is no CPython of version 3\.9 or later; name another interpreter\."):
        described("/it", ended)


def test_a_worker_finds_the_commands_of_its_own_python_first_and_nothing_of_the_agents() -> None:
    agents = {"PATH": "/bin", "PYTHONPATH": "/ours", "PYTHONHOME": "/ours", "VIRTUAL_ENV": "/ours", "HOME": "/home"}
    assert surroundings(agents, "/env/bin/python", "/env") == {
        "PATH": f"/env/bin{os.pathsep}/bin", "HOME": "/home", "VIRTUAL_ENV": "/env",
    }  # fmt: skip
    assert "VIRTUAL_ENV" not in surroundings(agents, "/usr/bin/python3", "")


def test_uv_makes_an_environment_where_it_is_there_else_the_interpreter_itself() -> None:
    folder = Path("/work")
    assert [each[:2] for each in steps("/bin/uv", "/python", folder, anything=True)] == [
        ("/bin/uv", "venv"), ("/bin/uv", "pip"),
    ]  # fmt: skip
    make, fill = steps(None, "/python", folder, anything=True)
    assert make == ("/python", "-I", "-m", "venv", "/work/venv")
    assert fill[:4] == ("/work/venv/bin/python", "-I", "-m", "pip")
    assert steps(None, "/python", folder, anything=False) == [
        ("/python", "-I", "-m", "venv", "--without-pip", "/work/venv")
    ]


def test_the_sentence_of_a_failed_installer_ends_with_its_last_lines_from_the_beginning_of_one_on() -> None:
    lines = "".join(f"line {number}\n" for number in range(1000))
    with pytest.raises(NotInstalled) as refused:
        check(("/bin/uv", "pip"), Ended(2, lines))
    head, _, last = str(refused.value).partition("\n")
    assert head == "uv ended with exit status 2 and said last:"
    assert last.endswith("\nline 998\nline 999")
    assert 1_900 < len(last) <= 2_000
    assert all(line.startswith("line ") for line in last.splitlines())
    check(("/bin/uv", "pip"), Ended(0, lines))


def test_an_environment_is_another_one_when_its_lines_interpreter_or_files_are(tmp_path: Path) -> None:
    wheel = tmp_path / "it-1.0.whl"
    wheel.write_text("one")
    lines = ["numpy", str(wheel)]
    first = digest_of(lines, BASE)
    assert first == digest_of(tuple(lines), BASE)
    others = {digest_of(["numpy"], BASE), digest_of(lines, BASE._replace(version="3.12.2"))}
    others |= {digest_of(lines, BASE._replace(path="/opt/python3")), digest_of([str(wheel), "numpy"], BASE)}
    wheel.write_text("other")
    others.add(digest_of(lines, BASE))
    wheel.unlink()
    others.add(digest_of(lines, BASE))
    assert first not in others
    assert len(others) == 6
