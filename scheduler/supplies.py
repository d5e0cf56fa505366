"""What a job's workers need besides their input: the source, models and side inputs, as its spec names them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from batchmesh.datastores.reference import parse
from batchmesh.errors import SpecRefused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batchmesh.v1 import job_pb2

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def artifacts_of(spec: job_pb2.JobSpec) -> dict[str, str]:
    """What each artifact that the job needs is in a sentence, by its digest."""
    return {
        **{each.digest: f"the side input {each.name}" for each in spec.side_inputs if each.digest},
        **{each.digest: f"the model {each.name}" for each in spec.models},
        spec.source_digest: "the source",
    }


def models(spec: job_pb2.JobSpec) -> str:
    """The sentence for models that cannot be; empty when all can."""
    unsound = _names("models", [each.name for each in spec.models])
    return unsound or _first(_packed("model", each.name, each.digest, each.file) for each in spec.models)


def side_inputs(spec: job_pb2.JobSpec) -> str:
    """The same of side inputs."""
    unsound = _names("side_inputs", [each.name for each in spec.side_inputs])
    return unsound or _first(map(_side_input, spec.side_inputs))


def _side_input(given: job_pb2.SideInput) -> str:
    if not given.reference:
        return _packed("side input", given.name, given.digest, given.file)
    if given.digest:
        return f"The side input {given.name} has a reference and an artifact; it is one of the two."
    try:
        reference = parse(given.reference)
    except SpecRefused as error:
        return f"The side input {given.name} has a malformed reference: {error}"
    return "" if reference else f"The side input {given.name} is '{given.reference}'; it must be datastore://NAME/PATH."


def _packed(what: str, name: str, digest: str, file: str) -> str:
    if not _DIGEST.fullmatch(digest):
        return f"The {what} {name} has the digest '{digest}', which is no SHA-256; send its artifact first."
    if file in (".", "..") or "/" in file or "\0" in file:
        return f"The {what} {name} has the file '{file}'; it is the name of a file, without a folder."
    return ""


def _names(field: str, names: list[str]) -> str:
    for at, name in enumerate(names):
        if not _NAME.fullmatch(name):
            return (
                f"{field} has the name '{name}'; use 1 to 128 letters, digits, '.', '_' and '-', beginning with a "
                "letter or digit."
            )
        if name in names[:at]:
            return f"{field} has {name} twice; name each once."
    return ""


def _first(sentences: Iterable[str]) -> str:
    return next(filter(None, sentences), "")
