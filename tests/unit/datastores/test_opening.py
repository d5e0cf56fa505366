"""Which datastore an entry becomes, and what is said when it cannot become one."""

from __future__ import annotations

import re
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


@pytest.mark.parametrize(
    ("container", "sentence"),
    [
        (AzureBlobContainer("", "account"), "has the container ''; its name has 3 to 63 of"),
        (AzureBlobContainer("container", ""), "has the account ''; the name of a storage account has 3 to 24"),
        (AzureBlobContainer("container", "account", account_key="se?ret"), "has an account key that is not base64"),
        (AzureBlobContainer("container", "account", sas_token="se?ret"), "has a SAS token without a signature"),
        (AzureBlobContainer("container", "account", "http://u:se?ret@x/"), "has an endpoint that is no http://"),
    ],
)
def test_a_container_that_cannot_be_is_not_asked(container: AzureBlobContainer, sentence: str) -> None:
    with pytest.raises(BadEntry, match=re.escape(sentence)) as refused:
        open_datastore(Entry("blobs", container))
    assert "se?ret" not in str(refused.value)


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
