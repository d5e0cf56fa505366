"""The folder of a job's report, which stands in the job's output folder: nothing that a later job reads as its input.

Runs in the user's Python too: CPython 3.9 syntax, standard library only.
"""

from __future__ import annotations

import json
import os

#: The folder's name in an output folder, and in it the file by which a report of ours is recognised.
REPORT = "job_report"
SUMMARY = "summary.json"
#: Bytes of a summary at most: its longest parts are bounded each.
LARGEST_SUMMARY = 16 * 2**20


def is_summary(content: bytes) -> bool:
    """Whether that is what stands in a summary.json of ours; no more than LARGEST_SUMMARY of it need be read."""
    try:
        found = json.loads(content)
    except ValueError:
        return False
    return isinstance(found, dict) and {"job_id", "state", "batchmesh_version"} <= found.keys()


def holds_report(folder: str | bytes) -> bool:
    """Whether a report of ours stands directly in a folder of this host."""
    try:
        with open(os.path.join(os.fsdecode(folder), REPORT, SUMMARY), "rb") as file:
            return is_summary(file.read(LARGEST_SUMMARY))
    except OSError:
        return False
