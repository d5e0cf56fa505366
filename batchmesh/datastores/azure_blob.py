"""A blob container of Azure's kind as a datastore.

    find:      list of names, a page at a time ──glob, hidden names──▶ Found, Found, …
    download:  ranges of 4 MiB ──▶ hidden file ──rename──▶ file
    upload:    file ──blocks of 8 MiB──▶ one commit, before which nothing is visible

Every sentence names the datastore and its container, and none the key or the SAS: what the library and the network say
of a failure may hold an address with the SAS in it, so none of that is passed on.
"""

from __future__ import annotations

import glob
import io
import logging
import os
import re
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
from azure.storage.blob import ContainerClient, ExponentialRetry

from batchmesh.data.job_report import LARGEST_SUMMARY, REPORT, SUMMARY, is_summary
from batchmesh.data.listing import Pattern
from batchmesh.datastores.reference import Reference, is_inside
from batchmesh.datastores.store import Found
from batchmesh.errors import BadEntry, BatchmeshError, DatastoreFailed, InputRefused, PathTaken

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from azure.storage.blob import BlobProperties

    from batchmesh.entries import AzureBlobContainer

#: A call that is not answered is made again so often, with pauses of about 1, 3, 5 and 9 seconds; with the time for
#: each connection that is about a minute.
RETRIES = 4
#: Seconds for a connection, and for the next bytes of an answer.
_CONNECT, _READ = 8, 30
#: Bytes in memory of a download and of an upload.
_RANGE, _BLOCK = 4 * 2**20, 8 * 2**20
#: Blobs that one call lists; Azure gives no more.
_PAGE = 5000
#: Bytes that are read ahead where a file is read bit by bit.
_AHEAD = 2**20
_REFUSED = (401, 403)


class AzureBlobDatastore:
    """See `Datastore`. An unanswered call is made again `retries` times; one call lists `page` blobs."""

    def __init__(self, name: str, blob: AzureBlobContainer, *, retries: int = RETRIES, page: int = _PAGE) -> None:
        self.name = name
        self._page = page
        self._blob = blob
        self._container = ContainerClient(
            account_url=blob.endpoint or f"https://{blob.account}.blob.core.windows.net",
            container_name=blob.container,
            credential=_credential(blob),
            retry_policy=ExponentialRetry(1, increment_base=2, retry_total=retries, random_jitter_range=1),
            connection_timeout=_CONNECT,
            read_timeout=_READ,
            max_single_get_size=_RANGE,
            max_chunk_get_size=_RANGE,
            max_single_put_size=_BLOCK,
            max_block_size=_BLOCK,
        )

    def local(self, path: str) -> str | None:  # noqa: ARG002 no path of it is on this host
        return None

    def find(self, path: str, after: str | None = None) -> Iterator[Found]:
        behind, empty = (after or "").encode(), after is None
        with self._told(path):
            for found in self._meant(path):
                if found.path.encode() > behind:
                    empty = False
                    yield found
        if empty:
            raise InputRefused(_nothing_at(Reference(self.name, path)))

    def download(self, path: str, to: Path) -> None:
        temporary = to.with_name(f".{uuid.uuid4().hex}.new")
        try:
            with self._told(path), temporary.open("wb") as file:
                self._container.download_blob(self._checked(path)).readinto(file)
            temporary.replace(to)
        finally:
            temporary.unlink(missing_ok=True)

    def open(self, path: str) -> BinaryIO:
        with self._told(path):
            found = self._container.get_blob_client(self._checked(path)).get_blob_properties()
        return io.BufferedReader(_BlobFile(self, path, found.size, str(found.etag)), _AHEAD)

    def read(self, path: str, offset: int, length: int, etag: str) -> bytes:
        """Bytes of a blob that is still the one with that etag. Errors: InputRefused when it is another one."""
        with self._told(path):
            same = MatchConditions.IfNotModified
            return self._container.download_blob(path, offset, length, etag=etag, match_condition=same).readall()

    def upload(self, from_: Path, path: str, *, overwrite: bool) -> None:
        with self._told(path), _opened(from_) as file:
            if not overwrite and self._file(self._checked(path)):
                raise PathTaken(f"{Reference(self.name, path)} is there already; ask to overwrite it.")
            size = os.fstat(file.fileno()).st_size
            self._container.upload_blob(self._checked(path), file, length=size, overwrite=overwrite)

    def delete(self, path: str) -> None:
        with self._told(path):
            try:
                self._container.delete_blob(self._checked(path), delete_snapshots="include")
            except ResourceNotFoundError as error:
                if _code(error) == "ContainerNotFound":
                    raise

    def _meant(self, path: str) -> Iterator[Found]:
        """What is at `path`, in the order in which the container lists it."""
        folder = f"{path.removesuffix('/')}/" if path else ""
        if file := self._file(path) if path and not path.endswith("/") else None:
            yield file
        elif glob.has_magic(path) and not any(self._listed(folder)):
            fixed, parts = _split(path)
            beginning = re.split(r"[*?\[]", parts[0])[0]
            yield from self._below(fixed, fixed + beginning, Pattern(parts))
        else:
            left_out = f"{folder}{REPORT}/" if self._holds_report(folder) else None
            for found in self._below(folder, folder, Pattern(["**"])):
                if left_out is None or not found.path.startswith(left_out):
                    yield found

    def _below(self, folder: str, prefix: str, pattern: Pattern) -> Iterator[Found]:
        """The files below `folder` that the pattern matches; names of blobs begin with `prefix`."""
        last = b""
        for blob in self._listed(prefix):
            parts = blob.name[len(folder) :].split("/")
            if any(part.startswith(".") and part not in (".", "..") for part in parts) or not pattern.matches(parts):
                continue
            self._checked(blob.name)
            if (this := blob.name.encode()) <= last:
                raise DatastoreFailed(
                    f"{self._where} lists '{blob.name}' out of bytewise order, so that it could be left out; rename it."
                )
            last = this
            yield _found(blob)

    def _listed(self, prefix: str) -> Iterator[BlobProperties]:
        blobs = self._container.list_blobs(name_starts_with=prefix, include=["metadata"], results_per_page=self._page)
        return (blob for blob in blobs if not _is_folder(blob))

    def _file(self, path: str) -> Found | None:
        try:
            found = self._container.get_blob_client(path).get_blob_properties()
        except ResourceNotFoundError as error:
            if _code(error) == "ContainerNotFound":
                raise
            return None
        return None if _is_folder(found) else _found(found)

    def _holds_report(self, folder: str) -> bool:
        path = f"{folder}{REPORT}/{SUMMARY}"
        found = self._file(path)
        if found is None or found.size > LARGEST_SUMMARY:
            return False
        return is_summary(self._container.download_blob(path).readall())

    def _checked(self, path: str) -> str:
        if not is_inside(path):
            raise InputRefused(f"{self._where} has no file '{path}', or one that no path can name; rename it there.")
        return path

    @property
    def _where(self) -> str:
        return f"The datastore '{self.name}' (container '{self._blob.container}' of account '{self._blob.account}')"

    @contextmanager
    def _told(self, path: str) -> Iterator[None]:
        """Turns what the library raises into a sentence of ours."""
        try:
            yield
        except AzureError as error:
            raise self._meaning(error, path) from None

    def _meaning(self, error: AzureError, path: str) -> BatchmeshError:
        status = error.status_code if isinstance(error, HttpResponseError) else None
        code = _code(error)
        if status is None:
            return DatastoreFailed(
                f"{self._where} does not answer at {self._container.primary_hostname}; check endpoint and network."
            )
        if status in _REFUSED or code == "PublicAccessNotPermitted":
            return BadEntry(f"{self._where} refuses {_remedy(self._blob)} ({code or status}).")
        if code in ("ContainerNotFound", "ContainerBeingDeleted", "ResourceNotFound"):
            unless = "" if _credential(self._blob) else ", or nobody may read it without a key or a SAS token"
            return BadEntry(f"{self._where} is not there: the account has no such container{unless}; check its name.")
        if isinstance(error, ResourceNotFoundError):
            return InputRefused(f"{Reference(self.name, path)} does not exist; check the path.")
        if code == "BlobAlreadyExists":
            return PathTaken(f"{Reference(self.name, path)} is there already; ask to overwrite it.")
        if code == "ConditionNotMet":
            return InputRefused(f"{Reference(self.name, path)} has changed while it was read; read it again.")
        return DatastoreFailed(f"{self._where} failed on '{path}' with {status} {code}; try again later.")


