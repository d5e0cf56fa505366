"""What a worker imports to read its items."""

import subprocess
import sys

import pytest

from batchmesh.data import files
from batchmesh.data.reading import read_slice
from batchmesh.data.slices import UnreadableSlice, decode_slice, encode_slice


def test_files_are_grouped_and_handed_over_with_odd_names() -> None:
    names = ["/a", "/b\udcff", "/ü"]
    found = list(files.split(names, 2))
    assert [piece.items for piece in found] == [2, 1]
    assert [read_slice(decode_slice(encode_slice(piece.fields))).items for piece in found] == [names[:2], names[2:]]


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
