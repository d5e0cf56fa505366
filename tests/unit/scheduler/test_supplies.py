"""Models and side inputs of a spec: each wrong one is refused by name, and what storage must have is told."""

from __future__ import annotations

from typing import Any

import pytest

from batchmesh.errors import SpecRefused
from batchmesh.scheduler.spec import completed
from batchmesh.scheduler.supplies import artifacts_of
from batchmesh.v1 import job_pb2

DIGEST = "ab" * 32


def spec(**fields: Any) -> job_pb2.JobSpec:
    return job_pb2.JobSpec(entry_script="s.py", source_digest="d", inputs=["/in"], output="/out", **fields)


def model(**fields: Any) -> job_pb2.JobModel:
    return job_pb2.JobModel(**{"name": "digits", "version": 1, "digest": DIGEST, **fields})


def side_input(**fields: Any) -> job_pb2.SideInput:
    return job_pb2.SideInput(**{"name": "labels", "digest": DIGEST, **fields})


@pytest.mark.parametrize(
    ("field", "given", "sentence"),
    [
        ("models", [model(name="../up")], "models has the name '../up'; use 1 to 128 letters, digits,"),
        ("models", [model(), model()], "models has digits twice; name each once."),
        ("models", [model(digest="")], "The model digits has the digest '', which is no SHA-256;"),
        (
            "models",
            [model(file="a/b")],
            "The model digits has the file 'a/b'; it is the name of a file, without a folder.",
        ),
        ("side_inputs", [side_input(), side_input()], "side_inputs has labels twice; name each once."),
        ("side_inputs", [side_input(digest="x")], "The side input labels has the digest 'x', which is no SHA-256;"),
        (
            "side_inputs",
            [side_input(reference="datastore://a/b")],
            "The side input labels has a reference and an artifact; it is one of the two.",
        ),
        (
            "side_inputs",
            [side_input(digest="", reference="/local")],
            "The side input labels is '/local'; it must be datastore://NAME/PATH.",
        ),
        (
            "side_inputs",
            [side_input(digest="", reference="datastore:///b")],
            "The side input labels has a malformed reference: ",
        ),
    ],
)
def test_what_cannot_be_supplied_is_refused_by_name(field: str, given: list[Any], sentence: str) -> None:
    with pytest.raises(SpecRefused) as refused:
        completed(spec(**{field: given}))
    assert str(refused.value).startswith(sentence)
    assert list(refused.value.violations) == [field]


def test_a_job_asks_storage_for_its_source_models_and_side_inputs() -> None:
    other, reference = side_input(digest="cd" * 32), side_input(name="far", digest="", reference="datastore://a/b")
    given = completed(spec(models=[model()], side_inputs=[other, reference]))
    assert artifacts_of(given) == {"d": "the source", DIGEST: "the model digits", "cd" * 32: "the side input labels"}
