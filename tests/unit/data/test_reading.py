"""What a worker imports to read its items."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmesh.data import files
from batchmesh.data.listing import Run
from batchmesh.data.reading import read_slice
from batchmesh.data.slices import UnreadableSlice, decode_slice, encode_slice

#: What JSON has to escape, what is no UTF-8, and what stands for something in the slice itself.
ODD = ["a", "b\udcff", "c\n", 'd"\\', "names", "ü", "\U0001f600", "{}"]
SPLITS = st.lists(st.lists(st.sampled_from(ODD), min_size=1, max_size=7), max_size=5)


@given(SPLITS, st.integers(1, 6))
def test_files_are_grouped_across_folders_and_handed_over_whatever_their_names(
    names: list[list[str]], amount: int
) -> None:
    runs = [Run(f'/in/"{number}\udcff/', each) for number, each in enumerate(names)]
    paths = [run.folder + name for run in runs for name in run.names]
    found = list(files.split(iter(runs), amount))
    expected = [paths[at : at + amount] for at in range(0, len(paths), amount)]
    assert [read_slice(decode_slice(encode_slice(piece.fields))).items for piece in found] == expected
    assert [piece.items for piece in found] == list(map(len, expected))
    assert [files.last_of(piece.fields) for piece in found] == [group[-1] for group in expected]


def test_a_slice_names_the_folder_of_its_files_once() -> None:
    (piece,) = files.split([Run("/a/long/folder/", ["1.png", "2.png"])], 2)
    assert encode_slice(piece.fields) == b'{"kind":"files","folder":"/a/long/folder/","names":"1.png/2.png"}'


def test_a_slice_of_files_as_earlier_versions_wrote_it_is_read() -> None:
    assert read_slice(decode_slice(b'{"kind":"files","files":["/a/1","/b/2"]}')).items == ["/a/1", "/b/2"]


def test_reading_files_imports_no_library_of_tables() -> None:
    code = (
        "import sys; from batchmesh.data.reading import read_slice;"
        " assert read_slice({'kind': 'files', 'files': ['/a']}).items == ['/a'];"
        " print(sorted({'numpy', 'pandas', 'pyarrow', 'grpc', 'structlog', 'google.protobuf'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_slice_of_an_unknown_kind_gets_a_sentence() -> None:
    with pytest.raises(UnreadableSlice, match="'avro' cannot be read by this version"):
        read_slice({"kind": "avro"})
