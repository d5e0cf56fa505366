"""What the text of --model and --side-input means."""

from __future__ import annotations

import os

import pytest

from batchmesh.belongings import WantedModel, models_of, side_inputs_of, wanted_model
from batchmesh.errors import SpecRefused
from batchmesh.job import JobModel, SideInput


def test_a_model_is_looked_up_or_registered_first() -> None:
    assert wanted_model("digits") == WantedModel("digits")
    assert wanted_model("digits:12") == WantedModel("digits", 12)
    assert wanted_model("digits=m/a=b:1.onnx") == WantedModel("digits", path=os.path.abspath("m/a=b:1.onnx"))


@pytest.mark.parametrize("text", ["", "=model", "digits=", "digits:0", "digits:latest", "a/b", "digits:1:2"])
def test_what_names_no_model_is_refused(text: str) -> None:
    with pytest.raises(SpecRefused, match="is no model; it is NAME, NAME:VERSION") as refused:
        wanted_model(text)
    assert "models" in refused.value.violations


def test_what_is_resolved_stays_as_it_is() -> None:
    model, side_input = JobModel("a", 1, "d"), SideInput("b", "d")
    assert models_of([model, "c"]) == ((model,), (WantedModel("c"),))
    assert side_inputs_of([side_input]) == ((side_input,), ())


def test_a_side_input_is_a_reference_or_lies_here() -> None:
    references, (local,) = side_inputs_of({"far": "datastore://data/labels.csv", "near": "labels.csv"})
    assert references == (SideInput("far", reference="datastore://data/labels.csv"),)
    assert (local.name, local.path) == ("near", os.path.abspath("labels.csv"))