class _BlobFile(io.RawIOBase):
    """One blob, read by ranges. It has to stay the same meanwhile."""

    def __init__(self, datastore: AzureBlobDatastore, path: str, size: int, etag: str) -> None:
        super().__init__()
        self._datastore = datastore
        self._path = path
        self._size = size
        self._etag = etag
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if at < 0:
            raise ValueError(f"There is nothing at {at} of a file.")
        self._at = at
        return at

    def tell(self) -> int:
        return self._at

    def readall(self) -> bytes:
        return self._next(self._size - self._at)

    def readinto(self, buffer: Any) -> int:
        data = self._next(min(len(buffer), self._size - self._at))
        buffer[: len(data)] = data
        return len(data)

    def _next(self, length: int) -> bytes:
        if length <= 0:
            return b""
        data = self._datastore.read(self._path, self._at, length, self._etag)
        self._at += len(data)
        return data


class _Unsigned(logging.Filter):
    """Takes signatures out of the addresses that the HTTP library writes to a program's log at DEBUG."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = re.sub(r"\bsig=[^&\s\"']*", "sig=…", record.getMessage()), ()
        return True


logging.getLogger("urllib3.connectionpool").addFilter(_Unsigned())


def _credential(blob: AzureBlobContainer) -> dict[str, str] | str | None:
    if blob.account_key:
        return {"account_name": blob.account, "account_key": blob.account_key}
    return blob.sas_token.removeprefix("?") or None


def _code(error: AzureError) -> str:
    """Azure's word for what went wrong; empty when it has said none."""
    code = getattr(error, "error_code", None) or ""
    return str(getattr(code, "value", code))


def _remedy(blob: AzureBlobContainer) -> str:
    """What was refused, and what to do."""
    if blob.account_key:
        return "its account key; register it again with the account's key"
    if blob.sas_token:
        return "its SAS token; register it again with one that is still valid and allows what is to be done"
    return "whoever has neither key nor SAS token; register it again with one of them"


def _split(pattern: str) -> tuple[str, list[str]]:
    """The folder that has no pattern in its name, with a slash unless it is the top; and the parts below it."""
    parts = pattern.split("/")
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return "".join(f"{part}/" for part in parts[:fixed]), parts[fixed:]


def _is_folder(blob: BlobProperties) -> bool:
    """Whether it stands for a folder: an empty blob by which tools and hierarchical accounts remember one."""
    return blob.name.endswith("/") or (blob.metadata or {}).get("hdi_isfolder", "").lower() == "true"


def _found(blob: BlobProperties) -> Found:
    return Found(blob.name, blob.size, str(blob.etag).strip('"'))


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InputRefused(f"Cannot read {path} ({error.strerror}); check the path.") from None


def _nothing_at(reference: Reference) -> str:
    if glob.has_magic(reference.path):
        return f"{reference} matches no file; check the pattern ('**' goes into folders; names in '.' are left out)."
    return f"{reference} does not exist, or holds no file (names that begin with '.' are left out); check the path."
