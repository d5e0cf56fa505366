"""References: which text is one, what it refers to, and which is malformed."""

from __future__ import annotations

import pytest

from batchmesh.datastores.reference import Reference, parse
from batchmesh.errors import SpecRefused


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("datastore://blobs/mnist/", Reference("blobs", "mnist/")),
        ("datastore://blobs/a/*.png", Reference("blobs", "a/*.png")),
        ("datastore://blobs/", Reference("blobs", "")),
        ("datastore://blobs", Reference("blobs", "")),
        ("datastore://b.l_o-b/é ü#?", Reference("b.l_o-b", "é ü#?")),
        ("/datastore://blobs/a", None),
        ("/data/a", None),
        ("a:b", None),
        ("", None),
    ],
)
def test_a_reference_is_told_from_a_path(text: str, found: Reference | None) -> None:
    assert parse(text) == found


def test_a_reference_is_written_as_it_is_read() -> None:
    for text in ("datastore://blobs/mnist/", "datastore://blobs/", "datastore://blobs/a/**/*.png"):
        assert str(parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["datastore://", "datastore:///a", "datastore://-x/a", "datastore://a b/c", "datastore://" + "a" * 129],
)
def test_a_reference_without_a_name_says_how_one_looks(text: str) -> None:
    with pytest.raises(SpecRefused, match="it is datastore://NAME/PATH"):
        parse(text)


@pytest.mark.parametrize("path", ["..", "a/../b", "/a", "a//b", "./a", "a//", "a\0b"])
def test_a_path_is_named_from_the_top_in_one_spelling_only(path: str) -> None:
    with pytest.raises(SpecRefused, match="name it from the top"):
        parse(f"datastore://blobs/{path}")
