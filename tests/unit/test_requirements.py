"""Which files a line of a requirements.txt names."""

from __future__ import annotations

import pytest

from batchmesh.requirements import paths_in


@pytest.mark.parametrize(
    ("line", "paths"),
    [
        ("numpy", []),
        ("numpy==2.0  # /not/this", []),
        ('numpy>=1.26,<3 ; python_version < "3.12"', []),
        ("it[extra]~=1.0", []),
        ("it @ https://example.org/a/it-1.0.whl", []),
        ("git+https://example.org/it.git@v1#egg=it", []),
        ("--extra-index-url https://example.org/simple", []),
        ("--no-index", []),
        ("--hash=sha256:abc", []),
        ("-r https://example.org/requirements.txt", []),
        ("/data/it-1.0.whl", ["/data/it-1.0.whl"]),
        ("/data/it[extra]", ["/data/it"]),
        ("it @ file:///data/it%201.0.whl", ["/data/it 1.0.whl"]),
        ("it@file:///data/it-1.0.whl ; os_name == 'posix'", ["/data/it-1.0.whl"]),
        ("-e /data/it", ["/data/it"]),
        ("--find-links=/data/wheels", ["/data/wheels"]),
        ("-r more.txt", ["more.txt"]),
        ("-rmore.txt", ["more.txt"]),
        ("--requirement=more.txt", ["more.txt"]),
        ("-c ../limits.txt", ["../limits.txt"]),
        ("--editable .", ["."]),
        ("-f wheels", ["wheels"]),
        (".", ["."]),
        ("./it", ["./it"]),
        ("wheels/it", ["wheels/it"]),
        ("it-1.0-py3-none-any.whl", ["it-1.0-py3-none-any.whl"]),
        ("it-1.0.tar.gz ; os_name == 'posix'", ["it-1.0.tar.gz"]),
        ("it @ file:it.whl", ["it.whl"]),
        ("an ' unfinished quote", []),
        ("", []),
    ],
)
def test_a_line_names_the_files_that_an_installer_would_take_from_this_host(line: str, paths: list[str]) -> None:
    assert paths_in(line) == paths
