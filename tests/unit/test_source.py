"""What of a folder goes along with an entry script, and that its archive is the same wherever it is made."""

from __future__ import annotations

import json
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from batchmesh import source
from batchmesh.home import Home
from batchmesh.source import Source, SourceRefused, files_of, pack, paths_inside

if TYPE_CHECKING:
    from pathlib import Path


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def names_in(source: Source) -> list[str]:
    return [name for name, _ in files_of(source)]


def test_siblings_and_subfolders_go_along_in_bytewise_order(tmp_path: Path) -> None:
    make(tmp_path, "score.py", "b.py", "B.py", "a/deep/model.bin", "a.py")
    assert names_in(Source(tmp_path, "score.py")) == ["B.py", "a.py", "a/deep/model.bin", "b.py", "score.py"]


def test_hidden_entries_caches_and_virtual_environments_stay(tmp_path: Path) -> None:
    make(tmp_path, "score.py", ".git/config", ".env", "__pycache__/score.pyc", "env/pyvenv.cfg", "env/lib/x.py")
    assert names_in(Source(tmp_path, "score.py")) == ["score.py"]


def test_the_jobs_own_data_inside_the_folder_stays(tmp_path: Path) -> None:
    make(tmp_path, "score.py", "in/1.png", "x/1.csv", "x/1.json", "out/result.txt", "input.txt", "in2/keep.txt")
    inputs = [str(tmp_path / "in"), str(tmp_path / "x" / "*.csv"), str(tmp_path / "input.txt")]
    left_out = paths_inside(tmp_path, inputs, str(tmp_path / "out"))
    assert names_in(Source(tmp_path, "score.py", left_out)) == ["in2/keep.txt", "score.py", "x/1.json"]


def test_an_input_that_holds_the_folder_leaves_it_whole(tmp_path: Path) -> None:
    make(tmp_path / "code", "score.py", "helper.py")
    left_out = paths_inside(tmp_path / "code", [str(tmp_path), str(tmp_path / "code")], str(tmp_path / "out"))
    assert names_in(Source(tmp_path / "code", "score.py", left_out)) == ["helper.py", "score.py"]


def test_the_entry_script_goes_along_even_if_an_input_fits_it(tmp_path: Path) -> None:
    make(tmp_path, "score.py", "other.py")
    left_out = paths_inside(tmp_path, [str(tmp_path / "*.py")], str(tmp_path / "out"))
    assert names_in(Source(tmp_path, "score.py", left_out)) == ["score.py"]


def test_symlinks_are_followed_only_inside(tmp_path: Path) -> None:
    make(tmp_path, "outside/secret.txt", "code/score.py", "code/lib/one.py")
    code = tmp_path / "code"
    (code / "two.py").symlink_to(code / "lib" / "one.py")
    (code / "linked").symlink_to(code / "lib")
    (code / "lib" / "loop").symlink_to(code)
    (code / "away").symlink_to(tmp_path / "outside")
    (code / "secret.txt").symlink_to(tmp_path / "outside" / "secret.txt")
    (code / "dangling").symlink_to(code / "nothing")
    assert names_in(Source(code, "score.py")) == ["lib/one.py", "linked/one.py", "score.py", "two.py"]


def test_the_digest_depends_on_names_bytes_and_mode_alone(tmp_path: Path) -> None:
    first, second = make(tmp_path / "1", "score.py", "a.sh"), make(tmp_path / "2", "a.sh", "score.py")
    os.utime(second / "a.sh", (1, 1))
    digests = []
    for folder in (first, second):
        with pack(Source(folder, "score.py")) as archive:
            digests.append(archive.digest)
    assert digests[0] == digests[1]
    (second / "a.sh").chmod(0o755)
    with pack(Source(second, "score.py")) as archive:
        assert archive.digest != digests[0]
        with tarfile.open(fileobj=archive.tar) as tar:
            entry = tar.getmember("a.sh")
            assert (entry.mode, entry.uid, entry.mtime, entry.uname) == (0o755, 0, 0, "")
            unpacked = tar.extractfile(entry)
            assert unpacked is not None
            assert unpacked.read() == b"a.sh"


def test_a_folder_that_is_too_large_is_refused_with_its_size_and_the_remedy(tmp_path: Path) -> None:
    make(tmp_path, "score.py")
    with (tmp_path / "data.bin").open("wb") as sparse:
        sparse.truncate(source.MAX_BYTES + 2**20)
    with pytest.raises(SourceRefused, match=r"301 MB.*--source-directory"):
        files_of(Source(tmp_path, "score.py"))


def test_a_folder_of_too_many_files_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "score.py", "many/0")
    for number in range(1, source.MAX_FILES + 1):
        os.link(tmp_path / "many" / "0", tmp_path / "many" / str(number))
    with pytest.raises(SourceRefused, match=r"20,001 files.*folder of its own"):
        files_of(Source(tmp_path, "score.py"))


def test_what_a_mesh_has_made_in_the_folder_is_no_source(tmp_path: Path) -> None:
    make(tmp_path, "score.py", "results/a.csv", "earlier/parallel_run_step.txt", "earlier/job_report/summary.json")
    summary = {"job_id": "job-1", "state": "SUCCEEDED", "batchmesh_version": "1"}
    (tmp_path / "earlier" / "job_report" / "summary.json").write_text(json.dumps(summary))
    Home(tmp_path / "home").make()
    (tmp_path / "home" / "lock").touch()
    assert names_in(Source(tmp_path, "score.py")) == ["results/a.csv", "score.py"]
