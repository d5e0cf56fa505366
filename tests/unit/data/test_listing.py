"""Inputs are listed lazily, in the order of their bytes, and from any place on."""

import os
import tempfile
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchmesh.data.kinds import kind_of_inputs, kind_of_path
from batchmesh.data.listing import InputRefused, Pattern, first_file, list_input, list_runs


def paths(*inputs: Path | str) -> list[str]:
    return [path for text in inputs for path in list_input(str(text))]


def touch(folder: Path, *names: str) -> list[str]:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return [str(folder / name) for name in names]


NAMES = st.lists(st.text("ab.-0é", min_size=1, max_size=3).filter(lambda name: name[0] != "."), min_size=1, max_size=3)


@settings(deadline=None, max_examples=60, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NAMES, min_size=1, max_size=12))
def test_the_order_is_that_of_sorted_paths_and_goes_on_from_anywhere(
    tmp_path_factory: pytest.TempPathFactory, trees: list[list[str]]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    made = set()
    for parts in trees:
        try:
            made |= set(touch(root, "/".join(parts)))
        except OSError:
            continue  # the name is already a folder, or a file where a folder is wanted
    expected = sorted(made, key=os.fsencode)
    assert paths(root) == expected
    assert paths(root / "**") == expected
    for index, path in enumerate(expected):
        assert list(list_input(str(root), path)) == expected[index + 1 :]


def test_names_that_begin_with_a_dot_are_left_out(tmp_path: Path) -> None:
    (kept,) = touch(tmp_path, "a/kept")
    touch(tmp_path, ".hidden", ".folder/b", "a/.c")
    assert paths(tmp_path) == [kept]
    assert paths(tmp_path / "**") == [kept]


def test_symlinked_files_are_followed_and_symlinked_folders_are_not(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/file")
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").symlink_to(tmp_path / "elsewhere/file")
    (root / "folder").symlink_to(tmp_path / "elsewhere")
    (root / "nowhere").symlink_to(tmp_path / "gone")
    assert paths(root) == [str(root / "file"), str(root / "nowhere")]
    assert paths(root / "f*") == [str(root / "file")]


def test_an_input_that_is_itself_a_symlink_to_a_folder_is_listed(tmp_path: Path) -> None:
    touch(tmp_path, "real/a")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert paths(tmp_path / "link") == [str(tmp_path / "link/a")]


def test_names_that_are_not_utf8_survive(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff\xfe.bin"
    Path(os.fsdecode(name)).write_bytes(b"")
    assert [os.fsencode(path) for path in paths(tmp_path)] == [name]


def test_sockets_and_pipes_are_no_items(tmp_path: Path) -> None:
    (kept,) = touch(tmp_path, "a")
    os.mkfifo(tmp_path / "pipe")
    assert paths(tmp_path) == [kept]
    with pytest.raises(InputRefused, match="neither a file nor a folder"):
        paths(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.csv", ["a.csv"]),
        ("**/*.csv", ["a.csv", "x/b.csv", "x/y/c.csv"]),
        ("*/*.csv", ["x/b.csv"]),
        ("x/**/*.csv", ["x/b.csv", "x/y/c.csv"]),
        ("**/y/*", ["x/y/c.csv"]),
        ("x/**", ["x/b.csv", "x/d.txt", "x/y/c.csv"]),
        ("?.csv", ["a.csv"]),
        ("x/[bd].*", ["x/b.csv", "x/d.txt"]),
        ("*", ["a.csv"]),
    ],
)
def test_a_glob_matches_files_part_by_part(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    names = ["a.csv", "x/b.csv", "x/d.txt", "x/y/c.csv"]
    touch(tmp_path, *names)
    assert paths(tmp_path / pattern) == [str(tmp_path / name) for name in expected]
    assert [name for name in names if Pattern(pattern.split("/")).matches(name.split("/"))] == expected


def test_a_path_that_exists_is_itself_whatever_its_characters(tmp_path: Path) -> None:
    made = touch(tmp_path, "data[1].csv")
    touch(tmp_path, "data1.csv")
    assert paths(tmp_path / "data[1].csv") == made


def test_nothing_is_behind_an_input_that_is_one_file(tmp_path: Path) -> None:
    (made,) = touch(tmp_path, "file")
    assert list(list_input(made)) == [made]
    assert list(list_input(made, made)) == []


@pytest.mark.parametrize("names", [("b", "a/c"), ("b", "a", ".a"), ("a-", "a/b"), (".a", "-a", "é"), ("é/b", "\x01")])
def test_the_first_file_is_the_first_of_the_listing(tmp_path: Path, names: tuple[str, ...]) -> None:
    touch(tmp_path, *names)
    assert [first_file(str(tmp_path))] == paths(tmp_path)[:1]
    assert [first_file(f"{tmp_path}/**")] == paths(tmp_path)[:1]


def test_the_files_of_a_folder_come_in_one_run_up_to_the_next_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a", "b/c", "b/d", "e", "f")
    found = [(os.path.relpath(run.folder, tmp_path), run.names) for run in list_runs(str(tmp_path))]
    assert found == [(".", ["a"]), ("b", ["c", "d"]), (".", ["e", "f"])]


def test_the_first_file_comes_before_later_folders_are_read(tmp_path: Path) -> None:
    first, _ = touch(tmp_path, "a/file", "b/file")
    listing = list_input(str(tmp_path))
    assert list(islice(listing, 1)) == [first]
    touch(tmp_path, "b/later")
    assert list(listing) == [str(tmp_path / "b/file"), str(tmp_path / "b/later")]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("gone", "does not exist"),
        ("gone/*.csv", "there is no folder"),
        ("*.csv", "matches no file"),
        ("empty", "holds no file"),
        ("", "is no path"),
    ],
)
def test_an_input_without_files_gets_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, sentence: str
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputRefused, match=sentence):
        paths(text)


def test_a_folder_that_may_not_be_read_is_refused_by_name() -> None:
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "a" / "closed"
        touch(folder, "file")
        Path(root).chmod(0o755)
        folder.chmod(0)
        try:
            if user == 0:
                os.seteuid(65534)  # root may read all
            with pytest.raises(InputRefused, match="closed/' cannot be listed"):
                paths(root)
        finally:
            os.seteuid(user)
            folder.chmod(0o755)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.CSV", "csv"),
        ("a.tsv.gz", "csv"),
        ("a.pq", "parquet"),
        ("a.parquet.gz", "files"),
        ("a.ndjson", "jsonl"),
        ("a.jsonl.gz", "jsonl"),
        ("a.json", "files"),
        ("csv", "files"),
        ("/x.csv/a.png", "files"),
    ],
)
def test_the_ending_tells_the_kind(name: str, kind: str) -> None:
    assert kind_of_path(name) == kind


def test_a_folder_is_of_the_kind_of_its_first_file_and_a_glob_of_its_ending(tmp_path: Path) -> None:
    touch(tmp_path, "a.jsonl", "b.csv")
    assert kind_of_inputs([str(tmp_path)]) == "jsonl"
    assert kind_of_inputs([f"{tmp_path}/*.csv"]) == "csv"
    assert kind_of_inputs([f"{tmp_path}/*.[cx]sv"]) == "csv"
    assert kind_of_inputs([str(tmp_path)], "files") == "files"
    with pytest.raises(InputRefused, match="inputs are of one kind"):
        kind_of_inputs([str(tmp_path), f"{tmp_path}/b.csv"])
    with pytest.raises(InputRefused, match="input type 'xml' is unknown"):
        kind_of_inputs([str(tmp_path)], "xml")
