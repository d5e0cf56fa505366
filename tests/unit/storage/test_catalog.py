"""The catalog on its disk: versions, what is the same, the default datastore, and who may read it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from batchmesh.entries import AzureBlobContainer, Content, Dataset, Entry, EntryKind, LocalFolder, Model
from batchmesh.errors import BadEntry, BadName, EntryExists, NoArtifact, NoEntry
from batchmesh.python_environment import PythonEnvironment
from batchmesh.storage.catalog import ENTRY_LIMIT, Catalog
from batchmesh.storage.places import Places

if TYPE_CHECKING:
    from pathlib import Path

KEY = "c2VjcmV0LWtleQ=="
DIGEST = "ab" * 32
BLOBS = AzureBlobContainer("sampledata", "account", account_key=KEY)


def catalog_at(root: Path) -> Catalog:
    return Catalog(Places(root), lambda digest: digest == DIGEST)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return catalog_at(tmp_path)


def files(path: str) -> Dataset:
    return Dataset("files", (path,))


def versions(catalog: Catalog, name: str) -> list[int]:
    return [each.version for each in catalog.entries("", EntryKind.DATASET, name)]


@pytest.mark.parametrize(
    "content",
    [
        LocalFolder("/data"),
        AzureBlobContainer("sampledata", "account", "http://127.0.0.1:1/account"),
        Dataset("csv", ("/data", "datastore://workspaceblobstore/x"), "absent", {"id": "string"}),
        Model(DIGEST, "model.onnx", 2**40),
        PythonEnvironment("env", ("numpy", "pandas==2"), "/usr/bin/python3", user_managed=True),
    ],
)
def test_each_kind_comes_back_as_it_was_registered(tmp_path: Path, catalog: Catalog, content: Content) -> None:
    entry = Entry("mine", content, workspace="team", description="said of it", tags={"a": "1"})
    kept = catalog.register(entry, overwrite=False)
    assert (kept.content, kept.version, kept.description, kept.tags) == (content, 1, "said of it", {"a": "1"})
    assert kept.registered is not None
    assert catalog_at(tmp_path).get("team", entry.kind, "mine") == kept
    with pytest.raises(NoEntry):
        catalog.get("", entry.kind, "mine")


def test_another_content_is_another_version_and_the_same_is_not(catalog: Catalog) -> None:
    for path in ("/a", "/b", "/b", "/a"):
        catalog.register(Entry("mine", files(path)), overwrite=True)
    assert versions(catalog, "mine") == [1, 2, 3]
    assert catalog.get("", EntryKind.DATASET, "mine").version == 3
    assert catalog.get("", EntryKind.DATASET, "mine", 2).content == files("/b")


def test_the_same_content_may_be_described_anew(catalog: Catalog) -> None:
    first = catalog.register(Entry("mine", files("/a"), tags={"a": "1"}), overwrite=False)
    again = catalog.register(Entry("mine", files("/a"), description="now"), overwrite=False)
    assert (again.version, again.registered) == (1, first.registered)
    assert (again.tags, again.description) == ({"a": "1"}, "now")


def test_a_name_that_is_taken_needs_overwrite(catalog: Catalog) -> None:
    catalog.register(Entry("mine", files("/a")), overwrite=False)
    with pytest.raises(EntryExists, match=r"another dataset 'mine'.*new version"):
        catalog.register(Entry("mine", files("/b")), overwrite=False)
    assert versions(catalog, "mine") == [1]


def test_a_datastore_has_one_version_and_another_takes_its_place(catalog: Catalog) -> None:
    catalog.register(Entry("mine", LocalFolder("/a")), overwrite=False)
    with pytest.raises(EntryExists, match="ask to overwrite it"):
        catalog.register(Entry("mine", BLOBS), overwrite=False)
    assert catalog.register(Entry("mine", BLOBS), overwrite=True).version == 1
    assert catalog.credentials("", "mine").content == BLOBS


def test_credentials_leave_by_one_door_only(catalog: Catalog) -> None:
    public = AzureBlobContainer("sampledata", "account")
    assert catalog.register(Entry("mine", BLOBS), overwrite=False).content == public
    assert catalog.get("", EntryKind.DATASTORE, "mine").content == public
    assert [each.content for each in catalog.entries("", EntryKind.DATASTORE)][:1] == [public]
    assert catalog.credentials("", "mine").content == BLOBS


def test_another_key_is_another_content(catalog: Catalog) -> None:
    catalog.register(Entry("mine", BLOBS), overwrite=False)
    with pytest.raises(EntryExists):
        catalog.register(Entry("mine", AzureBlobContainer("sampledata", "account")), overwrite=False)


def test_only_the_owner_reads_what_holds_credentials(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        catalog_at(tmp_path).register(Entry("mine", BLOBS), overwrite=False)
    finally:
        os.umask(before)
    found = [tmp_path / "catalog", *(tmp_path / "catalog").rglob("*")]
    assert {stat.S_IMODE(each.stat().st_mode) for each in found if each.is_dir()} == {0o700}
    assert {stat.S_IMODE(each.stat().st_mode) for each in found if each.is_file()} == {0o600}


def test_a_catalog_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "catalog").mkdir(mode=0o755)
    catalog_at(tmp_path)
    assert stat.S_IMODE((tmp_path / "catalog").stat().st_mode) == 0o700


def test_each_workspace_has_a_default_datastore_whose_folder_comes_with_its_first_use(
    tmp_path: Path, catalog: Catalog
) -> None:
    folder = tmp_path / "datastore" / "team"
    (listed,) = catalog.entries("team", EntryKind.DATASTORE)
    assert (listed.name, listed.version, listed.content) == ("workspaceblobstore", 1, LocalFolder(str(folder)))
    assert not folder.exists()
    assert catalog.credentials("team") == catalog.credentials("team", "workspaceblobstore") == listed
    assert folder.is_dir()


def test_another_datastore_can_be_the_default_one(catalog: Catalog) -> None:
    with pytest.raises(EntryExists):
        catalog.register(Entry("workspaceblobstore", BLOBS), overwrite=False)
    catalog.register(Entry("workspaceblobstore", BLOBS), overwrite=True)
    assert catalog.credentials("").content == BLOBS
    assert [each.name for each in catalog.entries("", EntryKind.DATASTORE)] == ["workspaceblobstore"]


def test_a_listing_goes_by_name_and_version_and_sees_its_own_workspace_only(catalog: Catalog) -> None:
    for name in ("b", "a-1", "C"):
        catalog.register(Entry(name, files("/1")), overwrite=False)
    for number in range(2, 12):
        catalog.register(Entry("b", files(f"/{number}")), overwrite=True)
    catalog.register(Entry("other", files("/1"), workspace="team"), overwrite=False)
    catalog.register(Entry("a-folder", LocalFolder("/1")), overwrite=False)
    found = [(each.name, each.version) for each in catalog.entries("", EntryKind.DATASET)]
    assert found == [("C", 1), ("a-1", 1), ("b", 11)]
    assert versions(catalog, "b") == list(range(1, 12))
    assert versions(catalog, "none") == []
    assert list(catalog.entries("nobody", EntryKind.DATASET)) == []


@pytest.mark.parametrize(("name", "version"), [("none", 0), ("mine", 2), ("mine", -1), ("none", 1)])
def test_what_is_not_there_is_named(catalog: Catalog, name: str, version: int) -> None:
    catalog.register(Entry("mine", files("/a")), overwrite=False)
    with pytest.raises(NoEntry, match=f"Workspace 'default' has no .*dataset '{name}'"):
        catalog.get("", EntryKind.DATASET, name, version)


def test_a_name_cannot_lead_out_of_the_catalog(catalog: Catalog) -> None:
    for workspace, name in (("..", "a"), ("", ".."), ("", "../../x"), ("a/b", "c")):
        with pytest.raises(BadName):
            catalog.get(workspace, EntryKind.DATASET, name)
        with pytest.raises(BadName):
            list(catalog.entries(workspace, EntryKind.DATASET, name))
        with pytest.raises(BadName):
            catalog.credentials(workspace, name)


def test_a_model_needs_its_artifact_which_is_kept_for_all_versions(catalog: Catalog) -> None:
    with pytest.raises(NoArtifact, match="for the model 'mine'"):
        catalog.register(Entry("mine", Model("cd" * 32)), overwrite=False)
    catalog.register(Entry("mine", Model(DIGEST)), overwrite=False)
    catalog.register(Entry("data", files("/a")), overwrite=False)
    assert catalog.artifacts() == {DIGEST}


def test_a_dataset_names_only_datastores_that_are_there(catalog: Catalog) -> None:
    with pytest.raises(BadEntry, match="names the datastore 'blobs', which workspace 'default' does not have"):
        catalog.register(Entry("mine", files("datastore://blobs/x")), overwrite=False)
    catalog.register(Entry("blobs", BLOBS), overwrite=False)
    assert catalog.register(Entry("mine", files("datastore://blobs/x")), overwrite=False).version == 1


def test_an_entry_has_to_fit_into_a_message(catalog: Catalog) -> None:
    with pytest.raises(BadEntry, match="name folders or globs"):
        catalog.register(Entry("mine", files("/" + "a" * ENTRY_LIMIT)), overwrite=False)
    assert versions(catalog, "mine") == []


@pytest.mark.parametrize("record", ["{", "[]", "{}", '{"dataset": 7}', '{"dataset": {"paths": 1}}'])
def test_a_damaged_entry_costs_only_itself(tmp_path: Path, catalog: Catalog, record: str) -> None:
    for path in ("/a", "/b"):
        catalog.register(Entry("mine", files(path)), overwrite=True)
    (tmp_path / "catalog/default/dataset/mine/2.json").write_text(record)
    assert versions(catalog, "mine") == [1]
    with pytest.raises(NoEntry, match="Version 2 of the dataset 'mine' is damaged"):
        catalog.get("", EntryKind.DATASET, "mine")
    assert catalog.register(Entry("mine", files("/b")), overwrite=True).version == 3
