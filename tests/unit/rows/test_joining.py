"""Frames of one schema that a commit writes together, and what a CSV commit does without."""

from __future__ import annotations

import io
import subprocess
import sys
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from batchmesh.rows.joining import joining_for
from batchmesh.rows.rendering import renderer_for

if TYPE_CHECKING:
    from batchmesh.rows.results import Rendered

NAMES = ["a.txt", "a.csv", "a.jsonl", "a.parquet"]
CELL = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=3))
RESULTS = st.lists(st.lists(st.dictionaries(st.sampled_from("ab"), CELL, max_size=2) | CELL, max_size=3), max_size=6)


def rendered(name: str, results: list[Any]) -> list[Rendered]:
    renderer = renderer_for(name)
    return [renderer.render(result) for result in results]


def written(name: str, frames: list[Rendered], together: bool) -> bytes:
    """The output; `together` as a commit gives frames: neighbours of one schema, from a buffer that is used again."""
    join, out = joining_for(name), io.BytesIO()
    for frame in frames:
        join.learn(frame.schema)
    writer = join.writer(out)
    for schema, run in groupby(frames, lambda frame: frame.schema):
        if not together:
            for frame in run:
                writer.write(schema, [frame.body])
            continue
        bodies = [bytearray(frame.body) for frame in run]
        writer.write(schema, [memoryview(body) for body in bodies])
        for body in bodies:
            body[:] = bytes(len(body))
    writer.close()
    return out.getvalue()


def content(name: str, output: bytes) -> object:
    return parquet.read_table(io.BytesIO(output)) if name.endswith("parquet") else output


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None)
@given(RESULTS)
def test_frames_written_together_are_those_written_one_by_one(name: str, results: list[Any]) -> None:
    # A frame that is there again stands beside itself, and both beside one that has other columns.
    frames = [frame for frame in rendered(name, results) for _ in range(2)]
    assert content(name, written(name, frames, together=True)) == content(name, written(name, frames, together=False))


def test_ints_beyond_those_with_a_sign_keep_their_digits_beside_negative_ones() -> None:
    frames = rendered("a.csv", [[{"a": 2**64 - 1}], [{"a": -1}], [{"a": "text"}]])
    assert written("a.csv", frames, together=True) == b'"a"\n"18446744073709551615"\n"-1"\n"text"\n'.replace(
        b'"a"', b"a"
    )


def test_a_csv_whose_columns_do_not_change_is_joined_without_arrow() -> None:
    code = (
        "import io, sys; from batchmesh.rows.joining import joining_for; join = joining_for('a.csv');"
        """join.learn(b'[["a","int",false]]'); writer = join.writer(io.BytesIO());"""
        """writer.write(b'[["a","int",false]]', [b'1']); writer.close(); assert 'pyarrow' not in sys.modules"""
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
