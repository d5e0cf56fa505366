"""What is wrong with a blob container's entry, before the container is asked. Pure, and no sentence has a secret."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from batchmesh.entries import AzureBlobContainer

_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_CONTAINER = re.compile(r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]|\$(root|web|logs)")


def wrong_with(blob: AzureBlobContainer) -> str:
    """What it "has" that cannot be, and the remedy, as the end of a sentence; empty if nothing is wrong."""
    return _wrong_with_container(blob) or _wrong_with_credentials(blob)


def _wrong_with_container(blob: AzureBlobContainer) -> str:
    if not _ACCOUNT.fullmatch(blob.account):
        return f"the account '{blob.account}'; the name of a storage account has 3 to 24 of a-z and 0-9"
    if not _CONTAINER.fullmatch(blob.container):
        return f"the container '{blob.container}'; its name has 3 to 63 of a-z, 0-9 and single '-' between them"
    return _wrong_with_endpoint(blob.endpoint) if blob.endpoint else ""


def _wrong_with_endpoint(endpoint: str) -> str:
    try:
        url = urlsplit(endpoint)
        plain = not (url.query or url.fragment or url.username or url.password)
        fits = url.scheme in ("http", "https") and bool(url.hostname) and plain and url.port != 0
    except ValueError:
        fits = False
    return "" if fits else "an endpoint that is no http:// or https:// URL of an account, without a query or a password"


def _wrong_with_credentials(blob: AzureBlobContainer) -> str:
    if blob.account_key and blob.sas_token:
        return "both an account key and a SAS token; give one of them"
    try:
        base64.b64decode(blob.account_key, validate=True)
    except (binascii.Error, ValueError):
        return "an account key that is not base64; copy it whole"
    if blob.sas_token and "sig=" not in blob.sas_token:
        return "a SAS token without a signature; copy it whole, from 'sv=' on"
    return ""
