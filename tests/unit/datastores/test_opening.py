"""Which datastore an entry becomes, and what is said when it cannot become one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from batchmesh.datastores.opening import open_datastore
from batchmesh.entries import AzureBlobContainer, Dataset, Entry, LocalFolder
from batchmesh.errors import BadEntry

_WITHOUT_AZURE = """
import sys
sys.modules["azure"] = None
from batchmesh.datastores.opening import open_datastore
from batchmesh.entries import AzureBlobContainer, Entry
from batchmesh.errors import BadEntry
try:
    open_datastore(Entry("blobs", AzureBlobContainer("container", "account")))
except BadEntry as error:
    print(error)
"""


def test_a_folder_is_on_this_host_and_a_container_is_not() -> None:
    assert open_datastore(Entry("data", LocalFolder("/data"))).local("a/b") == "/data/a/b"
    assert open_datastore(Entry("data", LocalFolder("/data"))).local("") == "/data"
    assert open_datastore(Entry("blobs", AzureBlobContainer("container", "account"))).local("a") is None


def test_what_is_no_datastore_is_not_opened() -> None:
    with pytest.raises(BadEntry, match="'table' is a dataset, not a datastore"):
        open_datastore(Entry("table", Dataset("csv", ("/data",))))


def test_a_missing_library_is_one_sentence_that_says_what_to_install() -> None:
    shown = subprocess.run([sys.executable, "-c", _WITHOUT_AZURE], capture_output=True, text=True, check=True)
    assert shown.stdout == (
        "The datastore 'blobs' is a blob container, which needs azure-storage-blob on this host too; "
        "install batchmesh[azure] there.\n"
    )


def test_a_folder_loads_no_library_of_azure() -> None:
    code = (
        "from batchmesh.datastores.opening import open_datastore; from batchmesh.entries import Entry, LocalFolder; "
        "open_datastore(Entry('data', LocalFolder('/data'))); import sys; print({'azure', 'grpc'} & {*sys.modules})"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "set()\n"
