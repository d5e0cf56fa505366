"""What a step refuses, each in one sentence, before anything is sent; and the order of several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from batchmesh import Dataset, OutputFileDatasetConfig, ParallelRunStep, Pipeline, PipelineData
from batchmesh.errors import SpecRefused
from batchmesh.sdk.ordering import in_order
from tests.unit.sdk.test_parallel_run_config import config

if TYPE_CHECKING:
    from batchmesh import Workspace


def files(name: str = "images") -> Any:
    return Dataset.File.from_files(f"/data/{name}", validate=False).as_named_input(name)


def rows(name: str = "rows", **given: Any) -> Any:
    return Dataset.Tabular.from_delimited_files(f"/data/{name}.csv", validate=False, **given).as_named_input(name)


def step(name: str = "batch-mnist", **given: Any) -> ParallelRunStep:
    return ParallelRunStep(
        name, **{"parallel_run_config": config(), "inputs": [files()], "output": PipelineData("out"), **given}
    )


@pytest.mark.parametrize("name", ["ab", "a" * 33, "Batch", "1batch", "batch-", "batch_mnist", None])
def test_a_step_name_out_of_its_pattern_is_refused(name: Any) -> None:
    with pytest.raises(SpecRefused, match="step name"):
        step(name)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"inputs": []}, "at least one dataset"),
        ({"inputs": files()}, "at least one dataset"),
        ({"inputs": ["images"]}, "as_named_input"),
        ({"inputs": [files(), rows()]}, "mixed kinds: 'images' is files and 'rows' is csv"),
        ({"inputs": [rows(), rows("more", header=False)]}, "different headers"),
        ({"parallel_run_config": {}}, "a ParallelRunConfig"),
        ({"output": "folder"}, "a PipelineData"),
        ({"models": [7]}, "no model"),
        ({"side_inputs": [Dataset.File.from_files("/data", validate=False)]}, "no name"),
        ({"side_inputs": [files("a"), files("a")]}, "Two side inputs"),
        ({"arguments": ["labels"]}, "begin with '-'"),
        ({"arguments": ["--labels", object()]}, "neither a text nor a number"),
        ({"arguments": ["--labels", files("labels")]}, "none of its side_inputs"),
        ({"arguments": "--times 3"}, "The arguments of the step 'batch-mnist' are a list"),
        ({"models": "mnist"}, "The models of the step 'batch-mnist' are a list"),
        ({"side_inputs": files("a")}, "The side_inputs of the step 'batch-mnist' are a list"),
        ({"parallel_run_config": config(mini_batch_size="1MB")}, "the input is files"),
        ({"parallel_run_config": config(mini_batch_size="10 rows")}, "the input is files"),
    ],
)
def test_what_a_step_cannot_be_made_of_is_refused_in_one_sentence(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecRefused, match=said) as refused:
        step(**given)
    assert str(refused.value).count("\n") == 0
    assert str(refused.value).endswith(".")


def test_a_table_takes_a_size_in_rows_or_bytes() -> None:
    for size in ("1000 rows", "1MB", 2048):
        assert step(inputs=[rows()], parallel_run_config=config(mini_batch_size=size)).inputs[0].kind == "csv"


def test_a_window_of_a_table_is_read_as_the_parquet_that_it_is_written_as() -> None:
    table = rows(header=False).dataset
    whole, window = (step(inputs=[each.as_named_input("rows")]).inputs[0] for each in (table, table.skip(1)))
    assert (whole.kind, whole.csv_header) == ("csv", "absent")
    assert (window.kind, window.csv_header, window.csv_types) == ("parquet", "", {})


def test_an_output_in_what_is_no_datastore_is_refused() -> None:
    with pytest.raises(SpecRefused, match="'blobs'"):
        PipelineData("out", datastore="blobs")  # type: ignore[arg-type]


def test_a_tiny_size_of_a_table_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    step(inputs=[rows()], parallel_run_config=config(mini_batch_size="5"))
    assert "5 bytes of a table" in caplog.text


def test_a_side_input_among_the_arguments_stands_for_its_path() -> None:
    labels = files("labels")
    made = step(side_inputs=[labels], arguments=["--labels", labels, "--times", 3])
    assert made.arguments == ("--labels", "{labels}", "--times", "3")


def test_a_step_comes_after_those_whose_output_it_reads() -> None:
    middle, last = PipelineData("middle"), OutputFileDatasetConfig("last")
    first = step("first", output=middle)
    second = step("second", inputs=[middle.as_dataset()], output=last)
    third = step("third", output=PipelineData("other"), side_inputs=[last.as_input("labels")])
    assert in_order([third, [second, first]]) == [first, second, third]
    assert in_order([third]) == [first, second, third], "steps whose data is read belong to the pipeline"


def test_steps_without_data_between_them_keep_the_order_of_the_array() -> None:
    made = [step(name, output=PipelineData("out")) for name in ("zeta", "alpha", "mid-one")]
    assert in_order(made) == made
    made[0].run_after(made[2])
    assert [each.name for each in in_order(made)] == ["mid-one", "zeta", "alpha"]


def test_steps_in_a_circle_are_one_sentence() -> None:
    one, two = PipelineData("one"), PipelineData("two")
    first = step("first", inputs=[two.as_dataset()], output=one)
    second = step("second", inputs=[one.as_dataset()], output=two)
    with pytest.raises(SpecRefused, match=r"^The steps 'first', 'second' wait for each other in a circle; break it\.$"):
        Pipeline(cast("Workspace", None), [first, second])


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (list, "no step"),
        (lambda: [7], "7 is no step"),
        (lambda: [step("same-name"), step("same-name")], "Two steps"),
        (lambda: [step(inputs=[PipelineData("lost").as_dataset()])], "which no step writes"),
    ],
)
def test_a_pipeline_that_cannot_run_is_refused(steps: Any, said: str) -> None:
    with pytest.raises(SpecRefused, match=said):
        in_order(steps())


def test_one_output_of_two_steps_is_refused_and_a_step_made_again_is_not() -> None:
    output = PipelineData("out")
    first = step("first", output=output)
    again = step("first", output=output)
    assert in_order([again]) == [again]
    with pytest.raises(SpecRefused, match="'out' is the output of 'first' and of another step"):
        in_order([first, step("second", output=output)])


def test_a_table_written_by_a_step_can_be_read_as_rows() -> None:
    table = PipelineData("table")
    step("writer", output=table)
    kinds = [each.kind for each in (table.as_dataset(), table.as_dataset().parse_delimited_files())]
    assert kinds == ["files", "csv"]
    assert OutputFileDatasetConfig("t").read_parquet_files().kind == "parquet"
    assert table.as_dataset().parse_delimited_files(header=False).csv_header == "absent"


def test_an_output_lies_where_the_program_says() -> None:
    assert PipelineData("inferences").path_in("job-1") == "azureml/job-1/inferences"
    assert OutputFileDatasetConfig("out").path_in("job-1") == "azureml/job-1/out"
